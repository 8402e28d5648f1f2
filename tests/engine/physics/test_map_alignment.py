"""Alignment recovers known motions; moved maps agree with scipy's interpolation."""
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from vaegan_engine.physics import map_alignment
from vaegan_engine.physics.fsc import fourier_shell_correlation
from vaegan_engine.physics.map_constraint import symmetrised_maps
from vaegan_engine.physics.projection import sample_half_transform
from vaegan_engine.physics.rotations import random_rotations, rotation_distance_deg
from vaegan_engine.physics.symmetry import group_of
from vaegan_engine.simulation.phantom import PHANTOM_BOX_ANG, phantom_states


def phantom(d, state=0):
    return phantom_states(state + 1, d, PHANTOM_BOX_ANG / d)[state]


def motion(seed, d):
    generator = torch.Generator().manual_seed(seed)
    shift = (torch.rand(3, generator=generator) - 0.5) * 0.15 * d
    return random_rotations(1, generator)[0].numpy(), shift.numpy()


def scipy_moved(array, R, shift_px):
    """aligned(r) = array(R (r - t)), cubic splines, in z, y, x order."""
    flip = np.eye(3)[::-1]
    matrix, shift = flip @ R @ flip, shift_px[::-1]
    center = np.full(3, len(array) // 2)
    return ndimage.affine_transform(array, matrix, center - matrix @ (center + shift), order=3)


@pytest.mark.parametrize("d", [32, 33])
def test_moved_map_equals_scipys(d):
    R, shift = motion(1, d)
    made = map_alignment.move_map(phantom(d), R, shift)
    expected = scipy_moved(phantom(d), R, shift)
    assert np.corrcoef(made.ravel(), expected.ravel())[0, 1] > 0.999
    assert np.abs(made - expected).max() < 0.03 * expected.max()


@pytest.mark.parametrize("d", [8, 9])
def test_mirror_keeps_the_center(d):
    array = np.random.default_rng(0).normal(size=(d, d, d))
    mirrored = map_alignment.mirror(array)
    c = d // 2
    np.testing.assert_array_equal(mirrored[c], array[c])
    np.testing.assert_array_equal(mirrored[c + 1], array[c - 1])
    np.testing.assert_array_equal(map_alignment.mirror(mirrored), array)


@pytest.mark.slow
@pytest.mark.parametrize(("d", "seed", "mirrored"), [(32, 2, False), (32, 3, True), (33, 4, True),
                                                   (48, 6, True)])
def test_recovers_a_known_motion(d, seed, mirrored):
    """The moving map is made by scipy; the motion back is the inverse of the one applied."""
    reference = phantom(d)
    R, t = motion(seed, d)
    moving = scipy_moved(reference, R, t)
    if mirrored:
        moving = map_alignment.mirror(moving)
    found = map_alignment.align_map(moving, reference, 9.0)
    assert found.mirrored == mirrored
    # moving'(r) = reference(R (r - t)), so reference(r) = moving'(R^T r + t) = moving'(R^T (r + R t))
    error_deg = rotation_distance_deg(torch.from_numpy(found.rotation), torch.from_numpy(R.T.copy()))
    assert error_deg < 0.5
    np.testing.assert_allclose(found.shift_px, -R @ t, atol=0.1)
    np.testing.assert_allclose(found.shift_ang, 9 * found.shift_px, rtol=1e-6)
    assert found.correlation > 0.999
    curve = fourier_shell_correlation(found.map, reference)
    assert curve[1:d // 4].min() > 0.99  # three quarters of the phantom's own band
    assert curve[1:3 * d // 8].min() > 0.95


@pytest.mark.slow
def test_other_state_keeps_its_pose():
    """A map that lacks a lobe is laid on the whole one within 5 degrees."""
    d = 32
    R, t = motion(5, d)
    found = map_alignment.align_map(map_alignment.move_map(phantom(d, 1), R, t), phantom(d), 9.0)
    assert not found.mirrored
    assert rotation_distance_deg(torch.from_numpy(found.rotation), torch.from_numpy(R.T.copy())) < 5
    assert found.correlation == pytest.approx(np.corrcoef(phantom(d, 1).ravel(), phantom(d).ravel())[0, 1], abs=0.03)


@pytest.mark.slow
def test_noise_does_not_align():
    rng = np.random.default_rng(0)
    found = map_alignment.align_map(rng.normal(size=(16, 16, 16)), rng.normal(size=(16, 16, 16)), 1.0)
    assert found.correlation < 0.3


def test_without_mirror_the_wrong_hand_scores_less():
    moving = map_alignment.mirror(phantom(24))
    assert map_alignment.align_map(moving, phantom(24), 1.0, allow_mirror=False).correlation < 0.9


def test_of_a_map_s_copies_the_one_that_breaks_the_symmetry_alike_is_taken():
    """A D2 map and a feature at one of its four places; aligned at a wrong copy it is brought to the right one."""
    d, group = 24, group_of("D2")
    base = symmetrised_maps(torch.from_numpy(phantom(d).astype(np.float32))[None], group)[0].numpy()
    reference = base + 0.15 * phantom(d, 1)
    R, shift = motion(3, d)
    moving = map_alignment.move_map(reference, R.T, -R.T @ shift)  # the motion R, t takes it back
    wrong = group[2].numpy()
    R_wrong, t_wrong = R @ wrong, wrong.T @ shift
    at_wrong = map_alignment.AlignedMap(map_alignment.move_map(moving, R_wrong, t_wrong), R_wrong, t_wrong, t_wrong,
                                        False, 0.0)
    found = map_alignment.likest_copy(at_wrong, reference, group, 1.0)
    assert found.correlation > 0.97 > np.corrcoef(at_wrong.map.ravel(), reference.ravel())[0, 1]
    again = map_alignment.move_map(moving, found.rotation, found.shift_px)
    assert np.corrcoef(again.ravel(), reference.ravel())[0, 1] > 0.97
    assert map_alignment.likest_copy(found, reference, group_of("C1"), 1.0) is found


def test_refuses_different_boxes():
    with pytest.raises(ValueError, match="cannot be aligned"):
        map_alignment.align_map(phantom(16), phantom(24), 1.0)


def resident_gb(line):
    """Memory of this process by a line of its status: ``VmRSS``, or ``VmHWM``, the most it has had."""
    status = dict(one.split(":", 1) for one in Path("/proc/self/status").read_text().splitlines())
    return int(status[line].split()[0]) / 2 ** 20


@pytest.mark.slow
def test_maps_of_a_large_box_are_aligned_in_little_memory():
    """All frequencies of 12 starts together took 1 GB per hand at this size."""
    reference = phantom(96)
    R, t = motion(2, 96)
    moving = map_alignment.move_map(reference, R, t)
    map_alignment.align_map(phantom(24), phantom(24), 2.0)  # compiled now
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the most from now on
    except OSError:
        pytest.skip("this system does not say what a process has held at most")
    before = resident_gb("VmRSS")
    aligned = map_alignment.align_map(moving, reference, 2.0)
    assert resident_gb("VmHWM") - before < 0.6
    assert aligned.correlation > 0.98


def test_correlation_and_its_slopes_are_those_of_the_samples_of_the_transform():
    """At points on both sides of x = 0, against samples and gradients by torch."""
    d, rng = 16, torch.Generator().manual_seed(3)
    target, moving = (map_alignment._transform(phantom(d, state)) for state in (0, 1))
    band = map_alignment._band(target, d, 6)
    rotations, shifts = random_rotations(3, rng), torch.randn(3, 3, generator=rng)

    def by_samples(rotations, shifts):
        points = 2 * torch.einsum("nij,pj->npi", rotations, band.k)
        samples = sample_half_transform(moving, torch.zeros(3, dtype=torch.long), points)
        angle = (-2 * torch.pi / d) * (shifts @ band.k.T)
        moved = samples * torch.polar(torch.ones_like(angle), angle)
        cross = (band.weight * (moved * band.reference.conj()).real).sum(-1)
        power = (band.weight * moved.abs().square()).sum(-1) * (band.weight * band.reference.abs().square()).sum()
        return cross / power.sqrt()

    found = []
    for function in (by_samples, lambda *pose: map_alignment._correlation(moving, band, *pose)):
        pose = rotations.clone().requires_grad_(), shifts.clone().requires_grad_()
        value = function(*pose)
        (value * torch.tensor([1.0, 2.0, -1.0])).sum().backward()
        found.append((value.detach(), pose[0].grad, pose[1].grad))
    for expected, made in zip(*found, strict=True):
        torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
