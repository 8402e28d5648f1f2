"""Pictures of the HTML report, as PNG data URIs. Arrays in, text out."""
from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from ..contract.drawings import Curve, draw_fsc
from ..contract.labels import CLUSTERS, Naming
from ..contract.surface_picture import coloured, finer, surface_level, surface_picture
from ..contract.training_curves import curve_names, draw_training_curves
from ..figures import drawing

PLANES = (("z", 0), ("y", 1), ("x", 2))  # normal of the section, axis of the array
SIDE_PX = 144  # small maps are enlarged to about this
CURVE_COLUMNS = 3
FRAME_MS = 250  # of a film


def data_uri(png: bytes) -> str:
    """A PNG as the value of ``src``."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def grey_uri(image: np.ndarray, low: float, high: float) -> str:
    """An image ``(d, d)``, grey from ``low`` to ``high``, row 0 at the bottom, enlarged smoothly."""
    stream = io.BytesIO()
    grey_picture(image, low, high).save(stream, "PNG")
    return data_uri(stream.getvalue())


def grey_picture(image: np.ndarray, low: float, high: float) -> Image.Image:
    """What ``grey_uri`` shows."""
    grey = (np.clip((image - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)[::-1]
    picture = Image.fromarray(np.ascontiguousarray(grey))
    factor = max(1, round(SIDE_PX / max(grey.shape)))
    if factor > 1:
        picture = picture.resize((grey.shape[1] * factor, grey.shape[0] * factor), Image.Resampling.BICUBIC)
    return picture


def film_uri(images: Sequence[np.ndarray], low: float, high: float) -> str:
    """Images ``(d, d)`` as an animated PNG, forth and back, grey from ``low`` to ``high``."""
    frames = [grey_picture(image, low, high) for image in (*images, *images[-2:0:-1])]
    stream = io.BytesIO()
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0)
    return data_uri(stream.getvalue())


def surfaces(array: np.ndarray, colour: str) -> list[tuple[str, str]]:
    """(caption, data URI): the surface of a map seen along z, y and x, in a colour."""
    level, fine = surface_level(array), finer(array)
    pictures = []
    for name, axis in PLANES:
        rgba = (coloured(surface_picture(fine, axis, level), to_rgb(colour)) * 255).astype(np.uint8)[::-1]
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(rgba)).save(stream, "PNG")
        pictures.append((f"surface along {name}", data_uri(stream.getvalue())))
    return pictures


def figure_html(uri: str, caption: str, kind: str = "") -> str:
    """A picture with its caption (HTML)."""
    style = f' class="{kind}"' if kind else ""
    return f'<figure><img{style} src="{uri}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def limits(array: np.ndarray) -> tuple[float, float]:
    """Grey limits of a map or image: its 1st and 99.8th percentile."""
    low, high = np.percentile(array, (1, 99.8))
    return float(low), float(high)


def views(array: np.ndarray) -> list[tuple[str, str]]:
    """(caption, data URI): three central sections and three projections of a map, or the image itself."""
    if array.ndim == 2:
        return [("class image", grey_uri(array, *limits(array)))]
    pictures = []
    middle = array.shape[0] // 2
    for name, axis in PLANES:
        section = np.take(array, middle, axis=axis)
        pictures.append((f"section across {name}", grey_uri(section, *limits(array))))
    for name, axis in PLANES:
        projection = array.sum(axis=axis)
        pictures.append((f"projection along {name}", grey_uri(projection, *limits(projection))))
    return pictures


def section(array: np.ndarray) -> np.ndarray:
    """The central section of a map across z, or the image itself."""
    return array[len(array) // 2] if array.ndim == 3 else array


def figure_uri(figure: Figure, dpi: int = 110) -> str:
    """A figure as data URI."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi)
    return data_uri(stream.getvalue())


def curves_uri(rows: Sequence[dict[str, float]]) -> str:
    """One panel per quantity of ``log.jsonl``, against thousands of images seen."""
    n_rows = max(1, -(-len(curve_names(rows)) // CURVE_COLUMNS))
    return figure_uri(draw_training_curves(drawing.new_figure(10.5, 2.1 * n_rows), rows, CURVE_COLUMNS))


def fsc_uri(curves: Sequence[Curve], title: str, naming: Naming = CLUSTERS, unproven_per_ang: float = 0.0
            ) -> str:
    """FSC curves with both thresholds, what is not proven on grey."""
    figure = drawing.new_figure(6.4, 4.0)
    draw_fsc(figure.subplots(), curves, title, naming, unproven_per_ang)
    return figure_uri(figure)
