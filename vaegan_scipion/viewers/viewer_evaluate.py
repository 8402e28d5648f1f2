"""Results of evaluate: clusters or states against labels, maps against references."""
from typing import Any, Callable, Dict, List

import numpy as np
import pyworkflow.protocol.params as params

from ..constants import EVALUATION_DIR
from ..convert.from_engine import Picture
from ..engine.vaegan_engine.contract import drawings
from ..engine.vaegan_engine.contract.answer import Majority, majorities, short
from ..engine.vaegan_engine.contract.labels import GROUPS, Naming
from ..engine_run import result_file
from ..protocols import VaeganProtEvaluate
from . import plots
from .viewer_base import VaeganViewer, fsc_curve

REFERENCE_COLOUR = "#606060"


class VaeganEvaluateViewer(VaeganViewer):
    """Viewer of evaluate."""

    _label = "viewer evaluation"
    _targets = [VaeganProtEvaluate]
    DRAWINGS = ("showAnswer", "showCounts", "showFsc", "showMaps")

    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Visualization")
        form.addParam("showAnswer", params.LabelParam, label="Answer",
                      help="How many groups were found against how many labels, whether they are the same, and to what "
                           "resolution their maps agree with the references.")
        form.addParam("showCounts", params.LabelParam, label="Groups against labels",
                      help="How many particles of each label are in each of them.")
        form.addParam("showFsc", params.LabelParam, label="FSC with the reference maps",
                      help="Each map, aligned, against the reference that resembles it most.")
        form.addParam("showMaps", params.LabelParam, label="Maps beside their references",
                      help="Three sections of each map, in the frame of its reference, and of the reference below it; "
                           "of classes 2D the averages with the label of most of their particles.")
        form.addParam("showTable", params.LabelParam, label="Maps in Scipion's viewer",
                      help="The output set as a table.")
        self._add_report_button(form)
        self._add_save_button(form)

    def _getVisualizeDict(self) -> Dict[str, Callable[..., List[Any]]]:
        return {"showAnswer": self._answer, "showCounts": self._counts, "showFsc": self._fsc, "showMaps": self._maps,
                "showTable": self._table, "showReport": self._report, "savePictures": self._save_pictures}

    def _answer(self, _name: Any = None) -> List[Any]:
        return self.sentence_view(self.protocol.answerText())

    def _counts(self, _name: Any = None) -> List[Any]:
        scores = self.protocol.readEvaluation().labels
        if scores is None:
            return [self.infoMessage("This run compared maps only, no labels.", "No labels")]
        labels = drawings.sorted_labels(np.array(list(scores.contingency)))
        counts = np.array([scores.contingency[label] for label in labels])
        return self.figure_view(plots.draw_counts, counts, labels, [short(state) for state in scores.states],
                                self._naming(), title="Counts", size_in=plots.counts_size_in(counts))

    def _naming(self) -> Naming:
        return GROUPS[self.protocol.getGroups()]

    def _no_maps(self) -> List[Any]:
        return [self.infoMessage("This run compared labels only, no maps.", "No maps")]

    def _fsc(self, _name: Any = None) -> List[Any]:
        output = getattr(self.protocol, "outputFSCs", None)
        if output is None or not output.getSize():
            return self._no_maps()
        return self.figure_view(plots.draw_fsc, [fsc_curve(fsc) for fsc in output], self._naming(),
                                title="FSC with references")

    def _maps(self, _name: Any = None) -> List[Any]:
        values = self.protocol.readEvaluation()
        if not values.maps:
            return self._no_maps() if values.labels is None or self.protocol.getGroups() != "classes" \
                else self._averages(majorities(values.labels))
        folder, naming, shown = self.protocol._getExtraPath(EVALUATION_DIR), self._naming(), []
        for row in values.maps:
            colour = naming.colour(row.label)
            shown.append((row.aligned_file, naming.name(row.label), colour))
            if row.reference_file:  # runs of before it was kept have none
                shown.append((row.reference_file, short(self.protocol.referenceName(row)), REFERENCE_COLOUR))
        arrays = [Picture(0, str(result_file(folder, file))).read() for file, _, _ in shown]
        return self.figure_view(plots.draw_slices, arrays, [name for _, name, _ in shown],
                                [colour for _, _, colour in shown], values.maps[0].voxel_size_ang,
                                title="Maps and references", size_in=plots.slices_size_in(len(shown)))

    def _averages(self, found: Dict[int, Majority]) -> List[Any]:
        """Class averages with the label of most of their particles, the purest first."""
        classes = self.protocol.inputClusters.get()
        refused = self.older_message(self.protocol, classes)
        if refused:
            return refused
        rows = sorted((row for row in classes.readClassRows() if row.label in found),
                      key=lambda row: -found[row.label].purity)
        titles = [f"{row.label + 1}: {100 * found[row.label].purity:.0f} % {found[row.label].label}" for row in rows]
        side_in = 1.5 * max(3, int(len(rows) ** 0.5 + 0.999))
        return self.figure_view(plots.draw_montage, [classes.pictureOf(row).read() for row in rows], titles, (),
                                classes.getMapPixelSize(), title="Averages and labels",
                                size_in=(side_in, 1.25 * side_in))

    def _table(self, _name: Any = None) -> List[Any]:
        return self.table_view("outputVolumes")

    def _report(self, _name: Any = None) -> List[Any]:
        about, groups = self.protocol.inputClusters.get(), self.protocol.getGroups()
        if groups == "classes":
            return self.report_view(None, classes=about, evaluation=self.protocol)
        if groups == "states":
            return self.report_view(about.getClustering(), states=about, evaluation=self.protocol)
        return self.report_view(about, evaluation=self.protocol)
