"""Optics groups of particles: what a RELION import left in a set, and the microscope that each particle says it is of.

An import from RELION keeps its table of optics groups as text, in the acquisition of the set and, as Scipion copies
that, in that of every particle. A set that was joined of two has the text of the first; its particles have their own.
"""
from __future__ import annotations

import io
from functools import lru_cache
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from emtable import Table

from .columns import distinct_values, ids_without
from .from_engine import MICROSCOPE_COLUMNS, NO_OPTICS, OPTICS_ATTRIBUTE, OPTICS_COLUMNS

MICROGRAPH_PIXEL_SIZE = "rlnMicrographOriginalPixelSize"
PREMULTIPLIED, PHASE_FLIPPED = "rlnCtfDataAreCtfPremultiplied", "rlnCtfDataArePhaseFlipped"
OWN_TEXT = "_acquisition.opticsGroupInfo"
MICROSCOPE_VALUES = "_acquisition._voltage", "_acquisition._sphericalAberration", "_acquisition._amplitudeContrast"
OWN_COLUMNS = {*OPTICS_COLUMNS, MICROGRAPH_PIXEL_SIZE, PREMULTIPLIED, PHASE_FLIPPED}  # written by what is known here
Microscope = Tuple[float, float, float]  # kV, Cs in mm, amplitude contrast


class Optics(NamedTuple):
    """An optics group; equal ones are one group of the star file."""

    number: int  # in the import
    microscope: Microscope
    premultiplied: bool = False  # the images were multiplied by their CTF
    phase_flipped: bool = False  # they were multiplied by its sign
    micrograph_pixel_size: float = 0.0  # A, of coordinates; 0: not known
    carried: Tuple[Tuple[str, str], ...] = ()  # other columns (beam tilt, aberrations, MTF ...) as the import had them


@lru_cache(maxsize=64)
def stored_optics(text: Optional[str]) -> Dict[int, Optics]:
    """Optics groups in the text that an import from RELION left, by number."""
    if not text:
        return {}
    table = Table()
    table.readStar(io.StringIO(text), tableName="optics")
    if not table.hasAllColumns(["rlnOpticsGroup"] + MICROSCOPE_COLUMNS):
        return {}
    return {int(row.rlnOpticsGroup): Optics(
        int(row.rlnOpticsGroup),
        (float(row.rlnVoltage), float(row.rlnSphericalAberration), float(row.rlnAmplitudeContrast)),
        *(table.hasColumn(name) and float(getattr(row, name)) == 1 for name in (PREMULTIPLIED, PHASE_FLIPPED)),
        float(getattr(row, MICROGRAPH_PIXEL_SIZE)) if table.hasColumn(MICROGRAPH_PIXEL_SIZE) else 0.0,
        tuple((name, str(getattr(row, name))) for name in table.getColumnNames() if name not in OWN_COLUMNS))
        for row in table}


def texts_are_of_particles(particles: Any) -> bool:
    """Whether the set's text is one that particles carry too: it then says nothing of a particle without it.

    So it is of two imports that were joined. Where no particle has it, it was written for all of them.
    """
    text = particles.getAcquisition().opticsGroupInfo.get()
    return bool(text) and text in distinct_values(particles, OWN_TEXT)


def number_of(particle: Any, groups: Dict[int, Optics]) -> int:
    """Number of a particle's optics group. An import of a star file leaves none: then it is the text's only one."""
    number = particle.getAttributeValue(OPTICS_ATTRIBUTE, None)
    return int(number) if number is not None else min(groups, default=1)


