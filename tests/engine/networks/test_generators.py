"""Generators: maps and slices belong together."""
import itertools

import numpy as np
import pytest
import scipy.ndimage
import torch
from vaegan_engine.contract.settings import ModelConfig
from vaegan_engine.networks.generators import (
    SirenGenerator,
    VoxelGenerator,
    build_generator,
    match_amplitude,
    turned,
)
from vaegan_engine.physics.projection import half_plane_points, project, slices_to_images
from vaegan_engine.physics.rotations import euler_to_matrix, random_rotations


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_voxel_slices_are_the_projections_of_its_maps():
    model = ModelConfig(n_categories=3, n_normal=2, voxel_init=0.3)
    generator = VoxelGenerator(model, 16, 0.45, rng())
    z = torch.tensor([[1.0, 0, 0, 0.5, -1], [0, 0, 1, 0, 2]])
    rotations = torch.linalg.qr(torch.randn(2, 3, 3, generator=rng()))[0]
    expected = project(generator.decode(z), torch.arange(2), rotations)
    found = slices_to_images(generator.slices(z, rotations))
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.detach().abs().max()))
    mixed = slices_to_images(generator.slices(z, rotations, one_hot=False))
    assert torch.allclose(mixed, expected, atol=1e-4 * float(expected.detach().abs().max()))


def test_category_maps_are_positive():
    generator = VoxelGenerator(ModelConfig(n_categories=3), 16, 0.45, rng())
    assert float(generator.decode(torch.eye(3)).detach().min()) >= 0


def siren(d: int = 16) -> SirenGenerator:
    """A SIREN of box ``d`` in float64 whose coordinates are no longer the frequencies themselves."""
    generator = SirenGenerator(ModelConfig(n_categories=0, n_normal=4, generator_width=16), d, rng()).double()
    with torch.no_grad():
        generator.coordinates += torch.randn(generator.coordinates.shape, generator=rng())
    return generator.requires_grad_(False)


def quarter_turns() -> list[torch.Tensor]:
    """The 24 rotations that map the axes onto each other."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            rotations = torch.diag(torch.tensor(signs, dtype=torch.float64))[list(order)]
            if torch.det(rotations) > 0:
                found.append(rotations)
    return found


def test_siren_slices_are_the_projections_of_its_map():
    """Along quarter turns the map's grid is hit exactly, so slices and map must agree to rounding."""
    d, generator = 16, siren()
    z = torch.randn(1, 4, generator=rng()).double()
    transform = torch.fft.fftn(torch.fft.ifftshift(generator.decode(z)[0]))
    flat, kxy = half_plane_points(d, z.device, z.dtype)
    turns = quarter_turns()
    assert len(turns) == 24
    for rotations in turns:
        x, y, z_ = (kxy @ rotations[:2]).round().long().unbind(-1)
        found = generator.slices(z, rotations[None])[0].flatten()[flat]
        assert torch.allclose(found, transform[z_, y, x], rtol=1e-9, atol=1e-9 * float(transform.abs().max()))


def test_siren_half_plane_gives_the_image_of_the_full_plane():
    """The literal way, on all d x d coefficients: the network on one half space, the conjugate on the other."""
    d, generator = 16, siren()
    z = torch.randn(2, 4, generator=rng()).double()
    rotations = random_rotations(2, rng(), dtype=torch.float64)
    k = torch.fft.fftfreq(d, 1.0 / d, dtype=torch.float64)
    full = torch.zeros(2, d, d, dtype=torch.complex128)
    for n, j, i in itertools.product(range(2), range(d), range(d)):
        point = k[i] * rotations[n, 0] + k[j] * rotations[n, 1]
        if k[i] ** 2 + k[j] ** 2 < (d / 2) ** 2:
            sign = 1.0 if point[0] > 0 else -1.0
            re, im = generator._coefficients(generator._sample((sign * point)[None, None]), z[n:n + 1])[0, 0]
            full[n, j, i] = torch.complex(re, sign * im if i or j else 0 * im)
    literal = torch.fft.fftshift(torch.fft.ifft2(full), dim=(-2, -1))
    assert float(literal.imag.abs().max()) < 1e-12 * float(literal.real.abs().max())
    found = slices_to_images(generator.slices(z, rotations))
    assert torch.allclose(found, literal.real, rtol=1e-9, atol=1e-9 * float(found.abs().max()))


