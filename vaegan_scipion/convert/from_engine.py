"""Scipion sets to the engine's star file, and the engine's results to Scipion sets.

Rows are joined by particle id, never by order. Pixel sizes are in A/px, angles in degrees,
defocus in A, as in RELION. A cluster with label l >= 0 is class l + 1; the label -1, unassigned, is the
last class.
"""
from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, cast

import numpy as np
from pwem.objects import FlexInfo, Particle, ParticleFlex, Volume
from pyworkflow.object import CsvList, Float, Integer

from ..constants import PROGRAM_NAME
from ..engine.vaegan_engine.contract import result_files
from ..engine.vaegan_engine.contract.answer import Crossing, crossing
from ..engine.vaegan_engine.contract.labels import UNASSIGNED, cluster_name
from ..engine.vaegan_engine.contract.result_files import read_picture
from ..engine.vaegan_engine.contract.status import read_status
from ..engine_run import EngineError, result_file

HALF_SET_ATTRIBUTE = "_rlnRandomSubset"
OPTICS_ATTRIBUTE = "_rlnOpticsGroup"
NO_OPTICS = 300.0, 2.7, 0.1  # kV, Cs in mm, amplitude contrast: columns that a star file must have
FLEXIBLE_ATTRIBUTES = "_flexInfo", "_zFlex", "_zRed", "_vaeganZStd"
MICROSCOPE_COLUMNS = ["rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast"]
OPTICS_COLUMNS = (["rlnOpticsGroupName", "rlnOpticsGroup"] + MICROSCOPE_COLUMNS
                  + ["rlnImagePixelSize", "rlnImageSize", "rlnImageDimensionality"])
IMAGE_COLUMNS = ["rlnImageName", "rlnOpticsGroup", "vaeParticleId"]
CTF_COLUMNS = ["rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift"]


class Picture(NamedTuple):
    """A map file (number 0), or one image (number from 1) of a stack."""

    number: int
    path: str

    def read(self) -> np.ndarray:
        """Densities (d, d, d) or (d, d), as float32. Raises DataError of the engine."""
        return read_picture(self.path, max(self.number - 1, 0))


class Clusters(NamedTuple):
    """Clustering of n particles; the arrays share their order, `particle_id` names the rows."""

    particle_id: np.ndarray  # (n,) int64
    label: np.ndarray  # (n,) int64, -1 = unassigned
    probability: np.ndarray  # (n,) float64
    umap: np.ndarray  # (n, 2 or more) float64


class Latents(NamedTuple):
    """Latent vectors of n particles; the arrays share their order."""

    particle_id: np.ndarray  # (n,) int64
    z: np.ndarray  # (n, k)
    std: Optional[np.ndarray]  # (n, k) of their posteriors; None after a training without poses, which knows none


# ------------------------------- engine to Python -------------------------------
def read_clusters(folder: str) -> Clusters:
    """`clusters.csv` of a cluster folder, sorted by particle id. Raises EngineError."""
    path = result_file(folder, result_files.CLUSTERS_CSV)
    axes = [name for name in result_files.csv_header(path) if name.startswith("umap_")]
    rows = result_files.read_columns(path, {"particle_id": int, "label": int, "probability": float,
                                            **dict.fromkeys(axes, float)})
    if not len(rows["particle_id"]):
        raise EngineError(f"{folder}/{result_files.CLUSTERS_CSV}: no particle was clustered. Run again with Restart.")
    order = np.argsort(rows["particle_id"])
    umap = np.array([rows[name] for name in axes]).reshape(len(axes), len(order)).T
    return Clusters(rows["particle_id"][order], rows["label"][order], rows["probability"][order], umap[order])


def read_latents(folder: str) -> Latents:
    """The latents of an embed folder, sorted by id. Raises EngineError."""
    stored = result_files.read_npz(result_file(folder, result_files.LATENTS_NPZ))
    order = np.argsort(stored["particle_id"])
    z = stored["z"][order]
    if not np.isfinite(z).all():
        raise EngineError(f"{folder}/{result_files.LATENTS_NPZ}: some latent vectors are not finite. "
                          "Train again with smaller learning rates.")
    return Latents(stored["particle_id"][order], z, z_std(stored)[order] if "precision" in stored else None)


