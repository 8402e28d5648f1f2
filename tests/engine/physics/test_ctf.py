"""CTF against a formula written another way, known numbers and symmetries."""
import math

import numpy as np
import pytest
import torch
from tolerances import TOLERANCES
from vaegan_engine.physics import ctf

ROW = (18000.0, 16500.0, 35.0, 300.0, 2.7, 0.1, 20.0)


def table(*rows, dtype=torch.float64):
    return torch.tensor(rows, dtype=dtype)


def independent_ctf(row, d, pixel_size_ang, b_factor=0.0):
    """Azimuth by atan2, wavelength from physical constants, aberration phase chi in its usual form."""
    u, v, angle, kv, cs_mm, w, phase = row
    h, m, e, c = 6.62607015e-34, 9.1093837015e-31, 1.602176634e-19, 299792458.0
    wavelength = 1e10 * h / math.sqrt(2 * m * e * kv * 1e3 * (1 + e * kv * 1e3 / (2 * m * c * c)))
    gx, gy = np.meshgrid(np.fft.rfftfreq(d, pixel_size_ang), np.fft.fftfreq(d, pixel_size_ang))
    g = np.hypot(gx, gy)
    defocus = (u * np.cos(np.arctan2(gy, gx) - math.radians(angle)) ** 2
               + v * np.sin(np.arctan2(gy, gx) - math.radians(angle)) ** 2)
    chi = 2 * math.pi * (defocus * wavelength * g**2 / 2 - cs_mm * 1e7 * wavelength**3 * g**4 / 4)
    amplitude_phase = math.atan2(w, math.sqrt(1 - w * w))
    total = chi + math.radians(phase) + amplitude_phase
    return (np.cos(total - math.pi / 2)) * np.exp(-b_factor * g**2 / 4)


@pytest.mark.parametrize("d", [32, 33])
@pytest.mark.parametrize("b_factor", [0.0, 120.0])
def test_equals_independent_formula(d, b_factor):
    rows = [ROW, (9000.0, 9800.0, -50.0, 200.0, 0.01, 0.07, 0.0), (0.0, 0.0, 0.0, 100.0, 0.0, 1.0, 0.0)]
    made = ctf.ctf_2d(table(*rows), d, 3.2, b_factor)
    assert made.shape == (3, d, d // 2 + 1)
    for row, image in zip(rows, made.numpy(), strict=True):
        # RELION's rounded wavelength constants differ from CODATA's by 2e-6
        np.testing.assert_allclose(image, independent_ctf(row, d, 3.2, b_factor), atol=1e-3)


@pytest.mark.parametrize(("voltage_kv", "expected_ang"), [(300.0, 0.01969), (200.0, 0.02508), (100.0, 0.03701)])
def test_wavelength(voltage_kv, expected_ang):
    assert ctf.electron_wavelength_ang(torch.tensor(voltage_kv)).item() == pytest.approx(expected_ang, abs=6e-6)


def test_zero_frequency_is_plus_amplitude_contrast():
    """Protein is white: with w > 0 the mean of a positive density stays positive."""
    made = ctf.ctf_2d(table((20000.0, 20000.0, 0.0, 300.0, 2.7, 0.1, 0.0)), 16, 4.0)
    assert made[0, 0, 0].item() == pytest.approx(0.1, abs=1e-12)
    assert made[0, 0, 1] > made[0, 0, 0]  # underfocus: the first peak is positive


def test_phase_plate():
    """A phase shift of 90 degrees moves sin to cos: CTF(0) = cos(asin w)."""
    made = ctf.ctf_2d(table((20000.0, 20000.0, 0.0, 300.0, 2.7, 0.1, 90.0)), 16, 4.0)
    assert made[0, 0, 0].item() == pytest.approx(math.sqrt(1 - 0.01), abs=1e-12)


@pytest.mark.parametrize(("angle", "along"), [(0.0, (0, 3)), (90.0, (3, 0)), (45.0, (3, 3)), (-45.0, (-3, 3))])
def test_defocus_u_is_along_its_angle(angle, along):
    """Along the angle (from x towards y) the CTF is that of a round defocus U."""
    ky, kx = along
    d = 32
    astigmatic = ctf.ctf_2d(table((21000.0, 15000.0, angle, 300.0, 2.7, 0.1, 0.0)), d, 3.0)
    round_u = ctf.ctf_2d(table((21000.0, 21000.0, 0.0, 300.0, 2.7, 0.1, 0.0)), d, 3.0)
    round_v = ctf.ctf_2d(table((15000.0, 15000.0, 0.0, 300.0, 2.7, 0.1, 0.0)), d, 3.0)
    torch.testing.assert_close(astigmatic[0, ky, kx], round_u[0, ky, kx])
    across_y, across_x = (kx, -ky) if -ky >= 0 else (-kx, ky)
    torch.testing.assert_close(astigmatic[0, across_y, across_x], round_v[0, across_y, across_x])


def test_exchanging_axes_and_turning_by_90_changes_nothing():
    a = ctf.ctf_2d(table((18000.0, 16000.0, 30.0, 300.0, 2.7, 0.1, 0.0)), 24, 3.0)
    b = ctf.ctf_2d(table((16000.0, 18000.0, 120.0, 300.0, 2.7, 0.1, 0.0)), 24, 3.0)
    torch.testing.assert_close(a, b)


def test_field_of_view_and_pixel_size_are_in_physical_units():
    """A Fourier crop to half the pixels at twice the pixel size reads the same frequencies."""
    fine, coarse = ctf.ctf_2d(table(ROW), 64, 2.0), ctf.ctf_2d(table(ROW), 32, 4.0)
    torch.testing.assert_close(fine[0, :16, :16], coarse[0, :16, :16])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_inputs_unchanged(dtype):
    params = table(ROW, ROW, dtype=dtype)
    before = params.clone()
    made = ctf.ctf_2d(params, 48, 2.5)
    assert made.dtype == dtype
    assert torch.equal(params, before)
    exact = ctf.ctf_2d(table(ROW, ROW), 48, 2.5)
    rtol, atol = TOLERANCES[str(dtype).removeprefix("torch.")]
    radians = 60  # the largest phase here: a relative error of the phase is this much larger in the CTF
    torch.testing.assert_close(made.double(), exact, rtol=rtol, atol=radians * atol)


def test_columns():
    assert len(ctf.CTF_COLUMNS) == len(ROW) + 1  # ROW leaves out phase_flipped


@pytest.mark.parametrize("box_px", [15, 16])
def test_a_flipped_row_has_no_sign_and_the_others_keep_theirs(box_px):
    rows = torch.tensor([ROW, ROW, ROW])
    flags = torch.tensor([[0.0], [1.0], [0.0]])
    signed = ctf.ctf_2d(rows, box_px, 1.5)
    mixed = ctf.ctf_2d(torch.cat((rows, flags), 1), box_px, 1.5)
    assert signed.min() < -0.5
    torch.testing.assert_close(mixed[1], signed[1].abs(), rtol=0, atol=0)
    torch.testing.assert_close(mixed[[0, 2]], signed[[0, 2]], rtol=0, atol=0)
    assert ctf.CTF_COLUMNS[0] == "defocus_u_ang"
