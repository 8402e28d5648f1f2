"""Results of embed and cluster: UMAP, maps or images, FSC, classes."""
from typing import Any, Callable, Dict, List

import pyworkflow.protocol.params as params

from ..convert import read_clusters
from ..protocols import VaeganProtCluster
from . import plots
from .viewer_base import VaeganViewer, read_picture


class VaeganClusterViewer(VaeganViewer):
    """Viewer of embed and cluster."""

    _label = "viewer clusters"
    _targets = [VaeganProtCluster]

    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Visualization")
        form.addParam("showUmap", params.LabelParam, label="UMAP by cluster",
                      help="The embedding of all particles; noise is grey.")
        form.addParam("showPictures", params.LabelParam, label="Maps or images of the clusters",
                      help="Three sections of each map, or the images.")
        form.addParam("showFsc", params.LabelParam, label="FSC between halves",
                      help="When 'Two independent halves' was on.")
        form.addParam("showClasses", params.LabelParam, label="Classes in Scipion's viewer",
                      help="Classes of the input particles; the last one is the noise, if any.")

    def _getVisualizeDict(self) -> Dict[str, Callable[..., List[Any]]]:
        return {"showUmap": self._umap, "showPictures": self._pictures, "showFsc": self._fsc,
                "showClasses": self._classes}

    def _umap(self, _name: Any = None) -> List[Any]:
        clusters = read_clusters(self.protocol.getClustersDir())
        return self.figure_view(plots.draw_umap, clusters.umap, clusters.label, title="UMAP")

    def _pictures(self, _name: Any = None) -> List[Any]:
        pictures = self.protocol.readPictures()
        labels = sorted(pictures)
        arrays = [read_picture(pictures[label]) for label in labels]
        draw = plots.draw_slices if self.protocol.isVolumetric() else plots.draw_montage
        return self.figure_view(draw, arrays, [plots.cluster_name(label) for label in labels],
                                title="Clusters", size_in=(6, 9))

    def _fsc(self, _name: Any = None) -> List[Any]:
        output = getattr(self.protocol, "outputFSCs", None)
        if output is None or not output.getSize():
            return [self.errorMessage("This run has no FSC. Set 'Two independent halves' to Yes.",
                                      "Nothing to show")]
        return self.figure_view(plots.draw_fsc, [fsc_curve(fsc) for fsc in output], title="FSC")

    def _classes(self, _name: Any = None) -> List[Any]:
        return self.table_view("outputClasses")


def fsc_curve(fsc: Any) -> plots.Curve:
    """A Scipion FSC of this plugin as curve of its cluster."""
    frequency_per_ang, values = fsc.getData()
    return plots.Curve(fsc._vaeganLabel.get(), [float(x) for x in frequency_per_ang],
                       [float(y) for y in values])
