"""Results of evaluate: clusters or states against labels, maps against references."""
from typing import Any, Callable, Dict, List

import numpy as np
import pyworkflow.protocol.params as params

from ..constants import EVALUATION_DIR
from ..convert.from_engine import Picture
from ..engine.vaegan_engine.contract import drawings
from ..engine.vaegan_engine.contract.labels import CLUSTERS, STATES, Naming
from ..engine_run import result_file
from ..protocols import VaeganProtClasses2D, VaeganProtEvaluate, VaeganProtStates
from . import plots
from .viewer_base import VaeganViewer, fsc_curve


class VaeganEvaluateViewer(VaeganViewer):
    """Viewer of evaluate."""

    _label = "viewer evaluation"
    _targets = [VaeganProtEvaluate]
    DRAWINGS = ("showCounts", "showFsc", "showMaps")

    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Visualization")
        form.addParam("showCounts", params.LabelParam, label="Groups against labels",
                      help="How many particles of each label are in each of them.")
        form.addParam("showFsc", params.LabelParam, label="FSC with the reference maps",
                      help="Each map, aligned, against the reference that resembles it most.")
        form.addParam("showMaps", params.LabelParam, label="Maps in the frame of their references",
                      help="Three sections of each.")
        form.addParam("showTable", params.LabelParam, label="Maps in Scipion's viewer",
                      help="The output set as a table.")
        self._add_report_button(form)
        self._add_save_button(form)

    def _getVisualizeDict(self) -> Dict[str, Callable[..., List[Any]]]:
        return {"showCounts": self._counts, "showFsc": self._fsc, "showMaps": self._maps, "showTable": self._table,
                "showReport": self._report, "savePictures": self._save_pictures}

    def _counts(self, _name: Any = None) -> List[Any]:
        scores = self.protocol.readEvaluation().labels
        if scores is None:
            return [self.errorMessage("This run compared maps only, no labels.", "Nothing to show")]
        labels = drawings.sorted_labels(np.array(list(scores.contingency)))
        counts = np.array([scores.contingency[label] for label in labels])
        return self.figure_view(plots.draw_counts, counts, labels, scores.states,
                                self._naming(), title="Counts", size_in=plots.counts_size_in(counts))

    def _naming(self) -> Naming:
        about = self.protocol.inputClusters.get()
        if isinstance(about, VaeganProtClasses2D):
            return plots.CLASSES
        return STATES if isinstance(about, VaeganProtStates) else CLUSTERS

    def _no_maps(self) -> List[Any]:
        return [self.errorMessage("This run compared labels only, no maps.", "Nothing to show")]

    def _fsc(self, _name: Any = None) -> List[Any]:
        output = getattr(self.protocol, "outputFSCs", None)
        if output is None or not output.getSize():
            return self._no_maps()
        return self.figure_view(plots.draw_fsc, [fsc_curve(fsc) for fsc in output], self._naming(),
                                title="FSC with references")

    def _maps(self, _name: Any = None) -> List[Any]:
        rows = self.protocol.readEvaluation().maps
        if not rows:
            return self._no_maps()
        folder = self.protocol._getExtraPath(EVALUATION_DIR)
        arrays = [Picture(0, str(result_file(folder, row.aligned_file))).read() for row in rows]
        naming = self._naming()
        names, colours = zip(*((naming.name(row.label), naming.colour(row.label)) for row in rows))
        return self.figure_view(plots.draw_slices, arrays, list(names), list(colours), rows[0].voxel_size_ang,
                                title="Aligned maps", size_in=plots.slices_size_in(len(rows)))

    def _table(self, _name: Any = None) -> List[Any]:
        return self.table_view("outputVolumes")

    def _report(self, _name: Any = None) -> List[Any]:
        about = self.protocol.inputClusters.get()
        if isinstance(about, VaeganProtClasses2D):
            return self.report_view(None, classes=about)
        if isinstance(about, VaeganProtStates):
            return self.report_view(about.getClustering(), states=about)
        return self.report_view(about, evaluation=self.protocol)
