"""``benchmark``: the scoreboard. Each task is simulated, refined and compared with the truth; one table for all.

A task's row is kept in its folder, so a suite that was stopped goes on where it was. With ``--train`` a VAE-GAN
is trained and its clusters start the refinement; without it, random maps do. With ``--landscape`` a VAE-GAN is
trained with the poses that were found, and its clusters are compared with the truth too.
"""
from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...contract import presets, result_files, run_json
from ...contract.analysis_records import Classes2dSummary
from ...contract.errors import ConfigError, DataError
from ...contract.record import inlined, read_record, to_json, write_record, write_records
from ...contract.records import StatesSummary
from ...contract.setting import check_settings, section, setting
from ...contract.settings import Classes2dRun, ClusterRun, ComputeConfig, DataConfig, EmbedRun, StatesRun, TrainRun
from ...data.mrc_files import write_map, write_stack
from ...data.particle_tables import read_clusters
from ...physics.fsc import soft_sphere_mask
from ...runtime import compute
from ...simulation.options import SimulateOptions, Simulation
from ...simulation.simulate import STACK, STAR, TRUTH_CSV, run_simulate
from ..truth.plane_scores import plane_scores
from .assembly import write_assembly
from .landscape_scores import LANDSCAPE_FIGURES, landscape_scores
from .peers import IN_OUR_TIME, PEERS, Told, run_peer
from .real_sets import REAL_FIGURES, REAL_SETS, RealSet, is_there, run_real_set, settings_of
from .result_rows import Figure, ResultRow, measured, write_row
from .scores import COLUMNS, groups, label_scores, scores, true_maps, true_table
from .tasks import SUITES, TASKS, Task

ROW_JSON, TABLE_JSON = "row.json", "benchmark.json"
BALL_RADIUS_FRAC, BALL_PIXEL_SIZE_ANG = 0.25, 6.0  # of the box
PLANE_CLASSES = 50  # that a peer of classes in the plane is told
PEER_COLUMNS = ("task", "seed", "peer", "found", "nmi", "ami", "ari", "frc_auc", "minutes")


@dataclass(frozen=True)
class BenchmarkOptions:
    """Which tasks, how large, compared with what."""

    data_dir: str = setting("", "Folder with the maps of the tasks", path=True, required=True)
    suite: str = setting("quick", "quick: a fifth of the images, one seed; full: three times the images",
                         choices=tuple(SUITES))
    only: tuple[str, ...] = setting((), "This task; may be repeated", choices=(*TASKS, *REAL_SETS), repeated=True)
    train: bool = setting(False, "Train a VAE-GAN first and start from its clusters")
    landscape: bool = setting(False, "Then train a VAE-GAN with the poses that were found, and score its clusters")
    peers: tuple[str, ...] = setting((), "Group the same images this way too; may be repeated", choices=tuple(PEERS),
                                     repeated=True, option="peer")
    seeds: tuple[int, ...] = setting((), "This seed of everything random, not those of the suite; may be repeated",
                                     repeated=True, option="seed", low=0)
    rows_dir: str = setting("", "Folder in which every task that is run leaves a row of results, for the results pages",
                            path=True, option="rows")
    beside: str = setting("", "What else runs on the machine meanwhile, for the rows", metavar="TEXT")
    compute: ComputeConfig = section(ComputeConfig, shown=("device", "threads", "memory_gb"))


@dataclass(frozen=True)
class PeerRow:
    """Another way to group the same images."""

    found: int
    minutes: float
    scores: dict[str, float] = inlined()


@dataclass(frozen=True)
class TaskRow:
    """``row.json``: what a task was and what came out."""

    task: str
    seed: int
    images: int
    snr: float | None  # of real particles it is not known
    verdict: str
    minutes: float
    settings: dict[str, Any]
    embedding: dict[str, float] | None = None  # scores of the clusters that the states began with
    peers: dict[str, PeerRow] = field(default_factory=dict)
    figures: dict[str, Any] = inlined(default_factory=dict)  # the columns of the scoreboard


