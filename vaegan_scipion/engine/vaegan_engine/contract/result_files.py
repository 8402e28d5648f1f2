"""File names of a results folder, atomic writers and readers.

Standard library and numpy only, Python 3.8 syntax: Scipion reads results with this file.
Every file is written as ``NAME.tmp`` and renamed; only ``log.jsonl`` is appended to.

========================= ======================================================
train folder
========================= ======================================================
``run.json``              the settings (contract)
``forecast.json``         of large sets: time, memory and disk that were expected before the run (other commands too)
``status.json``           state, progress, newest checkpoint, versions, error
``log.jsonl``             one object per tick
``checkpoints/*.pt``      tensors and plain values; name = images seen
``previews/*.png``        what the networks see and make, one per tick
``cache/``                float16 training images and their table
embed folder
``latents.npz``           particle_id (n,) int64, z (n, k) float32, half_set (n,) uint8; with poses also
                          precision (n, k, k) float32, the inverse covariance of each z
cluster folder
``clusters.csv``          particle_id, label, probability, umap_1, umap_2 [, more umap_*]
``clusters.json``         list, per cluster: label (-1 = unassigned), n_particles, z (list), file, index, stability
``clustering.json``       how: method, min_cluster_size, joins, number of clusters against it; verdict, evidence
``maps/cluster_00.mrc``   one map per cluster (3D), or ``maps/images.mrcs``: image ``index`` of 0.. (2D)
traverse folder
``traversal.csv``         cluster, component, point, position, n_near, distance_z, file, index, z_1..z_k
``maps/*.mrc``            3D: one map per point; 2D: ``maps/images.mrcs``
halves folder
``fsc.csv``               cluster, resolution_ang, spatial_frequency_per_ang, fsc
``halves.json``           list, per cluster: resolution at 0.143 and 0.5, hand, correlation
``half1``, ``half2``      the two trainings
states folder
``states.json``           verdict, its kind and its evidence: log likelihood of unseen images, balls, pairs
``costs.json``            list, per stage: seconds, image_poses (images times poses at which they were compared)
``particles.csv``         particle_id, label, probability, rot, tilt, psi (deg), shift x, y (A), half_set, motion,
                          motion_std, contrast, junk_reason (why it was set aside, or empty)
``junk_examples.json``    where images were set aside: list, per reason (empty: kept, to compare with): n_images, and
                          some of them, images ``indices`` of ``maps/junk_examples.mrcs``
``particles.star``        the particles' own star file with poses, class and half set, for other programs
``clusters.csv``          particle_id, label, probability: as of cluster, without UMAP
``clusters.json``         as of cluster, with resolutions and half maps
``maps/cluster_00*.mrc``  map of all images and ``_half1``, ``_half2``
``checkpoints/*.npz``     finished steps of a refinement that is not finished
``fsc.csv``               as of halves, and fsc_raw, fsc_masked, proven
fullres folder
``fullres.json``          per state: resolution before and after, rounds, B-factor, local resolution, files
``clusters.json``, ``clusters.csv``, ``particles.csv``, ``particles.star``, ``fsc.csv``: as of states, at full size
``maps/cluster_00*.mrc``  the map, ``_half1``, ``_half2``, ``_sharpened``, ``_local_resolution`` (A), ``_mask``
``state_01.star``         particles of one state, with half sets; ``state_01_relion.sh``: RELION's refinement of them
``sections.png``          sections of the sharpened maps; ``fsc.png``
``checkpoints/*.npz``     finished rounds of a refinement that is not finished
classes2d folder
``classes2d.json``        verdict, numbers of classes and images, junk and how it was told
``clusters.json``         list, per class, the largest first, junk last: label (from 0), n_particles, n_junk, junk (why,
                          or empty), frc, frc_0.143_ang and frc_0.5_ang of its halves, file, index
``maps/classes.mrcs``     class averages, masked, centred: image ``index`` of 0..
``maps/classes_half1.mrcs``, ``_half2``: averages of the half sets
``classes.png``           all of them, with sizes, resolutions and a scale bar
``particles.csv``         particle_id, label (-1 = none), junk (0 or 1), probability (of the class), psi (deg), shift
                          x, y (A), contrast, gain, half_set, junk_reason
``junk_examples.json``    as of states
``particles.star``        the particles' own star file with class, psi, origin; ``junk.star``: those set aside
``clusters.csv``          particle_id, label (of junk -1), probability
``checkpoints/*.npz``     finished steps of a classification that is not finished
consensus folder
``consensus.json``        verdict, groups, runs, agreement of every two
``clusters.csv``, ``clusters.json``: as of cluster
evaluate folder
``evaluation.json``       clusters, NMI, AMI, ARI, per map resolution
``maps/*_aligned.mrc``    the cluster's map in the frame of its reference
report folder
``report.html``           everything in one file, for a browser
counterpart folder
``counterpart.json``      particle, correlation with the generated image, shift (px), orientation (deg)
``counterpart.mrcs``      particle, generated image with CTF, the same without; training box
========================= ======================================================
"""
from __future__ import annotations

import csv
import json
import os
import zipfile
from array import array
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Union, cast

import numpy as np

from .errors import DataError

_CODES = {int: "q", float: "d"}  # of arrays that hold the numbers of a column

