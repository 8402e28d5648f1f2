"""The prepared images of a finished training, and results whose particle ids are row numbers of a star file.

Where a star file has no ``vaeParticleId``, ids are its row numbers and mean nothing in another star file. So what is
made of such particles keeps the star file's SHA-256, and what is joined by these ids must have the same.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

from ..contract.errors import DataError
from ..contract.result_files import CACHE, STATUS_JSON, read_json
from ..contract.settings import DataConfig
from .particles import PARTICLE_ID
from .prepared_images import META_JSON, STAR_SHA256, ParticleCache, open_cache
from .star_files import file_digest, read_star

ROW_IDS = "ids_are_rows_of"  # key of status.json: that SHA-256, None for ids of their own


def open_run_cache(data: DataConfig, run_dir: str | Path, progress: bool = True) -> ParticleCache:
    """The images of a training in ``run_dir``, for a command that comes after it.

    They are made again where their stacks or settings changed. Raises DataError as ``open_cache``, and where the star
    file changed and ids are row numbers: they would mean other particles than in the results there are.
    """
    folder = Path(run_dir) / CACHE
    stored = _values(folder / META_JSON)
    if data.particles and stored.get(STAR_SHA256) not in (None, file_digest(Path(data.particles))):
        _check_star(stored, data.particles, run_dir)
    return open_cache(data, folder, progress)


def row_ids_of(results_dir: str | Path) -> str | None:
    """SHA-256 of the star file whose row numbers the ids of these results are; None for own ids, or unknown."""
    return _values(Path(results_dir) / STATUS_JSON).get(ROW_IDS)


def check_row_ids(results_dir: str | Path, star: str | Path) -> None:
    """Refuse to join results by row numbers with another star file than theirs. Raises DataError."""
    _check_star(_values(Path(results_dir) / STATUS_JSON), star, results_dir)


def _check_star(stored: dict[str, Any], star: str | Path, made_in: str | Path) -> None:
    """Refuse row numbers of another star file, and row numbers in place of the ids that there were."""
    rows_of = stored.get(ROW_IDS)
    if rows_of and rows_of != file_digest(Path(star)):
        raise changed_star(star, made_in)
    if ROW_IDS in stored and rows_of is None and not read_star(Path(star)).has(PARTICLE_ID):
        raise changed_star(star, made_in)


def _values(path: Path) -> dict[str, Any]:
    """What a JSON file holds; {} where there is none or it is no object."""
    try:
        values = read_json(path)
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def changed_star(star: str | Path, made_in: str | Path) -> DataError:
    """One sentence for results whose ids are row numbers of another star file."""
    return DataError(f"{star}: the star file is not the one that {made_in} was made from, and particles are told by "
                     f"their row number, as it has no column {PARTICLE_ID}: other images would be taken.",
                     "Bring the old star file back, or start again from the training with the new one.")
