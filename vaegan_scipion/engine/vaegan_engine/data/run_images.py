"""The prepared images of a finished training, and results whose particle ids are row numbers of a star file.

Where a star file has no ``vaeParticleId``, ids are its row numbers and mean nothing in another star file. So what is
made of such particles keeps the star file's SHA-256, and what is joined by these ids must have the same.
"""
from __future__ import annotations

from pathlib import Path

from ..contract.errors import DataError
from ..contract.prepared import read_meta
from ..contract.result_files import CACHE
from ..contract.settings import DataConfig
from ..contract.status import read_status
from .particles import PARTICLE_ID
from .prepared_images import ParticleCache, cache_folder, open_cache
from .star_files import file_digest, read_star


def open_run_cache(data: DataConfig, run_dir: str | Path, progress: bool = True) -> ParticleCache:
    """The images of a training in ``run_dir``, for a command that comes after it.

    They are made again where their stacks or settings changed. Raises DataError as ``open_cache``, and where the star
    file changed and ids are row numbers: they would mean other particles than in the results there are.
    """
    folder = cache_folder(data, Path(run_dir) / CACHE)
    stored = read_meta(folder)
    if data.particles and stored is not None and stored.star_sha256 != file_digest(Path(data.particles)):
        _check_star(stored.ids_are_rows_of, data.particles, run_dir)
    return open_cache(data, folder, progress)


def row_ids_of(results_dir: str | Path) -> str | None:
    """SHA-256 of the star file whose row numbers the ids of these results are; "" for own ids, None where unknown."""
    try:
        return read_status(results_dir).ids_are_rows_of
    except DataError:
        return None


def check_row_ids(results_dir: str | Path, star: str | Path) -> None:
    """Refuse to join results by row numbers with another star file than theirs. Raises DataError."""
    _check_star(row_ids_of(results_dir), star, results_dir)


def _check_star(rows_of: str | None, star: str | Path, made_in: str | Path) -> None:
    """Refuse row numbers of another star file, and row numbers in place of the ids that there were."""
    if rows_of and rows_of != file_digest(Path(star)):
        raise changed_star(star, made_in)
    if rows_of == "" and not read_star(Path(star)).has(PARTICLE_ID):
        raise changed_star(star, made_in)


def changed_star(star: str | Path, made_in: str | Path) -> DataError:
    """One sentence for results whose ids are row numbers of another star file."""
    return DataError(f"{star}: the star file is not the one that {made_in} was made from, and particles are told by "
                     f"their row number, as it has no column {PARTICLE_ID}: other images would be taken.",
                     "Bring the old star file back, or start again from the training with the new one.")
