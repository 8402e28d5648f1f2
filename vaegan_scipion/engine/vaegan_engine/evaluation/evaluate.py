"""``evaluate``: clusters and maps against the truth, with the supervised ceiling beside them."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..contract import result_files
from ..contract.errors import DataError
from ..contract.labels import UNASSIGNED, cluster_name
from ..contract.setting import check_settings
from ..contract.settings import EvaluateRun
from ..data.mrc_files import read_map, write_map
from ..data.particle_tables import JUNK, Truth, read_cluster_rows, read_clusters, read_truth, rows_of
from ..physics.map_alignment import AlignedMap, align_map, move_map
from ..physics.map_comparison import compare
from ..physics.masked_fsc import mask_of_map
from ..runtime import compute
from ..stats.label_agreement import agreement, clustering_scores, contingency
from .claimed_fsc import ClaimedFsc, deserved_fsc
from .reference_maps import Reference, read_references, reference_of_state


def run_evaluate(run: EvaluateRun, out_dir: Path | None) -> dict[str, Any]:
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
    values: dict[str, Any] = {}
    truth, counts = None, None
    if run.truth_csv:
        truth = read_truth(run.truth_csv)
        scores, counts = evaluate_labels(run, truth)
        values.update(scores)
    if run.ceiling_json:
        values["ceiling"] = read_ceiling(run.ceiling_json)
        values["nmi_of_ceiling"] = values["nmi"] / max(values["ceiling"]["nmi"], 1e-12)
    values["maps"] = evaluate_maps(run, counts, truth, out_dir)
    result_files.write_json(out_dir / result_files.EVALUATION_JSON, values)
    if own_folder:
        result_files.update_status(out_dir, state="finished", command="evaluate", error=None)
    report(values)
    return values


def evaluate_labels(run: EvaluateRun, truth: Truth) -> tuple[dict[str, Any], dict[int, list[int]]]:
    """Scores of the clusters against the labels, and the particles of each state in each cluster."""
    clusters = read_clusters(run.clusters_dir)
    used = np.ones(len(clusters.label), bool)
    if run.partial_labels:
        used = np.isin(clusters.particle_id, truth.particle_id)
        if used.sum() < 2:
            raise DataError(f"{run.truth_csv}: {int(used.sum())} of the {len(used)} clustered particles are in it.",
                            "Give labels of the same particles, at least 2.")
    label, ids = clusters.label[used], clusters.particle_id[used]
    state = truth.label[rows_of(truth.particle_id, ids, run.truth_csv)]
    counts = contingency(label, state, len(truth.names))
    values: dict[str, Any] = {**clustering_scores(label, state), "unlabelled": int((~used).sum()),
                              **junk_scores(label, state, truth.names), "states": truth.names,
                              "contingency": {str(name): row for name, row in counts.items()}}
    return values, counts


def junk_scores(label: np.ndarray, state: np.ndarray, names: list[str]) -> dict[str, float]:
    """How well what is unassigned is the junk of the truth, and the scores of the rest; {} without junk."""
    if JUNK not in names:
        return {}
    junk, aside = state == names.index(JUNK), label == UNASSIGNED
    hits = int((junk & aside).sum())
    return {"junk_recall": hits / max(int(junk.sum()), 1), "junk_precision": hits / max(int(aside.sum()), 1),
            **{f"{name}_particles": value for name, value in agreement(label[~junk], state[~junk]).items()}}


def read_ceiling(path: str) -> dict[str, float]:
    """Scores of a ``ceiling.json``. Raises DataError."""
    try:
        stored = result_files.read_json(path)
        return {name: float(stored[name]) for name in ("accuracy", "nmi", "ami")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: the ceiling cannot be read ({error}).",
                        "Give the ceiling.json that vaegan ceiling writes.") from error


def evaluate_maps(run: EvaluateRun, counts: dict[int, list[int]] | None, truth: Truth | None, out_dir: Path
                  ) -> list[dict[str, Any]]:
    """Each cluster's map against the references; [] without maps (2D) or references.

    Without labels (``truth`` None) every map is compared with every reference.

    The aligned map is written to ``maps/cluster_00_aligned.mrc`` in ``out_dir``.
    """
    folder = Path(run.clusters_dir)
    rows = [row for row in read_cluster_rows(folder)
            if row["label"] != UNASSIGNED and row["file"].endswith(".mrc")]
    if not rows:
        return []
    first, voxel_size_ang = read_map(folder / rows[0]["file"])
    references = read_references(list(run.maps), run.truth_csv, len(first), voxel_size_ang)
    if not references:
        return []
    made = []
    for row in rows:
        labelled, expected = {}, None
        if truth is not None and counts is not None and row["label"] in counts:
            of_state = counts[row["label"]]
            state = int(np.argmax(of_state))
            expected = reference_of_state(state, truth.names[state], references)
            labelled = {"majority_state": truth.names[state], "purity": max(of_state) / sum(of_state)}
        used = references if run.all_references or expected is None else [references[expected]]
        name = None if expected is None else references[expected].name
        values, aligned = evaluate_map(read_map(folder / row["file"])[0], voxel_size_ang, used, name)
        file = f"{result_files.MAPS}/cluster_{row['label']:02d}_aligned.mrc"
        write_map(out_dir / file, aligned.map, voxel_size_ang)
        truth_map = next(reference.map for reference in used if reference.name == values["reference"])
        values |= claim_of_halves(row, folder, aligned, truth_map)
        made.append(values | {"label": row["label"], "n_particles": row["n_particles"], "aligned_file": file,
                              **labelled})
    return made


def claim_of_halves(row: dict[str, Any], folder: Path, aligned: AlignedMap, truth: np.ndarray) -> dict[str, Any]:
    """What a map's two half maps claim against what they deserve (``claimed_fsc``); {} where it has none.

    The half maps are moved as the map was when it was aligned to ``truth`` (d, d, d), and masked by the map as for
    their own FSC.
    """
    if len(row.get("files", [])) != 2 or "fsc_raw" not in row:
        return {}
    first, second = (move_map(read_map(folder / file)[0], aligned.rotation, aligned.shift_px, aligned.mirrored)
                     for file in row["files"])
    mask = mask_of_map(aligned.map, np.array(row["fsc_raw"]))
    return ClaimedFsc(np.array(row["fsc"]), deserved_fsc((first, second), truth, mask), row["shared_shell"]).row()


def evaluate_map(array: np.ndarray, voxel_size_ang: float, references: list[Reference], expected: str | None
                 ) -> tuple[dict[str, Any], AlignedMap]:
    """One map aligned to each of ``references`` in turn.

    The figures are those against the reference of the majority's true state (named ``expected``),
    or against the best correlated one where the state has none. Also returns how the map was aligned to it.
    """
    compared: list[dict[str, Any]] = []
    aligned: dict[str, AlignedMap] = {}
    for reference in references:
        found = align_map(array, reference.map, voxel_size_ang)
        aligned[reference.name] = found
        compared.append({"reference": reference.name, "correlation": float(found.correlation),
                         "mirrored": bool(found.mirrored),
                         **compare(found.map, reference.map, voxel_size_ang)})
    best = max(compared, key=lambda row: row["correlation"])
    chosen = next((row for row in compared if row["reference"] == expected), best)
    return {"voxel_size_ang": voxel_size_ang, **chosen, "best_correlated": best["reference"],
            "correlations": {row["reference"]: row["correlation"] for row in compared}}, aligned[chosen["reference"]]


def report(values: dict[str, Any]) -> None:
    """Print the figures, one per line."""
    if "clusters" in values:
        print(f"clusters {values['clusters']}")
        for name in ("nmi", "ami", "ari"):
            print(f"{name.upper()} {values[name]:.3f}")
        print(f"unassigned fraction {values['unassigned_frac']:.3f}")
    if "nmi_assigned" in values:
        print(f"NMI of assigned {values['nmi_assigned']:.3f} (coverage {values['coverage']:.3f})")
    if "junk_recall" in values:
        print(f"junk: recall {values['junk_recall']:.3f}, precision {values['junk_precision']:.3f}; NMI of the "
              f"particles {values['nmi_particles']:.3f}")
    if "ceiling" in values:
        print(f"ceiling NMI {values['ceiling']['nmi']:.3f} (supervised, accuracy {values['ceiling']['accuracy']:.3f})")
        print(f"NMI / ceiling {values['nmi_of_ceiling']:.3f}")
    for row in values["maps"]:
        print(map_line(row))


def map_line(row: dict[str, Any]) -> str:
    """One map in one line."""
    parts = [f"{row[f'resolution_{name}_ang']:.1f} A at FSC {name} ({row[f'nyquist_frac_{name}']:.2f} of Nyquist)"
             for name in ("0.5", "0.143")]
    hand = "mirrored" if row["mirrored"] else "same hand"
    purity = f", purity {row['purity']:.2f}" if "purity" in row else ""
    claim = (f", halves claim up to {row['claimed_excess']:.2f} more than they deserve" if "claimed_excess" in row
             else "")
    return (f"{cluster_name(row['label'])} against {row['reference']}: {', '.join(parts)}, "
            f"correlation {row['correlation']:.3f}, {hand}{purity}{claim}")
