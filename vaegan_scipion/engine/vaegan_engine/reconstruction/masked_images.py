"""Images as a soft circle shows them, noise in place of what lies outside: neighbours must not decide the poses.

Neighbours whose places are known are hidden too, where they reach into the circle: all that lies nearer to them.

    ``Y = m X + sqrt(1 - m^2) e``

m is 1 within the circle and falls to 0 by a raised cosine. e is white noise, made for each image from its row number,
so that every reading gives the same, and of the noise's own variance (``noise_deviation``): so the degrees of freedom
of a whole image stay what they are. Zeros would leave fewer than the coefficients that are counted, and posteriors too
sharp for starts to find their way; noise with the spectrum of a crowded background has the neighbours' power at low
shells, and hides the particle's (both measured on real apoferritin).
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .images import Images, ImageSource, image_power

_LEAST_OUTSIDE = 0.05  # of the box's pixels: a circle that leaves less masks nothing
_NOISE_SHELLS = 0.5  # of Nyquist: beyond it images are noise alone
_SEED = 20261128


@dataclass(frozen=True)
class Circle:
    """A soft circle about the pixel d // 2: 1 up to the radius, then a raised cosine over the edge."""

    radius_px: float
    edge_px: float

    def mask(self, box_px: int, centre_px: np.ndarray | None = None) -> np.ndarray:
        """``(d, d)`` float32, or ``(n, d, d)`` about centres ``(n, 2)`` (x, y) off the middle."""
        axis = np.arange(box_px, dtype=np.float32) - box_px // 2
        x, y = (axis, axis) if centre_px is None else (axis - centre_px[:, k, None].astype(np.float32) for k in (0, 1))
        distance = np.sqrt(y[..., :, None] ** 2 + x[..., None, :] ** 2)
        outside = np.clip((distance - self.radius_px) / max(self.edge_px, 1e-6), 0, 1)
        mask: np.ndarray = (0.5 * (1 + np.cos(np.pi * outside))).astype(np.float32)
        return mask


@dataclass(frozen=True)
class Around:
    """What is particular to each image of n: its particle's place and its neighbours' (x, y in px off the middle)."""

    centre_px: np.ndarray | None = None  # (n, 2); None: the middle
    near_px: np.ndarray | None = None  # (n, k, 2), NaN where fewer; None: no neighbours are hidden

    @property
    def differ(self) -> bool:
        """Whether images have masks of their own."""
        return self.centre_px is not None or self.near_px is not None

    def masks(self, circle: Circle, box_px: int, rows: np.ndarray) -> np.ndarray:
        """``(n, d, d)`` float32 of some images."""
        centre = np.zeros((len(rows), 2), np.float32) if self.centre_px is None else self.centre_px[rows]
        masks = circle.mask(box_px, centre)
        if self.near_px is not None:
            for mask, middle, near in zip(masks, centre, self.near_px[rows], strict=True):
                mask *= own_side(box_px, middle, near[np.isfinite(near[:, 0])], circle.edge_px)
        return masks


def own_side(box_px: int, centre_px: np.ndarray, near_px: np.ndarray, edge_px: float) -> np.ndarray:
    """``(d, d)`` float32: 1 where a pixel lies nearer to the particle than to any of its neighbours ``(k, 2)``.

    It falls to 0 over ``edge_px`` about the line halfway, by ``sin^2``: Voronoi's cells with soft walls.
    """
    axis = np.arange(box_px, dtype=np.float32) - box_px // 2
    side = np.ones((box_px, box_px), np.float32)
    for way in (near_px - centre_px).astype(np.float32):
        length = float(np.hypot(*way))
        along = way / max(length, 1e-6) / max(edge_px, 1e-6)
        beyond = float(along @ centre_px) + 0.5 * length / max(edge_px, 1e-6)
        side *= np.clip(0.5 + beyond - along[1] * axis[:, None] - along[0] * axis[None, :], 0, 1)
    made: np.ndarray = np.sin(0.5 * np.pi * side, dtype=np.float32) ** 2
    return made


class MaskedImages:
    """An image source whose images are seen through a circle, without what lies nearer to a neighbour."""

    def __init__(self, source: ImageSource, circle: Circle, deviation: float, around: Around) -> None:
        """``deviation`` of the noise outside."""
        self.source, self.circle, self.shape, self.around = source, circle, source.shape, around
        self.deviation = deviation
        self._same_mask = circle.mask(self.shape[-1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: np.ndarray | slice | int) -> np.ndarray:
        """Some images, float32."""
        rows = np.atleast_1d(np.arange(len(self))[at])
        mask = self.around.masks(self.circle, self.shape[-1], rows) if self.around.differ else self._same_mask
        seen = np.asarray(self.source[rows], np.float32)
        made: np.ndarray = mask * seen + np.sqrt(1 - mask ** 2) * self.noise(rows)
        return made[0] if np.ndim(np.arange(len(self))[at]) == 0 else made

    def noise(self, rows: np.ndarray) -> np.ndarray:
        """The noise outside ``(n, d, d)`` of some images."""
        made = np.empty((len(rows), *self.shape[1:]), np.float32)
        for image, row in zip(made, rows, strict=True):
            np.random.default_rng((_SEED, int(row))).standard_normal(out=image, dtype=np.float32)
        made *= self.deviation
        return made


def noise_deviation(data: Images) -> float:
    """Standard deviation of the images' noise, if that of their high shells were white."""
    power = image_power(replace(data, contrast=None))
    return float(power[int(_NOISE_SHELLS * (len(power) - 1)):].mean()) ** 0.5 / data.box_px


def masks_anything(box_px: int, circle: Circle) -> bool:
    """Whether a circle leaves enough of the box outside to be worth a mask."""
    return float((circle.mask(box_px) < 0.5).mean()) >= _LEAST_OUTSIDE


def masked(data: Images, circle: Circle, around: Around = Around()) -> Images:
    """The images through a circle, about their middle or their particles; as they are where nothing is masked."""
    if around.near_px is None and not masks_anything(data.box_px, circle):
        return data
    return replace(data, images=MaskedImages(data.images, circle, noise_deviation(data), around), stored=None)
