"""Figures of a map of real particles: correlations with itself under a group, with the model, views at the poles."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from made_records import states_summary
from refine_particles import blobs
from scipy.spatial.transform import Rotation
from vaegan_engine.contract import result_files
from vaegan_engine.contract.errors import ConfigError
from vaegan_engine.data.mrc_files import write_map
from vaegan_engine.evaluation.benchmark import real_sets
from vaegan_engine.evaluation.benchmark.benchmark import BenchmarkOptions, run_benchmark
from vaegan_engine.evaluation.benchmark.real_sets import RealSet, map_figures, pole_share, turned_correlations
from vaegan_engine.physics.map_alignment import move_map
from vaegan_engine.physics.rotations import matrix_to_euler, random_rotations
from vaegan_engine.physics.symmetry import group_of

VOXEL_ANG = 3.0
SET = RealSet("set/particles.star", "set/model.mrc", "O", (6.0, 30.0), {"box_px": 24}, {"n_maps": 1})


def of_group(map_: np.ndarray, name: str) -> np.ndarray:
    """A map averaged over a group, turn by turn."""
    return np.mean([move_map(map_, turn, np.zeros(3)) for turn in group_of(name).numpy()], axis=0)


@pytest.mark.parametrize("box_px", [24, 25])
def test_a_map_of_the_group_is_like_itself_turned_by_it(box_px):
    map_ = blobs(3, box_px).numpy()
    own, control = turned_correlations(of_group(map_, "O"), VOXEL_ANG, SET)
    assert own > 0.9 and abs(control) < 0.3
    plain, _ = turned_correlations(map_, VOXEL_ANG, SET)
    assert abs(plain) < 0.3


def test_a_smooth_shell_passes_for_no_symmetry():
    """It is like itself at any rotation; without what is alike in all directions noise is left."""
    r = real_sets.distances(24)
    shell = np.exp(-0.5 * ((r - 7) / 1.5) ** 2) + 0.02 * np.random.default_rng(0).standard_normal(r.shape)
    own, control = turned_correlations(shell.astype(np.float32), VOXEL_ANG, SET)
    assert abs(own - control) < 0.15


@pytest.mark.slow
def test_figures_against_the_model():
    """The model itself in another frame and hand, and another map."""
    model = of_group(blobs(3).numpy(), "O").astype(np.float32)
    turn = Rotation.from_euler("ZYZ", [30, 40, 50], degrees=True).as_matrix().astype(np.float32)
    right = map_figures(move_map(model, turn, np.array([1.0, 0, -1]), mirrored=True), model, VOXEL_ANG, SET)
    assert right["model_correlation"] > 0.9 and right["self_correlation"] > 0.8
    assert right["resolution_0.143_ang"] <= 7.0
    wrong = map_figures(blobs(5).numpy(), model, VOXEL_ANG, SET)
    assert wrong["model_correlation"] < 0.6 and wrong["resolution_0.143_ang"] > right["resolution_0.143_ang"]


@pytest.mark.parametrize(("tilt", "share"), [("even", 1.0), ("poles", 1 / (1 - np.cos(np.radians(20))))])
def test_views_at_the_poles(tmp_path, tilt, share):
    cosine = np.linspace(-1, 1, 2001) if tilt == "even" else np.sign(np.linspace(-1, 1, 2000))
    result_files.write_csv(tmp_path / result_files.PARTICLES_CSV, ["particle_id", "label", "rot_deg", "tilt_deg"],
                           [[i, 0, 10, t] for i, t in enumerate(np.degrees(np.arccos(cosine)))] + [[9999, -1, 0, 0.0]])
    assert pole_share(tmp_path) == pytest.approx(share, rel=0.02)


def test_even_views_in_one_unit_of_a_symmetry_are_even(tmp_path):
    """What a search with symmetry leaves: one of all copies of each view, here never near a pole."""
    views, group = random_rotations(4000, torch.Generator().manual_seed(0)), group_of("O")
    copies = views[:, None] @ group
    lowest = copies[:, :, 2, 2].abs().argmin(1)
    rot, tilt, _ = matrix_to_euler(copies[torch.arange(4000), lowest])
    result_files.write_csv(tmp_path / result_files.PARTICLES_CSV, ["particle_id", "label", "rot_deg", "tilt_deg"],
                           [[i, 0, float(r), float(t)] for i, (r, t) in enumerate(zip(rot, tilt, strict=True))])
    assert pole_share(tmp_path) < 0.1
    assert pole_share(tmp_path, "O") == pytest.approx(1, rel=0.1)


@pytest.mark.slow
def test_the_set_is_run_once_and_missing_particles_are_said(tmp_path, monkeypatch, capsys):
    def run(real=SET):
        return run_benchmark(options, tmp_path / "out", {}, {"shell": real})

    options = BenchmarkOptions(data_dir=str(tmp_path), seeds=(0,), rows_dir=str(tmp_path / "rows"))
    assert run() == []
    assert "shell: skipped, there is no" in capsys.readouterr().out
    model = of_group(blobs(3).numpy(), "O").astype(np.float32)
    write_map(tmp_path / "set" / "model.mrc", model, VOXEL_ANG)
    (tmp_path / "set" / "particles.star").write_text("")
    asked = []

    def run_states(run, out):
        asked.append(run)
        write_map(out / result_files.MAPS / "cluster_00.mrc", model, VOXEL_ANG)
        rows = [[1, 0, 1.0], [2, 0, 1.0], [3, -1, 1.0]]
        result_files.write_csv(out / result_files.CLUSTERS_CSV, ["particle_id", "label", "probability"], rows)
        result_files.write_csv(out / result_files.PARTICLES_CSV, ["particle_id", "label", "rot_deg", "tilt_deg"],
                               [[i, label, 0.0, 40.0] for i, label, _ in rows])
        return states_summary(states=1, verdict="one state")

    monkeypatch.setattr("vaegan_engine.refine.refine.run_states", run_states)
    (row,) = run()
    assert row.figures["found"] == 1 and row.images == 3 and row.figures["self_correlation"] > 0.9
    assert asked[0].data.box_px == 24 and asked[0].n_maps == 1
    (written,) = (tmp_path / "rows").glob("*.json")
    figures = result_files.read_json(written)["figures"]
    assert figures["states"] == 1 and figures["resolution_0.143_ang"] == row.figures["resolution_0.143_ang"]
    assert run()[0].figures == row.figures and len(asked) == 1
    with pytest.raises(ConfigError, match="other settings"):
        run(RealSet(SET.star, SET.model, "O", (5.0, 30.0)))