def run_benchmark(options: BenchmarkOptions, out_dir: Path, tasks: Mapping[str, Task] = TASKS,
                  real_sets: Mapping[str, RealSet] = REAL_SETS) -> list[TaskRow]:
    """Run the tasks into ``out_dir``; returns the rows of ``benchmark.json``. Raises ConfigError or DataError."""
    check_settings(options)
    (part, seeds), data, out_dir = SUITES[options.suite], Path(options.data_dir), Path(out_dir)
    rows = []
    for name in options.only or (*tasks, *real_sets):
        if name in real_sets:
            real = real_sets[name]
            rows += [run_real(name, real, options, out_dir / f"{name}-{seed}", seed) for seed in options.seeds or seeds
                     if is_there(real, data) or skipped(name, data / real.star)]
            continue
        task = replace(tasks[name], per_map=max(60, round(part * tasks[name].per_map)))
        for seed in options.seeds or seeds:
            out = out_dir / f"{options.suite}-{name}-{seed}"
            where, is_new = replace(options.compute, seed=seed), not (out / ROW_JSON).exists()
            rows.append(run_task(name, task, Place(data, out, where), options.train))
            if options.landscape and not task.in_plane:
                rows[-1] = with_landscape(rows[-1], out, where, groups(task, data), task.ordered)
            if options.rows_dir and is_new:
                write_row(result_row(rows[-1], options), Path(options.rows_dir))
            new = [peer for peer in options.peers if peer not in rows[-1].peers]
            maps = tuple(dict.fromkeys(map(str, true_maps(task, data, out / "data"))))
            told = Told(PLANE_CLASSES if task.in_plane else task.states, maps, str(out / "data" / TRUTH_CSV),
                        rows[-1].minutes, groups(task, data))
            rows[-1] = with_peers(rows[-1], out, options.peers, told, where)
            for peer in new if options.rows_dir else ():
                write_row(peer_result(rows[-1], peer, options), Path(options.rows_dir))
            write_records(out_dir / TABLE_JSON, rows)
    print("\n" + table([to_json(row) for row in rows]))
    if options.peers:
        print("\n" + table([{"task": row.task, "seed": row.seed, "peer": peer, **to_json(row.peers[peer])}
                            for row in rows for peer in options.peers], PEER_COLUMNS))
    return rows


def skipped(name: str, star: Path) -> bool:
    """False, said: the real particles of a task are not there."""
    print(f"{name}: skipped, there is no {star}", flush=True)
    return False


def run_real(name: str, real: RealSet, options: BenchmarkOptions, out: Path, seed: int) -> TaskRow:
    """The row of a set of real particles; read back where it is there."""
    where = replace(options.compute, seed=seed)
    row = Place(Path(options.data_dir), out, where).row_of(settings_of(real))
    if row is not None:
        return row
    print(f"\n{name}, seed {seed}", flush=True)
    summary, figures = run_real_set(real, Path(options.data_dir), out, where)
    n = len(read_clusters(out / "states").particle_id)
    row = TaskRow(name, seed, n, None, summary.verdict, figures.pop("minutes"), settings_of(real),
                  figures={"states": 1, **figures})
    write_record(out / ROW_JSON, row)
    if options.rows_dir:
        write_row(result_row(row, options), Path(options.rows_dir))
    return row


def result_row(row: TaskRow, options: BenchmarkOptions) -> ResultRow:
    """A task's row as a row of results: what was found beside what was run."""
    named = {"images": "images", "snr": "snr", "found": "states", "nmi": "nmi", "ami": "ami",
             "classes": "classes", "frc_auc": "frc_auc", "view_frc_auc": "view_frc_auc",
             "view_resolution_0.5_ang": "view_resolution_at_frc_0.5_ang",
             "pose_error_deg": "pose_error_deg", "resolution_0.5_ang": "resolution_at_fsc_0.5_ang",
             "nyquist_frac_0.5": "of_nyquist", "claimed_excess": "claimed_fsc_excess",
             "claimed_excess_all_shells": "claimed_fsc_excess_all_shells", "spearman": "spearman", "hands": "hands",
             "junk_recall": "junk_recall", "junk_precision": "junk_precision", "minutes": "minutes",
             **{name: name for name in (*LANDSCAPE_FIGURES, *REAL_FIGURES)}, "verdict": "verdict"}
    said = to_json(row)
    figures = {new: said[old] for old, new in named.items() if said.get(old) is not None}
    command = command_of(row, options) + " --train" * options.train + " --landscape" * options.landscape
    return measured(sized_name(row, options), figures, command, row.seed, threads=options.compute.threads,
                    beside=options.beside, settings=row.settings)


def peer_result(row: TaskRow, peer: str, options: BenchmarkOptions) -> ResultRow:
    """What a peer made of a task's images, beside what ``states`` did, as a row of results."""
    of_peer = row.peers[peer]
    ours = {f"states_{name}": row.figures[name] for name in ("nmi", "ami") if name in row.figures}
    figures = {"images": row.images, "groups": of_peer.found, **of_peer.scores, "minutes": of_peer.minutes, **ours,
               "states_minutes": row.minutes}
    return measured(f"{sized_name(row, options)}-by-{peer}", figures, f"{command_of(row, options)} --peer {peer}",
                    row.seed, threads=options.compute.threads, beside=options.beside, settings=row.settings)


