"""Whether the ids of two sets name the same particles: sets are joined by id, and ids shift where rows are left out.

Asked of the sets' tables. Where both know where their particles were picked, micrograph and position are compared, up
to one scale (micrographs that were binned) and the micrographs' names; else the defocus, as far as it tells.
"""
from typing import Any, Dict, List, NamedTuple, Sequence

import numpy as np

from .columns import DEFOCUS, MICROGRAPH, ColumnError, read_column

POSITION = "_coordinate._x", "_coordinate._y"
MICROGRAPH_OF_COORDINATE = "_coordinate._micName", "_coordinate._micId", MICROGRAPH
TOLERANCE_PX = 2.0  # of the coarser micrograph: positions are rounded to whole pixels
DEFOCUS_TOLERANCE_ANG = 1000.0  # two CTF fits of one image differ by less
SAME_DEFOCUS_ANG = 1.0
REMEDY = "Give particles with the same ids, made from the same picks without leaving any out"


class Places(NamedTuple):
    """Where particles were picked, in the order of some ids."""

    micrograph: List[Any]
    position_px: np.ndarray  # (n, 2) x and y


def why_others(one: Any, other: Any, ids: Sequence[int], tolerance_px: float = TOLERANCE_PX) -> str:
    """Why particles `ids` of `other` are not those of `one`; empty where nothing tells that they are not.

    tolerance_px: how far positions may differ, in pixels of the coarser micrograph.
    """
    if one is None or other is None or one.getFileName() == other.getFileName() or not len(ids):
        return ""
    compared = sorted(set(ids))
    columns = [_columns(some) for some in (one, other)]
    with_place = [i for i in compared if all(_has_place(column, i) for column in columns)]
    if with_place:
        return _by_place(with_place, *(_places(column, with_place) for column in columns), tolerance_px=tolerance_px)
    with_defocus = [i for i in compared if all(column[DEFOCUS].get(i) is not None for column in columns)]
    if not with_defocus:
        return ""
    return _by_defocus(with_defocus, *(np.array([column[DEFOCUS][i] for i in with_defocus], float)
                                       for column in columns))


def _by_place(ids: List[int], one: Places, other: Places, tolerance_px: float) -> str:
    partner = _partners(one.micrograph, other.micrograph)
    elsewhere = np.array([partner[a] != b for a, b in zip(one.micrograph, other.micrograph)])
    lengths = [np.hypot(*places.position_px.T) for places in (one, other)]
    seen = (lengths[0] > 0) & (lengths[1] > 0)
    scale = float(np.median(lengths[1][seen] / lengths[0][seen])) if seen.any() else 1.0
    apart_px = np.hypot(*(other.position_px - scale * one.position_px).T) / max(scale, 1.0)
    wrong = elsewhere | (apart_px > tolerance_px)
    if not wrong.any():
        return ""
    worst = int(np.argmax(np.where(elsewhere, np.inf, apart_px)))
    if elsewhere.any():
        what = (f"particle {ids[worst]} is of micrograph {one.micrograph[worst]} in one set and of "
                f"{other.micrograph[worst]} in the other")
    else:
        x, y = zip(scale * one.position_px[worst], other.position_px[worst])
        what = (f"particle {ids[worst]} lies at ({x[0]:.0f}, {y[0]:.0f}) px in one set and at ({x[1]:.0f}, {y[1]:.0f}) "
                f"px in the other, more than {tolerance_px:g} px apart")
    return (f"{int(wrong.sum())} of {len(ids)} compared particles of the same id are not the same: {what}: the ids "
            f"name other particles, or they were centred anew. {REMEDY} and without centring them again.")


def _partners(one: List[Any], other: List[Any]) -> Dict[Any, Any]:
    """Micrograph of one set -> that of the other that most of its particles are of: names may differ."""
    counts: Dict[Any, Dict[Any, int]] = {}
    for a, b in zip(one, other):
        of_a = counts.setdefault(a, {})
        of_a[b] = of_a.get(b, 0) + 1
    return {a: max(of_a, key=lambda b: of_a[b]) for a, of_a in counts.items()}


def _by_defocus(ids: List[int], one_ang: np.ndarray, other_ang: np.ndarray) -> str:
    apart_ang = np.abs(one_ang - other_ang)
    differing = int((apart_ang > DEFOCUS_TOLERANCE_ANG).sum())
    kept = 2 * int((apart_ang <= SAME_DEFOCUS_ANG).sum()) > len(ids)  # the CTF was not fitted anew: it tells of each
    if not differing or not (kept or 2 * differing > len(ids)):
        return ""
    worst = int(np.argmax(apart_ang))
    return (f"The defocus of {differing} of {len(ids)} compared particles differs from that of the same ids by more "
            f"than {DEFOCUS_TOLERANCE_ANG:.0f} Å (particle {ids[worst]}: {one_ang[worst]:.0f} and "
            f"{other_ang[worst]:.0f} Å): the ids name other particles. {REMEDY}.")


def _columns(particles: Any) -> Dict[str, Dict[int, Any]]:
    """Id -> value of what tells particles apart, by name; empty where there is none."""
    names = (*POSITION, *MICROGRAPH_OF_COORDINATE, DEFOCUS)
    found: Dict[str, Dict[int, Any]] = {}
    for name in names:
        try:
            values = read_column(particles, name)
        except ColumnError:
            values = {}
        found[name] = values if any(values.values()) else {}  # zeros alone tell nobody apart
    return found


def _micrograph(column: Dict[str, Dict[int, Any]], particle_id: int) -> Any:
    values = (column[name].get(particle_id) for name in MICROGRAPH_OF_COORDINATE)
    return next((value for value in values if value is not None), None)


def _has_place(column: Dict[str, Dict[int, Any]], particle_id: int) -> bool:
    return (all(column[name].get(particle_id) is not None for name in POSITION)
            and _micrograph(column, particle_id) is not None)


def _places(column: Dict[str, Dict[int, Any]], ids: List[int]) -> Places:
    return Places([_micrograph(column, i) for i in ids],
                  np.array([[column[name][i] for name in POSITION] for i in ids], float))
