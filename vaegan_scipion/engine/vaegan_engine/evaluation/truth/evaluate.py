"""``evaluate``: clusters and maps against the truth, with the supervised ceiling beside them."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...contract import result_files, run_json
from ...contract.errors import DataError
from ...contract.labels import CLUSTERS, GROUPS, UNASSIGNED, Naming
from ...contract.map_records import PoseError
from ...contract.record import write_record
from ...contract.records import (
    CeilingScores,
    ClaimedFigures,
    ClusterRow,
    Evaluation,
    LabelScores,
    MapComparison,
    MapEvaluation,
)
from ...contract.setting import check_settings
from ...contract.settings import EvaluateRun, StatesRun
from ...contract.status import update_status
from ...data.given_mask import MaskBox, read_mask
from ...data.mrc_files import read_map, write_map
from ...data.particle_tables import (
    JUNK,
    Truth,
    doubt_of,
    groups_in,
    read_cluster_rows,
    read_clusters,
    read_truth,
    rows_of,
)
from ...physics.map_alignment import AlignedMap, align_map, likest_copy, move_map
from ...physics.map_comparison import compare
from ...physics.masked_fsc import mask_of_map
from ...physics.symmetry import group_of
from ...runtime import compute
from ...stats.label_agreement import agreement, clustering_scores, contingency
from .claimed_fsc import ClaimedFsc, deserved_fsc
from .pose_scores import pose_errors
from .reference_maps import Reference, read_references, references_of_states


def run_evaluate(run: EvaluateRun, out_dir: Path | None) -> Evaluation:
    """Compare and write ``evaluation.json`` into ``out_dir`` (None: the clusters' folder); returns what it holds.

    A folder of its own ends with a ``status.json``; that of the clusters keeps theirs. Raises DataError.
    """
    check_settings(run)
    compute.prepare_device(run.compute)
    own_folder = out_dir is not None and Path(out_dir).resolve() != Path(run.clusters_dir).resolve()
    out_dir = Path(run.clusters_dir if out_dir is None else out_dir)
    if not (run.truth_csv or run.maps):
        raise DataError("truth_csv and maps are both empty: there is nothing to compare with.",
                        "Give labels, reference maps or both.")
    if run.ceiling_json and not run.truth_csv:
        raise DataError(f"{run.ceiling_json}: a ceiling is of use beside labels alone.", "Give the labels too.")
    labels = evaluate_labels(run, read_truth(run.truth_csv)) if run.truth_csv else None
    errors = pose_errors(Path(run.clusters_dir), Path(run.truth_csv), group_of(run.symmetry)) if run.truth_csv else {}
    evaluation = Evaluation(evaluate_maps(run, labels, out_dir), labels,
                            pose_errors=[PoseError(label, error) for label, error in errors.items()],
                            groups=groups_in(run.clusters_dir), doubt=doubt_of(run.clusters_dir))
    if run.ceiling_json and labels is not None:
        ceiling = read_ceiling(run.ceiling_json)
        evaluation = replace(evaluation, ceiling=ceiling, nmi_of_ceiling=labels.nmi / max(ceiling.nmi, 1e-12))
    write_record(out_dir / result_files.EVALUATION_JSON, evaluation)
    if own_folder:
        run_json.write_run(run, out_dir / result_files.RUN_JSON)
        update_status(out_dir, state="finished", command="evaluate", error=None)
    report(evaluation)
    return evaluation


def evaluate_labels(run: EvaluateRun, truth: Truth) -> LabelScores:
    """Scores of the clusters against the labels."""
    clusters = read_clusters(run.clusters_dir)
    used = np.ones(len(clusters.label), bool)
    if run.partial_labels:
        used = np.isin(clusters.particle_id, truth.particle_id)
        if used.sum() < 2:
            raise DataError(f"{run.truth_csv}: {int(used.sum())} of the {len(used)} clustered particles are in it.",
                            "Give labels of the same particles, at least 2.")
    label, ids = clusters.label[used], clusters.particle_id[used]
    state = truth.label[rows_of(truth.particle_id, ids, run.truth_csv)]
    scores = replace(clustering_scores(label, state), unlabelled=int((~used).sum()), states=truth.names,
                     contingency=contingency(label, state, len(truth.names)))
    of_junk: Any = junk_scores(label, state, truth.names)
    return replace(scores, **of_junk)


def junk_scores(label: np.ndarray, state: np.ndarray, names: list[str]) -> dict[str, float]:
    """How well what is unassigned is the junk of the truth, and the scores of the rest; {} without junk."""
    if JUNK not in names:
        return {}
    junk, aside = state == names.index(JUNK), label == UNASSIGNED
    hits = int((junk & aside).sum())
    return {"junk_recall": hits / max(int(junk.sum()), 1), "junk_precision": hits / max(int(aside.sum()), 1),
            **{f"{name}_particles": value for name, value in agreement(label[~junk], state[~junk]).items()}}


def read_ceiling(path: str) -> CeilingScores:
    """Scores of a ``ceiling.json``. Raises DataError."""
    try:
        stored = result_files.read_json(path)
        return CeilingScores(float(stored["accuracy"]), float(stored["nmi"]), float(stored["ami"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: the ceiling cannot be read ({error}).",
                        "Give the ceiling.json that vaegan ceiling writes.") from error


def evaluate_maps(run: EvaluateRun, labels: LabelScores | None, out_dir: Path) -> list[MapEvaluation]:
    """Each cluster's map against the references; [] without maps (2D) or references.

    Raises DataError where references are given, alone, and there is no map to compare with them.

    Without ``labels`` every map is compared with every reference.

    The aligned map is written to ``maps/cluster_00_aligned.mrc`` in ``out_dir``, its reference in the same box to
    ``maps/cluster_00_reference.mrc``.
    """
    folder = Path(run.clusters_dir)
    rows = [row for row in read_cluster_rows(folder)
            if row.label != UNASSIGNED and row.file.endswith(".mrc")]
    if not rows:
        if run.maps:
            said = DataError(f"{folder}: it holds no maps to compare with the reference maps (clusters of a 2D "
                             "analysis are images).", "Give the folder of a 3D analysis, or labels alone.")
            if labels is None:
                raise said
            print(f"not compared: {said.message}", flush=True)
        return []
    result_files.forget(out_dir, *(f"{result_files.MAPS}/cluster_*_{kind}.mrc" for kind in ("aligned", "reference")))
    first, voxel_size_ang = read_map(folder / rows[0].file)
    references = read_references(list(run.maps), run.truth_csv, len(first), voxel_size_ang)
    if not references:
        return []
    expected_of = references_of_states(labels.states, references) if labels is not None else []
    made = []
    for row in rows:
        majority, purity, expected = None, None, None
        if labels is not None and row.label in labels.contingency:
            of_state = labels.contingency[row.label]
            state = int(np.argmax(of_state))
            majority, purity = labels.states[state], max(of_state) / sum(of_state)
            expected = expected_of[state]
        used = references if run.all_references or expected is None else [references[expected]]
        against, aligned = compare_with(used, read_map(folder / row.file)[0], voxel_size_ang, group_of(run.symmetry))
        best = max(against, key=lambda name: aligned[name].correlation)
        chosen = best if expected is None else references[expected].name
        file = f"{result_files.MAPS}/cluster_{row.label:02d}_aligned.mrc"
        write_map(out_dir / file, aligned[chosen].map, voxel_size_ang)
        truth_map = next(reference.map for reference in used if reference.name == chosen)
        reference_file = f"{result_files.MAPS}/cluster_{row.label:02d}_reference.mrc"
        write_map(out_dir / reference_file, truth_map, voxel_size_ang)
        made.append(MapEvaluation(
            voxel_size_ang, chosen, float(aligned[chosen].correlation), bool(aligned[chosen].mirrored), best,
            {name: float(fit.correlation) for name, fit in aligned.items()}, row.label, row.n_particles, file,
            against[chosen], reference_file, majority, purity,
            claim_of_halves(row, folder, aligned[chosen], truth_map)))
    return made


def claim_of_halves(row: ClusterRow, folder: Path, aligned: AlignedMap, truth: np.ndarray) -> ClaimedFigures | None:
    """What a map's two half maps claim against what they deserve (``claimed_fsc``); None where it has none.

    The half maps are moved as the map was when it was aligned to ``truth`` (d, d, d), and masked as for their own FSC.
    """
    if row.state is None or len(row.state.files) != 2:
        return None
    first, second = (move_map(read_map(folder / file)[0], aligned.rotation, aligned.shift_px, aligned.mirrored)
                     for file in row.state.files)
    halves, proof = row.state.halves, row.state.proof
    given = mask_in_use(row, folder)
    mask = (mask_of_map(aligned.map, np.array(proof.fsc_raw)) if given is None
            else move_map(given, aligned.rotation, aligned.shift_px, aligned.mirrored).clip(0, 1))
    return ClaimedFsc(np.array(halves.fsc), deserved_fsc((first, second), truth, mask), proof.shared_shell).figures()


def mask_in_use(row: ClusterRow, folder: Path) -> np.ndarray | None:
    """The mask ``(d, d, d)`` of a state's FSC where it is on disk; None where it was made of the map.

    It is one that ``states`` was given, or the file that ``fullres`` leaves beside each map.
    """
    path = (folder / row.file).with_name(f"{Path(row.file).stem}_mask.mrc")
    if path.exists():
        return read_map(path)[0]
    run = run_json.read_run(folder / result_files.RUN_JSON) if (folder / result_files.RUN_JSON).exists() else None
    if not isinstance(run, StatesRun) or not run.mask:
        return None
    own, voxel_ang = read_map(run.mask)
    figures = row.of_state
    box = MaskBox(figures.halves.map_box_px, figures.voxel_size_ang, (len(own) * voxel_ang,))
    return read_mask(run.mask, box).numpy()


def compare_with(references: list[Reference], array: np.ndarray, voxel_size_ang: float, group: Tensor
                 ) -> tuple[dict[str, MapComparison], dict[str, AlignedMap]]:
    """One map aligned to each of ``references`` in turn: by name its agreement, and how it was aligned."""
    aligned = {reference.name: likest_copy(align_map(array, reference.map, voxel_size_ang), reference.map, group,
                                           voxel_size_ang) for reference in references}
    return {reference.name: compare(aligned[reference.name].map, reference.map, voxel_size_ang)
            for reference in references}, aligned


def report(evaluation: Evaluation) -> None:
    """Print the figures, one per line."""
    labels, ceiling, groups = evaluation.labels, evaluation.ceiling, evaluation.groups or "clusters"
    naming = GROUPS[groups]
    if evaluation.doubt:
        print(f"warning: {evaluation.doubt}.")
    if labels is not None:
        print(f"{groups} {labels.clusters}\nNMI {labels.nmi:.3f}\nAMI {labels.ami:.3f}\nARI {labels.ari:.3f}")
        print(f"unassigned fraction {labels.unassigned_frac:.3f}")
        if labels.nmi_assigned is not None:
            print(f"NMI of assigned {labels.nmi_assigned:.3f} (coverage {labels.coverage:.3f})")
        if labels.junk_recall is not None:
            print(f"junk: recall {labels.junk_recall:.3f}, precision {labels.junk_precision:.3f}; NMI of the "
                  f"particles {labels.nmi_particles:.3f}")
    if ceiling is not None:
        print(f"ceiling NMI {ceiling.nmi:.3f} (supervised, accuracy {ceiling.accuracy:.3f})")
        print(f"NMI / ceiling {evaluation.nmi_of_ceiling:.3f}")
    for error in evaluation.pose_errors:
        print(f"{naming.name(error.label)}: median pose error {error.median_deg:.2f} degrees")
    for row in evaluation.maps:
        print(map_line(row, naming))


def map_line(row: MapEvaluation, naming: Naming = CLUSTERS) -> str:
    """One map in one line."""
    halves = row.compared
    hand = "mirrored" if row.mirrored else "same hand"
    purity = "" if row.purity is None else f", purity {row.purity:.2f}"
    claim = ("" if row.claim is None
             else f", halves claim up to {row.claim.claimed_excess:.2f} more than they deserve")
    return (f"{naming.name(row.label)} against {row.reference}: "
            f"{halves.resolution_05_ang:.1f} A at FSC 0.5 ({halves.nyquist_frac_05:.2f} of Nyquist), "
            f"{halves.resolution_0143_ang:.1f} A at FSC 0.143 ({halves.nyquist_frac_0143:.2f} of Nyquist), "
            f"correlation {row.correlation:.3f}, {hand}{purity}{claim}")
