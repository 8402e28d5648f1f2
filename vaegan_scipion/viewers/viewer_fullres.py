"""Results of states at full resolution: maps, FSC, how the rounds went, viewing directions."""
from typing import Any, Callable, Dict, List

import pyworkflow.protocol.params as params
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..engine.vaegan_engine.contract import drawings
from ..engine.vaegan_engine.contract.fullres_records import FullresState
from ..engine.vaegan_engine.contract.labels import state_colour, state_name
from ..protocols import VaeganProtFullres
from . import plots
from .viewer_states import VaeganStatesViewer


class VaeganFullresViewer(VaeganStatesViewer):
    """Viewer of refine states at full resolution."""

    _label = "viewer full resolution"
    _targets = [VaeganProtFullres]
    DRAWINGS = ("showAnswer", "showMaps", "showSharpened", "showSurfaces", "showLocal", "showFsc", "showRounds",
                "showViews")

    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Visualization")
        form.addParam("showAnswer", params.LabelParam, label="Answer",
                      help="To what resolution, and whether the states are to be trusted, in plain words.")
        form.addParam("showMaps", params.LabelParam, label="Maps", help="Three sections of each, not sharpened.")
        form.addParam("showSharpened", params.LabelParam, label="Sharpened maps", help="Three sections of each.")
        form.addParam("showSurfaces", params.LabelParam, label="Surfaces",
                      help="Of the maps that are not sharpened, seen along z, y and x, without another program.")
        form.addParam("showChimera", params.LabelParam, label="Maps in ChimeraX",
                      help="All states beside each other. Needs ChimeraX (CHIMERA_HOME in scipion.conf).")
        form.addParam("showLocal", params.LabelParam, label="Local resolution",
                      help="In Å, in sections: where the FSC inside a small ball falls below 0.5.")
        form.addParam("showFsc", params.LabelParam, label="FSC between half maps",
                      help="Two halves of each state's particles, refined apart; masked, and corrected for the mask.")
        form.addParam("showRounds", params.LabelParam, label="Resolution by round",
                      help="FSC 0.143 of the half maps before each round of local refinement.")
        form.addParam("showViews", params.LabelParam, label="Viewing directions",
                      help="How many particles look along each direction, on an equal-area map of the sphere.")
        form.addParam("showClasses", params.LabelParam, label="Classes in Scipion's viewer",
                      help="Classes of the particles with their refined alignment.")
        self._add_report_button(form)
        self._add_save_button(form)

    def _getVisualizeDict(self) -> Dict[str, Callable[..., List[Any]]]:
        return {"showAnswer": self._answer, "showMaps": self._maps, "showSharpened": self._sharpened,
                "showSurfaces": self._surfaces, "showChimera": self._chimera, "showLocal": self._local,
                "showClasses": self._classes, "showFsc": self._fsc, "showRounds": self._rounds,
                "showViews": self._views, "showReport": self._report, "savePictures": self._save_pictures}

    def _sharpened(self, _name: Any = None) -> List[Any]:
        states = self.protocol.readStates()
        return self.figure_view(plots.draw_slices, [self._map(state.sharpened_file) for state in states],
                                [row_title(state) for state in states], [state_colour(state.label) for state in states],
                                self.protocol.getMapPixelSize(), title="Sharpened maps",
                                size_in=plots.slices_size_in(len(states)))

    def _local(self, _name: Any = None) -> List[Any]:
        states = self.protocol.readStates()
        inside = [drawings.inside_mask(self._map(state.local_resolution_file), self._map(state.mask_file))
                  for state in states]
        return self.figure_view(plots.draw_local_resolution, inside,
                                [row_title(state) for state in states], [state_colour(state.label) for state in states],
                                self.protocol.getMapPixelSize(), title="Local resolution",
                                size_in=plots.local_size_in(len(states)))

    def _rounds(self, _name: Any = None) -> List[Any]:
        return self.figure_view(draw_rounds, self.protocol.readStates(), title="Resolution by round")


def row_title(state: FullresState) -> str:
    """A state and its resolution."""
    return f"{state_name(state.label)}, {state.resolution_ang:.1f} Å"


def draw_rounds(figure: Figure, states: List[FullresState]) -> Figure:
    """Resolution before each round, a line per state."""
    axes = figure.add_subplot()
    for state in states:
        axes.plot(range(1, len(state.rounds) + 1), [row.resolution_ang for row in state.rounds], "o-",
                  color=state_colour(state.label), label=state_name(state.label))
    axes.set(xlabel="round", ylabel="resolution at FSC 0.143 (Å)")
    axes.set_xlim(0.5, max((len(state.rounds) for state in states), default=1) + 0.5)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)
    figure.tight_layout()
    return figure
