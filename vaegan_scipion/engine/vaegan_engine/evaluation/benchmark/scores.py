"""How a task of the scoreboard is scored against its truth."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...contract import result_files
from ...contract.records import ClaimedFigures
from ...contract.settings import ComputeConfig, EvaluateRun
from ...data.mrc_files import read_map
from ...data.particle_tables import read_cluster_rows, read_clusters
from ...physics.map_comparison import compare
from ...simulation.simulate import TRUTH_CSV
from ..truth.claimed_fsc import ClaimedFsc
from ..truth.evaluate import run_evaluate
from ..truth.reference_maps import read_references
from .tasks import Task

COLUMNS = ("task", "seed", "images", "snr", "states", "found", "nmi", "ami", "pose_error_deg", "resolution_0.5_ang",
           "nyquist_frac_0.5", "fsc_auc", "claimed_excess", "spearman", "junk_recall", "junk_precision", "minutes",
           "verdict")


def true_maps(task: Task, data: Path, out: Path) -> tuple[Path, ...]:
    """The maps that a task's images in ``out`` are made of, as often as they are named; () where they are noise."""
    if task.assembly:
        return task.assembly.files(out)
    return (out / "ball.mrc",) if task.ball else tuple(data / path for path in task.maps)


def true_table(truth_csv: Path) -> dict[int, dict[str, str]]:
    """Rows of ``truth.csv`` by particle id."""
    return {int(row["id"]): row for row in result_files.read_csv(truth_csv)}


def groups(task: Task, data: Path) -> dict[str, str]:
    """Group of every map by its file's name; {} where each map is a state of its own."""
    if not task.groups_csv:
        return {}
    return {row["map"]: row["group"] for row in result_files.read_csv(data / task.groups_csv)}


def label_scores(folder: Path, truth_csv: Path, group_of: dict[str, str] | None = None) -> dict[str, float]:
    """NMI and AMI of ``clusters.csv`` against the names of the maps, or of their groups.

    Junk is left out and has its own figures.
    """
    from ...stats.label_agreement import agreement
    from ..truth.evaluate import junk_scores

    truth, clusters = true_table(truth_csv), read_clusters(folder)
    of = {name: (group_of or {}).get(Path(name).name, name) for name in {row["map_file"] for row in truth.values()}}
    names = sorted(set(of.values()))
    state = np.array([names.index(of[truth[int(i)]["map_file"]]) for i in clusters.particle_id])
    of_junk = junk_scores(clusters.label, state, names)
    if not of_junk:
        return agreement(clusters.label, state)
    return {name.replace("_particles", ""): value for name, value in of_junk.items()}


def scores(task: Task, data: Path, out: Path, where: ComputeConfig) -> dict[str, float]:
    """Labels, poses and maps against the truth; maps and poses of pure noise have none.

    ``pose_error_deg``: the largest of the states' medians; resolutions: the worst map, at FSC 0.5; ``fsc_auc``: see
    ``image_fsc_auc``; ``claimed_excess``: what half maps claim beyond what they deserve (``claimed_fsc``), the largest
    over shells and states; ``spearman``: of the place along the motion with the frame, in the largest state (0 where no
    motion was found); ``hands``: 1 where all maps are of one hand, whichever. Poses and maps are compared modulo the
    task's symmetry.
    """
    truth_csv = out / "data" / TRUTH_CSV
    by_name = label_scores(out / "states", truth_csv, groups(task, data))
    values: dict[str, float] = {name: value for name, value in by_name.items() if name in COLUMNS}
    maps = tuple(dict.fromkeys(map(str, true_maps(task, data, out / "data"))))
    if not maps:
        return values | claims_of_noise(out / "states")
    if task.ordered:
        values["spearman"] = frame_correlation(out / "states", truth_csv)
    request = EvaluateRun(clusters_dir=str(out / "states"), truth_csv=str(truth_csv), maps=maps,
                          symmetry=task.symmetry, compute=where)
    evaluation = run_evaluate(request, out / "evaluation")
    values["pose_error_deg"] = max(error.median_deg for error in evaluation.pose_errors)
    rows = evaluation.maps
    if rows:
        worst = max((row.compared for row in rows), key=lambda compared: compared.resolution_05_ang)
        values |= {"resolution_0.5_ang": worst.resolution_05_ang, "nyquist_frac_0.5": worst.nyquist_frac_05,
                   "hands": len({row.mirrored for row in rows})}
        aligned = {row.label: read_map(out / "evaluation" / row.aligned_file) for row in rows}
        values["fsc_auc"] = image_fsc_auc(out / "states", aligned, maps, truth_csv)
        values |= largest_claims([row.claim for row in rows])
    return values


def claims_of_noise(folder: Path) -> dict[str, float]:
    """What the half maps of images without a particle claim: all of it is an excess."""
    states = [row.of_state for row in read_cluster_rows(folder)]
    return largest_claims([ClaimedFsc(np.array(state.halves.fsc), np.zeros(len(state.halves.fsc)),
                                      state.proof.shared_shell).figures() for state in states])


def largest_claims(claims: Sequence[ClaimedFigures | None]) -> dict[str, float]:
    """The largest excess of any state, over the shells that are claimed and over all; {} where a state claims none."""
    known = [claim for claim in claims if claim is not None]
    if len(known) < len(claims):
        return {}
    return {"claimed_excess": max(claim.claimed_excess for claim in known),
            "claimed_excess_all_shells": max(claim.claimed_excess_all_shells for claim in known)}


def image_fsc_auc(folder: Path, aligned: dict[int, tuple[np.ndarray, float]], maps: tuple[str, ...], truth_csv: Path
                  ) -> float:
    """Mean over the images of the area under the FSC of their state's map with the map they were made from.

    The area is the mean over the shells from 1 to Nyquist. The maps lie in one frame, to which ``evaluate`` has
    aligned each state's map: ``aligned`` by label, with its voxel size. Junk, and images of no state, are left out.
    """
    first, voxel_size_ang = next(iter(aligned.values()))
    true = {Path(reference.name).name: reference.map
            for reference in read_references(list(maps), truth_csv, len(first), voxel_size_ang)}
    truth, clusters = true_table(truth_csv), read_clusters(folder)
    pairs = [(int(label), Path(truth[int(i)]["map_file"]).name)
             for i, label in zip(clusters.particle_id, clusters.label, strict=True)]
    pairs = [pair for pair in pairs if pair[0] in aligned and pair[1] in true]
    area = {pair: float(np.mean(compare(aligned[pair[0]][0], true[pair[1]], voxel_size_ang).fsc[1:]))
            for pair in set(pairs)}
    return float(np.mean([area[pair] for pair in pairs]))


def frame_correlation(folder: Path, truth_csv: Path) -> float:
    """Rank correlation, without sign, of the place along the motion and the frame, in the largest state."""
    from scipy.stats import spearmanr

    truth = true_table(truth_csv)
    rows = [
        row
        for row in result_files.read_csv(folder / result_files.PARTICLES_CSV)
        if row["label"] == "0" and row["motion"]
    ]
    if not rows:
        return 0.0
    frames = [int(truth[int(row["particle_id"])]["map"]) for row in rows]
    return abs(float(spearmanr([float(row["motion"]) for row in rows], frames)[0]))