def sized_name(row: TaskRow, options: BenchmarkOptions) -> str:
    """The task's name, and its size where it is not the standard one."""
    return row.task + ("" if options.suite == "standard" or row.snr is None else f"-{options.suite}")


def command_of(row: TaskRow, options: BenchmarkOptions) -> str:
    """The command line of a task."""
    return f"vaegan benchmark --data MAPS --suite {options.suite} --only {row.task} --seed {row.seed}"


def with_landscape(row: TaskRow, out: Path, where: ComputeConfig, group_of: dict[str, str], ordered: bool) -> TaskRow:
    """The task's row with the scores of the landscape, where it lacks them and states were found; its file too."""
    if "landscape_clusters" in row.figures or not row.figures.get("found"):
        return row
    row = replace(row, figures={**row.figures, **landscape_scores(out, where, group_of, ordered)})
    write_record(out / ROW_JSON, row)
    return row


def with_peers(row: TaskRow, out: Path, peers: Sequence[str], told: Told, where: ComputeConfig) -> TaskRow:
    """The task's row with the scores of peers that it lacks; its file too."""
    for peer in peers:
        if peer in row.peers:
            continue
        in_plane, folder = "classes" in row.figures, out / "peers" / peer
        minutes = run_peer(peer, out / ("classes" if in_plane else "run"), folder, told, where)
        found = {"": folder, f"{IN_OUR_TIME}_": folder / IN_OUR_TIME}
        scored = PeerRow(int(read_clusters(folder).label.max()) + 1, minutes, {
            **{before + name: value for before, some in found.items() if some.exists()
               for name, value in label_scores(some, out / "data" / TRUTH_CSV, told.group_of).items()},
            **(averages_scores(folder, out / "data") if in_plane and (folder / result_files.MAPS).exists() else {})})
        row = replace(row, peers={**row.peers, peer: scored})
        write_record(out / ROW_JSON, row)
    return row


@dataclass(frozen=True)
class Place:
    """Where a task is run: the folder of the maps, the folder of its results, the device and the seed."""

    data: Path
    out: Path
    where: ComputeConfig

    def row_of(self, settings: dict[str, Any]) -> TaskRow | None:
        """The row that is there, if there is one. Raises ConfigError where it was made with other settings."""
        if not (self.out / ROW_JSON).exists():
            return None
        row = read_record(TaskRow, self.out / ROW_JSON, "benchmark")
        if row.settings != settings:
            raise ConfigError(f"{self.out}: its row was made with other settings.", "Give another --out.")
        return row


def run_task(name: str, task: Task, place: Place, train: bool) -> TaskRow:
    """One row of the table; read back where it is there. Raises ConfigError or DataError."""
    data, out, where = place.data, place.out, place.where
    settings = {**to_json(task), "train": train}
    row = place.row_of(settings)
    if row is not None:
        return row
    atoms = task.assembly.atoms if task.assembly else ""
    needed = (*task.maps, *task.junk_maps, *filter(None, (task.groups_csv, task.ctf_table, atoms)))
    missing = [path for path in needed if not (data / path).exists()]
    if missing:
        raise DataError(f"{data / missing[0]}: there is no such file.", "Give the folder of the maps with --data.")
    print(f"\n{name}, seed {where.seed}", flush=True)
    simulated(task, data, out / "data", where)
    started = time.monotonic()
    clusters = trained(out, where) if train else ""
    if task.in_plane:
        of_classes = run_classes_of(task, out, where)
        verdict, counts = of_classes.verdict, {"classes": of_classes.classes_of_particles}
    else:
        if not train:
            run_json.write_run(training(out, where), out / "run" / result_files.RUN_JSON)
        of_states = run_states_of(out, clusters, where, task.symmetry)
        verdict = of_states.verdict
        counts = {"states": task.states, "found": of_states.states if of_states.has_states else 0}
    minutes = (time.monotonic() - started) / 60
    figures = class_scores(out) if task.in_plane else scores(task, data, out, where)
    row = TaskRow(name, where.seed, len(true_table(out / "data" / TRUTH_CSV)), task.snr, verdict, minutes, settings,
                  figures={**counts, **figures})
    if clusters:
        row = replace(row, embedding=label_scores(Path(clusters), out / "data" / TRUTH_CSV, groups(task, data)))
    write_record(out / ROW_JSON, row)
    return row


