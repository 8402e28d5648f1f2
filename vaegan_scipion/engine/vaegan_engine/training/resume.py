"""A training that goes on: whether it may, from which checkpoint, and what was logged after that one."""
from __future__ import annotations

from pathlib import Path

from ..contract import result_files, run_json
from ..contract.errors import ConfigError
from ..contract.run_json import read_training
from ..contract.settings import TrainRun
from ..contract.status import mend_status, read_status
from ..data.prepared_images import ParticleCache
from ..runtime import processes
from ..runtime.place import is_first
from . import checkpoints


def check_resumed(run: TrainRun, out_dir: Path) -> None:
    """Refuse to go on with other settings than a checkpoint was made with (``contract.kept_on_resume``).

    ``total_kimg`` cannot change once the encoder alone is trained: the generator is not trained after that.
    """
    mend_status(out_dir)
    stored = checkpoints.newest(out_dir)
    if stored is None or not stored.exists():
        return
    before = read_training(out_dir)
    one, other = run_json.kept_on_resume(before), run_json.kept_on_resume(run)
    lengths = before.training.total_kimg, run.training.total_kimg
    if not before.data.posed and (read_status(out_dir).images_seen or 0) > 1000 * min(lengths):
        one["training.total_kimg"], other["training.total_kimg"] = lengths
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            raise ConfigError(f"{out_dir}: the training was begun with {name} {one.get(name)}, now it is "
                              f"{other.get(name)}.",
                              "Continue with the settings it was begun with, or train into a new folder.")


def check_same_particles(cache: ParticleCache, out_dir: Path) -> None:
    """Refuse to go on with other particles than a checkpoint was made with."""
    stored = checkpoints.newest(out_dir)
    before = read_status(out_dir).particles if stored is not None and stored.exists() else None
    if before and before != cache.digest():
        raise ConfigError(f"{out_dir}: the training was begun with other particles.",
                          "Continue with those, or train into a new folder.")


def check_same_poses(poses: str, out_dir: Path) -> None:
    """Refuse to go on at other poses than a checkpoint was made at: states that were run again into the same folder."""
    stored = checkpoints.newest(out_dir)
    before = read_status(out_dir).poses if stored is not None and stored.exists() else None
    if before and before != poses:
        raise ConfigError(f"{out_dir}: the training was begun at other poses of these particles.",
                          "Train into a new folder, or bring back the poses that it was begun at.")


def newest_for_all(out_dir: Path) -> Path | None:
    """The newest checkpoint as the first process finds it."""
    stored = checkpoints.newest(out_dir) if is_first() else None
    name = processes.told(b"" if stored is None else stored.name.encode()).decode()
    return out_dir / result_files.CHECKPOINTS / name if name else None


def forget_later(out_dir: Path, images_seen: int) -> None:
    """Drop what was logged after the checkpoint that the training goes on from: it will be logged again."""
    path = out_dir / result_files.LOG_JSONL
    rows = result_files.read_jsonl(path)
    kept = [row for row in rows if row["kimg"] <= images_seen / 1000]
    if len(kept) < len(rows):
        result_files.write_jsonl(path, kept)
