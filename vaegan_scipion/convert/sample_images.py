"""A few real particles of a set: for the wizard's picture and the check of the contrast. No Tk here."""
from typing import Any, List, NamedTuple

import mrcfile
import numpy as np

from .from_engine import enabled_ids

N_SAMPLE = 200
LOW_PASS_SIGMA_FRAC = 0.08  # of Nyquist; what the eye can follow at a low SNR
CONTRAST_MIN_SIGMA = 5.0


class Sample(NamedTuple):
    """Images (n, d, d) float32 and the ids of their particles."""

    ids: List[int]
    images: np.ndarray


def sample_images(particles: Any, n: int = N_SAMPLE) -> Sample:
    """Up to `n` enabled particles, evenly spread over the set. Raises OSError or ValueError for unreadable files."""
    ids = enabled_ids(particles)
    chosen = [ids[int(i)] for i in np.linspace(0, len(ids) - 1, min(n, len(ids)))]
    items = {i: particles[i].getLocation() for i in chosen}
    images = []
    for path in sorted({path for _, path in items.values()}):
        with mrcfile.mmap(path, mode="r", permissive=True) as stack:
            data = stack.data if stack.data.ndim == 3 else stack.data[None]
            for i, (index, where) in items.items():
                if where != path:
                    continue
                if index > len(data):
                    raise ValueError(f"particle {i} is image {index} of {path}, which holds {len(data)}; import the "
                                     "particles again")
                images.append((i, np.array(data[max(index, 1) - 1], np.float32)))
    images.sort(key=lambda pair: pair[0])
    return Sample([i for i, _ in images], np.array([image for _, image in images], np.float32))


def distance_from_centre(box_px: int) -> np.ndarray:
    """Distance (d, d) from pixel d // 2, in px."""
    y, x = np.mgrid[:box_px, :box_px] - box_px // 2
    return np.hypot(x, y)


def low_passed(images: np.ndarray, sigma_frac: float = LOW_PASS_SIGMA_FRAC) -> np.ndarray:
    """Images (n, d, d) times exp(-f^2 / (2 sigma^2)), f and sigma in fractions of Nyquist."""
    box_px = images.shape[-1]
    fy = np.fft.fftfreq(box_px)[:, None] * 2
    fx = np.fft.rfftfreq(box_px)[None] * 2
    gain = np.exp(-(fx**2 + fy**2) / (2 * sigma_frac**2))
    return np.fft.irfft2(np.fft.rfft2(images) * gain, s=images.shape[-2:]).astype(np.float32)


def contrast_sigma(images: np.ndarray, radius_frac: float) -> float:
    """Mean of (inside - outside the particle circle) over images (n, d, d), in standard errors.

    Above 0 the protein is brighter than its surroundings. 0 for fewer than two images or for constant ones.
    """
    distance = distance_from_centre(images.shape[-1])
    inside = distance <= radius_frac * images.shape[-1]
    difference = images[:, inside].mean(axis=1) - images[:, ~inside].mean(axis=1)
    spread = difference.std(ddof=1) if len(difference) > 1 else 0.0
    return float(difference.mean() / spread * np.sqrt(len(difference))) if spread > 0 else 0.0


def contrast_note(images: np.ndarray, radius_frac: float, invert_contrast: bool) -> str:
    """A sentence where the images clearly contradict 'Is the protein dark?'; else empty."""
    sigma = contrast_sigma(images, radius_frac)
    if abs(sigma) < CONTRAST_MIN_SIGMA or (sigma < 0) == invert_contrast:
        return ""
    centre, answer = ("darker", "Yes") if sigma < 0 else ("brighter", "No")
    return (f"In {len(images)} particles the centre is {centre} than the rest ({abs(sigma):.0f} standard errors), but "
            f"'Is the protein dark?' says otherwise. Look at the particles; most likely the answer is {answer}.")
