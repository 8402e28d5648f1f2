"""The phantom's mass in closed form, its states, and that it looks like itself in one pose only."""
import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from vaegan_engine.contract.errors import ConfigError
from vaegan_engine.physics.rotations import rotation_distance_deg, super_fibonacci_rotations
from vaegan_engine.simulation.phantom import CORE, LOBES, MISSING_LOBES, PHANTOM_BOX_ANG, phantom_states


def test_mass_in_closed_form():
    """The integral of a Gaussian is peak (2 pi)^(3/2) s1 s2 s3."""
    d = 32
    states = phantom_states(len(MISSING_LOBES), d)
    masses = states.sum((1, 2, 3), dtype=np.float64) * (PHANTOM_BOX_ANG / d) ** 3

    def mass(blob):
        return blob.peak * (2 * math.pi) ** 1.5 * math.prod(blob.width_ang)

    for got, missing in zip(masses, MISSING_LOBES, strict=True):
        expected = sum(map(mass, CORE)) + sum(mass(lobe) for i, lobe in enumerate(LOBES) if i not in missing)
        assert got == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("d", [32, 33, 48])
def test_states_share_a_core_and_differ(d):
    states = phantom_states(3, d, PHANTOM_BOX_ANG / d)
    assert states.shape == (3, d, d, d)
    assert states.dtype == np.float32
    mass = states.sum((1, 2, 3))
    assert 0.2 < 1 - mass[1] / mass[0] < 0.3
    assert 0.35 < 1 - mass[2] / mass[0] < 0.45
    correlation = np.corrcoef(states.reshape(3, -1))[np.triu_indices(3, 1)]
    assert correlation.max() < 0.95
    assert correlation.min() > 0.7
    # it ends well inside its box
    border = np.concatenate([np.take(states, [0, -1], axis).ravel() for axis in (1, 2, 3)])
    assert border.max() < 1e-3 * states.max()


def test_is_smooth_enough_for_its_box():
    """Almost no power near the Nyquist frequency: what is sampled is what the formula says."""
    power = np.abs(np.fft.fftn(phantom_states(1, 32)[0])) ** 2
    k = np.fft.fftfreq(32)
    radius = np.sqrt((np.stack(np.meshgrid(k, k, k)) ** 2).sum(0))
    assert power[radius > 0.4].sum() < 1e-4 * power[radius > 0].sum()


def largest_correlation(a, b, rotations):
    """Largest correlation over the rotations and all shifts, by scipy's interpolation."""
    a, b = a - a.mean(), b - b.mean()
    center = np.full(3, len(a) // 2)
    transform = np.fft.rfftn(b).conj()
    found = []
    for R in rotations:
        turned = ndimage.affine_transform(a, R, center - R @ center, order=1)
        overlap = np.fft.irfftn(np.fft.rfftn(turned) * transform).max()  # an even box
        found.append(overlap / np.linalg.norm(turned) / np.linalg.norm(b))
    return max(found)


@pytest.mark.slow
@pytest.mark.parametrize("state", range(3))
def test_no_symmetry(state):
    """No rotation by more than 40 degrees and no mirror image correlates above 0.9."""
    map_ = phantom_states(3, 16, PHANTOM_BOX_ANG / 16)[state].astype(np.float64)
    grid = super_fibonacci_rotations(1500, dtype=torch.float64)
    far = grid[rotation_distance_deg(grid, torch.eye(3, dtype=torch.float64)) > 40]
    assert largest_correlation(map_, map_, far.numpy()) < 0.9
    assert largest_correlation(map_[::-1], map_, grid.numpy()) < 0.9


def test_refuses_more_states_than_it_has():
    with pytest.raises(ConfigError, match="asked for 7 states, it has 1 to 6"):
        phantom_states(7)
