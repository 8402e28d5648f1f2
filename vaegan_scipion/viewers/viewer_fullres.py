"""Results of states at full resolution: maps, FSC, how the rounds went, viewing directions."""
from typing import Any, Callable, Dict, List, Sequence

import numpy as np
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
    DRAWINGS = ("showMaps", "showSharpened", "showSurfaces", "showLocal", "showFsc", "showRounds", "showViews")

    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Visualization")
        form.addParam("showMaps", params.LabelParam, label="Maps", help="Three sections of each, not sharpened.")
        form.addParam("showSharpened", params.LabelParam, label="Sharpened maps", help="Three sections of each.")
        form.addParam("showSurfaces", params.LabelParam, label="Surfaces",
                      help="Of the maps that are not sharpened, seen along z, y and x, without another program.")
        form.addParam("showChimera", params.LabelParam, label="Maps in ChimeraX",
                      help="All states beside each other. Needs ChimeraX (CHIMERA_HOME in scipion.conf).")
        form.addParam("showLocal", params.LabelParam, label="Local resolution",
                      help="In A, in sections: where the FSC inside a small ball falls below 0.5.")
        form.addParam("showFsc", params.LabelParam, label="FSC between half maps",
                      help="Two halves of each state's particles, refined apart; masked, and corrected for the mask.")
        form.addParam("showRounds", params.LabelParam, label="Resolution by round",
                      help="FSC 0.143 of the half maps before each round of local refinement.")
        form.addParam("showViews", params.LabelParam, label="Viewing directions",
                      help="How many particles look along each direction, on an equal-area map of the sphere.")
        form.addParam("showClasses", params.LabelParam, label="Classes in Scipion's viewer",
                      help="Classes of the particles with their refined alignment.")
        self._add_save_button(form)

    def _getVisualizeDict(self) -> Dict[str, Callable[..., List[Any]]]:
        return {"showMaps": self._maps, "showSharpened": self._sharpened, "showSurfaces": self._surfaces,
                "showChimera": self._chimera, "showLocal": self._local, "showClasses": self._classes,
                "showFsc": self._fsc, "showRounds": self._rounds, "showViews": self._views,
                "savePictures": self._save_pictures}

    def _sharpened(self, _name: Any = None) -> List[Any]:
        states = self.protocol.readStates()
        return self.figure_view(plots.draw_slices, [self._map(state.sharpened_file) for state in states],
                                [row_title(state) for state in states], [state_colour(state.label) for state in states],
                                self.protocol.getMapPixelSize(), title="Sharpened maps",
                                size_in=plots.slices_size_in(len(states)))

    def _local(self, _name: Any = None) -> List[Any]:
        states = self.protocol.readStates()
        inside = [np.where(self._map(state.mask_file) > 0.5, self._map(state.local_resolution_file), 0)
                  for state in states]
        return self.figure_view(draw_local, inside,
                                [row_title(state) for state in states], [state_colour(state.label) for state in states],
                                self.protocol.getMapPixelSize(), title="Local resolution",
                                size_in=plots.slices_size_in(len(states)))

    def _rounds(self, _name: Any = None) -> List[Any]:
        return self.figure_view(draw_rounds, self.protocol.readStates(), title="Resolution by round")


def row_title(state: FullresState) -> str:
    """A state and its resolution."""
    return f"{state_name(state.label)}, {state.resolution_ang:.1f} Å"


def draw_local(figure: Figure, maps: Sequence[np.ndarray], titles: Sequence[str], colours: Sequence[str],
               pixel_size_ang: float) -> Figure:
    """Central sections of maps (d, d, d) whose values are resolutions in A, one scale for all; none at 0."""
    inside = np.concatenate([array[array > 0] for array in maps])
    low, high = np.percentile(inside, (1, 99)) if len(inside) else (0.0, 1.0)
    grid, shown = figure.subplots(len(maps), len(drawings.PLANES), squeeze=False), None
    for row, (array, title, colour) in enumerate(zip(maps, titles, colours)):
        for axes, (name, axis) in zip(grid[row], drawings.PLANES):
            section = drawings.section_across(array, axis)
            shown = axes.imshow(np.ma.masked_less_equal(section, 0), cmap="cividis_r", vmin=low,
                                vmax=max(high, low + 1e-6), origin="lower")
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"section across {name}" if row == 0 else "", fontsize=8)
        grid[row][0].set_ylabel(title, fontsize=8, color=colour)
        drawings.draw_scale_bar(grid[row][0], array.shape[-1], pixel_size_ang, "black")
    figure.colorbar(shown, ax=grid.ravel().tolist(), label="local resolution (Å)", shrink=0.8)
    return figure


def draw_rounds(figure: Figure, states: List[FullresState]) -> Figure:
    """Resolution before each round, a line per state."""
    axes = figure.add_subplot()
    for state in states:
        axes.plot(range(1, len(state.rounds) + 1), [row.resolution_ang for row in state.rounds], "o-",
                  color=state_colour(state.label), label=state_name(state.label))
    axes.set(xlabel="round", ylabel="resolution at FSC 0.143 (Å)")
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)
    figure.tight_layout()
    return figure
