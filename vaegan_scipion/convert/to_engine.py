"""Scipion sets to the star file that the engine reads."""
from __future__ import annotations

import io
import os
from typing import Any, Dict, List, Tuple

from emtable import Table

from .from_engine import (
    CTF_COLUMNS,
    HALF_SET_ATTRIBUTE,
    IMAGE_COLUMNS,
    MICROSCOPE_COLUMNS,
    NO_OPTICS,
    OPTICS_ATTRIBUTE,
    OPTICS_COLUMNS,
)
from .poses import star_pose

POSE_COLUMNS = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst"]
READABLE_STACKS = (".mrc", ".mrcs")


# ------------------------------- Scipion to engine -------------------------------
def write_particles_star(particles: Any, star: str, aligned: bool = False) -> List[int]:
    """Write the enabled particles as RELION 3.1 star file, ordered by id; returns their ids.

    aligned: with the angles and origins of their projection alignment.

    Image names are those of the set: relative to the project, where the engine is run.
    Raises ValueError for a stack that the engine does not read.
    """
    has_ctf = particles.hasCTF()
    first = particles.getFirstItem()
    has_halves = first.getAttributeValue(HALF_SET_ATTRIBUTE) in (1, 2)
    columns = (IMAGE_COLUMNS + (CTF_COLUMNS if has_ctf else [])
               + (["rlnRandomSubset"] if has_halves else []) + (POSE_COLUMNS if aligned else []))
    known = stored_optics(particles)
    table, ids = Table(columns=columns), []
    optics: Dict[Tuple[int, float, float, float], int] = {}
    for particle in particles.iterItems(orderBy="id", direction="ASC"):
        if not particle.isEnabled():
            continue
        key = optics_of(particle, particles, known)
        group = optics.setdefault(key, len(optics) + 1)
        row = [image_name(particle), group, particle.getObjId()]
        if has_ctf:
            row += ctf_values(particle)
        if has_halves:
            row.append(int(particle.getAttributeValue(HALF_SET_ATTRIBUTE)))
        if aligned:
            row += star_pose(particle.getTransform().getMatrix(), particles.getSamplingRate())
        table.addRow(*row)
        ids.append(particle.getObjId())
    optics_table = Table(columns=OPTICS_COLUMNS)
    for (_, voltage, cs, contrast), number in optics.items():
        optics_table.addRow(f"opticsGroup{number}", number, voltage, cs, contrast,
                            float(particles.getSamplingRate()), int(particles.getXDim()), 2)
    part = star + ".tmp"
    with open(part, "w") as stream:
        optics_table.writeStar(stream, tableName="optics")
        table.writeStar(stream, tableName="particles")
    os.replace(part, star)
    return ids


def image_name(particle: Any) -> str:
    """RELION's `index@path`; quoted when the path has a space."""
    index, path = particle.getLocation()
    if not path.lower().endswith(READABLE_STACKS):
        raise ValueError(f"{path}: particle {particle.getObjId()} is in a file that is not MRC. "
                         "Convert the particles to .mrcs, for example with 'relion - preprocess particles'.")
    name = f"{max(index, 1):06d}@{path}"
    return f'"{name}"' if " " in name else name


def ctf_values(particle: Any) -> List[float]:
    """Defocus U and V (A), angle (deg) and phase shift (deg) of a particle."""
    ctf = particle.getCTF()
    if ctf is None or None in (ctf.getDefocusU(), ctf.getDefocusV(), ctf.getDefocusAngle()):
        raise ValueError(f"Particle {particle.getObjId()} has no CTF values, though its set has a CTF. "
                         "Make a subset without it, or estimate its CTF.")
    return [float(ctf.getDefocusU()), float(ctf.getDefocusV()), float(ctf.getDefocusAngle()),
            float(ctf.getPhaseShift() or 0.0)]


def stored_optics(particles: Any) -> Dict[int, Tuple[float, float, float]]:
    """Optics groups that an import from RELION left in the set: number -> (kV, Cs in mm, contrast)."""
    text = particles.getAcquisition().opticsGroupInfo.get()
    if not text:
        return {}
    table = Table()
    table.readStar(io.StringIO(text), tableName="optics")
    if not table.hasAllColumns(["rlnOpticsGroup"] + MICROSCOPE_COLUMNS):
        return {}
    return {int(row.rlnOpticsGroup): (float(row.rlnVoltage), float(row.rlnSphericalAberration),
                                      float(row.rlnAmplitudeContrast)) for row in table}


def optics_of(particle: Any, particles: Any,
              known: Dict[int, Tuple[float, float, float]]) -> Tuple[int, float, float, float]:
    """Optics group of a particle as (number in the import, kV, Cs in mm, amplitude contrast).

    The import's optics group counts first, then the particle's own values, then those of the set. Where none are
    known, as of class averages, there is no CTF they could matter to: ``NO_OPTICS``.
    """
    number = int(particle.getAttributeValue(OPTICS_ATTRIBUTE, 1))
    if number in known:
        return (number, *known[number])
    acquisition = particle.getAcquisition()
    if acquisition is None or acquisition.getVoltage() is None:
        acquisition = particles.getAcquisition()
    values = (acquisition.getVoltage(), acquisition.getSphericalAberration(), acquisition.getAmplitudeContrast())
    if None in values:
        if particles.hasCTF():
            raise ValueError("The particles have a CTF, but no voltage, spherical aberration or amplitude contrast. "
                             "Import them again with their acquisition values.")
        return (number, *NO_OPTICS)
    return (number, *(float(value) for value in values))
