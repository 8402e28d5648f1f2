"""``evaluate``: clusters and maps against the truth, with the supervised ceiling beside them."""
from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import result_files
from ..contract.errors import DataError
from ..contract.labels import NOISE, cluster_name
from ..contract.settings import EvaluateRun
from ..data.mrc_files import read_map, write_map
from ..data.particle_tables import JUNK, Truth, read_cluster_rows, read_clusters, read_truth, rows_of
from ..physics.map_comparison import compare
from ..runtime import compute
from ..runtime.options import add_folder
from ..stats.label_agreement import agreement, clustering_scores, contingency
from .reference_maps import Reference, read_references, reference_of_state


@dataclass(frozen=True)
class EvaluateOptions:
    """What to evaluate, against what."""

    clusters_dir: str
    truth_csv: str = ""
    maps: tuple[str, ...] = ()
    ceiling_json: str = ""
    all_references: bool = False  # align every map to every reference, not to the expected one alone
    partial_labels: bool = False  # leave particles without a label out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``vaegan evaluate``."""
    add_folder(parser, "--clusters", "clusters_dir", "--out folder of cluster")
    add_folder(parser, "--truth", "truth_csv", "truth.csv of simulate (columns id and map)")
    parser.add_argument("--maps", nargs="+", default=[], metavar="MRC",
                        help="reference maps; a simulated phantom needs none")
    add_folder(parser, "--ceiling", "ceiling_json", "ceiling.json of vaegan ceiling", required=False)
    parser.add_argument("--all-references", action="store_true",
                        help="align each map to every reference, not only to that of its majority's state")
    parser.add_argument("--out", type=Path, help="results folder (default: the clusters folder)")


def main(args: argparse.Namespace) -> None:
    """Run ``vaegan evaluate``."""
    options = EvaluateOptions(args.clusters_dir, args.truth_csv, tuple(args.maps), args.ceiling_json,
                              args.all_references)
    report(run_evaluate(options, args.out or Path(args.clusters_dir)))


def options_of(run: EvaluateRun) -> EvaluateOptions:
    """Options of a run.json. Raises DataError."""
    maps = sorted(str(path) for path in Path(run.maps_dir).glob("*.mrc")) if run.maps_dir else []
    if run.maps_dir and not maps:
        raise DataError(f"{run.maps_dir}: there is no *.mrc in it.", "Give a folder with at least 1 reference map.")
    if not (run.truth_csv or maps):
        raise DataError("truth_csv and maps_dir are both empty: there is nothing to compare with.",
                        "Give labels, reference maps or both.")
    return EvaluateOptions(run.clusters_dir, run.truth_csv, tuple(maps), all_references=not run.truth_csv,
                           partial_labels=run.partial_labels)


def run_evaluate(options: EvaluateOptions | EvaluateRun, out_dir: Path,
                 align: Callable[..., Any] | None = None) -> dict[str, Any]:
    """Compare and write ``evaluation.json`` into ``out_dir``; returns what it holds. Raises DataError.

    A request has a folder of its own, and ends with a ``status.json``; options may name the clusters' folder.
    """
    requested = isinstance(options, EvaluateRun)
    if isinstance(options, EvaluateRun):
        compute.prepare_device(options.compute)
        options = options_of(options)
    values: dict[str, Any] = {}
    truth, counts = None, None
    if options.truth_csv:
        truth = read_truth(options.truth_csv)
        scores, counts = evaluate_labels(options, truth)
        values.update(scores)
    if options.ceiling_json:
        values["ceiling"] = read_ceiling(options.ceiling_json)
        values["nmi_of_ceiling"] = values["nmi"] / max(values["ceiling"]["nmi"], 1e-12)
    values["maps"] = evaluate_maps(options, counts, truth, Path(out_dir), align or default_align())
    result_files.write_json(Path(out_dir) / result_files.EVALUATION_JSON, values)
    if requested:
        result_files.update_status(out_dir, state="finished", command="evaluate", error=None)
    return values


def evaluate_labels(options: EvaluateOptions, truth: Truth) -> tuple[dict[str, Any], dict[int, list[int]]]:
    """Scores of the clusters against the labels, and the particles of each state in each cluster."""
    clusters = read_clusters(options.clusters_dir)
    used = np.ones(len(clusters.label), bool)
    if options.partial_labels:
        used = np.isin(clusters.particle_id, truth.particle_id)
        if used.sum() < 2:
            raise DataError(f"{options.truth_csv}: {int(used.sum())} of the {len(used)} clustered particles are in it.",
                            "Give labels of the same particles, at least 2.")
    label, ids = clusters.label[used], clusters.particle_id[used]
    state = truth.label[rows_of(truth.particle_id, ids, options.truth_csv)]
    counts = contingency(label, state, len(truth.names))
    values: dict[str, Any] = {**clustering_scores(label, state), "unlabelled": int((~used).sum()),
                              **junk_scores(label, state, truth.names), "states": truth.names,
                              "contingency": {str(name): row for name, row in counts.items()}}
    return values, counts


