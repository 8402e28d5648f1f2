"""Names of point groups, as RELION writes them: C1, Cn, Dn, T, O, I, I1, I2. Standard library only, Python 3.8."""
from __future__ import annotations

import re
from typing import Tuple

from .errors import ConfigError

NO_SYMMETRY = "C1"
MOST_FOLD = 99  # n of Cn and Dn
_NAME = re.compile(r"(?:([CD])([1-9][0-9]?)|(T|O|I[12]?))", re.IGNORECASE)


def family_and_fold(name: str, setting: str = "symmetry") -> Tuple[str, int]:
    """A group's family C, D, T, O, I1 or I2 and its n (1 where it has none). I is I2, as in RELION.

    D1 is refused: it is a 2-fold along x alone, which is C2 turned.
    Raises ConfigError, which says of which ``setting``, where it is no such name.
    """
    match = _NAME.fullmatch(name.strip())
    if match is None:
        raise ConfigError(f"{setting} is {name!r}.", f"Use C1, C2 to C{MOST_FOLD}, D2 to D{MOST_FOLD}, T, O, I, I1 or "
                          "I2, with the axes that RELION has for them.")
    if match.group(0).upper() == "D1":
        raise ConfigError(f"{setting} is {name!r}: one 2-fold, along x.", "Use C2, whose 2-fold lies along z.")
    family = (match.group(1) or match.group(3)).upper()
    return {"I": "I2"}.get(family, family), int(match.group(2) or 1)


def is_symmetric(name: str, setting: str = "symmetry") -> bool:
    """Whether a group has more than one rotation. Raises ConfigError where it is no group's name."""
    return family_and_fold(name, setting) != ("C", 1)


def group_name(name: str) -> str:
    """A group's name as RELION takes it, in capitals. Raises ConfigError where it is none."""
    family_and_fold(name)
    return name.strip().upper()


def check_symmetries(symmetry: str, relaxed: str, input_poses: bool, clusters: bool) -> None:
    """Refuse groups of ``states`` that do not go together, or names that are none. Raises ConfigError."""
    if is_symmetric(symmetry) and clusters:
        raise ConfigError(f"symmetry is {symmetry} and clusters are given: their maps have axes of their own.",
                          "Leave clusters_dir out, or take symmetry C1.")
    if not relaxed:
        return
    if not is_symmetric(relaxed, "relax_symmetry"):
        raise ConfigError(f"relax_symmetry is {relaxed}, which has one rotation.", "Leave it out.")
    if is_symmetric(symmetry):
        raise ConfigError(f"symmetry is {symmetry} and relax_symmetry {relaxed}: maps cannot be held to the one and be "
                          "free of the other.", "Take C1 for the first.")
    if not input_poses:
        raise ConfigError(f"relax_symmetry is {relaxed}, but poses are searched: there are none to relax.",
                          "Start from the alignment of a symmetric map (input_poses), or leave it out.")
