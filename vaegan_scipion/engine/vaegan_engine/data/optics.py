"""CTF and pixel size of particles from RELION's columns: meanings checked, what the model leaves out said.

Every function reads all values it needs of the rows in use, and gives sentences for what was ignored or decided.
"""
from __future__ import annotations

import numpy as np

from ..contract.errors import DataError
from .stacks import StackHeader
from .star_files import OPTICS_GROUP, RelionTable, missing_columns

PREMULTIPLIED = "rlnCtfDataAreCtfPremultiplied"
PHASE_FLIPPED = "rlnCtfDataArePhaseFlipped"
# RELION's names of the columns of a CTF table (ctf.CTF_COLUMNS), in its order
CTF_RELION = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnVoltage", "rlnSphericalAberration",
              "rlnAmplitudeContrast", "rlnPhaseShift", PHASE_FLIPPED)
CTF_OPTIONAL = ("rlnPhaseShift", PHASE_FLIPPED)  # 0 where the column is missing
# No defocus, no aberration, amplitude contrast 1: chi = 0, so CTF = 1 at every frequency
UNIT_CTF = (0.0, 0.0, 0.0, 300.0, 0.0, 1.0, 0.0, 0.0)
PIXEL_SIZE_TOLERANCE_FRAC = 0.005
HEADER_TOLERANCE_FRAC = 0.02  # pixel sizes in headers are often rounded
VOLTAGE_LIMITS_KV = (10.0, 2000.0)
CS_LIMITS_MM = (-10.0, 20.0)
MOST_DEFOCUS_ANG = 2e5  # 20 um
LEAST_DEFOCUS_ANG = 100.0  # below, all of a set's values are micrometres
LOW_DEFOCUS_ANG = 2000.0  # below, all of a set's values may be nanometres
_MAGNIFICATION = "rlnDetectorPixelSize * 10000 / rlnMagnification"
# what RELION models and we do not: columns, the value that stands for nothing, and what they are
_NOT_MODELLED = (
    (("rlnCtfBfactor",), 0.0, "B-factors of the CTF"),
    (("rlnCtfScalefactor",), 1.0, "scale factors of the CTF"),
    (("rlnBeamTiltX", "rlnBeamTiltY"), 0.0, "the beam tilt"),
    (("rlnMagMat00", "rlnMagMat11"), 1.0, "the magnification matrix"),
    (("rlnMagMat01", "rlnMagMat10"), 0.0, "the magnification matrix"),
    (("rlnOddZernike", "rlnEvenZernike"), 0.0, "higher aberrations (Zernike coefficients)"),
)


def unit_ctf(n: int) -> np.ndarray:
    """``(n, 8)`` rows of a CTF that is 1 everywhere."""
    return np.tile(np.array(UNIT_CTF, np.float32), (n, 1))


def read_ctf(table: RelionTable, rows: np.ndarray, phase_flipped: bool) -> tuple[np.ndarray, list[str]]:
    """CTF rows ``(n, 8)`` float32 (``ctf.CTF_COLUMNS``) of some particles, and what to say. Raises DataError.

    ``phase_flipped``: the setting; it counts where the star file has no column for it.
    """
    missing = [name for name in CTF_RELION if name not in CTF_OPTIONAL and not table.has(name)]
    if missing:
        error = missing_columns(table.star, missing)
        raise DataError(error.message, error.hint + " To train without a CTF set data.ignore_ctf to true.")
    if table.has(PREMULTIPLIED) and (table.numbers(PREMULTIPLIED)[rows] == 1).any():
        raise DataError(f"{table.star}: {PREMULTIPLIED} is 1: the images were multiplied by their CTF, which the model "
                        "would apply once more.",
                        "Extract the particles again without multiplying them by their CTF.")
    values = {name: table.numbers(name)[rows] if table.has(name) else np.zeros(len(rows)) for name in CTF_RELION}
    values[PHASE_FLIPPED], notes = _flipped(table, values[PHASE_FLIPPED], rows, phase_flipped)
    _check_range(table, rows, "rlnVoltage", values["rlnVoltage"], (*VOLTAGE_LIMITS_KV, " kV"))
    _check_range(table, rows, "rlnAmplitudeContrast", values["rlnAmplitudeContrast"], (0.0, 1.0, ""))
    _check_range(table, rows, "rlnSphericalAberration", values["rlnSphericalAberration"], (*CS_LIMITS_MM, " mm"))
    notes += _check_defocus(table, rows, values) + _not_modelled(table, rows)
    turned = np.abs(values["rlnPhaseShift"]).max()
    if 0 < turned <= np.pi:
        notes.append(f"rlnPhaseShift reaches {turned:.3g}; it is read as degrees, RELION's unit.")
    return np.stack([values[name] for name in CTF_RELION], axis=1).astype(np.float32), notes


