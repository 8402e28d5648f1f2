"""From extracted particles to training images: crop, take out gradients, resize, normalise.

Images are (n, y, x) with their centre at pixel d//2, before and after: output pixel j lies at
``d_in//2 + (j - d_out//2) * d_in / d_out`` of the input, for any even or odd box. Both resizers
are separable, so each is one real (d_out, d_in) matrix applied to rows and columns. Both keep
the mean. CTF parameters are in physical units; resizing changes the pixel size and nothing else.
"""
from __future__ import annotations

from typing import Literal

import numpy as np

from ..contract.boxes import STEP_PX, cropped_box_px
from ..contract.errors import DataError
from ..contract.settings import DataConfig

LANCZOS_LOBES = 5
SMALLEST_BOX_PX = 8
GRADIENT_FRAC = 0.1  # of the background's variance; sets with all nuisances at once have 0.08 at most, real ones 0.03
GRADIENT_BOX_PX = 48  # that it is looked for at, so that its share does not depend on the training's box
GRADIENT_CHANCE = 30.0  # chi squared of two slopes: white noise reaches it once in three million images
HOT_SUSPECT = 5.0  # standard deviations of an image; m pixels of n can reach sqrt(n / m)
HOT_NOISE = 20.0  # robust standard deviations of the image's noise
HOT_ISOLATED = 8.0  # ranges of the eight neighbours


def training_pixel_size_ang(pixel_size_ang: float, cropped_px: int, box_px: int) -> float:
    """Pixel size after resizing ``cropped_px`` to ``box_px`` pixels of the same field of view."""
    return pixel_size_ang * cropped_px / box_px


def check_geometry(source: str, source_box_px: int, box_px: int, crop_frac: float,
                   particle_radius_frac: float) -> None:
    """Refuse a training box that these images cannot give. Raises DataError."""
    if box_px % 2 or box_px < SMALLEST_BOX_PX:
        raise DataError(f"box_px is {box_px}, the box must be even and at least {SMALLEST_BOX_PX} "
                        "pixels.", f"Use {max(SMALLEST_BOX_PX, box_px - box_px % 2)}.")
    if not 0 < crop_frac <= 1:
        raise DataError(f"crop_frac is {crop_frac:g}, it must be greater than 0 and at most 1.",
                        "1 keeps the whole box.")
    if not 0 < particle_radius_frac <= 0.5:
        raise DataError(f"particle_radius_frac is {particle_radius_frac:g}, it must be greater than 0 and at "
                        "most 0.5 of the cropped box: the corners are the background.",
                        "0.45 is the default.")
    cropped = cropped_box_px(source_box_px, crop_frac)
    if box_px > cropped:
        raise DataError(f"{source}: box_px is {box_px}, the images have {source_box_px} pixels, {cropped} "
                        f"after crop_frac {crop_frac:g}; the box cannot be larger.",
                        f"Use box_px {cropped // STEP_PX * STEP_PX or cropped - cropped % 2} or less, or a larger "
                        "crop_frac.")


def crop_center(images: np.ndarray, box_px: int) -> np.ndarray:
    """Central (n, box_px, box_px) part, the centre staying at box_px//2. A view."""
    start = images.shape[-1] // 2 - box_px // 2
    return images[..., start:start + box_px, start:start + box_px]