def test_siren_image_turned_by_half_a_turn_is_the_turned_image():
    generator = siren()
    z = torch.randn(3, 4, generator=rng()).double()
    rotations = random_rotations(3, rng(), dtype=torch.float64)
    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64))
    a, b = (slices_to_images(generator.slices(z, turned)) for turned in (rotations, half_turn @ rotations))
    assert torch.allclose(b[:, 1:, 1:], a[:, 1:, 1:].flip(1, 2), atol=1e-9 * float(a.abs().max()))


def test_siren_samples_its_coordinates_trilinearly():
    d, generator = 16, siren()
    points = (torch.rand(1, 200, 3, generator=rng(), dtype=torch.float64) - 0.5) * d
    points[..., 0].abs_()
    nodes = (points[0] + torch.tensor([0.0, d / 2, d / 2])).flip(-1).T.numpy()  # z, y, x
    for axis in range(3):
        expected = scipy.ndimage.map_coordinates(generator.coordinates[axis].numpy(), nodes, order=1)
        assert np.allclose(generator._sample(points)[0, :, axis].numpy(), expected, rtol=1e-10, atol=1e-10)


def test_siren_starts_as_the_thesis_says():
    generator = SirenGenerator(ModelConfig(n_categories=0, n_normal=10, generator_width=128), 16, rng())
    for layer in (generator.first, generator.second, generator.third, generator.last):
        assert 0.95 / 128 < float(layer.weight.abs().max()) <= 1 / 128
        assert abs(float(layer.weight.std()) * 128 * 3**0.5 - 1) < 0.15
    points = torch.tensor([[[3.0, -2.0, 5.0], [0.5, 1.25, -7.0]]])
    assert torch.allclose(generator._sample(points), points, atol=1e-5)
    assert abs(float(generator.mapping[2].weight.std()) / (2 / 1.04 / 128) ** 0.5 - 1) < 0.05


def test_amplitude_matches_the_signal_variance():
    generator = build_generator(ModelConfig(), 16, 0.45, rng())
    z = torch.eye(6).repeat(4, 1)
    rotations = torch.linalg.qr(torch.randn(24, 3, 3, generator=rng()))[0]
    ctf = torch.ones(24, 16, 9)
    match_amplitude(generator, z, rotations, ctf, 0.3)
    clean = slices_to_images(generator.slices(z, rotations) * ctf)
    assert abs(float(clean.detach().var()) - 0.3) < 1e-4


def test_image_generator_decodes_images():
    generator = build_generator(ModelConfig(generator="dcgan", generator_width=32), 24, 0.45, rng())
    z = torch.randn(3, 6)
    generator.eval()
    assert torch.allclose(slices_to_images(generator.slices(z)), generator.decode(z), atol=1e-5)


@pytest.mark.parametrize("box_px", [16, 17])
def test_an_image_is_turned_as_the_projection_of_its_map_is(box_px):
    """A blob off the centre. Where it is interpolated, linearly, within ``(|f_xx| + |f_yy|) / 8`` of its peak."""
    axis = torch.arange(box_px) - box_px // 2.0
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    blob = torch.exp(-((x - 3) ** 2 + (y - 1) ** 2 + z**2) / (2 * 1.5**2))[None]
    psi_deg = torch.tensor([0.0, 90.0, 180.0, 30.0, 200.0])
    rotations = euler_to_matrix(torch.zeros(5), torch.zeros(5), psi_deg)
    which = torch.zeros(5, dtype=torch.long)
    upright = project(blob, which[:1], rotations[:1])
    found, expected = turned(upright.expand(5, -1, -1), rotations), project(blob, which, rotations)
    error = (found - expected).abs().amax((1, 2)) / upright.max()
    assert error[:3].max() < 1e-3 and error[3:].max() < 2 / (8 * 1.5**2)