def _flipped(table: RelionTable, column: np.ndarray, rows: np.ndarray, setting: bool) -> tuple[np.ndarray, list[str]]:
    """0 or 1 for each row: whether the image was multiplied by the sign of its CTF."""
    if not table.has(PHASE_FLIPPED):
        return np.full(len(rows), float(setting)), []
    odd = np.flatnonzero((column != 0) & (column != 1))
    if len(odd):
        raise DataError(f"{table.star}: {PHASE_FLIPPED} is {column[odd[0]]:g} in particle row {rows[odd[0]] + 1}, it "
                        "must be 0 or 1.", "Correct the optics.")
    n_flipped = int(column.sum())
    if setting and n_flipped < len(rows):
        row = int(np.flatnonzero(column == 0)[0])
        raise DataError(f"{table.star}: {PHASE_FLIPPED} is 0 in particle row {rows[row] + 1}, the setting "
                        "data.phase_flipped is true.",
                        "Correct the column, or set data.phase_flipped to false: the column alone decides then.")
    if n_flipped == 0 or setting:
        return column, []
    which = "all particles are" if n_flipped == len(rows) else f"{n_flipped} of {len(rows)} particles are"
    return column, [f"{PHASE_FLIPPED} says that {which} phase-flipped: their CTF counts without its sign."]


def _check_range(table: RelionTable, rows: np.ndarray, name: str, values: np.ndarray,
                 limits: tuple[float, float, str]) -> None:
    """Refuse values outside of (low, high, unit)."""
    low, high, unit = limits
    outside = np.flatnonzero((values < low) | (values > high))
    if len(outside):
        raise DataError(f"{table.star}: {name} is {values[outside[0]]:g} in particle row {rows[outside[0]] + 1}, it "
                        f"must lie between {low:g} and {high:g}{unit}.", "Correct the optics.")


