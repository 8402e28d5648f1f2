"""Consensus of several clusterings: votes by hand, one wrong run among three, other numbers, noise, other particles."""
from __future__ import annotations

import numpy as np
import pytest
from made_records import state_row
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score
from vaegan_engine.cli import main
from vaegan_engine.contract import result_files
from vaegan_engine.contract.analysis_records import ConsensusSummary
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.labels import UNASSIGNED
from vaegan_engine.contract.record import read_record, write_records
from vaegan_engine.contract.settings import ComputeConfig, ConsensusRun, EvaluateRun
from vaegan_engine.data.particle_tables import read_clusters
from vaegan_engine.evaluation.checks.consensus import agree, matched, pairs_of, run_consensus
from vaegan_engine.evaluation.truth.evaluate import run_evaluate

TRUTH = np.repeat([0, 1, 2], 100)


def write(folder, labels, ids=None):
    ids = np.arange(len(labels)) + 1 if ids is None else ids
    result_files.write_csv(folder / result_files.CLUSTERS_CSV, ["particle_id", "label", "probability"],
                      [[int(i), int(label), 1.0] for i, label in zip(ids, labels, strict=True)])
    rows = [state_row(c, int((labels == c).sum()), 0.1, motion_files=["m.mrc"]) for c in range(int(labels.max()) + 1)]
    write_records(folder / result_files.CLUSTERS_JSON, rows)
    return str(folder)


def test_groups_are_matched_whatever_their_numbers():
    other = np.array([2, 0, 1])[TRUTH]
    other[:10] = UNASSIGNED
    renamed, overlap = matched(TRUTH, other)
    assert np.array_equal(renamed[10:], TRUTH[10:]) and (renamed[:10] == UNASSIGNED).all()
    assert overlap == pytest.approx([0.9, 1.0, 1.0])


def test_a_group_without_a_partner_votes_for_none():
    split = TRUTH.copy()
    split[60:100] = 3  # the first group in two: 60 and 40
    renamed, overlap = matched(TRUTH, split)
    assert (renamed[:60] == 0).all() and not np.isin(renamed[60:100], (0, 1, 2, UNASSIGNED)).any()
    assert overlap == pytest.approx([0.6, 1.0, 1.0])
    assert matched(TRUTH, np.full(300, UNASSIGNED))[1] == pytest.approx([0, 0, 0])


def test_how_far_two_runs_agree():
    """By scikit-learn's scores of the particles that both put in a group; 1 whatever the groups' numbers."""
    other = np.array([2, 0, 1])[TRUTH]
    other[:50] = UNASSIGNED
    mixed = TRUTH.copy()
    mixed[::4] = 0
    none = np.full(300, UNASSIGNED)
    same, mix, *_, empty = pairs_of(np.stack([TRUTH, other, mixed, none]))
    assert (same.runs, same.n_particles, same.ari, same.nmi) == ([0, 1], 250, 1.0, 1.0)
    assert mix.runs == [0, 2] and mix.ari == pytest.approx(adjusted_rand_score(TRUTH, mixed))
    assert mix.nmi == pytest.approx(normalized_mutual_info_score(TRUTH, mixed))
    assert (empty.runs, empty.n_particles, empty.ari) == ([2, 3], 0, 0.0)


def test_two_good_runs_outvote_a_bad_one():
    rng = np.random.default_rng(0)
    first, second = TRUTH.copy(), np.array([1, 2, 0])[TRUTH]
    first[rng.choice(300, 15, replace=False)] = 0
    bad = rng.integers(0, 2, 300)
    for order in ([first, second, bad], [bad, first, second]):
        found = agree(np.stack(order))
        assert found.overlap.shape == (3, 3) and not np.array_equal(order[found.chosen], bad)
        sure = found.label != UNASSIGNED
        assert sure.mean() > 0.95
        assert adjusted_mutual_info_score(found.label[sure], TRUTH[sure]) > 0.9  # the bad run alone: below 0.1
        assert adjusted_mutual_info_score(bad, TRUTH) < 0.1
        assert set(np.round(found.share, 6)) <= {round(k / 3, 6) for k in range(4)}
        assert found.agreement.argmin() == [row is bad for row in order].index(True)


