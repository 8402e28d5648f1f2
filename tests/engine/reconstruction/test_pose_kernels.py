"""Poses refined by the compiled loops and by whole arrays, and both against autograd."""
from __future__ import annotations

import pytest
import torch
from refine_particles import blobs
from vaegan_engine.physics import shards
from vaegan_engine.physics.fourier_band import make_band, shift_phases
from vaegan_engine.physics.map_resize import resized_maps
from vaegan_engine.physics.projection import map_to_fourier, sample_half_transform
from vaegan_engine.physics.rotations import random_rotations
from vaegan_engine.physics.slices import PAD, take_slices
from vaegan_engine.reconstruction.pose_refinement import (
    AtPoses,
    misfit,
    normal_equations,
    refine_poses,
    refine_together,
    small_rotations,
)

N_IMAGES = 90


def problem(box_px: int):
    """A map's transform, noisy images with CTFs, poses some degrees off, and the precision in a band of 6 shells."""
    rng = torch.Generator().manual_seed(box_px)
    map_ft, band = map_to_fourier(blobs(1, box_px)[None])[0], make_band(box_px, 6.0)
    rotations, shifts = random_rotations(N_IMAGES, rng), torch.randn(N_IMAGES, 2, generator=rng)
    ctf = torch.rand(N_IMAGES, len(band.index), generator=rng) - 0.3
    images = ctf * take_slices(map_ft, band, rotations) * shift_phases(band, shifts).conj()
    noise = 0.3 * images.abs().mean()
    images = images + noise * torch.randn(images.shape, dtype=torch.complex64, generator=rng)
    rotations = small_rotations(0.08 * torch.randn(N_IMAGES, 3, generator=rng)) @ rotations
    shifts = shifts + 0.4 * torch.randn(N_IMAGES, 2, generator=rng)
    return map_ft, AtPoses(images, ctf, rotations, shifts, band), band.weight / noise ** 2


@pytest.mark.parametrize("box_px", [20, 21])
def test_the_gradient_is_that_of_the_misfit(box_px):
    map_ft, images, precision = problem(box_px)
    w, moves = torch.zeros(N_IMAGES, 3, requires_grad=True), torch.zeros(N_IMAGES, 2, requires_grad=True)
    turned = small_rotations(w) @ images.rotations
    slices = sample_half_transform(map_ft[None], torch.zeros(N_IMAGES, dtype=torch.long),
                                   PAD * torch.einsum("pi,nij->npj", images.band.kxy, turned[:, :2]))
    misfit(images._replace(shifts_px=images.shifts_px + moves), slices, precision).sum().backward()
    normal, gradient = normal_equations(map_ft, images, precision)
    expected = -torch.cat((w.grad, moves.grad), 1)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert torch.equal(normal.diagonal(dim1=1, dim2=2) > 0, torch.ones(N_IMAGES, 5, dtype=torch.bool))


@pytest.mark.parametrize("box_px", [20, 21])
@pytest.mark.parametrize("by_image", [False, True])
def test_compiled_steps_are_the_steps(box_px, by_image):
    map_ft, images, precision = problem(box_px)
    if by_image:
        precision = torch.linspace(0.5, 2, N_IMAGES)[:, None] * precision
    found = refine_poses(map_ft, images, precision, 3)
    expected = refine_together(map_ft, images, precision, 3)
    for ours, theirs, limit in zip(found, expected, (1e-4, 1e-4, 1e-3), strict=True):
        assert float((ours - theirs).abs().flatten(1).amax(1).quantile(0.98) if ours.ndim > 1
                     else ((ours - theirs) / theirs).abs().quantile(0.98)) < limit


def test_steps_together_in_a_map_of_the_working_box():
    _, images, precision = problem(40)
    small_ft = map_to_fourier(resized_maps(blobs(1, 40), 20)[None])[0]
    found, expected = (step(small_ft, images, precision, 3) for step in (refine_together, refine_poses))
    for ours, theirs in zip(found, expected, strict=True):
        assert float((ours - theirs).abs().quantile(0.9)) < 1e-3 * float(theirs.abs().max())


def test_no_step_leaves_the_pose_as_it_is():
    map_ft, images, precision = problem(20)
    found_rotations, found_shifts, cost = refine_poses(map_ft, images, precision, 0)
    assert torch.equal(found_rotations, images.rotations) and torch.equal(found_shifts, images.shifts_px)
    torch.testing.assert_close(cost, misfit(images, take_slices(map_ft, images.band, images.rotations), precision),
                               rtol=1e-4, atol=1e-3)


def test_poses_have_the_same_bits_on_any_number_of_threads():
    data = problem(20)
    shards.use_threads(1)
    alone = refine_poses(*data, 3)
    for n in (2, 3):
        shards.use_threads(n)
        assert all(torch.equal(one, other) for one, other in zip(refine_poses(*data, 3), alone, strict=True))
    shards.use_threads(1)