def optics_of(particle: Any, particles: Any, own_alone: bool) -> Optics:
    """Optics group of a particle; own_alone: ``texts_are_of_particles`` of its set.

    A particle whose own microscope is neither that of its set nor that of its group there is of another import, and its
    own optics groups count; else those of the set count, then the particle's own values, then those of the set. Where
    none are known, as of class averages, there is no CTF they could matter to: ``NO_OPTICS``. What was done to the
    images is whatever either text says of the group; with own_alone what its own text says, and nothing where it has
    none. Raises ValueError where there is a CTF and no microscope.
    """
    whole, own = particles.getAcquisition(), particle.getAcquisition()
    groups_of_own = stored_optics(own.opticsGroupInfo.get()) if own is not None else {}
    groups_of_set = {} if own_alone else stored_optics(whole.opticsGroupInfo.get())
    number = number_of(particle, groups_of_own or groups_of_set)
    of_set, of_own = groups_of_set.get(number), groups_of_own.get(number)
    size, carried = next(((group.micrograph_pixel_size, group.carried) for group in (of_own, of_set)
                          if group is not None), (0.0, ()))
    set_values, own_values = _microscope(whole), None if own is None else _microscope(own)
    flags = [any(getattr(group, name) for group in (of_set, of_own) if group is not None)
             for name in ("premultiplied", "phase_flipped")]
    same = {set_values, None if of_set is None else of_set.microscope}
    if own_values is not None and set_values is not None and own_values not in same:
        # of another import than the set's text, which says nothing of this group
        flags = [of_own.premultiplied, of_own.phase_flipped] if of_own is not None else [False, False]
        return Optics(number, own_values, *flags) if of_own is None else Optics(
            number, of_own.microscope, *flags, of_own.micrograph_pixel_size, of_own.carried)
    known = of_set or of_own
    values = known.microscope if known is not None else own_values or set_values
    if values is None and particles.hasCTF():
        raise ValueError("The particles have a CTF, but no voltage, spherical aberration or amplitude contrast. "
                         "Import them again with their acquisition values.")
    return Optics(number, NO_OPTICS if values is None else values, *flags, size, carried)


def lacks_microscope(particles: Any) -> List[int]:
    """Ids of enabled particles with a CTF of which neither they, nor their set, nor an import's text say a microscope.
    """
    whole = particles.getAcquisition()
    if not particles.hasCTF() or _microscope(whole) is not None or any(
            map(stored_optics, {whole.opticsGroupInfo.get(), *distinct_values(particles, OWN_TEXT)})):
        return []
    return sorted({i for name in MICROSCOPE_VALUES for i in ids_without(particles, name)})


def premultiplied_groups(particles: Any) -> List[int]:
    """Numbers of the optics groups in use whose images were multiplied by their CTF; asked of the set's table."""
    texts = {particles.getAcquisition().opticsGroupInfo.get(), *distinct_values(particles, OWN_TEXT)}
    used = distinct_values(particles, OPTICS_ATTRIBUTE) or {None}
    return sorted({group.number for text in texts for group in stored_optics(text).values()
                   if group.premultiplied and (group.number in used or None in used)})


def unlike_groups(particles: Any) -> List[int]:
    """Numbers of the optics groups of a text that differ in their phase flips, where particles do not say theirs."""
    return next((sorted(groups) for groups in _unsaid_groups(particles)
                 if len({group.phase_flipped for group in groups.values()}) > 1), [])


def unlike_microscopes(particles: Any) -> List[Microscope]:
    """Microscopes of the optics groups of a text, the one that counts first, where particles do not say theirs."""
    if any(len(distinct_values(particles, name)) > 1 for name in MICROSCOPE_VALUES):
        return []  # by their own values they do
    return next((found for found in (list(dict.fromkeys(groups[k].microscope for k in sorted(groups)))
                                     for groups in _unsaid_groups(particles)) if len(found) > 1), [])


def _unsaid_groups(particles: Any) -> List[Dict[int, Optics]]:
    """Groups of each text, where particles do not say which of them they are of; else nothing."""
    if None not in (distinct_values(particles, OPTICS_ATTRIBUTE) or {None}):
        return []
    texts = {particles.getAcquisition().opticsGroupInfo.get(), *distinct_values(particles, OWN_TEXT)}
    return [stored_optics(text) for text in texts]


def _microscope(acquisition: Any) -> Optional[Microscope]:
    values = acquisition.getVoltage(), acquisition.getSphericalAberration(), acquisition.getAmplitudeContrast()
    return None if None in values else (float(values[0]), float(values[1]), float(values[2]))
