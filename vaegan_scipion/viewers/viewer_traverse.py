"""Results of a PCA traversal: strips of sections with the particles near each point."""
from typing import Any, Callable, Dict, List

import pyworkflow.protocol.params as params

from ..protocols import VaeganProtTraverse
from . import plots
from .viewer_base import VaeganViewer, central_section, read_picture

ALL_CLUSTERS = 0


class VaeganTraverseViewer(VaeganViewer):
    """Viewer of the PCA traversal."""

    _label = "viewer traversal"
    _targets = [VaeganProtTraverse]

    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Visualization")
        form.addParam("cluster", params.IntParam, default=ALL_CLUSTERS, label="Cluster",
                      help="Number of the cluster to show. 0 = all.")
        form.addParam("showStrips", params.LabelParam, label="Along the components",
                      help="Central sections (3D) or images (2D), with the number of particles near each.")
        form.addParam("showTable", params.LabelParam, label="Points in Scipion's viewer",
                      help="The output set as a table, with cluster, component, position and particles near.")

    def _getVisualizeDict(self) -> Dict[str, Callable[..., List[Any]]]:
        return {"showStrips": self._strips, "showTable": self._table}

    def _strips(self, _name: Any = None) -> List[Any]:
        wanted = self.cluster.get()
        points = [plots.Point(row["cluster"], row["component"] + 1, row["position"], row["n_near"],
                              central_section(read_picture(row["picture"])))
                  for row in self.protocol.readPoints() if wanted in (ALL_CLUSTERS, row["cluster"] + 1)]
        if not points:
            return [self.errorMessage(f"There is no cluster {wanted} in this traversal.", "Nothing to show")]
        return self.figure_view(plots.draw_traversal, points, title="Traversal", size_in=(10, 8))

    def _table(self, _name: Any = None) -> List[Any]:
        volumetric = self.protocol.inputClusters.get().isVolumetric()
        return self.table_view("outputVolumes" if volumetric else "outputAverages")
