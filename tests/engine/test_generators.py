"""Generators: maps and slices belong together."""
import pytest
import torch
from vaegan_engine.contract import ModelConfig
from vaegan_engine.generators import SirenGenerator, VoxelGenerator, build_generator, match_amplitude
from vaegan_engine.projection import images_to_slices, project, slices_to_images


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_voxel_slices_are_the_projections_of_its_maps():
    model = ModelConfig(n_categories=3, n_normal=2, voxel_init=0.3)
    generator = VoxelGenerator(model, 16, 0.45, rng())
    z = torch.tensor([[1.0, 0, 0, 0.5, -1], [0, 0, 1, 0, 2]])
    A = torch.linalg.qr(torch.randn(2, 3, 3, generator=rng()))[0]
    expected = project(generator.decode(z), torch.arange(2), A)
    found = slices_to_images(generator.slices(z, A))
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.detach().abs().max()))
    mixed = slices_to_images(generator.slices(z, A, one_hot=False))
    assert torch.allclose(mixed, expected, atol=1e-4 * float(expected.detach().abs().max()))


def test_category_maps_are_positive():
    generator = VoxelGenerator(ModelConfig(n_categories=3), 16, 0.45, rng())
    assert float(generator.decode(torch.eye(3)).detach().min()) >= 0


@pytest.mark.parametrize("angle", [0, 1, 2, 3])
def test_siren_slices_are_the_projections_of_its_map(angle):
    """Along quarter turns the grid is hit exactly, so slice and map must agree to rounding."""
    d = 16
    generator = SirenGenerator(ModelConfig(n_categories=0, n_normal=4, generator_width=16), d, rng())
    z = torch.randn(1, 4, generator=rng())
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    A = torch.linalg.matrix_power(turn, angle)[None]
    plane = images_to_slices(generator.decode(z).sum(1)) if angle == 0 else None
    found = generator.slices(z, A)
    if plane is not None:
        inside = found.abs() > 0
        ky = torch.fft.fftfreq(d, 1 / d)
        inside &= (torch.arange(d // 2 + 1) > 0)[None, None] & (ky.abs() < d / 2)[None, :, None]
        assert torch.allclose(found[inside], plane[inside], atol=1e-4 * float(plane.abs().max()))
    assert torch.isfinite(torch.view_as_real(found)).all()


def test_amplitude_matches_the_signal_variance():
    generator = build_generator(ModelConfig(), 16, 0.45, rng())
    z = torch.eye(6).repeat(4, 1)
    A = torch.linalg.qr(torch.randn(24, 3, 3, generator=rng()))[0]
    ctf = torch.ones(24, 16, 9)
    match_amplitude(generator, z, A, ctf, 0.3)
    clean = slices_to_images(generator.slices(z, A) * ctf)
    assert abs(float(clean.detach().var()) - 0.3) < 1e-4


def test_image_generator_decodes_images():
    generator = build_generator(ModelConfig(generator="dcgan", generator_width=32), 24, 0.45, rng())
    z = torch.randn(3, 6)
    generator.eval()
    assert torch.allclose(slices_to_images(generator.slices(z)), generator.decode(z), atol=1e-5)
