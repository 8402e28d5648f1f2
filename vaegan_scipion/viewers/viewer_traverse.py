"""Results of a PCA traversal: strips, movie, ChimeraX series, table, report."""
import os
from typing import Any, Callable, Dict, List, Sequence

import pyworkflow.protocol.params as params

from ..engine.vaegan_engine.contract.analysis_records import TraversalPoint
from ..engine.vaegan_engine.contract.chimerax import series_commands
from ..engine.vaegan_engine.contract.labels import cluster_colour, cluster_name
from ..protocols import VaeganProtTraverse
from . import plots
from .moving import Frame, Movie
from .viewer_base import MOVIES_DIR, VaeganViewer, central_section

ALL_CLUSTERS = 0


class VaeganTraverseViewer(VaeganViewer):
    """Viewer of the PCA traversal."""

    _label = "viewer traversal"
    _targets = [VaeganProtTraverse]
    DRAWINGS = ("showStrips",)

    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Visualization")
        form.addParam("cluster", params.IntParam, default=ALL_CLUSTERS, label="Cluster (0: all)",
                      help="Number of the cluster to show. 0: all; the movie and ChimeraX then show the first.")
        form.addParam("component", params.IntParam, default=1, label="Component",
                      help="Number of the component that the movie and ChimeraX show.")
        form.addParam("showStrips", params.LabelParam, label="Along the components",
                      help="Central sections (3D) or images (2D), with the number of particles near each.")
        form.addParam("showMovie", params.LabelParam, label="Movie",
                      help="Sections (3D) or images (2D), one point after the other; a slider picks one.")
        form.addParam("saveMovie", params.LabelParam, label="Save the movie as GIF",
                      help="Into extra/movies of this run.")
        form.addParam("showChimera", params.LabelParam, label="Maps as series in ChimeraX",
                      help="A volume series with its slider; 3D only. Needs ChimeraX (CHIMERA_HOME in scipion.conf).")
        form.addParam("showTable", params.LabelParam, label="Points in Scipion's viewer",
                      help="The output set as a table, with cluster, component, position and particles near.")
        self._add_report_button(form)
        self._add_save_button(form)

    def _getVisualizeDict(self) -> Dict[str, Callable[..., List[Any]]]:
        return {"showStrips": self._strips, "showMovie": self._movie, "saveMovie": self._save_movie,
                "showChimera": self._chimera, "showTable": self._table, "showReport": self._report,
                "savePictures": self._save_pictures}

    def _strips(self, _name: Any = None) -> List[Any]:
        wanted = self.cluster.get()
        points = [plots.Point(row.cluster, row.component + 1, row.position, row.n_near,
                              central_section(self.protocol.pictureOf(row).read()))
                  for row in self.protocol.readPoints() if wanted in (ALL_CLUSTERS, row.cluster + 1)]
        if not points:
            return [self.errorMessage(f"There is no cluster {wanted} in this traversal.", "Nothing to show")]
        rate = self.protocol.inputClusters.get().getMapPixelSize()
        return self.figure_view(plots.draw_traversal, points, rate, title="Traversal",
                                size_in=plots.traversal_size_in(points))

    def chosen_rows(self) -> List[TraversalPoint]:
        """Points of the cluster and component of the form, in order; [] where there are none."""
        rows = [row for row in self.protocol.readPoints() if row.component + 1 == self.component.get()]
        wanted = self.cluster.get()
        if wanted == ALL_CLUSTERS and rows:
            wanted = min(row.cluster for row in rows) + 1
        return sorted((row for row in rows if row.cluster + 1 == wanted), key=lambda row: row.point)

    def _nothing(self) -> List[Any]:
        return [self.errorMessage(f"There is no cluster {self.cluster.get()} with a component {self.component.get()} "
                                  "in this traversal.", "Nothing to show")]

    def _movie(self, _name: Any = None) -> List[Any]:
        rows = self.chosen_rows()
        if not rows:
            return self._nothing()
        size_in = (9, 4.2) if self.isVolumetric() else (5, 5.4)
        rate = self.protocol.inputClusters.get().getMapPixelSize()
        return self.figure_view(Movie, self._frames(rows), rate, title="Traversal movie", size_in=size_in)

    def _frames(self, rows: Sequence[TraversalPoint]) -> List[Frame]:
        """Points with their maps or images read."""
        return [Frame(row.position, self.protocol.pictureOf(row).read(),
                      f"{cluster_name(row.cluster)}, component {row.component + 1}: position {row.position:.2f}, "
                      f"{row.n_near} particles near", cluster_colour(row.cluster)) for row in rows]

    def _save_movie(self, _name: Any = None) -> List[Any]:
        views = self._movie()
        if not self.chosen_rows():
            return views
        row = self.chosen_rows()[0]
        path = self.protocol._getExtraPath(
            MOVIES_DIR, f"cluster_{row.cluster + 1:02d}_component_{row.component + 1}.gif")
        views[0].getFigure().content.save_gif(path)
        views[0].close()
        return [self.infoMessage(f"The movie is in {os.path.abspath(path)}", "Saved")]

    def _chimera(self, _name: Any = None) -> List[Any]:
        if not self.isVolumetric():
            return [self.errorMessage("A traversal of a 2D training has images, not maps. Use the movie.",
                                      "Nothing to show")]
        rows = self.chosen_rows()
        if not rows:
            return self._nothing()
        name = f"cluster_{rows[0].cluster + 1:02d}_component_{rows[0].component + 1}"
        return self.chimera_view(name, series_commands([self.protocol.pictureOf(row).path for row in rows]))

    def isVolumetric(self) -> bool:
        """Whether the points have maps."""
        return bool(self.protocol.inputClusters.get().isVolumetric())

    def _table(self, _name: Any = None) -> List[Any]:
        return self.table_view("outputVolumes" if self.isVolumetric() else "outputAverages")

    def _report(self, _name: Any = None) -> List[Any]:
        return self.report_view(self.protocol.inputClusters.get(), traversal=self.protocol)
