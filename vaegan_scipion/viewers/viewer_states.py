"""Results of find states and poses: verdict, cards, maps, FSC, viewing directions."""
from typing import Any, Callable, Dict, List

import numpy as np
import pyworkflow.protocol.params as params

from ..convert.from_engine import Picture
from ..convert.poses import read_poses
from ..engine.vaegan_engine.contract.labels import STATES, UNASSIGNED, state_colour, state_name
from ..engine_run import result_file
from ..protocols import VaeganProtStates
from . import cards, plots, states_drawings
from .viewer_base import VaeganViewer, fsc_curve, read_picture


class VaeganStatesViewer(VaeganViewer):
    """Viewer of find states and poses."""

    _label = "viewer states"
    _targets = [VaeganProtStates]
    DRAWINGS = ("showVerdict", "showCards", "showViews", "showMaps", "showMotions", "showFsc")

    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Visualization")
        form.addParam("showVerdict", params.LabelParam, label="Verdict and its evidence",
                      help="How many states there are, and the numbers that say so.")
        form.addParam("showCards", params.LabelParam, label="Cards of the states",
                      help="Size, map and FSC of the half maps of each state.")
        form.addParam("showViews", params.LabelParam, label="Viewing directions",
                      help="How many particles look along each direction, on an equal-area map of the sphere.")
        form.addParam("showMaps", params.LabelParam, label="Maps of the states", help="Three sections of each.")
        form.addParam("showMotions", params.LabelParam, label="Maps along the motions",
                      help="Of the states that vary continuously: maps from one end of the motion to the other.")
        form.addParam("showFsc", params.LabelParam, label="FSC between half maps",
                      help="Two halves of each state's particles, refined apart.")
        form.addParam("showClasses", params.LabelParam, label="Classes in Scipion's viewer",
                      help="Classes of the input particles with their alignment.")
        form.addParam("showReport", params.LabelParam, label="Report in the browser",
                      help="With the clusters it started from, if any. One HTML file to keep or to send: "
                           "extra/report/report.html.")
        self._add_save_button(form)

    def _getVisualizeDict(self) -> Dict[str, Callable[..., List[Any]]]:
        return {"showVerdict": self._verdict, "showCards": self._cards, "showViews": self._views,
                "showMaps": self._maps, "showMotions": self._motions, "showFsc": self._fsc,
                "showClasses": self._classes, "showReport": self._report, "savePictures": self._save_pictures}

    def _verdict(self, _name: Any = None) -> List[Any]:
        details = self.protocol.readSummary()
        rows = self.protocol.readClusterRows()
        return self.figure_view(states_drawings.draw_evidence, details, rows, title="Verdict",
                                size_in=states_drawings.evidence_size_in(details, rows))

    def read_cards(self) -> List[cards.Card]:
        """A card per state, the largest first."""
        poses = read_poses(self.protocol.getStatesDir())
        label = np.array([pose.label for pose in poses.values()])
        probability = np.array([pose.probability for pose in poses.values()])
        curves = {curve.label: curve for curve in map(fsc_curve, getattr(self.protocol, "outputFSCs", None) or [])}
        return [cards.Card(row.label, row.n_particles, row.fraction, float(probability[label == row.label].mean()),
                           self._map(row.file), curve=curves.get(row.label))
                for row in self.protocol.readClusterRows()]

    def _map(self, file: str) -> np.ndarray:
        return read_picture(Picture(0, str(result_file(self.protocol.getStatesDir(), file))))

    def _cards(self, _name: Any = None) -> List[Any]:
        made = self.read_cards()
        return self.figure_view(cards.draw_cards, made, STATES, title="States", size_in=cards.cards_size_in(len(made)))

    def _views(self, _name: Any = None) -> List[Any]:
        poses = list(read_poses(self.protocol.getStatesDir()).values())
        labels = sorted({pose.label for pose in poses} - {UNASSIGNED})
        angles = [np.array([(pose.rot_deg, pose.tilt_deg) for pose in poses if pose.label == label])
                  for label in labels]
        return self.figure_view(states_drawings.draw_views, labels, [a[:, 0] for a in angles],
                                [a[:, 1] for a in angles], title="Viewing directions",
                                size_in=states_drawings.views_size_in(len(labels)))

    def _maps(self, _name: Any = None) -> List[Any]:
        rows = self.protocol.readClusterRows()
        names = [f"{state_name(row.label)}, {row.n_particles} particles" for row in rows]
        return self.figure_view(plots.draw_slices, [self._map(row.file) for row in rows], names,
                                [state_colour(row.label) for row in rows], self.protocol.getMapPixelSize(),
                                title="Maps",
                                size_in=plots.slices_size_in(len(rows)))

    def _motions(self, _name: Any = None) -> List[Any]:
        rows = [row for row in self.protocol.readClusterRows() if row.of_state.motion_files]
        if not rows:
            text = "The states of this run are discrete: none varies continuously, so there is no motion to show."
            return [self.infoMessage(text, "No motion")]
        shown = [(row.label, k / (len(row.of_state.motion_files) - 1), file)
                 for row in rows for k, file in enumerate(row.of_state.motion_files)]
        return self.figure_view(plots.draw_slices, [self._map(file) for _, _, file in shown],
                                [f"{state_name(label)}, t = {t:.1f}" for label, t, _ in shown],
                                [state_colour(label) for label, _, _ in shown], self.protocol.getMapPixelSize(),
                                title="Maps along the motions", size_in=plots.slices_size_in(len(shown)))

    def _fsc(self, _name: Any = None) -> List[Any]:
        output = getattr(self.protocol, "outputFSCs", None)
        if output is None or not output.getSize():
            return [self.errorMessage("This run has no FSC.", "Nothing to show")]
        return self.figure_view(plots.draw_fsc, [fsc_curve(fsc) for fsc in output], STATES,
                                title="FSC between half maps")

    def _classes(self, _name: Any = None) -> List[Any]:
        return self.table_view("outputClasses")

    def _report(self, _name: Any = None) -> List[Any]:
        return self.report_view(self.protocol.getClustering(), states=self.protocol)