def z_std(stored: Dict[str, np.ndarray]) -> np.ndarray:
    """Standard deviations (n, k) of the posteriors of z, of their inverse covariances in an embed folder.

    ``sqrt(diag(P^-1))``, in the units of z, in which the particles together are a cloud of about standard deviation 1.
    """
    return np.sqrt(np.linalg.inv(stored["precision"].astype(np.float64)).diagonal(axis1=1, axis2=2))


def read_fsc_curves(folder: str) -> Dict[int, Tuple[List[float], List[float]]]:
    """Label -> (frequencies in 1/A, FSC), rising and without frequency 0, by `fsc.csv`. Raises EngineError."""
    points: Dict[int, List[Tuple[float, float]]] = {}
    for row in result_files.read_csv(result_file(folder, result_files.FSC_CSV)):
        frequency = float(row["spatial_frequency_per_ang"])
        if frequency > 0:
            points.setdefault(int(row["cluster"]), []).append((frequency, float(row["fsc"])))
    return {label: ([x for x, _ in sorted(curve)], [y for _, y in sorted(curve)]) for label, curve in points.items()}


def read_states(folder: str) -> Dict[int, int]:
    """State of each particle of a states folder, by id; -1 = set aside. Raises EngineError."""
    rows = result_files.read_columns(result_file(folder, result_files.PARTICLES_CSV),
                                     {"particle_id": int, "label": int})
    return dict(zip(rows["particle_id"].tolist(), rows["label"].tolist()))


def cross_with_states(clusters: Clusters, states_dir: str) -> Crossing:
    """Particles of each cluster in each state."""
    return crossing(dict(zip(clusters.particle_id.tolist(), clusters.label.tolist())), read_states(states_dir))


def check_ids(expected: Iterable[int], present: Iterable[int], what: str) -> None:
    """Raise EngineError unless `present` holds every expected id once and no other."""
    expected_ids, present_ids = sorted(map(int, expected)), sorted(map(int, present))
    if expected_ids == present_ids:
        return
    differing = sorted(set(expected_ids) ^ set(present_ids)) or present_ids
    raise EngineError(f"{what} holds {len(present_ids)} particles, the input set {len(expected_ids)}; "
                      f"the first particle id that differs is {differing[0]}. Run again with Restart.")


def class_ids(labels: Iterable[int]) -> Dict[int, int]:
    """Class id of each label: label + 1, and the unassigned after the last cluster."""
    present = sorted(set(map(int, labels)))
    last = max(present, default=UNASSIGNED)
    return {label: label + 1 if label != UNASSIGNED else last + 2 for label in present}


# ------------------------------- engine to Scipion -------------------------------
def fill_classes(classes: Any, clusters: Clusters, pictures: Dict[int, Picture],
                 sampling_rate: float) -> None:
    """Classify the images of `classes` by cluster.

    pictures: label -> representative; sampling_rate: of the representatives, in A/px.
    """
    numbers = class_ids(clusters.label)
    label_of = dict(zip(clusters.particle_id.tolist(), clusters.label.tolist()))
    probability_of = dict(zip(clusters.particle_id.tolist(), clusters.probability.tolist()))
    label_of_class = {number: label for label, number in numbers.items()}

    def set_class(particle: Any, _row: Any) -> None:
        label = label_of[particle.getObjId()]
        particle.setClassId(numbers[label])  # and not what it came with from states
        particle._vaeganLabel = Integer(label)
        particle._vaeganProbability = Float(probability_of[particle.getObjId()])

    def set_representative(item: Any) -> None:
        label = label_of_class[item.getObjId()]
        item._vaeganLabel = Integer(label)
        item.setObjLabel(cluster_name(label))
        representative = item.getRepresentative()
        representative.setSamplingRate(sampling_rate)
        if label in pictures:
            set_location(representative, pictures[label])

    classes.classifyItems(updateItemCallback=set_class, updateClassCallback=set_representative,
                          iterParams={"orderBy": "id"}, doClone=False)  # a clone per row would take half of the time


def set_location(image: Any, picture: Picture) -> None:
    """Point a Scipion image or volume at a picture of the engine."""
    if picture.number:
        image.setLocation(picture.number, picture.path)
    else:
        image.setFileName(picture.path)


