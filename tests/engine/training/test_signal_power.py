"""The SNR that is estimated from prepared images, against simulated ones of known SNR."""
import numpy as np
import pytest
from vaegan_engine.contract.settings import DataConfig
from vaegan_engine.training.signal_power import LEAST_SNR, estimated_snr, signal_variance


def images_of(snr: float, box_px: int, noise: float = 1.0) -> np.ndarray:
    """Blobs inside the particle's circle of variance ``snr * noise`` over the whole image, with white noise."""
    rng = np.random.default_rng(box_px)
    y, x = np.indices((box_px, box_px)) - box_px // 2
    blob = np.exp(-(x**2 + y**2) / (2 * (0.12 * box_px) ** 2))
    clean = blob * np.sign(rng.normal(size=(400, 1, 1)))
    return clean * np.sqrt(snr * noise / clean.var()) + np.sqrt(noise) * rng.normal(size=clean.shape)


@pytest.mark.parametrize("box_px", [24, 25])
@pytest.mark.parametrize("snr", [60.0, 1.0, 0.2])
def test_the_snr_of_images_of_known_noise_is_found(snr, box_px):
    assert estimated_snr(images_of(snr, box_px), DataConfig()) == pytest.approx(snr, rel=0.05)


def test_noise_that_is_not_1_is_measured_outside_the_circle():
    data = DataConfig(normalization="thesis")
    images = images_of(2.0, 32, noise=9.0)
    assert estimated_snr(images, data) == pytest.approx(2.0, rel=0.05)
    assert signal_variance(images, data) == pytest.approx(18.0, rel=0.05)


def test_images_of_noise_have_the_least_snr():
    noise = 0.9 * np.random.default_rng(0).normal(size=(50, 16, 16))
    assert estimated_snr(noise, DataConfig()) == LEAST_SNR
