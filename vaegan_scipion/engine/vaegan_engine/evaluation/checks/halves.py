"""``halves``: two trainings on half the particles each, sharing no weights, and the FSC of their maps.

The clusters are those of the whole set: they are labels only. Each half has its own generator and
encoder, begun from its own seed; a cluster's map in a half is its generator at the mean of its
encoder's z over the cluster's particles in that half.

The half sets are those that the poses were refined in, where these are known; else those of the star file, copies of
an image in one of them; drawn anew where one holds hardly any.
"""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...contract import result_files, run_json
from ...contract.errors import ConfigError, DataError
from ...contract.labels import UNASSIGNED
from ...contract.record import write_records
from ...contract.records import HalfMaps, HalvesRow
from ...contract.run_json import read_training
from ...contract.setting import check_settings
from ...contract.settings import EmbedRun, HalvesRun, TrainRun
from ...contract.status import update_status
from ...data.mrc_files import write_map
from ...data.part_of_prepared import write_part
from ...data.particle_tables import Clusters, Latents, read_clusters, read_latents
from ...data.particles import with_both_halves
from ...data.pose_table import read_poses
from ...data.prepared_images import ParticleCache, cache_folder
from ...data.run_images import check_row_ids, open_run_cache
from ...figures.fsc_curves import HalvesFsc, write_fsc
from ...latent.embed import run_embed
from ...physics.map_alignment import align_map
from ...physics.map_comparison import compare
from ...training.decoded import load_trained
from ...training.posed_images import with_half_sets_of
from ...training.train import run_train

SMALLEST_HALF = 5  # particles of a cluster in a half


def half_run(whole: TrainRun, half: Literal[1, 2], run: HalvesRun) -> TrainRun:
    """Settings of one half: its own seed, and the length asked for. Which particles it has, its prepared images say.

    A length other than the run's scales the encoder's stage in proportion.
    """
    training = whole.training
    if run.total_kimg > 0:
        factor = run.total_kimg / training.total_kimg
        training = replace(training, total_kimg=run.total_kimg, encoder_kimg=training.encoder_kimg * factor)
    data = replace(whole.data, half_set=half, prepared_dir="")
    return replace(whole, data=data, training=replace(training, continue_from=""),
                   compute=replace(run.compute, seed=2 * whole.compute.seed + half))


def run_halves(run: HalvesRun, out_dir: Path) -> None:
    """Train, embed, decode, align and compare both halves in ``out_dir``.

    Raises ConfigError, DataError, or what the training raises.
    """
    out_dir = Path(out_dir)
    whole = checked_run(run)
    clusters = read_clusters(run.clusters_dir)
    check_row_ids(run.clusters_dir, whole.data.particles)
    source = cache_folder(whole.data, Path(run.run_dir) / result_files.CACHE)
    half_set = half_sets_of(whole, open_run_cache(whole.data, run.run_dir))
    result_files.forget(out_dir, result_files.FSC_CSV, "fsc.png", result_files.HALVES_JSON,
                        f"{result_files.MAPS}/cluster_*_half?.mrc")
    run_json.write_run(run, out_dir / result_files.RUN_JSON)
    latents, decoders = [], []
    halves: tuple[Literal[1, 2], ...] = (1, 2)
    for half in halves:
        folder, settings = out_dir / f"half{half}", half_run(whole, half, run)
        print(f"half {half}: training", flush=True)
        is_same = write_part(source, settings.data, np.flatnonzero(half_set == half), folder / result_files.CACHE)
        run_train(settings, folder, resume=same_settings(folder, settings, is_same))
        embedded = folder / "embedding"
        run_embed(EmbedRun(run_dir=str(folder.absolute()), compute=run.compute), embedded)
        latents.append(read_latents(embedded))
        decoders.append(load_trained(str(folder.absolute()), run.compute))
    rows = [compare_halves(label, clusters, latents, decoders, out_dir) for label in clusters.labels
            if label != UNASSIGNED]
    write(rows, out_dir)
    update_status(out_dir, state="finished", command=run.command, error=None, clusters=len(rows), warning=None)


