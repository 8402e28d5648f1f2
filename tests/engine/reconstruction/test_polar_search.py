"""The E step over all in-plane angles at once, against the sums over all points at every rotation."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from refine_particles import blobs, mask_of, simulated
from vaegan_engine.physics import shards
from vaegan_engine.physics.fourier_band import make_band, shift_grid, shift_phases
from vaegan_engine.physics.map_constraint import within
from vaegan_engine.physics.rotations import random_rotations, rotation_distance_deg
from vaegan_engine.reconstruction import polar_search
from vaegan_engine.reconstruction.images import image_power
from vaegan_engine.reconstruction.map_mixture import MapMixture, Shifted, Templates, accumulate, search
from vaegan_engine.reconstruction.polar_basis import power_harmonics, ring_harmonics, rings_of
from vaegan_engine.reconstruction.polar_search import grid_shape, polar_templates, search_polar
from vaegan_engine.refine.start.starting_maps import scale_to_images


def problem(box_px: int, radius: float, noise: float = 1.0, n_rotations: int = 300, n_each: int = 8):
    """Images with a strongly astigmatic CTF, two maps, and the templates at a product grid."""
    data, _, rotations, _ = simulated([blobs(0, box_px), blobs(1, box_px)], n_each, noise)
    data.ctf[:, 1] = data.ctf[:, 0] - 3000.0
    data.ctf[:, 2] = np.linspace(0, 170, len(data))
    power, band = image_power(data), make_band(box_px, radius)
    maps = torch.stack([blobs(0, box_px), blobs(1, box_px)])
    model = MapMixture(scale_to_images(maps, data, power, radius), 0.5 * power, within(mask_of(box_px)))
    images = Shifted(*data.coefficients(np.arange(len(data)), band), band, shift_phases(band, shift_grid(1.0, 1.0)))
    turn = random_rotations(1, torch.Generator().manual_seed(3))[0]
    return images, model, polar_templates(model, band, n_rotations, turn, images.ctf.square().mean(0)), rotations


def direct(model, templates: polar_search.PolarTemplates) -> Templates:
    """The same rotations with a slice each."""
    return model.templates(templates.band, templates.rotations)


@pytest.mark.parametrize("box_px", [24, 25])
@pytest.mark.parametrize("radius", [5.0, 6.5])
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_evidence_and_poses_are_those_of_the_direct_sums(box_px, radius, spread):
    """The functions leave out some log likelihood, and the direct sums as much by their interpolation: below 0.5."""
    images, model, templates, _ = problem(box_px, radius)
    found = search_polar(images, model, templates, spread=spread)
    expected = search(images, model, direct(model, templates), spread=spread)
    error = found.log_evidence - expected.log_evidence
    assert float(expected.log_evidence.std()) > 3 and float(error.square().mean().sqrt()) < 0.5
    assert (found.contrast - expected.contrast).abs().max() < 0.03
    apart = rotation_distance_deg(templates.rotations[found.best_rotation],
                                  templates.rotations[expected.best_rotation])
    assert (apart < 1).float().mean() > 0.85 and (found.best_shift == expected.best_shift).float().mean() > 0.85
    sums = torch.zeros(len(images.ctf)).index_add_(0, found.image, found.weight)
    torch.testing.assert_close(sums, torch.ones(len(images.ctf)))


@pytest.mark.parametrize("box_px", [24, 25])
def test_nothing_but_the_grid_of_the_transform_differs_where_no_power_is_left_out(box_px, monkeypatch):
    """Products and powers of the templates at all rotations, one by one."""
    monkeypatch.setattr(polar_search, "_LOST", 0.0)
    monkeypatch.setattr(polar_search, "_LOST_FRAC", 1e-7)
    seen = []
    compiled = polar_search.posterior_compiled

    def noted(scores, power, *more):
        seen.append((scores.clone(), power))
        return compiled(scores, power, *more)

    monkeypatch.setattr(polar_search, "posterior_compiled", noted)
    images, model, templates, _ = problem(box_px, 5.0, n_rotations=120)
    search_polar(images, model, templates)
    scores, power = (torch.cat(column) for column in zip(*seen, strict=True))
    slices = direct(model, templates).slices.flatten(0, 1)
    w = model.precision(images.band)
    moved = (images.transforms * images.ctf * w)[:, None] * images.phases
    products = torch.einsum("nsp,tp->nst", moved.conj(), slices).real
    powers = torch.einsum("np,tp->nt", w * images.ctf.square(), slices.abs().square())
    scale = float(powers.mean())
    assert float((scores - products).square().mean()) < 1e-3 * scale  # of products with noise, that is their variance
    assert float((power - powers).abs().max()) < 0.02 * float(powers.max())


def test_harmonics_are_those_of_a_template():
    """A map's slice of one ring by its harmonics, and its square."""
    images, _, templates, _ = problem(24, 6.0)
    band, view = images.band, templates.rotations[:1]
    harmonics = ring_harmonics(templates.maps_ft[0], band, rings_of(band), view)
    rings = rings_of(band)
    m = torch.arange(harmonics.shape[-1])
    values = harmonics[0][rings.ring] * torch.exp(1j * rings.angle[:, None] * m) * torch.where(m == 0, 1, 2)
    made = torch.complex(values[:, 0::2].sum(1).real, values[:, 1::2].sum(1).real)
    expected = templates.slices_of(torch.tensor([0]))[0]
    assert float((made - expected).abs().square().sum()) < 1e-3 * float(expected.abs().square().sum())
    squares = power_harmonics(harmonics)[0][rings.ring] * torch.exp(2j * rings.angle[:, None] * m)
    squares = (squares * torch.where(m == 0, 1, 2)).sum(1).real
    torch.testing.assert_close(squares, made.abs().square(), rtol=1e-3, atol=1e-4 * float(made.abs().square().max()))


