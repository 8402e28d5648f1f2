"""FSC inside a soft mask that is made of the map itself, and what of it is the mask's own doing.

A mask takes away noise outside the particle, which is honest, and spreads what one shell holds into its neighbours, the
mask's own shape being common to both half maps, which is not. How much it spreads is measured on half maps whose phases
are random from some shell on (Chen *et al.*, Ultramicroscopy 135, 24, 2013): there nothing is in common but what the
mask brings. With ``F_t`` the FSC of the masked half maps and ``F_n`` that of the masked randomised ones,

    ``F_true(s) = (F_t(s) - F_n(s)) / (1 - F_n(s))``.

Phases are random from the shell where the FSC without mask first falls below 0.8; the correction is used from two
shells further on, as next to the first random shell ``F_n`` holds the true signal of the last one that is not random
(both as in RELION, Scheres, J. Struct. Biol. 180, 519, 2012).
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from .fsc import fourier_shell_correlation, resolution_at, shells_of

SURE_FSC = 0.8  # of the maps without mask: up to here phases are kept
CORRECTED_BEYOND = 2  # shells past the first random one
DRAWS = 4  # of random phases, whose FSC is averaged
_MASK_SHELLS = 4, 10  # least and most of the low pass before the threshold
_MASK_SIGNAL_FSC = 0.5  # low pass: where the FSC without mask falls below it
_GROWN_FRAC, _EDGE_FRAC = 0.04, 0.08  # of the box: what the mask reaches beyond the threshold, and its soft edge
_LEAST_PAIRS = 20  # of coefficients k and -k, in a cone's part of a shell


@dataclass(frozen=True)
class MaskedFsc:
    """FSC curves ``(d//2 + 1,)`` of two half maps."""

    raw: np.ndarray  # without mask
    masked: np.ndarray
    random: np.ndarray  # masked, phases random from ``first_random`` on
    corrected: np.ndarray  # ``F_true``
    first_random: int


def masked_fsc(half_maps: np.ndarray, mask: np.ndarray, shared_shell: int = 0, seed: int = 0, draws: int = DRAWS
               ) -> MaskedFsc:
    """All curves of half maps ``(2, d, d, d)`` that are not masked yet, in ``mask`` (d, d, d); of images without z.

    ``shared_shell``: up to it the half maps have more in common than the particle, and nothing is claimed. All beyond
    it is corrected, so phases are random from ``CORRECTED_BEYOND`` shells before on, at the earliest.
    """
    raw = fourier_shell_correlation(*half_maps)
    below = np.flatnonzero(raw[1:] < SURE_FSC)
    fall = int(below[0]) + 1 if len(below) else len(raw)
    first = min(max(fall, shared_shell + 1 - CORRECTED_BEYOND), len(raw))
    masked = fourier_shell_correlation(*(half_maps * mask))
    rng = np.random.default_rng(seed)
    random: np.ndarray = np.mean([fourier_shell_correlation(*(phase_randomised(half, first, rng) * mask
                                                              for half in half_maps)) for _ in range(draws)], 0)
    return MaskedFsc(raw, masked, random, corrected(masked, random, first), first)


def corrected(masked: np.ndarray, random: np.ndarray, first_random: int) -> np.ndarray:
    """``F_true`` per shell ``(..., d//2 + 1)``; ``F_t`` up to one shell past the first random one."""
    curve = masked.copy()
    beyond = slice(first_random + CORRECTED_BEYOND, None)
    spread = np.clip(random[beyond], 0, 0.999)  # a negative value is chance, and must not add to the claim
    curve[..., beyond] = (masked[..., beyond] - spread) / (1 - spread)
    return curve


def phase_randomised(map_: np.ndarray, first_shell: int, rng: np.random.Generator) -> np.ndarray:
    """A map ``(d, d, d)`` or an image ``(d, d)`` with random phases from a shell on; every coefficient keeps its size.

    The phases are those of white noise, so the map stays real.
    """
    shell = shells_of(len(map_), map_.ndim)[0].reshape(*map_.shape[:-1], -1)
    transform, noise = np.fft.rfftn(map_), np.fft.rfftn(rng.standard_normal(map_.shape))
    turned = np.abs(transform) * noise / np.maximum(np.abs(noise), 1e-30)
    return np.fft.irfftn(np.where(shell >= first_shell, turned, transform), s=map_.shape, axes=tuple(range(map_.ndim)))


def mask_of_map(map_: np.ndarray, raw_fsc: np.ndarray) -> np.ndarray:
    """Soft mask ``(d, d, d)`` float32 about the particle of a map, which is brighter than what is around it.

    The map is low-passed to where the half maps agree (``raw_fsc``), parted by Otsu's threshold (IEEE Trans. Syst. Man
    Cybern. 9, 62, 1979: least variance within the two parts), grown, and given a raised-cosine edge.
    """
    d, (least, most) = len(map_), _MASK_SHELLS
    below = np.flatnonzero(raw_fsc[1:] < _MASK_SIGNAL_FSC)
    radius = float(np.clip(below[0] if len(below) else most, least, most))
    k = np.fft.fftfreq(d, 1 / d)
    k2 = k[:, None, None] ** 2 + k[None, :, None] ** 2 + np.arange(d // 2 + 1) ** 2
    smooth = np.fft.irfftn(np.fft.rfftn(map_) * np.exp(-k2 / (2 * (radius / 1.5) ** 2)), s=map_.shape, axes=(0, 1, 2))
    distance = ndimage.distance_transform_edt(smooth < otsu_threshold(smooth))
    outside = np.clip((distance - _GROWN_FRAC * d) / (_EDGE_FRAC * d), 0, 1)
    return (0.5 * (1 + np.cos(np.pi * outside))).astype(np.float32)


def otsu_threshold(values: np.ndarray, n_bins: int = 256) -> float:
    """Value that parts others into two of least variance within: ``w0 w1 (m1 - m0)^2`` is largest."""
    counts, edges = np.histogram(values, n_bins)
    centres = 0.5 * (edges[1:] + edges[:-1])
    below, sums = np.cumsum(counts)[:-1], np.cumsum(counts * centres)[:-1]
    above, rest = counts.sum() - below, (counts * centres).sum() - sums
    between = below * above * (rest / np.maximum(above, 1) - sums / np.maximum(below, 1)) ** 2
    return float(edges[1 + int(np.argmax(between))])


@dataclass(frozen=True)
class ConicalFsc:
    """FSC inside cones about directions: how much the resolution depends on the direction."""

    directions: np.ndarray  # (m, 3) unit vectors x, y, z, of one half of the sphere
    fsc: np.ndarray  # (m, d//2 + 1)
    box_px: int  # d, which an odd box's number of shells does not tell

    def corrected(self, random: np.ndarray, first_random: int) -> ConicalFsc:
        """Corrected for the mask by the ``random`` curve ``(d//2 + 1,)`` of whole shells."""
        return replace(self, fsc=corrected(self.fsc, random, first_random))

    def resolutions_ang(self, threshold: float, voxel_size_ang: float) -> np.ndarray:
        """Resolution along each direction ``(m,)``."""
        return np.array([resolution_at(curve, threshold, self.box_px, voxel_size_ang).ang for curve in self.fsc])


def conical_fsc(map_a: np.ndarray, map_b: np.ndarray, half_angle_deg: float = 30.0, n_directions: int = 48
                ) -> ConicalFsc:
    """FSC of two maps ``(d, d, d)`` inside double cones about evenly spread directions.

    ``FSC_n(s)`` sums over the coefficients of shell s with ``|k.n| >= |k| cos(half angle)`` (Tan *et al.*, Nat. Methods
    14, 793, 2017, with 20 degrees; boxes here are small). Where a cone holds fewer than 20 pairs of coefficients its
    value is that of the whole shell.
    """
    d = len(map_a)
    shell, weight = shells_of(d, 3)
    k = np.fft.fftfreq(d, 1 / d)
    kz, ky, kx = (axis.ravel() for axis in np.meshgrid(k, k, np.arange(d // 2 + 1), indexing="ij"))
    inside = shell <= d // 2
    vectors = np.stack((kx, ky, kz))[:, inside]
    length = np.sqrt(np.square(vectors).sum(0))
    a, b = (np.fft.rfftn(np.asarray(map_, np.float64)).ravel()[inside] for map_ in (map_a, map_b))
    terms = [weight[inside] * values for values in ((a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2)]
    directions, curves, whole = _half_sphere(n_directions), [], fourier_shell_correlation(map_a, map_b)
    for direction in directions:
        own = np.abs(direction @ vectors) >= length * np.cos(np.radians(half_angle_deg)) - 1e-9
        cross, power_a, power_b = (np.bincount(shell[inside][own], term[own], d // 2 + 1) for term in terms)
        power = np.sqrt(power_a * power_b)
        few = np.bincount(shell[inside][own], weight[inside][own], d // 2 + 1) < 2 * _LEAST_PAIRS
        curves.append(np.where(few, whole, np.divide(cross, power, out=np.zeros_like(cross), where=power > 0)))
    return ConicalFsc(directions, np.stack(curves), d)


def _half_sphere(n: int) -> np.ndarray:
    """Unit vectors ``(n, 3)`` spread evenly over the half sphere z > 0 (a Fibonacci spiral)."""
    z = 1 - (np.arange(n) + 0.5) / n
    angle = np.pi * (1 + 5 ** 0.5) * np.arange(n)
    radius = np.sqrt(1 - z ** 2)
    return np.stack((radius * np.cos(angle), radius * np.sin(angle), z), 1)
