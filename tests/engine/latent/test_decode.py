"""Maps at any points of a landscape: the latents that are asked for, ways between particles, files for ChimeraX."""
from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest
from fake_run import FakeTrained, write_embedding
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.data.mrc_files import read_map
from vaegan_engine.latent import decode
from vaegan_engine.latent.decode import DecodeOptions, ids_of, read_points, run_decode
from vaegan_engine.latent.density_paths import density_path, evenly_along

IDS = np.arange(10, 70)


@pytest.fixture
def embedding(tmp_path, monkeypatch):
    """Particles around a corner of the simplex of three states: from the first over the second to the third."""
    monkeypatch.setattr(decode, "load_trained", lambda *_: FakeTrained())
    t = np.linspace(0, 2, len(IDS))
    z = np.stack((np.clip(1 - t, 0, 1), 1 - np.abs(t - 1), np.clip(t - 1, 0, 1)), 1).astype(np.float32)
    write_embedding(tmp_path / "embedding", z, IDS)
    return tmp_path / "embedding", z


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "decoded.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_particles_are_decoded_at_their_own_latents(embedding, tmp_path):
    folder, z = embedding
    run_decode(DecodeOptions(run_dir="r", particles="12,69,40", embedding_dir=str(folder)), tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [row["file"] for row in rows] == [f"maps/decoded_{k:03d}.mrc" for k in (1, 2, 3)]
    assert [int(row["nearest_particle_id"]) for row in rows] == [12, 69, 40]
    for row, particle in zip(rows, (12, 69, 40), strict=True):
        array, voxel_size_ang = read_map(tmp_path / "out" / row["file"])
        np.testing.assert_allclose(array, FakeTrained().decode(z[[particle - 10]])[0], atol=1e-5)
        assert voxel_size_ang == pytest.approx(FakeTrained().pixel_size_ang, rel=1e-5)
        assert float(row["distance_z"]) == pytest.approx(0, abs=1e-6)
    script = (tmp_path / "out" / "series.cxc").read_text()
    assert [Path(path) for path in re.findall(r'"(\S+)"', script)] == [tmp_path / "out" / row["file"] for row in rows]
    assert "vseries true" in script


def test_the_series_names_folders_as_the_disk_has_them(embedding, tmp_path):
    """One whose name is of another encoding too: bytes that are no UTF-8."""
    out = tmp_path / os.fsdecode(b"d\xe9codes")
    run_decode(DecodeOptions(run_dir="r", particles="12", embedding_dir=str(embedding[0])), out)
    assert os.fsencode(f'"{out}/maps/decoded_001.mrc"') in (out / "series.cxc").read_bytes()


def test_maps_of_a_run_before_do_not_stand_beside_fewer(embedding, tmp_path):
    folder, _ = embedding
    for particles in ("12,69,40", "12"):
        run_decode(DecodeOptions(run_dir="r", particles=particles, embedding_dir=str(folder)), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "maps").iterdir()] == ["decoded_001.mrc"]


def test_a_path_keeps_to_where_particles_are_and_to_the_simplex(embedding, tmp_path):
    folder, _ = embedding
    run_decode(DecodeOptions(run_dir="r", path="10,69", n_points=9, embedding_dir=str(folder)), tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    z = np.array([[float(row[f"z_{k}"]) for k in (1, 2, 3)] for row in rows])
    np.testing.assert_allclose(z[[0, -1]], [[1, 0, 0], [0, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(z.sum(1), 1, atol=1e-6)
    assert z[4, 1] > 0.8  # over the second state; halfway on the straight line it is 0
    assert max(float(row["distance_z"]) for row in rows) < 0.2


def test_latents_of_a_file_need_no_embedding(embedding, tmp_path):
    (tmp_path / "z.txt").write_text("# three states\n1, 0, 0\n\n0.2 0.3\t0.5\n")
    run_decode(DecodeOptions(run_dir="r", z_csv=str(tmp_path / "z.txt")), tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [row["nearest_particle_id"] for row in rows] == ["", ""]
    array, _ = read_map(tmp_path / "out" / rows[1]["file"])
    np.testing.assert_allclose(array, FakeTrained().decode(np.array([[0.2, 0.3, 0.5]]))[0], atol=1e-5)


def test_images_of_a_2d_model_are_a_stack_without_a_script(embedding, tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "load_trained", lambda *_: FakeTrained(is_3d=False))
    (tmp_path / "z.txt").write_text("1 0 0\n0 1 0\n")
    run_decode(DecodeOptions(run_dir="r", z_csv=str(tmp_path / "z.txt")), tmp_path / "out")
    assert [row["index"] for row in rows_of(tmp_path / "out")] == ["0", "1"]
    assert not (tmp_path / "out" / "series.cxc").exists()


@pytest.mark.parametrize(("options", "error", "word"), [
    ({}, ConfigError, "Neither z, particles nor path"),
    ({"particles": "1", "path": "1,2"}, ConfigError, "particles and"),
    ({"particles": "10"}, ConfigError, "no embedding_dir"),
    ({"path": "10,10", "embedding_dir": "E"}, ConfigError, "10,10"),
    ({"path": "10", "embedding_dir": "E"}, ConfigError, "two different"),
    ({"particles": "10,x", "embedding_dir": "E"}, ConfigError, "no particle ids"),
    ({"particles": "7", "embedding_dir": "E"}, DataError, "7")])
def test_what_cannot_be_decoded_is_refused(embedding, tmp_path, options, error, word):
    given = {name: str(embedding[0]) if value == "E" else value for name, value in options.items()}
    with pytest.raises(error, match=word):
        run_decode(DecodeOptions(run_dir="r", **given), tmp_path / "out")


@pytest.mark.parametrize("text", ["", "1 2\n3\n", "a b\n", "nan 1\n"])
def test_files_without_usable_latents_are_refused(tmp_path, text):
    (tmp_path / "z.txt").write_text(text)
    with pytest.raises(DataError, match=r"z\.txt"):
        read_points(tmp_path / "z.txt")


def test_latents_of_another_model_are_refused(embedding, tmp_path):
    (tmp_path / "z.txt").write_text("1 0\n")
    with pytest.raises(DataError, match="z has 2 numbers"):
        run_decode(DecodeOptions(run_dir="r", z_csv=str(tmp_path / "z.txt")), tmp_path / "out")
    assert ids_of("3, 17").tolist() == [3, 17]


def test_a_way_round_a_ring_is_a_half_circle():
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    z = np.stack((np.cos(angle), np.sin(angle)), 1)
    path = density_path(z, (0, 190), 12)
    np.testing.assert_allclose(path[[0, -1]], z[[0, 190]], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 1, atol=0.02)
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert steps.max() < 1.05 * steps.min() and path[:, 1].min() > -0.01  # the shorter way


def test_two_islands_and_equal_latents_have_a_way_too():
    rng = np.random.default_rng(0)
    z = np.concatenate((rng.normal(size=(60, 3)), 40 + rng.normal(size=(60, 3)), np.zeros((5, 3))))
    assert np.isfinite(density_path(z, (0, 100), 5)).all()
    assert density_path(z[:2], (0, 1), 3).shape == (3, 3)
    np.testing.assert_allclose(evenly_along(np.array([[0.0, 0], [1, 0], [1, 3]]), 5),
                               [[0, 0], [1, 0], [1, 1], [1, 2], [1, 3]], atol=1e-12)
