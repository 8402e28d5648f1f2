"""Scipion sets to the star file that the engine reads."""
from __future__ import annotations

import io
import os
import re
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from emtable import Table

from .from_engine import CTF_COLUMNS, HALF_SET_ATTRIBUTE, IMAGE_COLUMNS, OPTICS_COLUMNS
from .optics_groups import (
    MICROGRAPH_PIXEL_SIZE,
    PHASE_FLIPPED,
    PREMULTIPLIED,
    Optics,
    optics_of,
    stored_optics,
    texts_are_of_particles,
)
from .poses import star_pose

COORDINATE_COLUMNS = ["rlnCoordinateX", "rlnCoordinateY"]
POSE_COLUMNS = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst"]
READABLE_STACKS = (".mrc", ".mrcs")
ROTATION_TOLERANCE = 0.01  # of the products of a matrix's rows


# ------------------------------- Scipion to engine -------------------------------
def write_particles_star(particles: Any, star: str, aligned: bool = False) -> List[int]:
    """Write the enabled particles as RELION 3.1 star file, ordered by id; returns their ids.

    aligned: with the angles and origins of their projection alignment.

    Image names are those of the set: relative to the project, where the engine is run.
    Raises ValueError for a stack that the engine does not read.
    """
    has_ctf = particles.hasCTF()
    columns = IMAGE_COLUMNS + (CTF_COLUMNS if has_ctf else [])
    rows: List[List[Any]] = []
    poses: List[List[float]] = []
    halves: List[Optional[int]] = []
    micrographs: List[str] = []
    places: List[Optional[Tuple[float, float]]] = []
    groups: Dict[Optics, int] = {}
    own_alone = texts_are_of_particles(particles)
    for particle in particles.iterItems(orderBy="id", direction="ASC"):
        if not particle.isEnabled():
            continue
        group = groups.setdefault(optics_of(particle, particles, own_alone), len(groups) + 1)
        row = [image_name(particle), group, particle.getObjId()]
        if has_ctf:
            row += ctf_values(particle)
        rows.append(row)
        halves.append(particle.getAttributeValue(HALF_SET_ATTRIBUTE))
        if aligned:
            poses.append(pose_values(particle, particles.getSamplingRate()))
        micrographs.append(micrograph_of(particle))
        places.append(place_of(particle))
    ids = [int(row[IMAGE_COLUMNS.index("vaeParticleId")]) for row in rows]
    if any(half in (1, 2) for half in halves):
        columns = columns + ["rlnRandomSubset"]
        rows = [[*row, half] for row, half in zip(rows, whole_split(ids, halves))]
    if aligned:
        columns = columns + POSE_COLUMNS
        rows = [[*row, *pose] for row, pose in zip(rows, poses)]
    if rows and all(micrographs):
        columns = columns + ["rlnMicrographName"]
        rows = [[*row, name] for row, name in zip(rows, micrographs)]
    if rows and None not in places:
        columns = columns + COORDINATE_COLUMNS
        rows = [[*row, *place] for row, place in zip(rows, places)]
    table = Table(columns=columns)
    for row in rows:
        table.addRow(*row)
    optics_table = optics_table_of(list(groups), particles)
    part = star + ".tmp"
    with open(part, "w") as stream:
        optics_table.writeStar(stream, tableName="optics")
        table.writeStar(stream, tableName="particles")
    os.replace(part, star)
    return ids


def whole_split(ids: List[int], halves: List[Optional[int]]) -> List[int]:
    """Half set of every particle, where some may have none (None, or 0 beside 1 and 2).

    Those had no part in the refinement that split the others, so that either half is right: it goes by the id.
    """
    if not {1, 2} <= set(halves):  # cryoSPARC's 0 and 1, or no split, as the engine then says
        return [int(half or 0) for half in halves]
    return [half if half in (1, 2) else 1 + i % 2 for i, half in zip(ids, halves)]


def optics_table_of(groups: List[Optics], particles: Any) -> Any:
    """The table of the optics groups, numbered from 1 in this order.

    What was done to the images has a column where it was done to any, which the engine then goes by; without one it is
    the set that says whether they are phase-flipped. Other columns of an import follow where all groups have them:
    RELION goes on with them, and the engine says which of them its model ignores.
    """
    premultiplied, flipped = (any(getattr(group, name) for group in groups)
                              for name in ("premultiplied", "phase_flipped"))
    sized = bool(groups) and all(group.micrograph_pixel_size > 0 for group in groups)
    carried = [dict(group.carried) for group in groups]
    names = [name for name in (carried[0] if carried else ()) if all(name in values for values in carried)]
    table = Table(columns=OPTICS_COLUMNS + [PREMULTIPLIED] * premultiplied + [PHASE_FLIPPED] * flipped
                  + [MICROGRAPH_PIXEL_SIZE] * sized + names)
    for number, group in enumerate(groups, start=1):
        table.addRow(f"opticsGroup{number}", number, *group.microscope, float(particles.getSamplingRate()),
                     int(particles.getXDim()), 2, *[int(group.premultiplied)] * premultiplied,
                     *[int(group.phase_flipped or bool(particles.isPhaseFlipped()))] * flipped,
                     *[group.micrograph_pixel_size] * sized, *(quoted(dict(group.carried)[name]) for name in names))
    return table


