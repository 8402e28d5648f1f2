"""``benchmark``: the scoreboard. Each task is simulated, refined and compared with the truth; one table for all.

A task's row is kept in its folder, so a suite that was stopped goes on where it was. With ``--train`` a VAE-GAN
is trained and its clusters start the refinement; without it, random maps do.
"""
from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import compute, contract, presets, results
from .arguments import COMPUTE_HELP, add_fields, add_out
from .clustering import NOISE
from .contract import ClusterRun, ComputeConfig, EmbedRun, RefineRun, TrainRun
from .errors import ConfigError, DataError
from .evaluate import EvaluateOptions, run_evaluate
from .mrc_io import read_map, write_stack
from .particle_tables import JUNK, read_clusters
from .peers import PEERS, run_peer
from .pose_scores import median_pose_error_deg
from .references import compare, read_references
from .rotations import euler_to_matrix
from .simulate import STACK, STAR, TRUTH_CSV, run_simulate
from .simulate_options import SimulateOptions

ROW_JSON, TABLE_JSON = "row.json", "benchmark.json"
_RIBOSOME = tuple(f"ribo50S_4states/maps/r50S_{name}_64.mrc" for name in (
    "B_like", "C_or_D_like_a", "C_or_D_like_b", "E_like"))
_EXOSOME = tuple(f"exosome_6FSZ/maps/{name}.mrc" for name in ("Exo9_core_only", "full", "no_Dis3", "no_Mtr4_Mpp6"))
_SWIVEL = tuple(f"r30S_4ADV/maps/head_swivel_{k:02d}_{angle:+.1f}deg.mrc" for k, angle in enumerate(
    np.linspace(-12, 12, 10)))
_ADK = tuple(f"adk_DIMS/maps/frame_{k:03d}.mrc" for k in (0, 11, 22, 33, 44, 56, 67, 78, 89, 101))
_RIBO20_FOLDER = "ribo50S_10076_real_vols/"
_RIBO20 = tuple(f"{_RIBO20_FOLDER}maps/vol_{k}.mrc" for k in (
    "018", 113, 115, 116, 194, 287, 288, 291, 293, 306, 383, 385, 386, 388, 390, 442, 455, 457, 458, 498))
_RIBO3 = (_RIBOSOME[0], _RIBOSOME[1], _RIBOSOME[3])


@dataclass(frozen=True)
class Task:
    """What is simulated. A map named several times gives as many times the images."""

    maps: tuple[str, ...]  # below --data; none = pure noise
    per_map: int
    states: int  # clusters that are right
    snr: float = 1.0
    box_px: int = 48
    crop_frac: float = 0.75
    junk_frac: float = 0.0  # of all images
    junk_maps: tuple[str, ...] = ()  # other molecules among it, below --data
    ordered: bool = False  # the maps are the frames of one motion
    groups_csv: str = ""  # columns map, group, below --data: the groups are the true states, not the maps
    view_concentration: float = 0.0  # this and the next three as simulate's
    contrast_spread: float = 0.0
    noise_ratio: float = 1.0
    ctf_table: str = ""  # below --data


TASKS = {
    "ribo3": Task(_RIBO3, 3000, 3),
    "ribo3-snr0.5": Task(_RIBO3, 3000, 3, snr=0.5),
    "ribo3-snr0.2": Task(_RIBO3, 3000, 3, snr=0.2),
    "ribo3-64px": Task(_RIBO3, 10000, 3, snr=0.2, box_px=64, crop_frac=1.0),
    "ribo3-real": Task(_RIBO3, 3000, 3, snr=0.5, contrast_spread=0.25, noise_ratio=3.0,
                       ctf_table="real_ctf/empiar10028_ctf.npz"),
    "ribo4": Task(_RIBOSOME, 3000, 4),
    "ribo20": Task(_RIBO20, 1000, 4, groups_csv=_RIBO20_FOLDER + "groups.csv"),
    "preferred": Task(_RIBO3, 3000, 3, view_concentration=4.0),
    "exosome": Task(_EXOSOME, 3000, 4),
    "morph": Task(_SWIVEL, 1000, 1, ordered=True),
    "morph-adk": Task(_ADK, 1000, 1, crop_frac=1.0, ordered=True),
    "junk": Task(_RIBO3, 3000, 3, junk_frac=0.25, junk_maps=(
        "groel_1MNF/maps/full14.mrc", "r30S_4ADV/maps/full.mrc", "exosome_6FSZ/maps/full.mrc")),
    "homogeneous": Task((_RIBOSOME[3],), 5000, 1),
    "unequal": Task((_RIBO3[0],) * 14 + (_RIBO3[1],) * 5 + (_RIBO3[2],), 450, 3),  # 70, 25 and 5 %
    "null": Task((), 3000, 1),
}
SUITES: dict[str, tuple[float, tuple[int, ...]]] = {  # part of the images, seeds
    "quick": (0.2, (0,)), "standard": (1.0, (0, 1, 2)), "full": (3.0, (0, 1, 2))}