def test_files_and_verdict(tmp_path):
    off = TRUTH.copy()
    off[:5] = 1
    folders = [write(tmp_path / "a", TRUTH), write(tmp_path / "b", off),
               write(tmp_path / "c", TRUTH[::-1], np.arange(300, 0, -1))]  # another order of the rows
    made = run_consensus(ConsensusRun(clusters=tuple(folders)), tmp_path / "out")
    assert made == read_record(ConsensusSummary, tmp_path / "out" / result_files.CONSENSUS_JSON, "consensus")
    assert made.verdict == "3 groups, stable (the runs found 3, 3, 3)"
    assert [group.found_in for group in made.groups] == [3, 3, 3]
    clusters = read_clusters(tmp_path / "out")
    assert np.array_equal(np.unique(clusters.label, return_counts=True)[1], [100, 100, 100])
    assert clusters.probability.min() == pytest.approx(2 / 3)
    row = result_files.read_json(tmp_path / "out" / result_files.CLUSTERS_JSON)[0]
    for file, name in ((row["file"], "maps/cluster_00.mrc"), (row["files"][1], "maps/cluster_00_half2.mrc"),
                       (row["motion_files"][0], "m.mrc")):
        assert (tmp_path / "out" / file).resolve() == (tmp_path / made.chosen / name).resolve()
    result_files.write_csv(tmp_path / "truth.csv", ["id", "label"], [[i + 1, int(x)] for i, x in enumerate(TRUTH)])
    for row in result_files.read_json(tmp_path / "out" / result_files.CLUSTERS_JSON):
        assert row["n_particles"] == 100
    result_files.write_json(tmp_path / "out" / result_files.CLUSTERS_JSON, [])  # no maps were made here
    request = EvaluateRun(clusters_dir=str(tmp_path / "out"), truth_csv=str(tmp_path / "truth.csv"),
                          compute=ComputeConfig(device="cpu", threads=1))
    assert run_evaluate(request, tmp_path / "eva").labels.nmi == pytest.approx(1.0)


def test_runs_that_disagree_are_called_unstable(tmp_path):
    rng = np.random.default_rng(1)
    folders = [write(tmp_path / str(k), rng.integers(0, 3, 300)) for k in range(3)]
    made = run_consensus(ConsensusRun(clusters=tuple(folders)), tmp_path / "out")
    assert "3 unstable" in made.verdict and made.undecided_frac > 0.1
    assert max(group.stability for group in made.groups) < 0.5


def test_what_cannot_be_compared_is_refused(tmp_path, capsys):
    one = write(tmp_path / "one", TRUTH)
    other = write(tmp_path / "other", TRUTH, np.arange(1000, 1300))
    for folders in ([one], [one, one]):
        with pytest.raises(ConfigError, match="different seeds"):
            run_consensus(ConsensusRun(clusters=tuple(folders)), tmp_path / "out")
    with pytest.raises(DataError, match="0 of its 300 particles are in all runs"):
        run_consensus(ConsensusRun(clusters=(one, other)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    again = write(tmp_path / "again", TRUTH)
    assert main.main(["consensus", "--clusters", one, again, "--out", str(tmp_path / "out")]) == 0
    assert "group 3: 100 particles, found in 2 of 2 runs, overlap 1.00" in capsys.readouterr().out


def test_maps_are_found_from_a_folder_behind_a_link(tmp_path):
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "deep")
    folders = tuple(write(tmp_path / name, TRUTH) for name in "ab")
    made = run_consensus(ConsensusRun(clusters=folders), tmp_path / "out" / "con")
    row = result_files.read_json(tmp_path / "out" / "con" / result_files.CLUSTERS_JSON)[0]
    there = (tmp_path / "out" / "con" / row["file"]).resolve()
    assert there == (tmp_path / made.chosen / "maps" / "cluster_00.mrc").resolve()
