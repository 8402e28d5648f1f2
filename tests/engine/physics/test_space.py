"""Images in the plane as transforms that are read at turns and filled by sums, beside maps."""
import math

import pytest
import torch
from flat_pictures import PICTURES, blobs
from vaegan_engine.physics.fourier_band import image_transforms, make_band
from vaegan_engine.physics.rotations import euler_to_matrix
from vaegan_engine.physics.space import MAPS, PLANES, space_of
from vaegan_engine.reconstruction.map_family import family, read_slices

D = 32


def picture(psi_deg=0.0, d=D, which=0):
    return torch.from_numpy(blobs(PICTURES[which], d, psi_deg)).float()


def turns(psi_deg):
    none = torch.zeros_like(psi_deg)
    return euler_to_matrix(none, none, psi_deg)


@pytest.mark.parametrize("d", [31, 32])
def test_a_plane_is_read_as_the_image_that_is_turned(d):
    band, psi = make_band(d, 8.0), torch.tensor([0.0, 35.0, 90.0, -121.0])
    read = read_slices(family(picture(d=d), picture(which=1, d=d)[None], band).table,
                       PLANES.stencil(band, turns(psi)))
    for which in (0, 1):
        expected = image_transforms(torch.stack([picture(float(angle), d, which) for angle in psi]), band)
        assert float((read[..., which] - expected).norm() / expected.norm()) < 0.02


def test_reading_and_filling_are_adjoint():
    """<S[V], x> = <V, S*[x]> of the real plane and Hermitian half transforms."""
    band, psi = make_band(D, 8.0), torch.tensor([10.0, 77.0])
    rng = torch.Generator().manual_seed(0)
    x = torch.complex(*torch.randn(2, 2, len(band.index), generator=rng, dtype=torch.float64)).to(torch.complex64)
    at, plane = PLANES.stencil(band, turns(psi)), torch.randn(D, D, generator=rng)
    transform = PLANES.transforms(plane[None])[0].requires_grad_(True)
    values = read_slices(torch.view_as_real(transform).reshape(-1, 2), at)[..., 0]
    (values * x.conj()).real.sum().backward()
    assert transform.grad.shape == PLANES.shape(2 * D) and bool(torch.isfinite(transform.grad.abs()).all())
    assert math.isclose(float((transform.grad.conj() * transform).real.sum().detach()),
                        float((values * x.conj()).real.sum().detach()), rel_tol=1e-4)


@pytest.mark.parametrize(("d", "box_px"), [(32, 20), (20, 32), (33, 24)])
def test_another_box_has_the_same_transform_in_the_band(d, box_px):
    small = PLANES.resized(picture(d=d)[None], box_px)
    one, other = make_band(d, 7.0), make_band(box_px, 7.0)
    expected = image_transforms(picture(d=d)[None], one)
    assert torch.allclose(image_transforms(small, other), expected, atol=1e-3 * float(expected.abs().max()))


def test_the_opposite_of_an_edge():
    """A real array's half transform at x = 0 is its own conjugate at opposite frequencies."""
    for space, array in ((PLANES, torch.randn(8, 8)), (MAPS, torch.randn(6, 6, 6))):
        edge = torch.fft.rfftn(array)[..., 0]
        assert torch.allclose(space.folded(edge).conj(), edge, atol=1e-4) and space_of(array) == space