def _check_defocus(table: RelionTable, rows: np.ndarray, columns: dict[str, np.ndarray]) -> list[str]:
    """Refuse a defocus in another unit or sign, or none; the unit is Angstrom, underfocus positive."""
    u, v = columns["rlnDefocusU"], columns["rlnDefocusV"]
    mean = (u + v) / 2
    largest = np.maximum(np.abs(u), np.abs(v))
    has_plate = columns["rlnPhaseShift"] != 0  # a phase plate is used in focus
    in_use = ~((columns["rlnAmplitudeContrast"] == 1) | has_plate)  # contrast 1 without defocus: a CTF of 1

    def refuse(bad: np.ndarray, what: str, hint: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(f"{table.star}: rlnDefocusU and rlnDefocusV are {u[row]:g} and {v[row]:g} in particle row "
                            f"{rows[row] + 1} ({int(bad.sum())} such rows), {what}.", hint)

    if 0 < largest.max() < LEAST_DEFOCUS_ANG:
        refuse(in_use & (largest > 0), f"all are below {LEAST_DEFOCUS_ANG:g} A: they seem to be micrometres",
               "Give the defocus in Angstrom.")
    refuse(in_use & (mean == 0), "no defocus was measured for them",
           "Estimate the CTF, remove these rows, or set data.ignore_ctf to true.")
    refuse(in_use & (mean < 0), "RELION's defocus is positive for underfocus", "Change the sign of both columns.")
    refuse(largest > MOST_DEFOCUS_ANG, f"the limit is {MOST_DEFOCUS_ANG:g} A (20 um)",
           "Give the defocus in Angstrom, or remove these rows.")
    if in_use.all() and largest.max() < LOW_DEFOCUS_ANG:
        return [f"the defocus is at most {largest.max():g} A ({largest.max() / 1e4:.2f} um), unusually near to focus; "
                "it is read in Angstrom, not in nanometres."]
    return []


def _not_modelled(table: RelionTable, rows: np.ndarray) -> list[str]:
    """One sentence for what RELION's columns hold and the model ignores."""
    ignored: list[str] = []
    for names, nothing, what in _NOT_MODELLED:
        there = [name for name in names if table.has(name)]
        if what not in ignored and any(_differs(table, name, rows, nothing) for name in there):
            ignored.append(what)
    return [f"ignored, as the model has no place for it: {', '.join(ignored)}."] if ignored else []


def _differs(table: RelionTable, name: str, rows: np.ndarray, nothing: float) -> bool:
    """Whether a column holds another number than ``nothing``; lists ``[1,2]`` count by their members."""
    column = table.text(name)
    texts = column if name not in table.particles else (column[row] for row in rows.tolist())
    for text in set(texts):
        for part in text.strip("[]").split(","):
            try:
                if abs(float(part) - nothing) > 1e-6:
                    return True
            except ValueError:
                continue
    return False


def pixel_size_ang(table: RelionTable, rows: np.ndarray, headers: tuple[StackHeader, ...]) -> tuple[float, list[str]]:
    """Pixel size of the images, and what to say; optics groups must agree within 0.5 %. Raises DataError.

    ``rlnImagePixelSize`` decides where it is there. Of the older columns, two that disagree are refused.
    """
    stated = _stated_sizes(table, rows)
    if not stated:
        raise DataError(f"{table.star}: no pixel size: none of rlnImagePixelSize, rlnPixelSize, or "
                        "rlnDetectorPixelSize with rlnMagnification is there.",
                        "Add rlnImagePixelSize, in Angstrom, to the optics groups.")
    name = next(iter(stated))
    sizes = stated[name]
    bad = np.flatnonzero(~((sizes > 0) & np.isfinite(sizes)))
    if len(bad):
        raise DataError(f"{table.star}: the pixel size ({name}) is {sizes[bad[0]]:g} A in particle row "
                        f"{rows[bad[0]] + 1}, it must be greater than 0.", "Correct the pixel size.")
    notes = []
    for other, values in list(stated.items())[1:]:
        apart = np.flatnonzero(~(np.abs(values / sizes - 1) <= PIXEL_SIZE_TOLERANCE_FRAC))
        if len(apart) == 0:
            continue
        row = apart[0]
        said = f"{name} is {sizes[row]:g} A and {other} {values[row]:g} A in particle row {rows[row] + 1}"
        if name != "rlnImagePixelSize":
            raise DataError(f"{table.star}: {said}.", "Remove the wrong one.")
        notes.append(f"{said}: {name} is used.")
    _check_one_size(table, rows, sizes)
    size_ang = float(sizes.mean())
    return size_ang, notes + _against_headers(size_ang, headers)


def _stated_sizes(table: RelionTable, rows: np.ndarray) -> dict[str, np.ndarray]:
    """``(n,)`` pixel sizes by the columns that state one, the one that decides first."""
    stated = {name: table.numbers(name)[rows] for name in ("rlnImagePixelSize", "rlnPixelSize") if table.has(name)}
    if table.has("rlnDetectorPixelSize") and table.has("rlnMagnification"):
        with np.errstate(divide="ignore", invalid="ignore"):
            stated[_MAGNIFICATION] = (table.numbers("rlnDetectorPixelSize") * 1e4
                                      / table.numbers("rlnMagnification"))[rows]
    return stated


def _check_one_size(table: RelionTable, rows: np.ndarray, sizes: np.ndarray) -> None:
    if sizes.max() <= sizes.min() * (1 + PIXEL_SIZE_TOLERANCE_FRAC):
        return
    groups = ""
    if table.has(OPTICS_GROUP):
        group = table.numbers(OPTICS_GROUP)[rows]
        groups = f" (optics groups {group[sizes.argmin()]:g} and {group[sizes.argmax()]:g})"
    raise DataError(f"{table.star}: pixel sizes from {sizes.min():g} to {sizes.max():g} A{groups}, they "
                    f"may differ by {100 * PIXEL_SIZE_TOLERANCE_FRAC:g} %.",
                    "Rescale the particles to one pixel size, or give the sets one by one.")


def _against_headers(size_ang: float, headers: tuple[StackHeader, ...]) -> list[str]:
    """A sentence where a stack's header states another pixel size; 0 and 1 stand for none."""
    for header in headers:
        stated = header.pixel_size_ang
        if stated not in (0.0, 1.0) and abs(stated / size_ang - 1) > HEADER_TOLERANCE_FRAC:
            return [f"the pixel size is {size_ang:g} A by the star file and {stated:g} A by the header of "
                    f"{header.path}: that of the star file is used."]
    return []
