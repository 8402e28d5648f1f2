"""Density of atoms against the form factors' closed form."""
import gzip

import gemmi
import numpy as np
import pytest
from atoms import structure
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.simulation import atomic_models


def expected(positions, elements, b_iso, d, voxel, resolution, origin):
    """The module's equation, written out."""
    k = np.fft.fftfreq(d, 1 / d)
    kz, ky, kx = np.meshgrid(k, k, k, indexing="ij")
    g = np.stack((kx, ky, kz), -1) / (d * voxel)
    g2 = (g ** 2).sum(-1)
    total = np.zeros((d, d, d), complex)
    for position, element in zip(positions, elements, strict=False):
        coefficients = gemmi.Element(element).c4322
        form = sum(a * np.exp(-b * g2 / 4) for a, b in zip(coefficients.a, coefficients.b, strict=True))
        r = np.asarray(position) - origin + voxel * (d // 2)
        total += form * np.exp(-b_iso * g2 / 4) * np.exp(-2j * np.pi * (g @ r))
    edge = np.clip((np.sqrt(g2) * d * voxel - d * voxel / resolution) / 2, 0, 1)
    total *= 0.5 * (1 + np.cos(np.pi * edge))
    total[:, :, np.abs(k) >= d / 2] = total[:, np.abs(k) >= d / 2] = total[np.abs(k) >= d / 2] = 0
    return np.fft.ifftn(total).real / voxel ** 3


@pytest.mark.parametrize(("d", "voxel", "resolution"), [(24, 1.5, 4.0), (25, 2.0, 9.0), (16, 4.0, 12.0)])
def test_density_is_the_sum_of_form_factors(d, voxel, resolution):
    rng = np.random.default_rng(d)
    positions = rng.uniform(-7, 7, (5, 3)) + 100
    made = atomic_models.density(structure(positions)[0], d, voxel, resolution, np.full(3, 100.0))
    truth = expected(positions, "CNOSP", 20.0, d, voxel, resolution, np.full(3, 100.0))
    assert np.abs(made - truth).max() < 0.01 * np.abs(truth).max()


def test_axes_are_z_y_x_and_the_centre_is_the_centre_of_mass():
    model = structure([(50, 60, 74), (50, 60, 86)], "CC")[0]
    np.testing.assert_allclose(atomic_models.center_ang(model), (50, 60, 80))
    made = atomic_models.density(model, 24, 2.0, 4.0)
    # z = 80 +- 6 A: 3 voxels from the centre along the first axis
    peaks = np.argwhere(made > 0.7 * made.max())
    np.testing.assert_array_equal(peaks, [[9, 12, 12], [15, 12, 12]])


def test_files_pdb_and_mmcif_gzipped_give_the_same_model(tmp_path):
    made = structure(np.random.default_rng(0).uniform(0, 20, (5, 3)).round(3))
    (tmp_path / "a.pdb").write_text(made.make_pdb_string())
    with gzip.open(tmp_path / "a.cif.gz", "wt") as stream:
        stream.write(made.make_mmcif_document().as_string())
    first, second = (
        atomic_models.density(atomic_models.read_model(tmp_path / name), 16, 3.0, 8.0) for name in ("a.pdb", "a.cif.gz")
    )
    np.testing.assert_allclose(first, second, atol=1e-6 * first.max())
    assert atomic_models.is_model("x/A.CIF.gz")
    assert not atomic_models.is_model("map.mrc")


def test_unusable_models_are_named(tmp_path):
    (tmp_path / "bad.pdb").write_text("nothing\n")
    with pytest.raises(DataError, match=r"bad\.pdb: there are 0 atoms"):
        atomic_models.read_model(tmp_path / "bad.pdb")
    with pytest.raises(DataError, match=r"none\.cif: no atomic model"):
        atomic_models.read_model(tmp_path / "none.cif")
    model = structure([(0, 0, 0), (0, 0, 90)], "CC")[0]
    with pytest.raises(DataError, match="45 A from the centre of a box of 48 A"):
        atomic_models.density(model, 24, 2.0, 4.0)
    with pytest.raises(ConfigError, match="two voxels are 4 A"):
        atomic_models.density(model, 24, 2.0, 3.0)