def relion_groups(particles: Any) -> Tuple[Dict[int, int], str]:
    """(particle id -> number of its optics group, table of the groups as text) for RELION.

    The set's own text, with all that it says, where its groups are those of the particles; else one made of these.
    """
    text, own_alone = particles.getAcquisition().opticsGroupInfo.get(), texts_are_of_particles(particles)
    found = {item.getObjId(): optics_of(item, particles, own_alone) for item in particles}
    stored = stored_optics(text)
    if all(stored.get(group.number) == group for group in found.values()):
        return {i: group.number for i, group in found.items()}, str(text)
    groups = {group: number for number, group in enumerate(dict.fromkeys(found.values()), start=1)}
    stream = io.StringIO()
    optics_table_of(list(groups), particles).writeStar(stream, tableName="optics")
    return {i: groups[group] for i, group in found.items()}, stream.getvalue()


def micrograph_of(particle: Any) -> str:
    """Name of the micrograph that a particle was picked in, for a noise spectrum of its own; empty where unknown."""
    coordinate = particle.getCoordinate()
    name = coordinate.getMicName() if coordinate is not None else None
    if not name:
        number = particle.getMicId()
        name = f"micrograph_{number}" if number is not None else ""
    return quoted(str(name))


def place_of(particle: Any) -> Optional[Tuple[float, float]]:
    """Where a particle was picked, in pixels of its micrograph: its neighbours are told by it. None where unknown."""
    coordinate = particle.getCoordinate()
    if coordinate is None or coordinate.getX() is None or coordinate.getY() is None:
        return None
    return float(coordinate.getX()), float(coordinate.getY())


def quoted(text: str) -> str:
    """A value of a star file; in quotes when it has white space, in single ones where it has double ones too."""
    if not re.search(r"\s", text) and text[:1] not in ('"', "'"):
        return text
    mark = "'" if '"' in text else '"'
    return f"{mark}{text}{mark}"


def image_name(particle: Any) -> str:
    """RELION's `index@path`; quoted when the path has a space."""
    index, path = particle.getLocation()
    if not path.lower().endswith(READABLE_STACKS):
        raise ValueError(f"{path}: particle {particle.getObjId()} is in a file that is not MRC. "
                         "Convert the particles to .mrcs, for example with 'relion - preprocess particles'.")
    name = f"{max(index, 1):06d}@{path}"
    return quoted(name)


def pose_values(particle: Any, sampling_rate_ang: float) -> List[float]:
    """Angles (deg) and origins (A) of a particle's projection alignment. Raises ValueError where it has none."""
    transform = particle.getTransform()
    if transform is None or transform.getMatrix() is None:
        raise ValueError(without_alignment([particle.getObjId()]))
    matrix = np.asarray(transform.getMatrix(), float)
    turned = matrix[:3, :3]
    if not (np.isfinite(matrix).all() and np.linalg.det(turned) > 0
            and np.allclose(turned @ turned.T, np.eye(3), atol=ROTATION_TOLERANCE)):
        raise ValueError(f"The alignment of particle {particle.getObjId()} is no rotation and shift: its matrix is "
                         "mirrored, scaled or not finite. Give the particles as a 3D refinement left them.")
    return star_pose(matrix, sampling_rate_ang)


def without_alignment(ids: List[int]) -> str:
    """What to say of particles that have no pose, where poses are asked for."""
    return (f"Particle {ids[0]} has no projection alignment ({len(ids)} such particles). Give refined particles alone: "
            "a set that was joined may have others.")


def ctf_values(particle: Any) -> List[float]:
    """Defocus U and V (A), angle (deg) and phase shift (deg) of a particle."""
    ctf = particle.getCTF()
    if ctf is None or None in (ctf.getDefocusU(), ctf.getDefocusV(), ctf.getDefocusAngle()):
        raise ValueError(f"Particle {particle.getObjId()} has no CTF values, though its set has a CTF. "
                         "Make a subset without it, or estimate its CTF.")
    return [float(ctf.getDefocusU()), float(ctf.getDefocusV()), float(ctf.getDefocusAngle()),
            float(ctf.getPhaseShift() or 0.0)]
