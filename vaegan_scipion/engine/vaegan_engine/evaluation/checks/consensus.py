"""``consensus``: what several runs of ``cluster`` or ``states`` on the same particles agree on.

A single training or refinement can end in a wrong number of groups, and says so only in part. Groups that come back
with other seeds can be believed, those of one run cannot. The run that agrees best with the others (largest mean
adjusted mutual information) lends its groups; those of every other run are matched to them one to one by the largest
overlap, and every particle goes where more than half of the runs put it. Particles are joined by their ids.

After Fred and Jain (IEEE PAMI 27, 835, 2005: clusterings combined by votes) and Hennig (Comput. Stat. Data Anal. 52,
258, 2007: a group's Jaccard overlap as its stability, 0.75 of a valid one).
"""
from __future__ import annotations

import os
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from ...contract import result_files, run_json
from ...contract.analysis_records import COMMON_FRAC, STABLE, ComparedRun, ConsensusGroup, ConsensusSummary, RunPair
from ...contract.errors import ConfigError, DataError
from ...contract.labels import UNASSIGNED
from ...contract.record import write_record, write_records
from ...contract.records import ClusterRow
from ...contract.setting import check_settings
from ...contract.settings import ConsensusRun
from ...contract.status import update_status
from ...data.particle_tables import read_cluster_rows, read_clusters
from ...data.run_images import row_ids_of

_UNMATCHED = -2  # a group that has no partner in the chosen run


@dataclass(frozen=True)
class Consensus:
    """Groups of the run that agrees best with the others, and what all runs say of them."""

    label: np.ndarray  # (n,) group where more than half of the runs agree, else UNASSIGNED
    share: np.ndarray  # (n,) of the runs, that agree on it
    chosen: int  # the run whose groups these are
    agreement: np.ndarray  # (r,) mean adjusted mutual information of each run with the others
    overlap: np.ndarray  # (r, c) Jaccard of each group with its partner in each run, 0 without one