RUN_JSON = "run.json"
STATUS_JSON = "status.json"
FORECAST_JSON = "forecast.json"
LOG_JSONL = "log.jsonl"
CHECKPOINTS = "checkpoints"
PREVIEWS = "previews"
CACHE = "cache"
LATENTS_NPZ = "latents.npz"
CLUSTERS_CSV = "clusters.csv"
CLUSTERS_JSON = "clusters.json"
CLUSTERING_JSON = "clustering.json"
MAPS = "maps"
IMAGES_MRCS = "images.mrcs"
TRAVERSAL_CSV = "traversal.csv"
COMPONENTS_JSON = "components.json"
FSC_CSV = "fsc.csv"
HALVES_JSON = "halves.json"
STATES_JSON = "states.json"
COSTS_JSON = "costs.json"
PARTICLES_CSV = "particles.csv"
PARTICLES_STAR = "particles.star"
JUNK_STAR = "junk.star"
FULLRES_JSON = "fullres.json"
JUNK_EXAMPLES_JSON = "junk_examples.json"
JUNK_EXAMPLES_MRCS = "junk_examples.mrcs"
PLANE_POSES_CSV = "plane_poses.csv"  # train2d with poses: particle_id, psi_deg in one frame for all classes
CLASSES2D_JSON = "classes2d.json"
CLASSES_MRCS = "classes.mrcs"
CLASSES_PNG = "classes.png"
CONSENSUS_JSON = "consensus.json"
EVALUATION_JSON = "evaluation.json"
REPORT_HTML = "report.html"
SCF_JSON = "scf.json"
COUNTERPART_JSON = "counterpart.json"
COUNTERPART_MRCS = "counterpart.mrcs"
# patterns: maps of clusters or states, and what was made of these since
MAPS_OF_GROUPS = (MAPS + "/cluster_[0-9]*.mrc", MAPS + "/cluster_unassigned.mrc")

PathLike = Union[str, Path]


def forget(folder: PathLike, *names: str) -> None:
    """Take away what a run before has left, when one with other settings (``run.json``) begins in its folder.

    Names are relative to it, or patterns (``maps/cluster_[0-9]*.mrc``): of more groups than there are now.
    """
    for name in names:
        for path in list(Path(folder).glob(name)):
            path.unlink()


def write_json(path: PathLike, values: Any) -> None:
    """Write JSON atomically. NaN is refused: it is not JSON."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    part.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")
    os.replace(part, path)


def read_json(path: PathLike) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text())


def append_jsonl(path: PathLike, values: Mapping[str, Any]) -> None:
    """Append one JSON object as one line."""
    with open(path, "a") as stream:
        stream.write(json.dumps(values) + "\n")


def write_jsonl(path: PathLike, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file by one JSON object per line."""
    part = f"{path}.tmp"
    with open(part, "w") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    os.replace(part, path)


def read_jsonl(path: PathLike) -> List[Dict[str, Any]]:
    """All complete lines of a ``log.jsonl``; a line cut by a crash is left out."""
    rows: List[Dict[str, Any]] = []
    if not Path(path).exists():
        return rows
    for line in Path(path).read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def write_npz(path: PathLike, **arrays: np.ndarray) -> None:
    """Write arrays atomically, without pickle."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    with open(part, "wb") as stream:
        np.savez(stream, **cast(Any, arrays))
    os.replace(part, path)


def read_npz(path: PathLike) -> Dict[str, np.ndarray]:
    """Read arrays; pickled objects are refused.

    Raises ValueError for a file that is not whole, as a power cut may leave it, OSError where it cannot be read.
    """
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def write_csv(path: PathLike, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    with open(part, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
    os.replace(part, path)


def read_csv(path: PathLike) -> List[Dict[str, str]]:
    """Rows of a table as dictionaries of strings without blanks around them; a byte-order mark is no part of a name."""
    with open(path, newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream, skipinitialspace=True)
        reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
        return [{name: value.strip() if isinstance(value, str) else value for name, value in row.items()}
                for row in reader]


def csv_header(path: PathLike) -> List[str]:
    """Names of a table's columns."""
    with open(path, newline="", encoding="utf-8-sig") as stream:
        return [name.strip() for name in next(csv.reader(stream, skipinitialspace=True), [])]


def read_columns(path: PathLike, kinds: Mapping[str, type], absent: Optional[Mapping[str, str]] = None
                 ) -> Dict[str, np.ndarray]:
    """Columns ``(n,)`` of a table by name, of the kind ``int``, ``float`` or ``str`` that is asked for.

    Rows are read one after the other, so that memory holds the columns alone. ``absent``: by column, what is read where
    it is not there, and where it has no value.

    Raises KeyError for a column that is missing, ValueError for a row that is too short or a value of another kind.
    """
    absent = absent or {}
    made: Dict[str, Any] = {name: array(_CODES[kind]) if kind in _CODES else [] for name, kind in kinds.items()}
    with open(path, newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream, skipinitialspace=True)
        place = {name.strip(): k for k, name in enumerate(next(reader, []))}
        at = {name: place[name] for name in kinds if name in place or name not in absent}  # else KeyError
        taken = [(at.get(name), kind, absent.get(name, ""), made[name].append) for name, kind in kinds.items()]
        try:
            for row in filter(None, reader):
                for k, kind, otherwise, append in taken:
                    append(kind(("" if k is None else row[k].strip()) or otherwise))
        except (IndexError, OverflowError, ValueError) as error:
            raise ValueError(f"line {reader.line_num}: {error}") from error
    return {name: np.array(values, kinds[name]) for name, values in made.items()}


def read_picture(path: PathLike, index: int = 0) -> np.ndarray:
    """A map ``(d, d, d)``, or image ``index`` (from 0) of a stack ``(d, d)``, as float32. Raises DataError."""
    import mrcfile

    try:
        with mrcfile.mmap(path, mode="r", permissive=True) as stored:
            stacked = Path(path).suffix == ".mrcs" and stored.data.ndim == 3  # a stack of one is read as an image
            return np.array(stored.data[index] if stacked else stored.data, np.float32)
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path}: it cannot be read ({error}).", "Run the command that made it again.") from error
