"""Rotations against scipy, RELION's formula written out, and moments of the uniform law."""
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tolerances import TOLERANCES
from vaegan_engine.physics import rotations

DTYPES = [torch.float32, torch.float64]


def tolerance(dtype):
    rtol, atol = TOLERANCES[str(dtype).removeprefix("torch.")]
    return {"rtol": rtol, "atol": atol}


def angles(n, dtype, seed=0):
    rng = np.random.default_rng(seed)
    low, high = np.array([-180, 0, -180]), np.array([180, 180, 180])
    return [torch.tensor(column, dtype=dtype) for column in rng.uniform(low, high, (n, 3)).T]


@pytest.mark.parametrize("dtype", DTYPES)
def test_matrices_are_rotations(dtype):
    for made in (rotations.random_rotations(50, torch.Generator().manual_seed(0), dtype=dtype),
                 rotations.super_fibonacci_rotations(50, dtype=dtype),
                 rotations.euler_to_matrix(*angles(50, dtype))):
        assert made.dtype == dtype
        torch.testing.assert_close(made @ made.mT, torch.eye(3, dtype=dtype).expand(50, 3, 3),
                                   **tolerance(dtype))
        torch.testing.assert_close(torch.linalg.det(made), torch.ones(50, dtype=dtype), **tolerance(dtype))


def test_euler_matrix_equals_scipy():
    """RELION's A turns the frame: it is the transpose of scipy's intrinsic ZYZ rotation."""
    rot, tilt, psi = angles(20, torch.float64)
    expected = Rotation.from_euler("ZYZ", np.stack((rot, tilt, psi), 1), degrees=True).as_matrix()
    np.testing.assert_allclose(rotations.euler_to_matrix(rot, tilt, psi), np.swapaxes(expected, 1, 2),
                               atol=1e-12)


def test_euler_matrix_by_hand():
    """rot 90: the image's x axis is the map's y; tilt 90: the view is along the map's x."""
    zero, right = torch.tensor(0.0), torch.tensor(90.0)
    turned = rotations.euler_to_matrix(right, zero, zero)
    torch.testing.assert_close(turned, torch.tensor([[0., 1, 0], [-1, 0, 0], [0, 0, 1]]), atol=1e-6, rtol=0)
    tilted = rotations.euler_to_matrix(zero, right, zero)
    torch.testing.assert_close(tilted[2], torch.tensor([1., 0, 0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_angles_round_trip(dtype):
    expected = angles(200, dtype)
    loose = 1e-2 if dtype == torch.float32 else 1e-9  # degrees; float32 is worst near the poles
    for got, wanted in zip(rotations.matrix_to_euler(rotations.euler_to_matrix(*expected)), expected,
                           strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=loose)


@pytest.mark.parametrize("tilt", [0.0, 180.0])
def test_angles_at_the_poles(tilt):
    """Only one angle is defined there; the matrix comes back all the same and rot is 0."""
    given = [torch.tensor([value], dtype=torch.float64) for value in (25.0, tilt, 40.0)]
    matrix = rotations.euler_to_matrix(*given)
    found = rotations.matrix_to_euler(matrix)
    assert found[0].item() == 0
    torch.testing.assert_close(rotations.euler_to_matrix(*found), matrix, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["random", "grid"])
def test_uniform_on_so3(name):
    """Moments of the Haar measure: E[R] = 0, E[R_ij^2] = 1/3, E[trace^2] = 1, angle density 1 - cos."""
    n = 20000
    made = (rotations.random_rotations(n, torch.Generator().manual_seed(1), dtype=torch.float64)
            if name == "random" else rotations.super_fibonacci_rotations(n, dtype=torch.float64))
    trace = made.diagonal(dim1=1, dim2=2).sum(1)
    assert made.mean(0).abs().max() < 5 / np.sqrt(3 * n)
    assert (made.square().mean(0) - 1 / 3).abs().max() < 5 * 0.3 / np.sqrt(n)
    assert abs(trace.square().mean() - 1) < 5 * np.sqrt(2 / n)
    angle = torch.acos(((trace - 1) / 2).clamp(-1, 1))
    assert abs(angle.mean() - (np.pi / 2 + 2 / np.pi)) < 0.03


@pytest.mark.parametrize("c", [0.01, 2.0, 8.0])
def test_preferred_views_have_their_density(c):
    """Closed forms: E|cos tilt| = 1 / (1 - e^-c) - 1 / c, both poles alike; rot and psi uniform."""
    n = 20000
    made = rotations.concentrated_rotations(n, c, torch.Generator().manual_seed(3))
    assert torch.allclose(made @ made.transpose(1, 2), torch.eye(3).expand(n, 3, 3), atol=1e-5)
    view = made[:, 2]
    expected = 1 / (1 - np.exp(-c)) - 1 / c
    assert abs(float(view[:, 2].abs().mean()) - expected) < 4 / np.sqrt(12 * n)
    assert abs(float(view[:, 2].mean())) < 4 / np.sqrt(n)
    for angles in (rotations.matrix_to_euler(made)[0], rotations.matrix_to_euler(made)[2]):
        assert abs(complex(torch.polar(torch.ones(n), torch.deg2rad(angles)).mean())) < 4 / np.sqrt(n)


def test_random_rotations_follow_their_generator():
    first, again, other = (rotations.random_rotations(3, torch.Generator().manual_seed(seed))
                           for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_grid_covers_evenly():
    """The nearest neighbour of every one of 4608 rotations lies at about the same distance."""
    grid = rotations.super_fibonacci_rotations(4608)
    probes = rotations.random_rotations(200, torch.Generator().manual_seed(2))
    nearest = rotations.rotation_distance_deg(probes[:, None], grid[None]).min(1).values
    assert nearest.max() < 15
    assert nearest.median() < 9


def test_distance_is_the_angle():
    R = rotations.random_rotations(10, torch.Generator().manual_seed(3), dtype=torch.float64)
    turn = torch.tensor(Rotation.from_euler("x", np.array([[0.01], [90], [179.9]]), degrees=True).as_matrix())
    got = rotations.rotation_distance_deg(R[:, None], R[:, None] @ turn)
    torch.testing.assert_close(got, torch.tensor([0.01, 90, 179.9], dtype=torch.float64).expand(10, 3),
                               rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [1, 7, 2000])
def test_neighbours_in_the_order_by_view_see_nearly_the_same_plane(n):
    """Random ones of 2,000 views are 57 degrees apart; even ones would be 3.2, and opposite views are one plane."""
    A = rotations.random_rotations(n, torch.Generator().manual_seed(4))
    order = rotations.order_by_view(A)
    assert torch.equal(order.sort().values, torch.arange(n))
    view = A[order][:, 2]
    apart = torch.rad2deg(torch.acos((view[1:] * view[:-1]).sum(1).abs().clamp(max=1)))
    assert n < 2000 or float(apart.mean()) < 6
    turned = torch.tensor([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]]) @ A  # looks along the opposite view
    assert torch.equal(rotations.order_by_view(turned), order)
