"""Prepared images of an earlier run of the project, taken where they are those that a run would make.

They are linked into the run's own folder, which costs no disk and outlives the earlier run; the engine looks at them
again and makes its own where they do not fit.
"""
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, List, Optional

from .engine.vaegan_engine.contract.prepared import (
    IMAGES_NPY,
    META_JSON,
    TABLE_NPZ,
    CacheMeta,
    file_sha256,
    read_meta,
)
from .engine.vaegan_engine.contract.result_files import CACHE
from .engine.vaegan_engine.contract.settings import Classes2dRun, DataConfig, StatesRun, TrainRun

FILES = (IMAGES_NPY, TABLE_NPZ, META_JSON)  # the last one makes them valid
TAKEN_FROM = "taken_from.txt"
EARLIER = "*/extra/*/" + CACHE  # below the folder of a project's runs


def take_prepared(settings: Any, star: Path, out_dir: Path) -> None:
    """Link prepared images for a run into ``out_dir``, where an earlier run beside it has them; else nothing."""
    own, runs = Path(out_dir) / CACHE, Path(out_dir).parent.parent.parent
    if not isinstance(settings, (TrainRun, StatesRun, Classes2dRun)) or own.exists() or not Path(star).exists():
        return
    sha256, newest_first = "", sorted(runs.glob(EARLIER), reverse=True)
    for folder in newest_first:
        meta = read_meta(folder)
        if meta is None or folder.resolve() == own.resolve():
            continue
        sha256 = sha256 or file_sha256(Path(star))
        if meta.difference(data_of(settings, meta), sha256):
            continue
        if _linked(folder, own):
            return


def data_of(settings: Any, meta: CacheMeta) -> DataConfig:
    """How a run's images are made, with the circle of its particle diameter."""
    diameter_ang = getattr(settings, "particle_diameter_ang", 0.0)
    data: DataConfig = settings.data
    if not diameter_ang:
        return data
    return replace(data, particle_radius_frac=diameter_ang / (2 * meta.kept_ang(data.crop_frac)))


def _linked(folder: Path, own: Path) -> bool:
    """Link the files; whether that could be done."""
    own.mkdir(parents=True)
    try:
        for name in FILES:
            os.link(folder / name, own / name)
        (own / TAKEN_FROM).write_text(f"{(own / IMAGES_NPY).stat().st_ino} {folder.parent.parent.parent.name}\n")
    except OSError:  # another disk, or one without links, or the other run was deleted meanwhile
        for path in own.iterdir():
            path.unlink()
        own.rmdir()
        return False
    return True


def taken_note(results_dir: Any) -> List[str]:
    """Which run a run's prepared images are from, for its summary; nothing where they are its own."""
    own = Path(results_dir) / CACHE
    source = _source(own)
    if source is None:
        return []
    number, _, name = source.partition("_")
    return [f"Prepared images were taken from run {int(number)} ({name})" if number.isdigit()
            else f"Prepared images were taken from {source}"]


def _source(own: Path) -> Optional[str]:
    try:
        inode, name = (own / TAKEN_FROM).read_text().split(maxsplit=1)
        return name.strip() if int(inode) == (own / IMAGES_NPY).stat().st_ino else None
    except (OSError, ValueError):
        return None
