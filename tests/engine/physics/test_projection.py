"""The projector against a closed form, exact symmetries and its own adjoint."""
import math

import numpy as np
import pytest
import torch
from tolerances import TOLERANCES
from vaegan_engine.physics import projection
from vaegan_engine.physics.rotations import euler_to_matrix, random_rotations

BOXES = [32, 33]


def gaussian(d, center_xyz, sigma, axes=3):
    """Gaussian of peak 1 on ``axes`` axes, centre given from voxel d//2; closed form."""
    axis = torch.arange(d, dtype=torch.float64) - d // 2
    parts = [torch.exp(-((axis - c) ** 2) / (2 * sigma**2)) for c in center_xyz[:axes]]
    image = parts[1][:, None] * parts[0][None, :]
    return image if axes == 2 else parts[2][:, None, None] * image[None]


def rotations(n, seed=0, dtype=torch.float64):
    return random_rotations(n, torch.Generator().manual_seed(seed), dtype=dtype)


def smooth_map(d, seed=0):
    rng = np.random.default_rng(seed)
    return sum(rng.uniform(0.5, 1.5) * gaussian(d, rng.uniform(-d / 6, d / 6, 3), rng.uniform(1.8, 3))
               for _ in range(5))


def tolerance(dtype):
    rtol, atol = TOLERANCES[str(dtype).removeprefix("torch.")]
    return {"rtol": rtol, "atol": atol}


@pytest.mark.parametrize("d", BOXES)
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(("pad", "largest_error"), [(2, 2e-2), (4, 3e-3)])
def test_gaussian_in_closed_form(d, n, pad, largest_error):
    """The projection of an off-centre Gaussian is a Gaussian at (A c)_xy, sqrt(2 pi) sigma high.

    What is left is the error of trilinear interpolation, which falls with the padding.
    """
    center, sigma = torch.tensor([5.0, -3.0, 4.0], dtype=torch.float64), 2.0
    A = rotations(n, seed=n)
    made = projection.project(gaussian(d, center, sigma)[None], torch.zeros(n, dtype=torch.long), A, pad)
    assert made.shape == (n, d, d)
    for image, R in zip(made, A, strict=True):
        expected = math.sqrt(2 * math.pi) * sigma * gaussian(d, R @ center, sigma, axes=2)
        assert (image - expected).abs().max() < largest_error * expected.max()


@pytest.mark.parametrize("d", BOXES)
def test_view_along_z_is_the_sum(d):
    """Without rotation every sample lies on the grid: exact below the Nyquist circle."""
    map_ = smooth_map(d)
    made = projection.project(map_[None], torch.zeros(1, dtype=torch.long), torch.eye(3, dtype=torch.float64)[None])
    corrected = map_ * projection.gridding_correction(d, 2, map_.device, map_.dtype)
    assert (made[0] - corrected.sum(0)).abs().max() < 1e-5 * corrected.sum(0).max()


@pytest.mark.parametrize("d", BOXES)
def test_slice_is_the_transform_of_the_projection(d):
    map_, A = smooth_map(d), rotations(2)
    planes = projection.extract_slices(projection.map_to_fourier(map_[None]),
                                       torch.zeros(2, dtype=torch.long), A, d)
    images = projection.slices_to_images(planes)
    shifted = np.fft.ifftshift(images.numpy(), axes=(1, 2))
    inside, _ = projection.half_plane_points(d, A.device, A.dtype)
    np.testing.assert_allclose(np.fft.rfft2(shifted).reshape(2, -1)[:, inside],
                               planes.reshape(2, -1)[:, inside].numpy(), atol=1e-9 * float(planes.abs().max()))
    torch.testing.assert_close(projection.images_to_slices(images), planes, rtol=0, atol=1e-8)


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_quarter_turns_in_plane_turn_the_array(quarter_turns):
    """psi = 90 n is a turn of the image about pixel d//2, exact to rounding in an odd box."""
    d = 33
    map_ = smooth_map(d)
    zero = torch.zeros(1, dtype=torch.float64)
    psi = torch.full((1,), 90.0 * quarter_turns, dtype=torch.float64)
    map_ft = projection.map_to_fourier(map_[None])
    index = torch.zeros(1, dtype=torch.long)
    straight, turned = (projection.slices_to_images(projection.extract_slices(
        map_ft, index, euler_to_matrix(zero, zero, angle), d))[0] for angle in (zero, psi))
    # image(x, y) at A's rows: psi = 90 puts the map's y on the image's x
    expected = torch.rot90(straight, quarter_turns, dims=(0, 1))
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-9 * float(straight.max()))


@pytest.mark.parametrize("d", BOXES)
def test_quarter_turn_of_the_map(d):
    """A 90 degree turn of the map seen straight equals the map seen turned by 90 degrees."""
    map_ = smooth_map(d)
    A = torch.tensor([[[0.0, 0, -1], [0, 1, 0], [1, 0, 0]]], dtype=torch.float64)  # tilt 90
    seen = projection.project(map_[None], torch.zeros(1, dtype=torch.long), A)[0]
    # view along x; image x = -z of the map, image y = y
    corrected = map_ * projection.gridding_correction(d, 2, map_.device, map_.dtype)
    along_x = corrected.sum(2).T  # (y, z)
    expected = along_x.flip(1) if d % 2 else torch.roll(along_x.flip(1), 1, 1)
    assert (seen - expected).abs().max() < 1e-5 * expected.max()


