"""Claimed against deserved FSC: halves of a known ratio of signal to noise, halves with noise in common, pure noise."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_records import comparison, proof, state_row
from refine_particles import PIXEL_SIZE_ANG, blobs
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.record import write_records
from vaegan_engine.contract.settings import ComputeConfig, DataConfig, StatesRun
from vaegan_engine.data.mrc_files import read_map, write_map
from vaegan_engine.evaluation.benchmark.benchmark import simulated
from vaegan_engine.evaluation.benchmark.scores import claims_of_noise, true_maps
from vaegan_engine.evaluation.benchmark.tasks import TASKS
from vaegan_engine.evaluation.truth.claimed_fsc import ClaimedFsc, deserved_fsc
from vaegan_engine.evaluation.truth.evaluate import claim_of_halves
from vaegan_engine.physics.fsc import fourier_shell_correlation, soft_sphere_mask
from vaegan_engine.physics.map_alignment import AlignedMap, move_map
from vaegan_engine.physics.masked_fsc import mask_of_map
from vaegan_engine.simulation.simulate import TRUTH_CSV


def white(rng: np.random.Generator, box_px: int) -> np.ndarray:
    return rng.standard_normal((box_px,) * 3)


@pytest.mark.parametrize("box_px", [31, 32])
def test_halves_of_independent_noise_claim_what_they_deserve(box_px):
    """FSC = r / (1 + r) and the squared FSC with the truth are the same number: 0.8 at r = 4."""
    rng = np.random.default_rng(0)
    truth, whole = white(rng, box_px), np.ones((box_px,) * 3)
    halves = truth + 0.5 * white(rng, box_px), truth + 0.5 * white(rng, box_px)
    deserved = deserved_fsc(halves, truth, whole)
    np.testing.assert_allclose(deserved[4:], 0.8, atol=0.06)
    assert ClaimedFsc(fourier_shell_correlation(*halves)[4:], deserved[4:]).excess < 0.05


def test_noise_in_common_is_an_excess_and_what_is_not_claimed_is_none():
    rng = np.random.default_rng(1)
    box_px = 32
    truth, common, whole = white(rng, box_px), 2 * white(rng, box_px), np.ones((box_px,) * 3)
    halves = truth + common, truth + common
    found = ClaimedFsc(fourier_shell_correlation(*halves)[4:], deserved_fsc(halves, truth, whole)[4:])
    assert found.excess == pytest.approx(0.8, abs=0.1)  # 1 is claimed, 1 / (1 + 4) deserved
    assert found.excess_all_shells == found.excess
    nothing = ClaimedFsc(found.claimed, found.deserved, box_px // 2)
    assert nothing.excess == 0.0 and nothing.excess_all_shells == found.excess_all_shells


def test_pure_noise_deserves_nothing_and_anti_correlation_neither():
    rng = np.random.default_rng(2)
    half, whole = white(rng, 16), np.ones((16,) * 3)
    assert deserved_fsc((half, half), None, whole).tolist() == [0.0] * 9
    np.testing.assert_array_equal(deserved_fsc((half, half), -half, whole), 0.0)


def test_evaluate_moves_the_half_maps_as_it_moved_the_map(tmp_path):
    """A map and its halves, all turned by 90 degrees, against the map as it was: what they claim is deserved."""
    rng = np.random.default_rng(3)
    truth = blobs(4).numpy()
    halves = [truth + 0.3 * truth.std() * white(rng, len(truth)) for _ in range(2)]
    raw = fourier_shell_correlation(*halves)
    claimed = comparison(fourier_shell_correlation(*(np.stack(halves) * mask_of_map(truth, raw))).tolist())
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], float)
    for name, array in zip("ab", halves, strict=True):
        write_map(tmp_path / f"{name}.mrc", move_map(array, turn.T, np.zeros(3)), PIXEL_SIZE_ANG)
    aligned = AlignedMap(truth, turn, np.zeros(3), np.zeros(3), False, 1.0)
    row = state_row(0, 10, 1.0, claimed, proof(0, fsc_raw=raw.tolist()), files=["a.mrc", "b.mrc"])
    claim = claim_of_halves(row, tmp_path, aligned, truth)
    assert claim.claimed_excess < 0.1 and min(claim.deserved_fsc[1:4]) > 0.9
    wrong = claim_of_halves(row, tmp_path, aligned._replace(rotation=np.eye(3)), truth)
    assert wrong.claimed_excess > 0.5
    assert claim_of_halves(state_row(0, 10, 1.0, claimed, files=[]), tmp_path, aligned, truth) is None


@pytest.mark.parametrize("of_states", [True, False])
def test_halves_are_held_to_the_truth_in_the_mask_of_their_own_fsc(tmp_path, of_states):
    """One that was given: a small sphere, in which halves agree better than in one that is made of the map."""
    rng = np.random.default_rng(3)
    truth = blobs(4).numpy()
    halves = [truth + 0.5 * truth.std() * white(rng, len(truth)) for _ in range(2)]
    for name, array in zip("ab", halves, strict=True):
        write_map(tmp_path / f"{name}.mrc", array, PIXEL_SIZE_ANG)
    mask = soft_sphere_mask(len(truth), 4.0, 3.0)
    if of_states:
        write_map(tmp_path / "mask.mrc", mask, PIXEL_SIZE_ANG)
        run = StatesRun(mask=str(tmp_path / "mask.mrc"), data=DataConfig(particles="p.star", input_poses=True))
        run_json.write_run(run, tmp_path / "run.json")
    else:
        write_map(tmp_path / "maps" / "cluster_00_mask.mrc", mask, PIXEL_SIZE_ANG)
    raw, claimed = fourier_shell_correlation(*halves), fourier_shell_correlation(*(np.stack(halves) * mask))
    row = replace(state_row(0, 10, 1.0, replace(comparison(claimed.tolist()), box_px=len(truth)),
                            proof(0, fsc_raw=raw.tolist()), files=["a.mrc", "b.mrc"]), file="maps/cluster_00.mrc")
    row = replace(row, state=replace(row.of_state, voxel_size_ang=PIXEL_SIZE_ANG))
    claim = claim_of_halves(row, tmp_path, AlignedMap(truth, np.eye(3), np.zeros(3), np.zeros(3), False, 1.0), truth)
    np.testing.assert_allclose(claim.deserved_fsc, deserved_fsc(tuple(halves), truth, mask), atol=0.06)


def test_all_that_halves_of_noise_claim_is_an_excess(tmp_path):
    rows = [state_row(0, 10, 0.5, comparison([1.0, 0.7, 0.2]), proof(0)),
            state_row(1, 10, 0.5, comparison([1.0, 0.9, -0.1]), proof(1))]
    write_records(tmp_path / result_files.CLUSTERS_JSON, rows)
    assert claims_of_noise(tmp_path) == {"claimed_excess": 0.7, "claimed_excess_all_shells": 0.9}


def test_the_ball_of_the_null_is_a_ball(tmp_path):
    """Its images are made of a map that is the same in every direction."""
    task = replace(TASKS["null-blob"], per_map=60, box_px=24)
    simulated(task, tmp_path, tmp_path / "data", ComputeConfig(device="cpu", threads=1))
    ball, _ = read_map(true_maps(task, tmp_path, tmp_path / "data")[0])
    inner = ball[1:, 1:, 1:]  # an even box has one plane more on one side
    np.testing.assert_allclose(inner, inner.transpose(1, 2, 0))
    np.testing.assert_allclose(inner, inner[::-1, :, :])
    assert {row["map_file"] for row in result_files.read_csv(tmp_path / "data" / TRUTH_CSV)} == {"ball.mrc"}
