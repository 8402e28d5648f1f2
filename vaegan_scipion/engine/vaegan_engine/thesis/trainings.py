"""Data, trainings and analyses of the experiments of ``reproduce``; every finished part is kept.

::

    OUT/DATASET/particles.star ...      simulated, or the star file that was given
    OUT/CONFIGURATION/run               training: made here, or by 'vaegan train3d --out' on another machine
    OUT/CONFIGURATION/embedding, clusters, evaluation, traversal ...
"""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..contract import presets, result_files, run_json
from ..contract.errors import DataError
from ..contract.record import read_record
from ..contract.settings import ClusterRun, EmbedRun, TrainRun, TraverseRun
from ..contract.status import read_status
from ..simulation.options import SimulateOptions, Simulation
from ..simulation.simulate import STAR, TRUTH_CSV, run_simulate
from .experiment_tables import ReproduceOptions, TableRow

PER_MAP = {"small": 1000, "full": 10000}
# The small scale is another experiment with the same parts: smaller images, fewer steps, larger learning rates.
SMALL_BOX_PX = 32
SMALL: dict[str, Any] = {
    "data": {"box_px": SMALL_BOX_PX},
    "model": {"critic_width": 16, "encoder_width": 16, "generator_width": 64},
    "training": {"total_kimg": 16.0, "critic_lr": 2e-4, "generator_lr": 2e-4, "encoder_lr": 2e-4,
                 "tick_kimg": 3.2, "checkpoint_kimg": 8.0}}
FULL_BOX_PX = 64
CS_MM = 2.0  # the thesis's
SAME = ("per_map", "box_px", "snr", "defocus_range_ang")  # of a set that is there already, and of the one asked for


@dataclass(frozen=True)
class Configuration:
    """One training of an experiment."""

    name: str
    command: str
    preset: str
    dataset: str = "data"
    changes: dict[str, Any] = field(default_factory=dict)
    small: dict[str, Any] = field(default_factory=lambda: SMALL)  # what the small scale changes in the preset


def image_size(options: ReproduceOptions) -> int:
    """Box of the simulated images, px."""
    return SMALL_BOX_PX if options.scale == "small" else FULL_BOX_PX


def per_map(options: ReproduceOptions) -> int:
    """Images of each map."""
    return options.per_map or PER_MAP[options.scale]


def simulated(options: ReproduceOptions, maps: list[str], folder: Path, **changes: Any) -> Path:
    """Star file of a simulated set in ``folder``, made where it is not there. Raises DataError."""
    asked = SimulateOptions(maps=tuple(str(Path(name).absolute()) for name in maps), per_map=per_map(options),
                            box_px=image_size(options), snr=options.snr, defocus_range_ang=options.defocus_range_ang,
                            cs_mm=CS_MM, seed=options.compute.seed, device=options.compute.device, **changes)
    star = folder / STAR
    if star.exists():
        stored = read_record(Simulation, folder / "simulation.json", "simulate")
        made = stored.options
        if [Path(name).name for name in stored.map_files] != [Path(name).name for name in maps] \
                or any(getattr(made, name) != getattr(asked, name) for name in SAME):
            raise DataError(f"{folder} holds {made.per_map} images of {made.box_px} px of each of "
                            f"{len(stored.map_files)} maps (SNR {made.snr:g}, defocus {made.defocus_range_ang[0]:g} to "
                            f"{made.defocus_range_ang[1]:g} A): another set than asked for.",
                            "Give another --out, or the options that it was made with.")
        print(f"{star}: there already", flush=True)
        return star
    run_simulate(asked, folder)
    return star


def maps_of(options: ReproduceOptions, names: list[str]) -> list[str]:
    """The maps given, or ``names`` below the data folder. Raises DataError."""
    if options.maps:
        return list(options.maps)
    if not options.data_dir:
        raise DataError(f"{options.experiment} needs maps.",
                        f"Give --maps FILE..., or --data DIR with {names[0]} and the rest in it.")
    paths = [Path(options.data_dir) / name for name in names]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise DataError(f"{missing[0]} is not there ({len(missing)} of {len(paths)} maps are missing).",
                        "Give the folder that holds them with --data, or maps of your own with --maps.")
    return [str(path) for path in paths]


def settings(options: ReproduceOptions, configuration: Configuration, star: Path) -> TrainRun:
    """The settings of one training: preset, scale, then what the command line asks for."""
    changes = configuration.small if options.scale == "small" else {}
    changes = run_json.merged(changes, configuration.changes)
    for text in options.settings:
        changes = run_json.merged(changes, presets.parse_setting(text))
    fixed: dict[str, Any] = {"data": {"particles": str(star.absolute())},
                             "compute": {"device": options.compute.device, "threads": options.compute.threads,
                                         "seed": options.compute.seed}}
    if options.kimg:
        fixed["training"] = {"total_kimg": options.kimg}
    return presets.build_run(configuration.command, configuration.preset, run_json.merged(changes, fixed))