def fill_flexible(flexible: Any, particles: Any, clusters: Clusters, latents: Latents, run_dir: str) -> None:
    """Copy the enabled particles with z, its standard deviations, 2D embedding, cluster and probability.

    latents: of the same particles; run_dir: folder of the trained networks.
    """
    latent_row = {particle_id: row for row, particle_id in enumerate(latents.particle_id.tolist())}
    row_of = {particle_id: row for row, particle_id in enumerate(clusters.particle_id.tolist())}
    numbers = class_ids(clusters.label)
    flexible.copyInfo(particles)
    flexible.setHasCTF(particles.hasCTF())  # copyInfo of the flexible set leaves it out, and the next
    flexible.copyAttributes(particles, "_coordsPointer")
    flexible.setFlexInfo(FlexInfo(PROGRAM_NAME))
    flexible.getFlexInfo().setAttr("_vaeganRun", run_dir)
    networks = read_status(run_dir).networks
    if networks is not None:  # trainings of before they were named have none
        flexible.getFlexInfo().setAttr("_vaeganNetworks", networks)
    item, source = ParticleFlex(progName=PROGRAM_NAME), None
    item._vaeganLabel, item._vaeganProbability = Integer(), Float()
    if latents.std is not None:
        item._vaeganZStd = CsvList(pType=float)
    for particle in fresh_items(particles):
        if not particle.isEnabled():
            continue
        if particle is not source:  # Scipion fills one object again for each row, or makes a new one: its setting
            share_attributes(item, particle)
            source = particle
        row = row_of[particle.getObjId()]
        item.setObjId(particle.getObjId())
        of_z = latent_row[particle.getObjId()]
        item._zFlex.set(latents.z[of_z].tolist())
        if latents.std is not None:
            item._vaeganZStd.set([float(f"{x:.4g}") for x in latents.std[of_z]])
        item._zRed.set(clusters.umap[row].tolist())
        item.setClassId(numbers[int(clusters.label[row])])
        item._vaeganLabel.set(int(clusters.label[row]))
        item._vaeganProbability.set(float(clusters.probability[row]))
        flexible.append(item)


def share_attributes(item: Any, particle: Any) -> None:
    """Let `item` have the very attributes of `particle`, so that it follows when they are filled anew.

    What a flexible item says of its own latent space stays.
    """
    for name, attribute in particle.getAttributes():
        if name not in FLEXIBLE_ATTRIBUTES:
            setattr(item, name, attribute)


def fresh_items(particles: Any) -> Iterator[Any]:
    """The items of a set by rising id, with what its table says of them and nothing else.

    Scipion fills one object again for each row, and goes on with that object when the set is read anew: what an output
    that was filled before gave it (an alignment, a contrast) would be that of its last particle for all of this one's.
    """
    particles.close()
    return cast(Iterator[Any], particles.iterItems(orderBy="id", direction="ASC"))


def enabled_ids(particles: Any) -> List[int]:
    """Ids of the particles that are not disabled, rising; asked of the set's table, no particle is built."""
    if not particles.getSize():  # an empty set has no table
        return []
    return sorted(int(i) for i in particles.getUniqueValues("id", where="enabled=1"))


def copy_particles(subset: Any, particles: Any, ids: Iterable[int],
                   change: Callable[[Any], None] = lambda particle: None) -> None:
    """Copy the particles with these ids, whole, each changed first, and what the set knows of all of them."""
    subset.copyInfo(particles)
    subset.setHasCTF(particles.hasCTF())  # copyInfo of the flexible set leaves it out
    wanted = set(ids)
    for particle in fresh_items(particles):
        if particle.getObjId() in wanted:
            change(particle)
            subset.append(particle)


def new_picture_item(volumetric: bool, picture: Picture, sampling_rate: float, title: str,
                     **columns: Any) -> Any:
    """A Volume, or an Average of 2D images, with extra columns.

    columns: name -> float, int or sequence of floats; stored as `_vaegan<Name>`.
    """
    item = Volume() if volumetric else Particle()
    set_location(item, picture)
    item.setSamplingRate(sampling_rate)
    item.setObjLabel(title)
    for name, value in columns.items():
        setattr(item, "_vaegan" + name[0].upper() + name[1:], as_column(value))
    return item


def as_column(value: Any) -> Any:
    """A value as Scipion attribute."""
    if isinstance(value, int):
        return Integer(value)
    if isinstance(value, float):
        return Float(value)
    column = CsvList(pType=float)
    column.set([float(x) for x in value])
    return column
