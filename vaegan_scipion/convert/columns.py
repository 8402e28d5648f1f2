"""Single columns of a set of particles, read from its table without building a particle: defocus, micrograph, others.

Scipion keeps a set in a SQLite file: the table Classes says which column of the table Objects holds which attribute.
"""
import sqlite3
from contextlib import closing
from typing import Any, Dict, List, Set
from urllib.parse import quote

DEFOCUS, MICROGRAPH, TRANSFORM = "_ctfModel._defocusU", "_micId", "_transform._matrix"


class ColumnError(ValueError):
    """A column that is not there, or not to be shown; one sentence and a remedy."""


def column_names(particles: Any) -> List[str]:
    """Attributes that have a column, by name."""
    return sorted(_columns(particles))


def read_column(particles: Any, name: str) -> Dict[int, Any]:
    """Particle id -> value of one attribute such as "_ctfModel._defocusU"; None where it has none.

    Raises ColumnError.
    """
    if particles is None:
        raise ColumnError(f"The particles are gone, and with them the column '{name}'. Choose what the run knows "
                          "itself.")
    columns = _columns(particles)
    if name not in columns:
        short = [other for other in sorted(columns) if name.strip("_").lower() in other.lower()] if name else []
        raise ColumnError(f"The particles have no column '{name}'. " + (
            f"Did you mean {', '.join(short[:5])}?" if short else f"They have {', '.join(sorted(columns)[:12])} ..."))
    with closing(_open(particles)) as table:
        values = dict(table.execute(f"SELECT id, {columns[name]} FROM {particles.getPrefix()}Objects"))
    if all(value is None or value == "" for value in values.values()):  # zeros are values: of no phase shift
        raise ColumnError(f"The particles' column '{name}' holds nothing. Choose another one.")
    return values


def distinct_values(particles: Any, name: str) -> Set[Any]:
    """Values of one attribute that enabled particles have; none where there is no such column."""
    columns = _columns(particles)
    if name not in columns:
        return set()
    with closing(_open(particles)) as table:
        return {value for value, in table.execute(
            f"SELECT DISTINCT {columns[name]} FROM {particles.getPrefix()}Objects WHERE enabled = 1")}


def ids_without(particles: Any, name: str) -> List[int]:
    """Ids of the enabled particles that have no value of one attribute; all of them where there is no such column."""
    lacking = _columns(particles).get(name)
    where = f"enabled = 1 AND {lacking} IS NULL" if lacking else "enabled = 1"
    with closing(_open(particles)) as table:
        return [i for i, in table.execute(f"SELECT id FROM {particles.getPrefix()}Objects WHERE {where} ORDER BY id")]


def _open(particles: Any) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(particles.getFileName())}?mode=ro", uri=True)


def _columns(particles: Any) -> Dict[str, str]:
    if not particles.getSize():  # an empty set has no table
        return {}
    with closing(_open(particles)) as table:
        rows = dict(table.execute(f"SELECT label_property, column_name FROM {particles.getPrefix()}Classes"))
    return {name: column for name, column in rows.items() if name != "self"}