@pytest.mark.parametrize("d", BOXES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_pixel_shift_is_a_roll(d, dtype):
    """The content moves by +shift; frequencies at the Nyquist line are zero in slices."""
    map_ = smooth_map(d).to(dtype)
    planes = projection.extract_slices(projection.map_to_fourier(map_[None]),
                                       torch.zeros(2, dtype=torch.long), rotations(2, dtype=dtype), d)
    images = projection.slices_to_images(planes)
    shifts = torch.tensor([[3.0, -2.0], [0.0, 4.0]], dtype=dtype)
    moved = projection.slices_to_images(projection.shift_slices(planes, shifts))
    expected = torch.stack([torch.roll(images[0], (-2, 3), (0, 1)), torch.roll(images[1], (4, 0), (0, 1))])
    torch.testing.assert_close(moved, expected, rtol=0, atol=tolerance(dtype)["atol"] * float(images.max()))


def test_two_shifts_add():
    planes = projection.images_to_slices(smooth_map(32)[:4])
    a, b = torch.tensor([[0.3, -1.2]] * 4, dtype=torch.float64), torch.tensor([[1.1, 0.4]] * 4, dtype=torch.float64)
    torch.testing.assert_close(projection.shift_slices(projection.shift_slices(planes, a), b),
                               projection.shift_slices(planes, a + b), rtol=0, atol=1e-10)


def test_linear_in_the_map():
    a, b, index, A = smooth_map(32, 1), smooth_map(32, 2), torch.zeros(2, dtype=torch.long), rotations(2)
    both = projection.project((2 * a - 3 * b)[None], index, A)
    apart = 2 * projection.project(a[None], index, A) - 3 * projection.project(b[None], index, A)
    torch.testing.assert_close(both, apart, rtol=0, atol=1e-9)


def test_index_chooses_the_map():
    maps, A = torch.stack([smooth_map(16, seed) for seed in range(3)]), rotations(4)
    index = torch.tensor([2, 0, 1, 2])
    together = projection.project(maps, index, A)
    for row in range(4):
        alone = projection.project(maps[index[row]][None], torch.zeros(1, dtype=torch.long), A[row:row + 1])
        torch.testing.assert_close(together[row:row + 1], alone)


def test_gradient_is_the_adjoint():
    """<P v, u> = <v, P^T u> with P^T from autograd, for random v and u."""
    d, A, index = 12, rotations(3), torch.zeros(3, dtype=torch.long)
    generator = torch.Generator().manual_seed(4)
    map_ = torch.randn(1, d, d, d, generator=generator, dtype=torch.float64, requires_grad=True)
    image = torch.randn(3, d, d, generator=generator, dtype=torch.float64)
    forward = (projection.project(map_, index, A) * image).sum()
    (back,) = torch.autograd.grad(forward, map_)
    torch.testing.assert_close((back * map_).sum(), forward)
    other = torch.randn(1, d, d, d, generator=generator, dtype=torch.float64)
    torch.testing.assert_close((back * other).sum(), (projection.project(other, index, A) * image).sum())


def test_gradients_by_finite_differences():
    """In the map and in the rotation (float64, a small box, away from grid lines)."""
    generator = torch.Generator().manual_seed(5)
    map_ = torch.randn(2, 6, 6, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    A = rotations(2, seed=8).requires_grad_()
    index = torch.tensor([1, 0])
    assert torch.autograd.gradcheck(lambda v, R: projection.project(v, index, R), (map_, A),
                                    eps=1e-6, atol=1e-5, nondet_tol=1e-10)


def test_inputs_are_not_changed():
    map_, A = smooth_map(16)[None], rotations(2)
    kept = map_.clone(), A.clone()
    projection.project(map_, torch.zeros(2, dtype=torch.long), A)
    assert torch.equal(map_, kept[0])
    assert torch.equal(A, kept[1])


@pytest.mark.parametrize(("d", "pad"), [(12, 2), (13, 2), (9, 1), (8, 3)])
def test_compiled_slices_equal_tensor_operations(d, pad):
    """float32 on a CPU at fixed rotations, against the operations that float64 and rotations with gradients take."""
    generator = torch.Generator().manual_seed(6)
    map_ = torch.randn(3, d, d, d, generator=generator, requires_grad=True)
    index, A = torch.tensor([2, 0, 2, 1, 2]), rotations(5, seed=2, dtype=torch.float32)
    weights = torch.randn(5, d, d, generator=generator)

    def with_gradient(turned):
        images = projection.project(map_, index, turned, pad)
        return images, torch.autograd.grad((images.square() * weights).sum(), map_)[0]

    for made, expected in zip(with_gradient(A), with_gradient(A.clone().requires_grad_()), strict=True):
        assert (made - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(("d", "pad"), [(12, 2), (13, 2), (9, 1), (8, 3)])
def test_adjoint_of_the_padded_transform(d, pad):
    """<F v, u> = <v, F^T u> over a half grid, even and odd, every plane of it with numbers of its own."""
    generator = torch.Generator().manual_seed(7)
    map_ = torch.randn(2, d, d, d, generator=generator, dtype=torch.float64, requires_grad=True)
    made = projection.map_to_fourier(map_, pad)
    other = torch.randn(made.shape, generator=generator, dtype=torch.complex128)
    (back,) = torch.autograd.grad((made * other.conj()).real.sum(), map_)
    assert torch.isclose((back * map_).sum(), (made * other.conj()).real.sum(), rtol=1e-10)
    moved = torch.randn(map_.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close((back * moved).sum(), (projection.map_to_fourier(moved, pad) * other.conj()).real.sum())