def checked_run(run: HalvesRun) -> TrainRun:
    """The settings of the whole training, if its halves can be trained."""
    check_settings(run)
    whole = read_training(run.run_dir)
    if whole.command != "train3d":
        raise ConfigError(f"{run.run_dir} is a {whole.command}; halves compares maps.",
                          "Give the --out folder of train3d.")
    if whole.data.half_set:
        raise ConfigError(f"{run.run_dir} was trained on data.half_set {whole.data.half_set}.",
                          "Give a training on all particles.")
    return whole


def half_sets_of(whole: TrainRun, cache: ParticleCache) -> np.ndarray:
    """Half set of every particle ``(n,)``, 1 or 2; 0 of those that the training leaves out. Raises DataError.

    ``states`` draws anew half sets that go with a state: a split by the star file's would then be one of states.
    """
    rows, split = np.arange(len(cache)), np.zeros(len(cache), np.uint8)
    if whole.data.posed:
        table = read_poses(whole.data)
        rows, here = table.rows_of(cache.particle_id)
        cache = with_half_sets_of(cache, table, rows, here)
    split[rows] = with_both_halves(cache.half_set[rows], cache.twin_id[rows])
    sizes = [int((split == half).sum()) for half in (1, 2)]
    if min(sizes) < SMALLEST_HALF:
        raise DataError(f"{whole.data.particles}: of the particles of this training {sizes[0]} are of half set 1 and "
                        f"{sizes[1]} of 2; two halves of at least {SMALLEST_HALF} images are compared.",
                        "Train on more particles; rows that name one image count once.")
    return split


def same_settings(folder: Path, settings: TrainRun, same_particles: bool) -> bool:
    """Whether ``folder`` holds a training with these settings, to be continued; where to compute may change."""
    path = folder / result_files.RUN_JSON
    if not path.exists():
        return False
    stored = run_json.read_run(path)
    if not isinstance(stored, TrainRun):
        return False
    # the training itself may lower the batch size to the number of particles
    training = replace(stored.training, batch_size=settings.training.batch_size)
    compute = replace(settings.compute, seed=stored.compute.seed)
    same = replace(stored, training=training, compute=compute) == settings
    if not (same and same_particles):
        other = "settings" if same_particles else "particles"
        print(f"{folder}: trained anew, as it was made with other {other}", flush=True)
    return same and same_particles


def compare_halves(label: int, clusters: Clusters, latents: list[Latents], decoders: list[Any], out_dir: Path
                   ) -> HalvesRow:
    """Maps of one cluster from both halves, the second aligned to the first, and their FSC."""
    wanted = clusters.particle_id[clusters.label == label]
    members = [half.z[np.isin(half.particle_id, wanted)] for half in latents]
    sizes = len(members[0]), len(members[1])
    if min(sizes) < SMALLEST_HALF:
        return HalvesRow(label, *sizes,
                         note=f"{min(sizes)} particles in one half, fewer than {SMALLEST_HALF}: not compared")
    maps = [decoder.decode(z.mean(axis=0, keepdims=True))[0] for decoder, z in zip(decoders, members, strict=True)]
    voxel_size_ang = decoders[0].pixel_size_ang
    aligned = align_map(maps[1], maps[0], voxel_size_ang)
    files = [f"{result_files.MAPS}/cluster_{label:02d}_half{half}.mrc" for half in (1, 2)]
    for file, array in zip(files, (maps[0], aligned.map), strict=True):
        write_map(out_dir / file, array, voxel_size_ang)
    return HalvesRow(label, *sizes, compared=HalfMaps(
        voxel_size_ang, float(aligned.correlation), bool(aligned.mirrored), files,
        compare(maps[0], aligned.map, voxel_size_ang)))


def fsc_of(row: HalvesRow) -> HalvesFsc:
    """The curve of a row, or its note."""
    if row.compared is None:
        return HalvesFsc(row.cluster, note=row.note)
    return HalvesFsc(row.cluster, row.compared.voxel_size_ang, row.compared.halves)


def write(rows: list[HalvesRow], out_dir: Path) -> None:
    """Write ``halves.json`` and the curves."""
    write_fsc([fsc_of(row) for row in rows], out_dir, "Two halves trained apart")
    write_records(out_dir / result_files.HALVES_JSON, rows)
