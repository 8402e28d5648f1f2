"""Results of a training: curves, components, the newest preview."""
from pathlib import Path
from typing import Any, Callable, Dict, List

import pyworkflow.protocol.params as params
from matplotlib.image import imread

from ..engine.vaegan_engine.contract import result_files
from ..engine.vaegan_engine.contract.status import read_status
from ..protocols import VaeganProtTrain2D, VaeganProtTrain3D
from . import plots
from .moving import LiveCurves, headline
from .viewer_base import VaeganViewer


class VaeganTrainViewer(VaeganViewer):
    """Viewer of train 2D and train 3D."""

    _label = "viewer training"
    _targets = [VaeganProtTrain2D, VaeganProtTrain3D]
    DRAWINGS = ("showCurves", "showComponents", "showPreview")

    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Visualization")
        form.addParam("showCurves", params.LabelParam, label="Losses and gradients",
                      help="Everything in log.jsonl, against the images seen; drawn anew while it trains.")
        form.addParam("showComponents", params.LabelParam, label="Components",
                      help="Three sections of each map, or the images.")
        form.addParam("showPreview", params.LabelParam, label="Newest preview",
                      help="What the networks see and make, at the last tick.")
        form.addParam("showTable", params.LabelParam, label="Components in Scipion's viewer",
                      help="The output set as a table.")
        self._add_save_button(form)

    def _getVisualizeDict(self) -> Dict[str, Callable[..., List[Any]]]:
        return {"showCurves": self._curves, "showComponents": self._components,
                "showPreview": self._preview, "showTable": self._table,
                "savePictures": self._save_pictures}

    def _curves(self, _name: Any = None) -> List[Any]:
        folder = Path(self.protocol.getRunDir())

        def read_rows() -> List[Dict[str, Any]]:
            return result_files.read_jsonl(folder / result_files.LOG_JSONL)

        if not read_rows():
            return [self.errorMessage("The training has not finished its first tick.", "Nothing to show")]
        if self._saved is not None:  # a file does not move
            return self.figure_view(plots.draw_curves, read_rows(), headline(read_status(folder)), title="Training",
                                    size_in=(11, 8))
        return self.figure_view(LiveCurves, read_rows, lambda: read_status(folder), title="Training", size_in=(11, 8))

    def _components(self, _name: Any = None) -> List[Any]:
        rows = self.protocol.readComponents()
        titles = [f"component {row.index + 1}" for row in rows]
        pictures = [self.protocol.pictureOf(row).read() for row in rows]
        volumetric = self.protocol.isVolumetric()
        draw = plots.draw_slices if volumetric else plots.draw_montage
        return self.figure_view(draw, pictures, titles, (), self.protocol.getTrainingPixelSize(), title="Components",
                                size_in=plots.slices_size_in(len(rows)) if volumetric else (8, 8))

    def _preview(self, _name: Any = None) -> List[Any]:
        # names hold the images seen, zero-padded: the last name is the newest
        previews = sorted((Path(self.protocol.getRunDir()) / result_files.PREVIEWS).glob("*.png"))
        if not previews:
            return [self.errorMessage("The training has not finished its first tick.", "Nothing to show")]
        return self.figure_view(plots.draw_picture, imread(previews[-1]), title=previews[-1].stem, size_in=(11, 6))

    def _table(self, _name: Any = None) -> List[Any]:
        return self.table_view("outputVolumes" if self.protocol.isVolumetric() else "outputAverages")