def training_command(options: ReproduceOptions, configuration: Configuration, star: Path, out_dir: Path) -> str:
    """The plain command that does this training, here or elsewhere."""
    run, base = settings(options, configuration, star), presets.build_run(
        configuration.command, configuration.preset, {"data": {"particles": str(star.absolute())}})
    words = [f"vaegan {configuration.command}", f"--preset {configuration.preset}", f"--particles {star}",
             f"--out {out_dir / configuration.name / 'run'}"]
    values, defaults = run_json.to_dict(run), run_json.to_dict(base)
    for section in ("data", "model", "training", "compute"):
        words += [f"--set {section}.{key}={str(value).lower() if isinstance(value, bool) else value}"
                  for key, value in values[section].items() if value != defaults[section][key]]
    return " ".join(words)


def trained(options: ReproduceOptions, configuration: Configuration, star: Path, out_dir: Path) -> Path:
    """Folder of the finished training: taken where it is there, continued or made where it is not.

    A finished training is taken as it is, whatever its length, unless a point of a learning curve asks for more
    (``options.kimg``): then it goes on. It must be of the same preset.
    """
    from ..training.train import run_train

    folder = out_dir / configuration.name / "run"
    if finished(folder) and (options.points == 1 or seen_kimg(folder) >= options.kimg):
        run = run_json.read_run(folder / result_files.RUN_JSON)
        if not isinstance(run, TrainRun) or run.preset != configuration.preset:
            raise DataError(f"{folder}: it is no training with the preset {configuration.preset}.",
                            "Move it away, or train there with that preset.")
        print(f"{folder}: trained already ({run.training.total_kimg:g} kimg)", flush=True)
        return folder
    run_train(settings(options, configuration, star), folder, resume=(folder / result_files.CHECKPOINTS).is_dir())
    return folder


def seen_kimg(run_dir: Path) -> float:
    """Thousands of images that a training was shown."""
    return (read_status(run_dir).images_seen or 0) / 1000


def finished(folder: Path) -> bool:
    """Whether a step's status says that it is done."""
    return read_status(folder).finished


def embedded(options: ReproduceOptions, run_dir: Path, star: Path, into: Path) -> Path:
    """Folder, in ``into``, of the embedding of a training."""
    from ..latent.embed import run_embed

    folder = into / "embedding"
    if not finished(folder):
        run_embed(EmbedRun(run_dir=str(run_dir.absolute()), particles=str(star.absolute()), compute=options.compute),
                  folder)
    return folder


def clustered(options: ReproduceOptions, run_dir: Path, embedding_dir: Path) -> Path:
    """Folder of the thesis's clustering: UMAP(30, 0.0), HDBSCAN(10, 900 of 30,000), groups as HDBSCAN makes them."""
    from ..latent.cluster import run_cluster

    folder = embedding_dir.parent / "clusters"
    if not finished(folder):
        run_cluster(ClusterRun(embedding_dir=str(embedding_dir.absolute()), run_dir=str(run_dir.absolute()),
                               n_neighbors=30, min_dist=0.0, min_samples=10, min_cluster_frac=0.03, join_valley=0.0,
                               compute=options.compute), folder)
    return folder


def traversed(options: ReproduceOptions, run_dir: Path, clusters_dir: Path) -> Path:
    """Folder of the thesis's PCA traversal: one component, 4 points from the 5th to the 95th percentile."""
    from ..latent.traverse import run_traverse

    folder = run_dir.parent / "traversal"
    if not finished(folder):
        run_traverse(TraverseRun(clusters_dir=str(clusters_dir.absolute()), run_dir=str(run_dir.absolute()),
                                 n_components=1, n_points=4, compute=options.compute), folder)
    return folder


def truth_of(star: Path) -> Path:
    """``truth.csv`` beside a simulated star file."""
    return star.parent / TRUTH_CSV


def snr_of(particles: str) -> float | None:
    """SNR of a simulated set; None of another."""
    stored = Path(particles).parent / "simulation.json"
    return read_record(Simulation, stored, "simulate").options.snr if stored.exists() else None


def training_columns(run_dir: Path) -> TableRow:
    """What every row says of its training."""
    run, status = run_json.read_run(run_dir / result_files.RUN_JSON), read_status(run_dir)
    assert isinstance(run, TrainRun) and status.images_seen is not None
    return {"box_px": run.data.box_px, "images": status.n_particles,
            "steps": int(status.images_seen / run.training.batch_size), "kimg": status.images_seen / 1000,
            "snr": snr_of(run.data.particles), "seed": status.seed, "device": status.device}
