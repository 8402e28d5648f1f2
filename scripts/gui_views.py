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
    VaeganProtEvaluate: {"showAnswer": "evaluation_answer", "showCounts": "evaluation_counts",
                         "showFsc": "evaluation_fsc", "showMaps": "evaluation_maps"},
    VaeganProtFullres: {"showAnswer": "fullres_answer", "showMaps": "fullres_maps",
                        "showSharpened": "fullres_sharpened", "showSurfaces": "fullres_surfaces",
                        "showLocal": "fullres_local", "showFsc": "fullres_fsc", "showRounds": "fullres_rounds",
                        "showViews": "fullres_views"},
    VaeganProtStates: {"showAnswer": "states_answer", "showVerdict": "states_verdict", "showCards": "states_cards",
                       "showMaps": "states_maps", "showSurfaces": "states_surfaces", "showViews": "states_views",
                       "showMotions": "states_motions", "showFsc": "states_fsc", "showFilm": "states_film",
                       "showJunk": "states_junk"},
    VaeganProtConsensus: {"showAnswer": "consensus_answer", "showPairs": "consensus_pairs",
                          "showGroups": "consensus_groups"},
    VaeganProtClasses2D: {"showAnswer": "classes_answer", "showAverages": "classes_averages", "showFrc": "classes_frc",
                          "showJunk": "classes_junk"},
}
# a message in place of a figure where nothing moves, was set aside or was compared, and where there is no such drawing
MAY_BE_EMPTY = ("showFilm", "showMotions", "showJunk", "showFsc", "showSurfaces", "showPreview", "showCounts",
                "showMaps")
# buttons that are no line of VIEWS, and why: pressed elsewhere in the session, or not at all
ELSEWHERE = {
    "showUmap": "the session draws its lasso there",
    "showClasses": "Scipion's own viewer of tables, opened once: of the clusters",
    "showTable": "Scipion's own viewer of tables, as that of the classes",
    "showReport": "pressed once, of the clusters; the browser is another program",
    "showChimera": "pressed once, of the traversal, to see what it says without ChimeraX",
    "saveMovie": "writes a file and shows a message",
    "saveFilm": "writes a file and shows a message",
    "savePictures": "writes files and shows a message",
}
# kinds of runs in the small project that `gui_project.py` makes; a training has no previews there
MADE_HERE = (VaeganProtTrain3D, VaeganProtCluster, VaeganProtTraverse, VaeganProtEvaluate, VaeganProtStates,
             VaeganProtClasses2D, VaeganProtFullres, VaeganProtConsensus)
NOT_MADE_HERE = ("preview",)


def pictures_of_viewers():
    """Names of the pictures of viewers that a session takes of the small project."""
    names = {f"viewer_{kind.__name__.replace('VaeganProt', '').lower()}" for kind in MADE_HERE}
    return names | {name for kind in MADE_HERE for name in VIEWS[kind].values()} - set(NOT_MADE_HERE)
