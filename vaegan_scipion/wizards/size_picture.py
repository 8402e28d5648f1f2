"""The wizard's picture: real particles with the kept box and the particle circle. Arrays in, drawing out; no Tk."""
from typing import List, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from ..convert.sample_images import low_passed

N_SINGLE = 5
MEAN_SIGMA_FRAC = 0.3  # of Nyquist; a mean has less noise
KEPT_COLOUR, CIRCLE_COLOUR = "#ffb000", "#00c2ff"
MARGIN_MIN = 1.3  # kept box / particle diameter


class SizePicture:
    """Mean and some low-passed particles; the marks follow `update`.

    Parameters
    ----------
    figure : an empty matplotlib figure
    images : (n, d, d) particles as they are in the set
    pixel_size_ang : of these images, in A
    """

    def __init__(self, figure: Figure, images: np.ndarray, pixel_size_ang: float) -> None:
        self.box_px, self.pixel_size_ang = images.shape[-1], pixel_size_ang
        self.marks: List[Tuple[Rectangle, Circle]] = []
        shown = [*low_passed(images.mean(axis=0)[None], MEAN_SIGMA_FRAC), *low_passed(images[:N_SINGLE])]
        titles = [f"mean of {len(images)}"] + [f"particle {i + 1}" for i in range(len(shown) - 1)]
        self.text = figure.suptitle("")
        for number, (image, title) in enumerate(zip(shown, titles), start=1):
            self._add(figure.add_subplot(2, (len(shown) + 1) // 2, number), image, title)

    def _add(self, axes: Axes, image: np.ndarray, title: str) -> None:
        low, high = np.percentile(image, (1, 99))
        axes.imshow(image, cmap="gray", vmin=low, vmax=high if high > low else low + 1)
        axes.set_title(title, fontsize=8)
        axes.set_axis_off()
        kept = axes.add_patch(Rectangle((0, 0), 1, 1, fill=False, color=KEPT_COLOUR, lw=1.5, clip_on=False))
        centre = (self.box_px // 2, self.box_px // 2)
        circle = axes.add_patch(Circle(centre, 1, fill=False, color=CIRCLE_COLOUR, lw=1.5))
        self.marks.append((kept, circle))

    def update(self, crop_frac: float, radius_frac: float) -> str:
        """Move the marks: kept part of the box, and radius of the particle / kept box. Returns the sentence shown."""
        centre, kept_px = self.box_px // 2, crop_frac * self.box_px
        for kept, circle in self.marks:
            corner = centre - kept_px / 2 - 0.5  # a pixel's number is that of its centre
            kept.set_bounds(corner, corner, kept_px, kept_px)
            circle.set_radius(radius_frac * kept_px)
        self.text.set_text(size_text(self.box_px, self.pixel_size_ang, crop_frac, radius_frac))
        return str(self.text.get_text())


def size_text(box_px: int, pixel_size_ang: float, crop_frac: float, radius_frac: float) -> str:
    """Both sizes in px and A, and whether the box is wide enough for the particle."""
    kept_px = crop_frac * box_px
    across_px = 2 * radius_frac * kept_px
    text = (f"kept box {kept_px:.0f} px, {kept_px * pixel_size_ang:.0f} Å;  particle {across_px:.0f} px, "
            f"{across_px * pixel_size_ang:.0f} Å across")
    if 2 * radius_frac * MARGIN_MIN > 1:
        text += f"\nthe box is {1 / (2 * radius_frac):.2f} particle diameters wide; {MARGIN_MIN} or more is better"
    return text


def clipped(value: float, limits: Sequence[float]) -> float:
    """A value within its limits."""
    return float(min(max(value, limits[0]), limits[1]))