COLUMNS = ("task", "seed", "images", "snr", "states", "found", "nmi", "ami", "pose_error_deg", "resolution_0.5_ang",
           "nyquist_frac_0.5", "fsc_auc", "spearman", "junk_recall", "junk_precision", "minutes", "verdict")
PEER_COLUMNS = ("task", "seed", "peer", "found", "nmi", "ami", "ari", "minutes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``vaegan benchmark``."""
    parser.add_argument("--data", type=Path, required=True, help="folder with the maps of the tasks")
    add_out(parser)
    parser.add_argument("--suite", choices=tuple(SUITES), default="quick",
                        help="quick: a fifth of the images, one seed; full: three times the images (default: quick)")
    parser.add_argument("--only", action="append", choices=tuple(TASKS), help="this task; may be repeated")
    parser.add_argument("--train", action="store_true", help="train a VAE-GAN first and start from its clusters")
    parser.add_argument("--peer", action="append", choices=tuple(PEERS), default=[],
                        help="group the same images this way too; may be repeated")
    parser.add_argument("--seed", action="append", type=int,
                        help="this seed of everything random, not those of the suite; may be repeated")
    add_fields(parser, ComputeConfig, {name: COMPUTE_HELP[name] for name in ("device", "threads")})


def main(args: argparse.Namespace) -> None:
    """Run ``vaegan benchmark``."""
    part, seeds = SUITES[args.suite]
    rows = []
    for name in args.only or TASKS:
        task = replace(TASKS[name], per_map=max(60, round(part * TASKS[name].per_map)))
        for seed in args.seed or seeds:
            out = args.out / f"{args.suite}-{name}-{seed}"
            where = ComputeConfig(device=args.device, threads=args.threads, seed=seed)
            rows.append(run_task(name, task, args.data, out, where, args.train))
            add_peers(rows[-1], out, args.peer, where, groups(task, args.data))
            results.write_json(args.out / TABLE_JSON, rows)
    print("\n" + table(rows))
    if args.peer:
        print("\n" + table([{"task": row["task"], "seed": row["seed"], "peer": peer, **row["peers"][peer]}
                            for row in rows for peer in args.peer], PEER_COLUMNS))


def add_peers(row: dict[str, Any], out: Path, peers: list[str], where: ComputeConfig,
              group_of: dict[str, str] | None = None) -> None:
    """Scores of the peers that the task's row lacks, into it and its file."""
    for peer in peers:
        if peer in row.setdefault("peers", {}):
            continue
        minutes = run_peer(peer, out / "run", out / "peers" / peer, row["states"], where)
        label = read_clusters(out / "peers" / peer).label
        row["peers"][peer] = {"found": int(label.max()) + 1, "minutes": minutes,
                              **label_scores(out / "peers" / peer, out / "data" / TRUTH_CSV, group_of)}
        results.write_json(out / ROW_JSON, row)


def run_task(name: str, task: Task, data: Path, out: Path, where: ComputeConfig, train: bool) -> dict[str, Any]:
    """One row of the table; read back where it is there. Raises ConfigError or DataError."""
    settings = {**asdict(task), "maps": list(task.maps), "junk_maps": list(task.junk_maps), "train": train}
    if (out / ROW_JSON).exists():
        row: dict[str, Any] = results.read_json(out / ROW_JSON)
        if row["settings"] != settings:
            raise ConfigError(f"{out}: its row was made with other settings.", "Give another --out.")
        return row
    needed = (*task.maps, *task.junk_maps, *filter(None, (task.groups_csv, task.ctf_table)))
    missing = [path for path in needed if not (data / path).exists()]
    if missing:
        raise DataError(f"{data / missing[0]}: there is no such file.", "Give the folder of the maps with --data.")
    print(f"\n{name}, seed {where.seed}", flush=True)
    simulated(task, data, out / "data", where)
    started = time.monotonic()
    clusters = trained(out, where) if train else ""
    if not train:
        contract.write_run(training(out, where), out / "run" / results.RUN_JSON)
    found = run_refine_of(out, clusters, where)
    minutes = (time.monotonic() - started) / 60
    row = {"task": name, "seed": where.seed, "images": len(true_table(out / "data" / TRUTH_CSV)), "snr": task.snr,
           "states": task.states, "found": found["clusters"], "verdict": found["verdict"],
           "minutes": minutes, "settings": settings, **scores(task, data, out)}
    if clusters:
        row["embedding"] = label_scores(Path(clusters), out / "data" / TRUTH_CSV, groups(task, data))
    results.write_json(out / ROW_JSON, row)
    return row


def simulated(task: Task, data: Path, out: Path, where: ComputeConfig) -> None:
    """The task's particles; pure noise keeps the CTF parameters of a simulated set."""
    source = {"maps": tuple(str(data / path) for path in task.maps)} if task.maps else {"phantom": 1}
    options = SimulateOptions(**source, per_map=task.per_map, box_px=task.box_px,
                              crop_frac=task.crop_frac if task.maps else 1.0, snr=task.snr, device=where.device,
                              view_concentration=task.view_concentration, contrast_spread=task.contrast_spread,
                              noise_ratio=task.noise_ratio, seed=where.seed,
                              ctf_table=str(data / task.ctf_table) if task.ctf_table else "",
                              junk_frac=task.junk_frac,
                              junk_maps=tuple(str(data / path) for path in task.junk_maps))
    summary = run_simulate(options, out)
    if not task.maps:
        noise = np.random.default_rng(where.seed).standard_normal((task.per_map, task.box_px, task.box_px))
        write_stack(out / STACK, noise.astype(np.float32), summary["pixel_size_ang"])


def training(out: Path, where: ComputeConfig) -> TrainRun:
    """Settings of the task's training."""
    simulation = results.read_json(out / "data" / "simulation.json")
    return presets.build_run("train3d", "fast", {
        "data": {"particles": str((out / "data" / STAR).absolute()), "box_px": simulation["options"]["box_px"]},
        "compute": asdict(where)})


def trained(out: Path, where: ComputeConfig) -> str:
    """Train, embed and cluster; returns the clusters' folder."""
    from .cluster import run_cluster
    from .embed import run_embed
    from .train import run_train

    folders = {name: str((out / name).absolute()) for name in ("run", "embedding", "clusters")}
    run_train(training(out, where), Path(folders["run"]), resume=(out / "run" / results.RUN_JSON).exists())
    run_embed(EmbedRun(run_dir=folders["run"], compute=where), Path(folders["embedding"]))
    run_cluster(ClusterRun(embedding_dir=folders["embedding"], run_dir=folders["run"], compute=where),
                Path(folders["clusters"]))
    return folders["clusters"]


def run_refine_of(out: Path, clusters: str, where: ComputeConfig) -> dict[str, Any]:
    """Refine the task's particles."""
    from .refine import run_refine

    compute.prepare_device(where)
    return run_refine(RefineRun(run_dir=str((out / "run").absolute()), clusters_dir=clusters, compute=where),
                      out / "refine")


def true_table(truth_csv: Path) -> dict[int, dict[str, str]]:
    """Rows of ``truth.csv`` by particle id."""
    return {int(row["id"]): row for row in results.read_csv(truth_csv)}


def groups(task: Task, data: Path) -> dict[str, str]:
    """Group of every map by its file's name; {} where each map is a state of its own."""
    if not task.groups_csv:
        return {}
    return {row["map"]: row["group"] for row in results.read_csv(data / task.groups_csv)}


def label_scores(folder: Path, truth_csv: Path, group_of: dict[str, str] | None = None) -> dict[str, float]:
    """NMI and AMI of ``clusters.csv`` against the names of the maps, or of their groups.

    Junk is left out and has its own figures.
    """
    from .evaluate import junk_scores
    from .scores import agreement

    truth, clusters = true_table(truth_csv), read_clusters(folder)
    of = {name: (group_of or {}).get(Path(name).name, name) for name in {row["map_file"] for row in truth.values()}}
    names = sorted(set(of.values()))
    state = np.array([names.index(of[truth[int(i)]["map_file"]]) for i in clusters.particle_id])
    of_junk = junk_scores(clusters.label, state, names)
    if not of_junk:
        return agreement(clusters.label, state)
    return {name.replace("_particles", ""): value for name, value in of_junk.items()}


def scores(task: Task, data: Path, out: Path) -> dict[str, Any]:
    """Labels, poses and maps against the truth; maps and poses of pure noise have none.

    ``pose_error_deg``: the largest of the states' medians; resolutions: the worst map, at FSC 0.5; ``fsc_auc``: see
    ``image_fsc_auc``; ``spearman``: of the place along the motion with the frame, in the largest state (0 where no
    motion was found).
    """
    truth_csv = out / "data" / TRUTH_CSV
    found = label_scores(out / "refine", truth_csv, groups(task, data))
    values: dict[str, Any] = {name: value for name, value in found.items() if name in COLUMNS}
    if not task.maps:
        return values
    values["pose_error_deg"] = max(pose_errors(out / "refine", truth_csv).values())
    if task.ordered:
        values["spearman"] = frame_correlation(out / "refine", truth_csv)
    maps = tuple(dict.fromkeys(str(data / path) for path in task.maps))
    evaluation = run_evaluate(EvaluateOptions(str(out / "refine"), str(truth_csv), maps), out / "evaluation")
    rows = [row for row in evaluation["maps"] if "resolution_0.5_ang" in row]
    if rows:
        worst = max(rows, key=lambda row: row["resolution_0.5_ang"])
        values.update({key: worst[key] for key in ("resolution_0.5_ang", "nyquist_frac_0.5")})
        values["fsc_auc"] = image_fsc_auc(out / "refine", out / "evaluation", rows, maps, truth_csv)
    return values


def image_fsc_auc(folder: Path, evaluation: Path, rows: list[dict[str, Any]], maps: tuple[str, ...], truth_csv: Path
                  ) -> float:
    """Mean over the images of the area under the FSC of their state's map with the map they were made from.

    The area is the mean over the shells from 1 to Nyquist. The maps lie in one frame, to which ``evaluate`` has
    aligned each state's map. Junk, and images of no state, are left out.
    """
    aligned = {row["label"]: read_map(evaluation / row["aligned_file"]) for row in rows}
    first, voxel_size_ang = next(iter(aligned.values()))
    true = {Path(reference.name).name: reference.map
            for reference in read_references(list(maps), truth_csv, len(first), voxel_size_ang)}
    truth, clusters = true_table(truth_csv), read_clusters(folder)
    pairs = [(int(label), Path(truth[int(i)]["map_file"]).name)
             for i, label in zip(clusters.particle_id, clusters.label, strict=True)]
    pairs = [pair for pair in pairs if pair[0] in aligned and pair[1] in true]
    area = {pair: float(np.mean(compare(aligned[pair[0]][0], true[pair[1]], voxel_size_ang)["fsc"][1:]))
            for pair in set(pairs)}
    return float(np.mean([area[pair] for pair in pairs]))


def frame_correlation(folder: Path, truth_csv: Path) -> float:
    """Rank correlation, without sign, of the place along the motion and the frame, in the largest state."""
    from scipy.stats import spearmanr

    truth = true_table(truth_csv)
    rows = [row for row in results.read_csv(folder / results.PARTICLES_CSV) if row["label"] == "0" and row["motion"]]
    if not rows:
        return 0.0
    frames = [int(truth[int(row["particle_id"])]["map"]) for row in rows]
    return abs(float(spearmanr([float(row["motion"]) for row in rows], frames)[0]))


def pose_errors(folder: Path, truth_csv: Path) -> dict[int, float]:
    """Median pose error in degrees of every state, of the particles that have a true pose."""
    truth = true_table(truth_csv)
    rows = [row for row in results.read_csv(folder / results.PARTICLES_CSV)
            if int(row["label"]) != NOISE and truth[int(row["particle_id"])]["map_file"] != JUNK]
    angles = ("rot_deg", "tilt_deg", "psi_deg")
    errors = {}
    for label in sorted({int(row["label"]) for row in rows}):
        mine = [row for row in rows if int(row["label"]) == label]
        A, true = (euler_to_matrix(*torch.tensor([[float(row[name]) for name in angles] for row in part]).T)
                   for part in (mine, [truth[int(row["particle_id"])] for row in mine]))
        errors[label] = median_pose_error_deg(A, true)
    return errors


def table(rows: list[dict[str, Any]], columns: tuple[str, ...] = COLUMNS) -> str:
    """The rows as text, one line each."""
    def shown(row: dict[str, Any], column: str) -> str:
        value = row.get(column, "-")
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    cells = [list(columns), *[[shown(row, column) for column in columns] for row in rows]]
    widths = [max(len(line[k]) for line in cells) for k in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                     for line in cells)
