"""Results of classes 2D: the answer, the averages, their FRC, what was set aside."""
from typing import Any, Callable, Dict, List

import pyworkflow.protocol.params as params

from ..engine.vaegan_engine.contract import drawings
from ..engine.vaegan_engine.contract.labels import CLASSES
from ..protocols import VaeganProtClasses2D
from . import plots
from .viewer_base import VaeganViewer

JUNK_COLOUR = "#c0392b"


class VaeganClasses2DViewer(VaeganViewer):
    """Viewer of classes 2D."""

    _label = "viewer classes 2D"
    _targets = [VaeganProtClasses2D]
    DRAWINGS = ("showAnswer", "showAverages", "showFrc", "showJunk")

    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Visualization")
        form.addParam("showAnswer", params.LabelParam, label="Answer",
                      help="How many classes of particles there are, and what to go on with.")
        form.addParam("showAverages", params.LabelParam, label="Class averages",
                      help="The largest first, with particles and resolution; those of junk last and in red.")
        form.addParam("showFrc", params.LabelParam, label="FRC of the halves",
                      help="Of the averages of two half sets, in the mask, less what the mask brings.")
        form.addParam("showJunk", params.LabelParam, label="What was set aside",
                      help="Some images of each reason, beside some that were kept.")
        form.addParam("showClasses", params.LabelParam, label="Classes in Scipion's viewer",
                      help="Classes of the input particles with their alignment in the plane.")
        self._add_report_button(form)
        self._add_save_button(form)

    def _getVisualizeDict(self) -> Dict[str, Callable[..., List[Any]]]:
        return {"showAnswer": self._answer, "showAverages": self._averages, "showFrc": self._frc,
                "showJunk": self._junk, "showClasses": self._classes, "showReport": self._report,
                "savePictures": self._save_pictures}

    def _answer(self, _name: Any = None) -> List[Any]:
        return self.sentence_view(self.protocol.answerText())

    def _averages(self, _name: Any = None) -> List[Any]:
        rows = self.protocol.readClassRows()
        images = [self.protocol.pictureOf(row).read() for row in rows]
        titles = [f"{row.label + 1}: {row.n_particles}, {row.of_class.junk or resolution_text(row)}" for row in rows]
        colours = [JUNK_COLOUR if row.of_class.junk else "black" for row in rows]
        side_in = 1.3 * max(3, int(len(rows) ** 0.5 + 0.999))
        return self.figure_view(plots.draw_montage, images, titles, colours, self.protocol.getMapPixelSize(),
                                title="Class averages", size_in=(side_in, 1.25 * side_in))

    def _frc(self, _name: Any = None) -> List[Any]:
        rows = [row for row in self.protocol.readClassRows() if not row.of_class.junk]
        curves = []
        for row in rows[:plots.MOST_CURVES]:
            figures = row.of_class
            frequencies = drawings.frequencies_per_ang(figures.image_box_px, figures.pixel_size_ang)
            curves.append(drawings.Curve(row.label, frequencies[1:], figures.frc[1:]))
        if not curves:
            return [self.errorMessage("This run has no class of particles.", "Nothing to show")]
        return self.figure_view(plots.draw_fsc, curves, CLASSES, title="FRC of the halves")

    def _junk(self, _name: Any = None) -> List[Any]:
        return self.junk_view(self.protocol.getClassesDir())

    def _classes(self, _name: Any = None) -> List[Any]:
        return self.table_view("outputClasses")

    def _report(self, _name: Any = None) -> List[Any]:
        return self.report_view(None, classes=self.protocol)


def resolution_text(row: Any) -> str:
    """Resolution of a class in words."""
    value = row.of_class.frc_0143_ang
    return f"{value:.1f} Å" if value else "unresolved"
