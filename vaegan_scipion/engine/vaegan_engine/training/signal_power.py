"""How strong the particles' signal is beside their noise, measured on the prepared images themselves."""
from __future__ import annotations

import numpy as np

from ..contract.settings import DataConfig
from ..data.image_preparation import background_mask

N_STATISTICS = 2000  # images that the signal variance is measured on
LEAST_SNR = 0.01  # below that nothing distinguishes signal from noise


def signal_and_noise(images: np.ndarray, data: DataConfig) -> tuple[float, float]:
    """Variance of the signal (that of whole images minus that of the noise), and variance of the noise.

    The noise's is 1 after background normalisation; after the thesis's equation 49 it is measured outside
    the particle circle. The signal's is at least ``LEAST_SNR`` of it.
    """
    rows = np.linspace(0, len(images) - 1, min(len(images), N_STATISTICS)).astype(int)
    chosen = np.asarray(images[rows], np.float32)
    noise = 1.0
    if data.normalization == "thesis":
        box_px = chosen.shape[-1]
        noise = float(chosen[:, background_mask(box_px, data.particle_radius_frac * box_px)].var())
    return max(float(chosen.var()) - noise, LEAST_SNR * noise), noise


def signal_variance(images: np.ndarray, data: DataConfig) -> float:
    """Variance of the signal of prepared images ``(n, d, d)``."""
    return signal_and_noise(images, data)[0]


def estimated_snr(images: np.ndarray, data: DataConfig) -> float:
    """Variance of the signal over that of the noise, both over the whole kept image ``(n, d, d)``.

    What reaches beyond the particle's circle (the CTF's ripples, neighbours) counts as noise, so that high SNRs come
    out too low.
    """
    signal, noise = signal_and_noise(images, data)
    return signal / noise