def junk_scores(label: np.ndarray, state: np.ndarray, names: list[str]) -> dict[str, float]:
    """How well the group NOISE is the junk of the truth, and the scores of the rest; {} where there is no junk."""
    if JUNK not in names:
        return {}
    junk, aside = state == names.index(JUNK), label == NOISE
    hits = int((junk & aside).sum())
    return {"junk_recall": hits / max(int(junk.sum()), 1), "junk_precision": hits / max(int(aside.sum()), 1),
            **{f"{name}_particles": value for name, value in agreement(label[~junk], state[~junk]).items()}}


def default_align() -> Callable[..., Any]:
    """Alignment over rotation, shift and hand."""
    from ..physics.map_alignment import align_map

    return align_map


def read_ceiling(path: str) -> dict[str, float]:
    """Scores of a ``ceiling.json``. Raises DataError."""
    try:
        stored = result_files.read_json(path)
        return {name: float(stored[name]) for name in ("accuracy", "nmi", "ami")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: the ceiling cannot be read ({error}).",
                        "Give the ceiling.json that vaegan ceiling writes.") from error


def evaluate_maps(options: EvaluateOptions, counts: dict[int, list[int]] | None, truth: Truth | None, out_dir: Path,
                  align: Callable[..., Any]) -> list[dict[str, Any]]:
    """Each cluster's map against the references; [] without maps (2D) or references.

    Without labels (``truth`` None) every map is compared with every reference.

    The aligned map is written to ``maps/cluster_00_aligned.mrc`` in ``out_dir``.
    """
    folder = Path(options.clusters_dir)
    rows = [row for row in read_cluster_rows(folder)
            if row["label"] != NOISE and row["file"].endswith(".mrc")]
    if not rows:
        return []
    first, voxel_size_ang = read_map(folder / rows[0]["file"])
    references = read_references(list(options.maps), options.truth_csv, len(first), voxel_size_ang)
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
        used = references if options.all_references or expected is None else [references[expected]]
        name = None if expected is None else references[expected].name
        values, aligned = evaluate_map(read_map(folder / row["file"])[0], voxel_size_ang, used, name, align)
        file = f"{result_files.MAPS}/cluster_{row['label']:02d}_aligned.mrc"
        write_map(out_dir / file, aligned, voxel_size_ang)
        made.append(values | {"label": row["label"], "n_particles": row["n_particles"], "aligned_file": file,
                              **labelled})
    return made


def evaluate_map(array: np.ndarray, voxel_size_ang: float, references: list[Reference], expected: str | None,
                 align: Callable[..., Any]) -> tuple[dict[str, Any], np.ndarray]:
    """One map aligned to each of ``references`` in turn.

    The figures are those against the reference of the majority's true state (named ``expected``),
    or against the best correlated one where the state has none. Also returns the map aligned to it.
    """
    compared, aligned = [], {}
    for reference in references:
        found = align(array, reference.map, voxel_size_ang)
        aligned[reference.name] = found.map
        compared.append({"reference": reference.name, "correlation": float(found.correlation),
                         "mirrored": bool(found.mirrored),
                         **compare(found.map, reference.map, voxel_size_ang)})
    best = max(compared, key=lambda row: row["correlation"])
    chosen = next((row for row in compared if row["reference"] == expected), best)
    return {"voxel_size_ang": voxel_size_ang, **chosen, "best_correlated": best["reference"],
            "correlations": {row["reference"]: row["correlation"] for row in compared}}, aligned[chosen["reference"]]


def report(values: dict[str, Any]) -> None:
    """Print the figures, one per line."""
    print(f"clusters {values['clusters']}")
    for name in ("nmi", "ami", "ari"):
        print(f"{name.upper()} {values[name]:.3f}")
    print(f"noise fraction {values['noise_frac']:.3f}")
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
    return (f"{cluster_name(row['label'])} against {row['reference']}: {', '.join(parts)}, "
            f"correlation {row['correlation']:.3f}, {hand}{purity}")