def test_accumulated_sums_are_those_of_the_direct_templates():
    images, model, templates, _ = problem(24, 5.0)
    found = search_polar(images, model, templates)
    other = MapMixture(model.maps, model.noise, model.constraint)
    accumulate(model, found, images, templates)
    accumulate(other, found, images, Templates(templates.rotations, direct(other, templates).slices))
    torch.testing.assert_close(model.numerator, other.numerator)
    torch.testing.assert_close(model.noise, other.noise)


def test_known_poses_are_found_within_a_step_of_the_grid():
    images, model, templates, rotations = problem(24, 8.0, 0.3, 2304)
    found = search_polar(images, model, templates, entries=False)
    own = templates.rotations[found.best_rotation[torch.arange(16), torch.arange(16) // 8]]
    assert (rotation_distance_deg(own, rotations) < 16).float().mean() > 0.9
    assert (found.log_evidence.argmax(1) == torch.arange(16) // 8).float().mean() > 0.9


def test_the_number_of_threads_changes_no_bit():
    images, model, templates, _ = problem(24, 5.0, n_each=80)  # in three parts
    one = search_polar(images, model, templates)
    shards.use_threads(2)
    try:
        two = search_polar(images, model, templates)
    finally:
        shards.use_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_maps_of_nothing_have_no_evidence():
    images, model, _, _ = problem(24, 5.0)
    empty = MapMixture(torch.zeros_like(model.maps), model.noise, model.constraint)
    templates = polar_templates(empty, images.band, 100, torch.eye(3), images.ctf.square().mean(0))
    found = search_polar(images, empty, templates, entries=False)
    torch.testing.assert_close(found.log_evidence, torch.zeros_like(found.log_evidence), rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_rotations", [1, 40, 150, 1152, 2304, 4608])
def test_the_grid_has_about_as_many_rotations_as_are_asked_for(n_rotations):
    n_views, n_psi = grid_shape(n_rotations)
    assert n_psi % 2 == 0 and abs(n_views * n_psi - n_rotations) <= max(1, n_psi // 2)
    if n_rotations > 1000:  # both steps in degrees
        assert np.rad2deg(np.sqrt(4 * np.pi / n_views)) == pytest.approx(360 / n_psi, rel=0.2)


def test_an_image_alone_has_the_evidence_that_it_has_among_others():
    """Images one by one have the posterior that they have together."""
    images, model, templates, _ = problem(24, 5.0)
    together = search_polar(images, model, templates, entries=False)
    for i in (0, 7):
        alone = replace_images(images, slice(i, i + 1))
        found = search_polar(alone, model, templates, entries=False)
        torch.testing.assert_close(found.log_evidence[0], together.log_evidence[i], rtol=1e-4, atol=1e-3)


def replace_images(images: Shifted, rows: slice) -> Shifted:
    """Some of the images."""
    return images._replace(transforms=images.transforms[rows], ctf=images.ctf[rows])


def test_where_the_ctf_is_zero_at_frequency_zero_the_evidence_is_that_of_the_direct_sums():
    """Without amplitude contrast no image says anything of the ring of radius 0."""
    images, model, templates, _ = problem(24, 5.0)
    ctf = images.ctf.clone()
    ctf[:, (images.band.kxy == 0).all(1)] = 0.0
    turn = templates.rotations[0]
    polar = polar_templates(model, images.band, 300, turn, ctf.square().mean(0))
    silent = images._replace(ctf=ctf)
    error = search_polar(silent, model, polar).log_evidence - search(silent, model, direct(model, polar)).log_evidence
    assert float(error.square().mean().sqrt()) < 0.5  # NaN is not