def without_hot_pixels(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replace isolated pixels that no particle can make by the median of their eight neighbours.

    A pixel is hot where it stands off that median by ``HOT_NOISE`` times the noise (1.4826 median |I - median I|) and
    by ``HOT_ISOLATED`` times the range of the neighbours without the lowest and the highest: a molecule, which no
    camera resolves to one pixel, makes slopes. X-rays and dead pixels of the detector do not.

    Parameters
    ----------
    images : (n, d, d) float32, finite

    Returns
    -------
    the images (the same array where there is no hot pixel) and the (n,) numbers of replaced pixels
    """
    n_hot = np.zeros(len(images), np.int64)
    flat = images.reshape(len(images), -1)
    with np.errstate(over="ignore", invalid="ignore"):  # values near the limits of float32: looked at closely
        about = flat - flat.mean(axis=1, keepdims=True)  # squares of a large mean would leave no digits of a variance
        reach = np.maximum(about.max(axis=1), -about.min(axis=1))
        variance = np.einsum("ij,ij->i", about, about) / flat.shape[1]
        suspects = np.flatnonzero(~(reach * reach <= HOT_SUSPECT ** 2 * variance) | ~np.isfinite(variance))
    for row in suspects:
        y, x, value = _hot_pixels(images[row].astype(np.float64))
        if len(y):
            if not n_hot.any():
                images = images.copy()
            images[row, y, x] = value
            n_hot[row] = len(y)
    return images, n_hot


def _hot_pixels(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and replacements of the hot pixels of one image (see ``without_hot_pixels``)."""
    off = np.abs(image - np.median(image))
    noise = 1.4826 * np.median(off)
    y, x = np.nonzero(off > HOT_NOISE * noise) if noise > 0 else (np.empty(0, np.int64),) * 2
    around = np.pad(image, 1, mode="reflect")
    ring = np.sort([around[y + j, x + i] for j in range(3) for i in range(3) if (j, i) != (1, 1)], axis=0)
    median = ring[3:5].mean(axis=0)
    hot = np.abs(image[y, x] - median) > np.maximum(HOT_NOISE * noise, HOT_ISOLATED * (ring[6] - ring[1]))
    return y[hot], x[hot], median[hot]


def sample_positions(d_in: int, d_out: int) -> np.ndarray:
    """(d_out,) float64: where in the input, in pixels, each output pixel lies."""
    return d_in // 2 + (np.arange(d_out) - d_out // 2) * (d_in / d_out)


def fourier_matrix(d_in: int, d_out: int) -> np.ndarray:
    """(d_out, d_in) matrix of the Fourier crop, d_out even and at most d_in.

    M[j, i] = (1 + 2 sum_{k=1}^{h-1} cos(2 pi k (x_j - i) / d_in) + cos(2 pi h (x_j - i) / d_in)) / d_in
    with h = d_out/2 and x_j the sample positions: the ideal low-pass below the new Nyquist frequency,
    with weight 1/2 at +h and -h, evaluated at x_j. Identity for d_out = d_in.
    """
    half = d_out // 2
    weights = np.full(half + 1, 2.0)
    weights[[0, half]] = 1.0
    phase = 2 * np.pi * (sample_positions(d_in, d_out)[:, None] - np.arange(d_in)) / d_in
    matrix = np.zeros((d_out, d_in))
    for k, weight in enumerate(weights):
        matrix += weight * np.cos(k * phase)
    return matrix / d_in


def lanczos_matrix(d_in: int, d_out: int, lobes: int = LANCZOS_LOBES) -> np.ndarray:
    """(d_out, d_in) matrix of Lanczos resampling, d_out at most d_in, with its anti-alias filter.

    M[j, i] = L((x_j - i) / s), rows scaled to sum 1, with s = d_in / d_out and
    L(t) = sinc(t) sinc(t / lobes) for abs(t) < lobes, else 0 (Duchon 1979). The thesis uses 5 lobes.
    At the border the row is what is left of the kernel inside the image.
    """
    t = (sample_positions(d_in, d_out)[:, None] - np.arange(d_in)) * (d_out / d_in)
    matrix = np.where(np.abs(t) < lobes, np.sinc(t) * np.sinc(t / lobes), 0.0)
    return matrix / matrix.sum(axis=1, keepdims=True)


def resize_matrix(method: Literal["fourier", "lanczos5"], d_in: int, d_out: int) -> np.ndarray:
    """(d_out, d_in) float32 matrix of the chosen resizer."""
    matrix = fourier_matrix(d_in, d_out) if method == "fourier" else lanczos_matrix(d_in, d_out)
    return matrix.astype(np.float32)


def resize(images: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply ``matrix`` (d_out, d_in) to both axes of (n, d_in, d_in); a square one changes nothing."""
    if matrix.shape[0] == matrix.shape[1]:
        return images
    return np.matmul(matrix, images @ matrix.T)


def background_mask(box_px: int, radius_px: float) -> np.ndarray:
    """(box_px, box_px) bool, True outside the circle of that radius around pixel box_px//2."""
    axis = np.arange(box_px) - box_px // 2
    return np.hypot(axis[:, None], axis[None, :]) > radius_px


def background_slopes(background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y ``(d, d, 2)`` about their means over ``background`` (d, d) bool, so combined that they are orthonormal
    there; and their values there ``(m, 2)``. The planes of a background are ``a + slopes @ (b, c)``."""
    grid = np.moveaxis(np.indices(background.shape)[::-1], 0, -1).astype(np.float64)
    slopes = grid - grid[background].mean(axis=0)
    slopes = slopes @ np.linalg.inv(np.linalg.qr(slopes[background])[1])
    return slopes, slopes[background]


def has_gradient(images: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Whether the background of each image ``(n, d, d)`` is plainly a slope ``(n,)`` bool.

    An edge of carbon or a wedge of ice makes one. The plane that fits the m pixels of ``background`` (d, d) bool best
    takes more than ``GRADIENT_FRAC + GRADIENT_CHANCE / m`` of their variance; of white noise it takes ``chi^2_2 / m``.
    """
    values = images[:, background].astype(np.float64)
    values -= values.mean(axis=1, keepdims=True)
    along, power = values @ background_slopes(background)[1], np.einsum("ij,ij->i", values, values)
    steep: np.ndarray = (along ** 2).sum(axis=1) > (GRADIENT_FRAC + GRADIENT_CHANCE / values.shape[1]) * power
    return steep


def without_gradient(images: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Images ``(n, d, d)`` less the slopes of the least squares' plane ``a + b x + c y`` of their background.

    The mean of the background stays. RELION does so with all images.
    """
    slopes, there = background_slopes(background)
    along = images[:, background].astype(np.float64) @ there  # the slopes have no mean there
    flat: np.ndarray = images - np.einsum("nk,yxk->nyx", along, slopes).astype(images.dtype)
    return flat


def normalize_background(images: np.ndarray, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(I - mean_bg) / std_bg per image, RELION's convention: background mean 0 and std 1.

    Parameters
    ----------
    images : (n, d, d)
    background : (d, d) bool

    Returns
    -------
    normalised images and (n,) std_bg. Where std_bg is 0 the image is not finite: refuse it.
    """
    values = images[:, background]
    mean = values.mean(axis=1, dtype=np.float64)
    std = values.std(axis=1, dtype=np.float64)
    return _affine(images, mean, std), std


def normalize_thesis(images: np.ndarray, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(I - mean_bg) / (mean_signal - mean_bg) per image (thesis, equation 49).

    The signal is what is inside the circle. The divisor is near 0 and of either sign at low
    signal-to-noise, so this is unstable. Returns the images and the (n,) divisor.
    """
    mean = images[:, background].mean(axis=1, dtype=np.float64)
    contrast = images[:, ~background].mean(axis=1, dtype=np.float64) - mean
    return _affine(images, mean, contrast), contrast


def _affine(images: np.ndarray, mean: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    shift, scale = (values.astype(images.dtype)[:, None, None] for values in (mean, divisor))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (images - shift) / scale


def invert_contrast(images: np.ndarray) -> np.ndarray:
    """Dark protein to white protein."""
    return -images


class ImagePreparation:
    """Crop, resize, normalise and invert blocks of images of one box, as ``data`` says.

    The background is normalised after resizing, which changes its standard deviation; the thesis's equation 49 is
    applied before it, as in the thesis. Where an image has a gradient (``has_gradient``) it is taken out first, as the
    resizers take an image to go on beyond its edge; ``n_gradients`` counts these.
    """

    def __init__(self, data: DataConfig, source_box_px: int) -> None:
        self.data, self.n_gradients = data, 0
        self.cropped_px = cropped_box_px(source_box_px, data.crop_frac)
        self.matrix = resize_matrix(data.resize, self.cropped_px, data.box_px)
        normalized_px = self.cropped_px if data.normalization == "thesis" else data.box_px
        coarse_px = min(GRADIENT_BOX_PX, data.box_px)
        self._coarse_matrix = resize_matrix("fourier", self.cropped_px, coarse_px)
        self._coarse_background, self._whole_background = (
            background_mask(d, data.particle_radius_frac * d) for d in (coarse_px, self.cropped_px))
        self.background = background_mask(normalized_px, data.particle_radius_frac * normalized_px)

    def __call__(self, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, d, d) float32 from (n, D, D) float32, and the (n,) divisors of the normalisation."""
        images = crop_center(source, self.cropped_px)
        images = images - images.mean(axis=(1, 2), keepdims=True, dtype=np.float64).astype(np.float32)
        if self.data.normalization == "thesis":
            images, divisor = normalize_thesis(images, self.background)
            images = resize(images, self.matrix)
        else:
            images = resize(self._flat(images), self.matrix)
            images, divisor = normalize_background(images, self.background)
        return (invert_contrast(images) if self.data.invert_contrast else images), divisor

    def _flat(self, images: np.ndarray) -> np.ndarray:
        """Images of the cropped box without their gradients; those without one stay bit by bit."""
        steep = has_gradient(resize(images, self._coarse_matrix), self._coarse_background)
        if steep.any():
            images[steep] = without_gradient(images[steep], self._whole_background)
            self.n_gradients += int(steep.sum())
        return images
