"""The buttons of viewers that the session of ``gui.py`` presses, and the names of the pictures that it takes."""
from vaegan_scipion.protocols import (
    VaeganProtClasses2D,
    VaeganProtCluster,
    VaeganProtConsensus,
    VaeganProtEvaluate,
    VaeganProtFullres,
    VaeganProtStates,
    VaeganProtTrain2D,
    VaeganProtTrain3D,
    VaeganProtTraverse,
)

VIEWS = {  # button of a viewer -> name of the picture
    VaeganProtTrain3D: {"showCurves": "curves", "showComponents": "components", "showPreview": "preview"},
    VaeganProtTrain2D: {"showCurves": "curves", "showComponents": "components", "showPreview": "preview"},
    VaeganProtCluster: {"showAnswer": "answer", "showDensity": "density", "showColoured": "coloured",
                        "showCards": "cards", "showPictures": "maps", "showSurfaces": "surfaces", "showFsc": "fsc"},
    VaeganProtTraverse: {"showStrips": "strips", "showMovie": "movie"},
    VaeganProtEvaluate: {"showCounts": "counts"},
    VaeganProtFullres: {"showMaps": "fullres_maps", "showSurfaces": "fullres_surfaces", "showLocal": "fullres_local",
                        "showFsc": "fullres_fsc", "showRounds": "fullres_rounds", "showViews": "fullres_views"},
    VaeganProtStates: {"showAnswer": "states_answer", "showVerdict": "states_verdict", "showCards": "states_cards",
                       "showSurfaces": "states_surfaces", "showViews": "states_views", "showFsc": "states_fsc",
                       "showFilm": "states_film", "showJunk": "states_junk"},
    VaeganProtConsensus: {"showAnswer": "consensus_answer", "showPairs": "consensus_pairs",
                          "showGroups": "consensus_groups"},
    VaeganProtClasses2D: {"showAnswer": "classes_answer", "showAverages": "classes_averages", "showFrc": "classes_frc",
                          "showJunk": "classes_junk"},
}
# a message in place of a figure where nothing moves, was set aside or was compared, and where there is no such drawing
MAY_BE_EMPTY = ("showFilm", "showJunk", "showFsc", "showSurfaces", "showPreview", "showCounts")
