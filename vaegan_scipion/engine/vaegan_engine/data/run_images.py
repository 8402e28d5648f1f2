"""The prepared images of a finished training, and results whose particle ids are row numbers of a star file.

Where a star file has no ``vaeParticleId``, ids are its row numbers and mean nothing in another star file. So what is
made of such particles keeps the star file's SHA-256, and what is joined by these ids must have the same.
"""
from __future__ import annotations

from pathlib import Path

from ..contract.errors import DataError
from ..contract.result_files import CACHE, STATUS_JSON, read_json
from ..contract.settings import DataConfig
from .particles import PARTICLE_ID
from .prepared_images import META_JSON, ParticleCache, open_cache
from .star_files import file_digest

ROW_IDS = "ids_are_rows_of"  # key of status.json: that SHA-256, None for ids of their own


def open_run_cache(data: DataConfig, run_dir: str | Path, progress: bool = True) -> ParticleCache:
    """The images of a training in ``run_dir``, for a command that comes after it.

    They are made again where their stacks or settings changed. Raises DataError as ``open_cache``, and where the star
    file changed and ids are row numbers: they would mean other particles than in the results there are.
    """
    folder = Path(run_dir) / CACHE
    try:
        rows_of_star = read_json(folder / META_JSON).get(ROW_IDS)
    except (OSError, ValueError, AttributeError):
        rows_of_star = None
    if data.particles and rows_of_star and file_digest(Path(data.particles)) != rows_of_star:
        raise changed_star(data.particles, run_dir)
    return open_cache(data, folder, progress)


def row_ids_of(results_dir: str | Path) -> str | None:
    """SHA-256 of the star file whose row numbers the ids of these results are; None for own ids, or unknown."""
    try:
        return read_json(Path(results_dir) / STATUS_JSON).get(ROW_IDS)
    except (OSError, ValueError, AttributeError):
        return None


def check_row_ids(results_dir: str | Path, star: str | Path) -> None:
    """Refuse to join results by row numbers with another star file than theirs. Raises DataError."""
    stored = row_ids_of(results_dir)
    if stored and file_digest(Path(star)) != stored:
        raise changed_star(star, results_dir)


def changed_star(star: str | Path, made_in: str | Path) -> DataError:
    """One sentence for results whose ids are row numbers of another star file."""
    return DataError(f"{star}: the star file is not the one that {made_in} was made from, and particles are told by "
                     f"their row number, as it has no column {PARTICLE_ID}: other images would be taken.",
                     "Bring the old star file back, or start again from the training with the new one.")