def simulated(task: Task, data: Path, out: Path, where: ComputeConfig) -> None:
    """The task's particles, and maps that are not at hand; pure noise keeps the CTF parameters of a simulated set."""
    if task.ball:
        ball = soft_sphere_mask(task.box_px, BALL_RADIUS_FRAC * task.box_px, 2.0)
        write_map(true_maps(task, data, out)[0], ball, BALL_PIXEL_SIZE_ANG)
    if task.assembly:
        write_assembly(task.assembly, data, out, task.box_px)
    made_of = tuple(str(path) for path in true_maps(task, data, out))
    source = {"maps": made_of} if made_of else {"phantom": 1}
    options = SimulateOptions(**source, per_map=task.per_map, box_px=task.box_px,
                              crop_frac=task.crop_frac if task.maps else 1.0, snr=task.snr, device=where.device,
                              view_concentration=task.view_concentration, contrast_spread=task.contrast_spread,
                              noise_ratio=task.noise_ratio, seed=where.seed, max_shift_frac=task.max_shift_frac,
                              crowding=task.crowding, micrograph_noise_spread=task.micrograph_noise_spread,
                              phase_flipped=task.phase_flipped,
                              ctf_table=str(data / task.ctf_table) if task.ctf_table else "",
                              junk_frac=task.junk_frac,
                              junk_maps=tuple(str(data / path) for path in task.junk_maps))
    simulation = run_simulate(options, out)
    if not made_of:
        noise = np.random.default_rng(where.seed).standard_normal((task.per_map, task.box_px, task.box_px))
        write_stack(out / STACK, noise.astype(np.float32), simulation.pixel_size_ang)


def training(out: Path, where: ComputeConfig) -> TrainRun:
    """Settings of the task's training."""
    simulation = read_record(Simulation, out / "data" / "simulation.json", "simulate")
    return presets.build_run("train3d", "fast", {
        "data": {"particles": str((out / "data" / STAR).absolute()), "box_px": simulation.options.box_px},
        "compute": asdict(where)})


def trained(out: Path, where: ComputeConfig) -> str:
    """Train, embed and cluster; returns the clusters' folder."""
    from ...latent.cluster import run_cluster
    from ...latent.embed import run_embed
    from ...training.train import run_train

    folders = {name: str((out / name).absolute()) for name in ("run", "embedding", "clusters")}
    run_train(training(out, where), Path(folders["run"]), resume=(out / "run" / result_files.RUN_JSON).exists())
    run_embed(EmbedRun(run_dir=folders["run"], compute=where), Path(folders["embedding"]))
    run_cluster(ClusterRun(embedding_dir=folders["embedding"], run_dir=folders["run"], compute=where),
                Path(folders["clusters"]))
    return folders["clusters"]


def run_states_of(out: Path, clusters: str, where: ComputeConfig, symmetry: str) -> StatesSummary:
    """Refine the task's particles."""
    from ...refine.refine import run_states

    compute.prepare_device(where)
    return run_states(StatesRun(run_dir=str((out / "run").absolute()), clusters_dir=clusters, symmetry=symmetry,
                                compute=where),
                      out / "states")


def run_classes_of(task: Task, out: Path, where: ComputeConfig) -> Classes2dSummary:
    """Class averages of the task's particles, from at most 50 classes of 60 images."""
    from ...classes2d.classify import run_classes2d

    star, n = (out / "data" / STAR).absolute(), len(true_table(out / "data" / TRUTH_CSV))
    return run_classes2d(Classes2dRun(data=DataConfig(particles=str(star), box_px=task.box_px), compute=where,
                                      n_classes=max(2, min(50, n // 60))), out / "classes")


def averages_scores(folder: Path, data: Path) -> dict[str, float]:
    """Class averages of a folder against the true projections."""
    found = plane_scores(folder, data)
    return {} if found is None else to_json(found)


def class_scores(out: Path) -> dict[str, float]:
    """Averages against the projections, images of junk against the truth."""
    of_junk = label_scores(out / "classes", out / "data" / TRUTH_CSV)
    return {**{name: value for name, value in of_junk.items() if name.startswith("junk")},
            **averages_scores(out / "classes", out / "data")}


def table(rows: Sequence[Mapping[str, Figure]], columns: tuple[str, ...] = COLUMNS) -> str:
    """The rows as text, one line each."""
    def shown(row: Mapping[str, Figure], column: str) -> str:
        value = row.get(column, "-")
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    cells = [list(columns), *[[shown(row, column) for column in columns] for row in rows]]
    widths = [max(len(line[k]) for line in cells) for k in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                     for line in cells)
