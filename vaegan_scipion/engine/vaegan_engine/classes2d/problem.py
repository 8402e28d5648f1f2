"""What a classification in the plane is given, and what it knows at a time."""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..physics.fourier_band import Band
from ..reconstruction.images import Images
from ..runtime.step_store import stored
from .planes import PlaneGrid, disc_mask
from .tuning import TUNING, ClassTuning


@dataclass(frozen=True)
class PlaneProblem:
    """Images and all that is asked of their classes."""

    images: Images
    half_set: np.ndarray  # (n,) of 1 and 2
    particle_radius_frac: float  # of the box
    max_shift_px: float  # of a particle from the centre of its image
    n_classes: int  # to start from
    n_steps: int  # over parts of the images
    seed: int = 0
    tuning: ClassTuning = TUNING

    def __len__(self) -> int:
        return len(self.images)

    @property
    def box_px(self) -> int:
        """Side of the images."""
        return self.images.box_px

    @cached_property
    def mask(self) -> np.ndarray:
        """``(d, d)`` of all class averages: the particle's circle with a soft edge."""
        edge_px = self.tuning.mask_edge_frac * self.box_px
        return disc_mask(self.box_px, self.particle_radius_frac * self.box_px, edge_px)

    @property
    def contrast_prior(self) -> float:
        """1 / variance of the images' contrasts."""
        return self.tuning.contrast_spread ** -2

    @property
    def min_images(self) -> float:
        """Images of the smallest class."""
        return max(self.tuning.min_images, self.tuning.min_share * len(self) / self.n_classes)

    @property
    def max_centre_px(self) -> float:
        """How far off centre an average may be to be centred: further out its images cannot follow."""
        return 2 * self.max_shift_px

    def shells(self, shells: float) -> float:
        """Shells that fit the particle as ``shells`` do one of the typical size; at most Nyquist."""
        scale = max(1.0, self.tuning.typical_radius_frac / self.particle_radius_frac)
        return min(scale * shells, self.box_px / 2 - 1)

    @property
    def search_radius(self) -> float:
        """Shells of the search over all poses."""
        return self.shells(self.tuning.search_shells)


@stored
@dataclass(frozen=True)
class Model:
    """Class averages as sums of images, and the spectra of noise and signal."""

    sums: np.ndarray  # (2, c, g, g, 3) of the half sets (``planes``)
    noise: np.ndarray  # (n_shells,) variance of a coefficient
    signal: np.ndarray  # (n_shells,) the same of the class averages'
    box_px: int
    radius: float  # shells of the sums

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.sums.shape[1])

    @property
    def grid(self) -> PlaneGrid:
        """That of the sums."""
        return PlaneGrid(self.box_px, self.radius)

    def averages(self, mask: np.ndarray) -> np.ndarray:
        """Averages ``(c, d, d)`` of all images."""
        return self.grid.averages(self.sums.sum(0), self.signal, mask)

    def half_averages(self, mask: np.ndarray) -> np.ndarray:
        """Averages ``(2, c, d, d)`` of the half sets."""
        return np.stack([self.grid.averages(half, self.signal, mask) for half in self.sums])

    def chosen(self, classes: np.ndarray) -> Model:
        """The same with some of the classes (index or mask)."""
        return replace(self, sums=self.sums[:, classes])


@dataclass(frozen=True)
class Weighted:
    """Images in a band: as they are ``(n, p)``, CTF, both times ``CTF weight / noise``, and CTF squared so weighted."""

    plain: np.ndarray
    ctf: np.ndarray
    product: np.ndarray
    power: np.ndarray


def weighted(images: Images, rows: np.ndarray, band: Band, noise: np.ndarray) -> Weighted:
    """Some images in a band; ``noise`` variance per shell."""
    transforms, ctf = (part.cpu().numpy() for part in images.coefficients(rows, band))
    precision = (band.weight.cpu().numpy() / noise[band.shell.cpu().numpy()]).astype(np.float32)
    own = ctf * precision
    return Weighted(transforms, ctf, transforms * own, own * ctf)


def as_pairs(values: np.ndarray) -> np.ndarray:
    """Real and imaginary parts ``(..., 2)`` float32 of complex64 values."""
    return np.ascontiguousarray(values).view(np.float32).reshape(*values.shape, 2)
