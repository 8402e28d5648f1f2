"""What the viewers share: figures in Scipion's windows, maps and images read from disk."""
from typing import Any, Callable, List

import mrcfile
import numpy as np
from pwem.viewers import EmPlotter
from pwem.viewers.mdviewer.viewer import MDViewer
from pyworkflow.viewer import DESKTOP_TKINTER, ProtocolViewer

from ..convert import Picture


class VaeganViewer(ProtocolViewer):
    """A form of buttons; each makes views."""

    _environments = [DESKTOP_TKINTER]

    def figure_view(self, draw: Callable[..., Any], *arguments: Any, title: str = "",
                    size_in: Any = (8, 6)) -> List[Any]:
        """A window with a new figure that `draw(figure, *arguments)` fills."""
        plotter = EmPlotter(windowTitle=title, figsize=size_in)
        draw(plotter.getFigure(), *arguments)
        return [plotter]

    def table_view(self, output_name: str) -> List[Any]:
        """Scipion's metadata viewer on an output; a message when it is not there."""
        output = getattr(self.protocol, output_name, None)
        if output is None:
            return [self.errorMessage(f"This run has no {output_name}.", "Nothing to show")]
        return list(MDViewer(project=self.getProject(), protocol=self.protocol)._visualize(output))


def read_picture(picture: Picture) -> np.ndarray:
    """A map (d, d, d), or one image (d, d) of a stack, as float32."""
    with mrcfile.mmap(picture.path, mode="r", permissive=True) as mrc:
        data = mrc.data[picture.number - 1] if picture.number else mrc.data
        return np.array(data, np.float32)


def central_section(array: np.ndarray) -> np.ndarray:
    """The image itself, or the section of a map across z through its centre."""
    return array[len(array) // 2] if array.ndim == 3 else array
