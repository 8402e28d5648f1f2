"""What images say of a family of images in the plane, against finite differences and dense Gaussians."""
import numpy as np
import pytest
import torch
from flat_pictures import PICTURES, blobs, make
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.map_constraint import within
from vaegan_engine.physics.rotations import euler_to_matrix
from vaegan_engine.reconstruction.images import Images
from vaegan_engine.reconstruction.map_family import Spreads, family, seen
from vaegan_engine.reconstruction.posed_images import Coefficients, PosedImages, posed
from vaegan_engine.reconstruction.principal_maps import drawn_maps, first_planes, improved, linear_posterior

D, RADIUS, N = 32, 8.0, 160


def in_plane(psi_deg):
    none = torch.zeros_like(psi_deg)
    return euler_to_matrix(none, none, psi_deg).float()


@pytest.fixture(scope="module")
def problem():
    """Images of two pictures at known turns and shifts."""
    made, band = make(N, D, snr=1.0), make_band(D, RADIUS)
    source = Coefficients(Images(made.images, made.ctf, 6.0, torch.device("cpu")), np.arange(N), band)
    return made, source, torch.from_numpy(made.psi_deg).float(), torch.from_numpy(made.shift_px).float(), band


def few(problem, turn_deg=0.0, shift_px=(0.0, 0.0), spreads=None):
    _, source, psi, shifts, band = problem
    mean, basis = (torch.from_numpy(blobs(picture, D)).float() for picture in PICTURES)
    images = posed(*source[:6], in_plane(psi[:6] + turn_deg), shifts[:6] + torch.tensor(shift_px), band)
    return seen(family(mean, 0.3 * basis[None], band), images, band.weight / (20 + band.shell), spreads or Spreads())


def test_columns_of_turns_and_shifts_are_derivatives(problem):
    plain = few(problem, spreads=Spreads(1.0, 1.0, 1.0))
    assert plain.n_nuisances == 4
    step = np.degrees(0.03)
    up, down = (few(problem, turn_deg=sign * step).columns[:, -1] for sign in (1, -1))
    difference, found = (down - up) / 0.06, plain.columns[:, 1]
    assert float(torch.minimum((difference - found).norm(), (difference + found).norm()) / difference.norm()) < 0.1


def test_evidence_is_that_of_a_dense_gaussian(problem):
    """Of residuals r with covariance 1 + T T^T + U U^T: what changes between two turns of an image."""
    logs, dense = [], []
    for turn_deg in (0.0, 12.0):
        found = few(problem, turn_deg, spreads=Spreads(0.2, 0.05, 0.02))
        logs.append(found.log_evidence().double())
        columns, residual = found.columns[:, :-1].double(), found.columns[:, -1].double()
        covariance = torch.eye(residual.shape[1], dtype=torch.float64) + columns.mT @ columns
        explained = torch.einsum("np,npq,nq->n", residual, torch.linalg.inv(covariance), residual)
        dense.append(-0.5 * (explained + torch.linalg.slogdet(covariance)[1]))
    assert torch.allclose(logs[1] - logs[0], dense[1] - dense[0], rtol=1e-3, atol=0.05)


def test_mean_and_principal_image_of_two_pictures(problem):
    made, source, psi, shifts, band = problem
    images = PosedImages(source, in_plane(psi), shifts)
    images.__class__ = type("Counted", (PosedImages,), {"__len__": lambda self: len(self.rotations)})
    whole = within(torch.ones(D, D))
    start = first_planes(images, 2, whole)
    one, other = (blobs(picture, D) for picture in PICTURES)
    assert np.corrcoef(start.mean.numpy().ravel(), (one + other).ravel())[0, 1] > 0.95
    rows = torch.arange(N)
    maps = improved(drawn_maps(start, images.part, rows, whole), images.part, rows, whole, 6)
    assert abs(np.corrcoef(maps.basis[0].numpy().ravel(), (one - other).ravel())[0, 1]) > 0.9
    found = seen(family(maps.mean, maps.basis, band), images.part(torch.arange(N)), maps.precision, maps.spreads)
    z = linear_posterior(found.gram, found.pull)[0][:, 0]
    assert abs(np.corrcoef((z > 0).numpy(), made.picture)[0, 1]) > 0.95