def matched(reference: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``labels (n,)`` in the numbers of ``reference (n,)``, and the Jaccard overlap ``(c,)`` of each group there.

    Groups are paired one to one so that the particles in common are most; a group without a partner is
    ``_UNMATCHED``, the unassigned stay so.
    """
    from scipy.optimize import linear_sum_assignment

    n_groups, n_own = int(reference.max()) + 1, int(labels.max()) + 1
    overlap, renamed = np.zeros(n_groups), np.full(n_own + 1, _UNMATCHED)
    renamed[UNASSIGNED] = UNASSIGNED  # the last place
    common = np.zeros((n_groups, n_own), np.int64)
    both = (reference != UNASSIGNED) & (labels != UNASSIGNED)
    np.add.at(common, (reference[both], labels[both]), 1)
    for group, own in zip(*linear_sum_assignment(-common), strict=True):
        if common[group, own]:
            renamed[own] = group
            overlap[group] = common[group, own] / ((reference == group) | (labels == own)).sum()
    return renamed[labels], overlap


def agree(labels: np.ndarray) -> Consensus:
    """What the rows of ``labels (r, n)``, UNASSIGNED = in no group, have in common."""
    from sklearn.metrics import adjusted_mutual_info_score

    r = len(labels)
    ami = np.array([[adjusted_mutual_info_score(a, b) for b in labels] for a in labels])
    agreement = (ami.sum(1) - ami.diagonal()) / (r - 1)
    chosen = int(agreement.argmax())
    renamed, overlap = zip(*(matched(labels[chosen], row) for row in labels), strict=True)
    votes = np.stack(renamed)
    label, share = np.full(labels.shape[1], UNASSIGNED), np.zeros(labels.shape[1])
    for group in range(int(labels[chosen].max()) + 1):
        here = (votes == group).mean(0)
        label[here > 0.5] = group
        share = np.maximum(share, here)
    return Consensus(label, share, chosen, agreement, np.stack(overlap))


def verdict(groups: list[ConsensusGroup], counts: list[int], undecided: float) -> str:
    """One sentence, from the numbers alone."""
    stable = sum(group.stability >= STABLE for group in groups)
    text = "no group" if not groups else "one group" if len(groups) == 1 else f"{len(groups)} groups"
    if groups:
        text += ", stable" if stable == len(groups) else f", of which {len(groups) - stable} unstable"
    text += (f" (the runs found {', '.join(str(count) for count in counts)})")
    return text + (f"; {100 * undecided:.1f} % of the particles are in no group of most runs" if undecided else "")


def read_labels(folders: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ids ``(n,)`` of the particles that all runs have, and their labels ``(r, n)``. Raises DataError."""
    tables = [read_clusters(folder) for folder in folders]
    of_stars = {row_ids_of(folder) or "": folder for folder in folders}
    if len(of_stars) > 1:
        raise DataError(f"{' and '.join(list(of_stars.values())[:2])}: their particle ids are not those of one star "
                        "file (row numbers of a file that changed, or of two files).",
                        "Give runs on the same particles.")
    common = tables[0].particle_id
    for table in tables[1:]:
        common = np.intersect1d(common, table.particle_id)
    for folder, table in zip(folders, tables, strict=True):
        if len(common) < COMMON_FRAC * len(table.particle_id):
            raise DataError(f"{folder}: {len(common)} of its {len(table.particle_id)} particles are in all runs.",
                            "Give runs on the same particles.")
    rows = []
    for table in tables:
        order = np.argsort(table.particle_id)
        rows.append(table.label[order[np.searchsorted(table.particle_id, common, sorter=order)]])
    return common, np.stack(rows)


def moved(row: ClusterRow, source: Path, out_dir: Path) -> ClusterRow:
    """A row of the folder ``source`` with its files named from ``out_dir``."""
    def there(files: list[str]) -> list[str]:
        return [os.path.relpath((source / file).resolve(), out_dir.resolve()) for file in files]

    state = row.state and replace(row.state, files=there(row.state.files), motion_files=there(row.state.motion_files))
    return replace(row, file=there([row.file])[0], state=state)


def pairs_of(labels: np.ndarray) -> list[RunPair]:
    """How far every two rows of ``labels (r, n)`` agree; what either leaves in no group is left out.

    0 where no particle is in a group of both.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    made = []
    for a, b in combinations(range(len(labels)), 2):
        both = (labels[[a, b]] != UNASSIGNED).all(0)
        scores = [float(score(labels[a, both], labels[b, both])) if both.any() else 0.0
                  for score in (adjusted_rand_score, normalized_mutual_info_score)]
        made.append(RunPair([a, b], int(both.sum()), *scores))
    return made


def run_consensus(options: ConsensusRun, out_dir: Path) -> ConsensusSummary:
    """Write ``clusters.csv``, ``clusters.json`` and ``consensus.json``; returns what the last holds.

    ``clusters.json`` names the maps of the run that agrees best with the others. Raises ConfigError or DataError.
    """
    check_settings(options)
    folders, out_dir = list(options.clusters), Path(out_dir)
    if len(folders) < 2 or len({os.path.realpath(folder) for folder in folders}) < len(folders):
        raise ConfigError(f"{len(folders)} folders are given, or one of them twice.",
                          "Give the folders of at least two runs, made with different seeds.")
    ids, labels = read_labels(folders)
    agreed = agree(labels)
    source = Path(folders[agreed.chosen])
    old = {row.label: row for row in read_cluster_rows(source)}
    groups, rows = [], []
    for c in range(agreed.overlap.shape[1]):
        others = np.delete(agreed.overlap[:, c], agreed.chosen)
        n_here = int((agreed.label == c).sum())
        groups.append(ConsensusGroup(c, n_here, float(others.mean()), 1 + int((others >= STABLE).sum()),
                                     agreed.overlap[:, c].tolist()))
        if c in old:
            rows.append(replace(moved(old[c], source, out_dir), n_particles=n_here, fraction=n_here / len(ids)))
    counts = [int(row.max()) + 1 for row in labels]
    undecided = float((agreed.label == UNASSIGNED).mean())
    runs = [ComparedRun(str(folder), count, float(value))
            for folder, count, value in zip(folders, counts, agreed.agreement, strict=True)]
    summary = ConsensusSummary(verdict(groups, counts, undecided), str(source), groups, undecided, runs,
                               pairs_of(labels), float((agreed.share == 1).mean()))
    run_json.write_run(options, out_dir / result_files.RUN_JSON)
    result_files.write_csv(out_dir / result_files.CLUSTERS_CSV, ["particle_id", "label", "probability"],
                           [list(row) for row in zip(ids.tolist(), agreed.label.tolist(), agreed.share.tolist(),
                                                     strict=True)])
    write_records(out_dir / result_files.CLUSTERS_JSON, rows)
    write_record(out_dir / result_files.CONSENSUS_JSON, summary)
    update_status(out_dir, state="finished", command=options.command, stage="finished", error=None,
                  n_particles=len(ids), verdict=summary.verdict)
    print(f"verdict: {summary.verdict}")
    for pair in summary.pairs:
        print(f"runs {pair.runs[0] + 1} and {pair.runs[1] + 1}: ARI {pair.ari:.2f}, NMI {pair.nmi:.2f}")
    for group in groups:
        print(f"group {group.label + 1}: {group.n_particles} particles, found in {group.found_in} of "
              f"{len(folders)} runs, overlap {group.stability:.2f}", flush=True)
    return summary
