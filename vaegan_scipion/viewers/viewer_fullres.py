"""Results of states at full resolution: maps, FSC, how the rounds went, viewing directions."""
from typing import Any, Callable, Dict, List

import pyworkflow.protocol.params as params
from matplotlib.figure import Figure

from ..engine.vaegan_engine.contract.fullres_records import FullresState
from ..engine.vaegan_engine.contract.labels import state_colour, state_name
from ..protocols import VaeganProtFullres
from . import plots
from .viewer_states import VaeganStatesViewer


class VaeganFullresViewer(VaeganStatesViewer):
    """Viewer of refine states at full resolution."""

    _label = "viewer full resolution"
    _targets = [VaeganProtFullres]
    DRAWINGS = ("showMaps", "showSharpened", "showLocal", "showFsc", "showRounds", "showViews")

    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Visualization")
        form.addParam("showMaps", params.LabelParam, label="Maps", help="Three sections of each, not sharpened.")
        form.addParam("showSharpened", params.LabelParam, label="Sharpened maps", help="Three sections of each.")
        form.addParam("showLocal", params.LabelParam, label="Local resolution",
                      help="In A, in sections: where the FSC inside a small ball falls below 0.5. Bright is coarse.")
        form.addParam("showFsc", params.LabelParam, label="FSC between half maps",
                      help="Two halves of each state's particles, refined apart; masked, and corrected for the mask.")
        form.addParam("showRounds", params.LabelParam, label="Resolution by round",
                      help="FSC 0.143 of the half maps before each round of local refinement.")
        form.addParam("showViews", params.LabelParam, label="Viewing directions",
                      help="How many particles look along each direction, on an equal-area map of the sphere.")
        self._add_save_button(form)

    def _getVisualizeDict(self) -> Dict[str, Callable[..., List[Any]]]:
        return {"showMaps": self._maps, "showSharpened": self._sharpened, "showLocal": self._local,
                "showFsc": self._fsc, "showRounds": self._rounds, "showViews": self._views,
                "savePictures": self._save_pictures}

    def _sharpened(self, _name: Any = None) -> List[Any]:
        return self._sections([state.sharpened_file for state in self.protocol.readStates()], "Sharpened maps")

    def _local(self, _name: Any = None) -> List[Any]:
        return self._sections([state.local_resolution_file for state in self.protocol.readStates()],
                              "Local resolution")

    def _sections(self, files: List[str], title: str) -> List[Any]:
        states = self.protocol.readStates()
        names = [f"{state_name(state.label)}, {state.resolution_ang:.1f} A" for state in states]
        return self.figure_view(plots.draw_slices, [self._map(file) for file in files], names,
                                [state_colour(state.label) for state in states], self.protocol.getMapPixelSize(),
                                title=title, size_in=plots.slices_size_in(len(states)))

    def _rounds(self, _name: Any = None) -> List[Any]:
        return self.figure_view(draw_rounds, self.protocol.readStates(), title="Resolution by round")


def draw_rounds(figure: Figure, states: List[FullresState]) -> Figure:
    """Resolution before each round, a line per state."""
    axes = figure.add_subplot()
    for state in states:
        axes.plot(range(1, len(state.rounds) + 1), [row.resolution_ang for row in state.rounds], "o-",
                  color=state_colour(state.label), label=state_name(state.label))
    axes.set(xlabel="round", ylabel="resolution at FSC 0.143 (Å)")
    axes.invert_yaxis()
    axes.legend(fontsize=8)
    figure.tight_layout()
    return figure
