"""Sampling compensation factor against closed forms."""
import json
import math

import numpy as np
import pytest
import torch
from vaegan_engine.cli import main
from vaegan_engine.contract import result_files
from vaegan_engine.contract.errors import DataError
from vaegan_engine.evaluation.checks import scf
from vaegan_engine.physics import view_coverage
from vaegan_engine.physics.rotations import euler_to_matrix, matrix_to_euler, random_rotations
from vaegan_engine.physics.symmetry import group_of, in_one_unit
from vaegan_engine.training import pose_watch


def uniform_views(n: int, seed: int = 0) -> np.ndarray:
    v = np.random.default_rng(seed).normal(size=(n, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def side_views(n: int) -> np.ndarray:
    angle = 2 * np.pi * (np.arange(n) + 0.5) / n
    return np.stack((np.cos(angle), np.sin(angle), 0 * angle), 1)


def cone_views(n: int, half_angle_deg: float, seed: int = 0) -> np.ndarray:
    """Uniform within a cone about z: a missing cone of 90 - half_angle about z is left in Fourier space."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(math.cos(math.radians(half_angle_deg)), 1, n)
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack((np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z), 1)


def test_uniform_views_are_complete():
    found = view_coverage.completeness(uniform_views(30_000))
    assert abs(found.scf - 1) < 0.005 and found.unsampled_frac == 0 and found.n_views == 30_000


def test_side_views_have_eight_over_pi_squared():
    """S = (2 / pi) / sin(theta), so <1 / S> = (pi / 2) <sin(theta)> = pi^2 / 8."""
    found = view_coverage.completeness(side_views(20_000), shell_px=50)
    assert found.unsampled_frac == 0
    assert abs(found.scf - 8 / math.pi**2) < 0.005


def test_side_views_are_sampled_as_one_over_sine():
    views, shell_px = side_views(20_000), 50.0
    made = view_coverage.sampling(views, shell_px, 2000)
    sine = np.sqrt(1 - view_coverage.shell_directions(2000)[:, 2] ** 2)
    away = sine > 0.2
    assert np.allclose(made[away] * sine[away], 2 / math.pi, rtol=0.02)


def test_one_direction_leaves_all_but_its_plane_empty():
    found = view_coverage.completeness(np.tile([[0.0, 0.0, 1.0]], (500, 1)), shell_px=20)
    assert found.scf == 0
    assert abs(found.unsampled_frac - (1 - 1 / 40)) < 0.002  # of the band |k_z| < 1 / 40


def test_a_missing_cone_has_its_closed_form_share():
    found = view_coverage.completeness(cone_views(30_000, 40), shell_px=40)
    assert found.scf == 0
    assert abs(found.unsampled_frac - (1 - math.cos(math.radians(50)))) < 0.02


def test_mean_sampling_does_not_depend_on_the_views():
    for views in (uniform_views(500), side_views(500), np.array([[1.0, 0, 0]]), cone_views(700, 20)):
        assert abs(view_coverage.sampling(views, 10).mean() - 1) < 0.025  # 4,000 points


def test_opposite_and_turned_views_change_nothing():
    views = cone_views(3000, 85)
    signs = np.where(np.arange(3000) % 2, 1, -1)[:, None]
    a, b = view_coverage.completeness(views), view_coverage.completeness(views * signs)
    assert a == b
    turn = euler_to_matrix(*(torch.tensor(x, dtype=torch.float64) for x in (20.0, 70.0, 130.0))).numpy()
    assert abs(view_coverage.completeness(views @ turn).scf - a.scf) < 0.01


def star_of(path, rot, tilt, psi):
    lines = ["data_", "", "loop_", "_rlnImageName #1", "_rlnAngleRot #2", "_rlnAngleTilt #3", "_rlnAnglePsi #4"]
    angles = zip(rot, tilt, psi, strict=True)
    lines += [f"{i + 1:06d}@x.mrcs {a:.6f} {b:.6f} {c:.6f}" for i, (a, b, c) in enumerate(angles)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_star_file_by_the_command(tmp_path, capsys):
    n = 3000
    star = star_of(tmp_path / "side.star", 360 * np.arange(n) / n, np.full(n, 90.0), np.arange(n) % 360)
    assert main.main(["scf", "--particles", str(star), "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / result_files.SCF_JSON).read_text())
    assert found["n_views"] == n and abs(found["scf"] - 8 / math.pi**2) < 0.02
    assert "SCF 0.8" in capsys.readouterr().out
    assert main.main(["scf", "--particles", str(star), "--shell-px", "8"]) == 0
    assert "shell of 8 voxels" in capsys.readouterr().out
    assert main.main(["scf", "--particles", str(star), "--shell-px", "0"]) == 2
    top = star_of(tmp_path / "top.star", np.zeros(50), np.zeros(50), np.arange(50))
    assert view_coverage.completeness(scf.views_of_star(top)).scf == 0


@pytest.mark.parametrize("name", ["C4", "D2", "O"])
def test_views_of_a_symmetric_map_are_all_that_show_the_same(tmp_path, name):
    """Uniform views, each brought into one unit, as states finds them."""
    turns = random_rotations(4000, torch.Generator().manual_seed(0))
    unit = turns[in_one_unit(turns, group_of(name))]
    assert view_coverage.completeness(view_coverage.views_of(unit)).scf < 0.9
    found = view_coverage.completeness(view_coverage.views_of(unit, group_of(name)))
    assert found.scf > 0.95 and found.unsampled_frac == 0
    star = star_of(tmp_path / "unit.star", *matrix_to_euler(unit.double()))
    lines = star.read_text().splitlines()
    star.write_text("\n".join([*lines[:7], "_rlnSymmetryGroup #5", *(f"{line} {name}" for line in lines[7:])]) + "\n")
    assert view_coverage.completeness(scf.views_of_star(star)).scf == pytest.approx(found.scf, abs=0.01)


def test_a_star_file_without_poses_is_refused_by_name(tmp_path):
    path = tmp_path / "none.star"
    path.write_text("data_\n\nloop_\n_rlnImageName #1\n_rlnDefocusU #2\n000001@x.mrcs 10000\n000002@x.mrcs 10000\n")
    with pytest.raises(DataError, match=r"rlnAngleRot.*Give particles with an alignment"):
        scf.views_of_star(path)
    assert main.main(["scf", "--particles", str(path)]) == DataError.exit_code


@pytest.mark.parametrize(("value", "told"), [(0.0, True), (0.499, True), (0.5, False), (1.0, False), (math.nan, True)])
def test_collapse_is_told_below_its_limit(value, told):
    assert (pose_watch.collapse_warning(value) is not None) == told


@pytest.mark.parametrize("n_views", [50, 100, 300])
def test_even_views_of_a_small_state_are_not_called_preferred(n_views):
    """At the shell that so few views fill; further out a direction is empty by chance."""
    views = uniform_views(n_views, 1)
    assert view_coverage.completeness(views).scf < 0.6
    assert view_coverage.completeness(views, n_views / view_coverage.VIEWS_PER_SHELL).scf > 0.8
