"""``status.json`` of a results folder: how far a command is, and how it ended. Written by the engine, read by both.

Standard library only, Python 3.8 syntax.
"""
from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Literal, Optional

from .errors import DataError, EngineError, StoppedError
from .record import read_record, write_record
from .result_files import CHECKPOINTS, STATUS_JSON, PathLike, read_json


@dataclass(frozen=True)
class Failure:
    """Why a command ended before its end."""

    code: int  # exit code
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


@dataclass(frozen=True)
class StageCost:
    """What one stage took, all rounds and states together: a row of ``costs.json``."""

    stage: str
    seconds: float  # of the clock
    image_poses: int  # images times the poses at which each was compared with a map


@dataclass(frozen=True)
class Status:
    """What a command says of itself; what it does not say is None, and no key of the file."""

    state: Optional[Literal["running", "finished", "failed", "stopped"]] = None
    command: Optional[str] = None
    stage: Optional[str] = None
    error: Optional[Failure] = None
    ids_are_rows_of: Optional[str] = None  # SHA-256 of the star file whose row numbers they are; "": own ids
    n_particles: Optional[int] = None
    networks: Optional[str] = None  # SHA-256 of the checkpoint with those of a training, or with those that made this
    # trainings
    device: Optional[str] = None
    seed: Optional[int] = None
    particles: Optional[str] = None  # digest
    poses: Optional[str] = None  # digest of those that the particles were trained at
    pixel_size_ang: Optional[float] = None  # of the prepared images
    box_px: Optional[int] = None
    versions: Optional[Dict[str, str]] = None
    images_seen: Optional[int] = None
    total_images: Optional[int] = None
    images_per_second: Optional[float] = None
    stage_seconds_left: Optional[float] = None
    checkpoint: Optional[str] = None  # file name of the newest
    scf: Optional[float] = None  # of a trained camera
    snr: Optional[float] = None  # estimated, of the prepared images; of a training without poses
    warning: Optional[str] = None
    # what came out
    z_dim: Optional[int] = None
    clusters: Optional[int] = None
    unassigned_frac: Optional[float] = None
    verdict: Optional[str] = None
    n_points: Optional[int] = None
    states: Optional[int] = None
    classes: Optional[int] = None

    @property
    def finished(self) -> bool:
        """Whether the command came to its end."""
        return self.state == "finished"


def read_status(folder: PathLike) -> Status:
    """The status of a results folder; an empty one where it has none. Raises DataError."""
    path = Path(folder) / STATUS_JSON
    return read_record(Status, path, "the command") if path.exists() else Status()


def update_status(folder: PathLike, **changes: Any) -> Status:
    """Write some fields of ``Status`` anew, the others stay; returns all. A field that is set to None is taken away."""
    status = replace(read_status(folder), **changes)
    write_record(Path(folder) / STATUS_JSON, status)
    return status


def status_left(folder: PathLike) -> Status:
    """The status; of one that is broken its newest checkpoint, without which a training would begin anew."""
    try:
        return read_status(folder)
    except DataError:
        return Status(checkpoint=max((path.name for path in (Path(folder) / CHECKPOINTS).glob("ckpt_*.pt")),
                                     default=None))


def mend_status(folder: PathLike) -> None:
    """Write a status anew that a power cut left broken, for a command that goes on (``status_left``)."""
    path = Path(folder) / STATUS_JSON
    try:
        if path.exists():
            read_json(path)
    except ValueError:
        write_record(path, status_left(folder))


def made_by_others(folder: PathLike, run_dir: PathLike) -> bool:
    """Whether latents or clusters are of other networks than a training has now.

    They are of another training, or of before this one was trained on or anew. A folder that does not name its
    networks (older releases) counts as made by these. Raises DataError.
    """
    before, now = read_status(folder).networks, read_status(run_dir).networks
    return before is not None and now is not None and before != now


def record_failure(folder: PathLike, error: EngineError) -> None:
    """Leave the reason why a command ended in the status; results that are finished stay so.

    A status that a power cut left broken is written anew: it must not hide the reason. Nor must a disk that is full,
    which may be that reason: then the status stays as it is.
    """
    state: Literal["stopped", "failed"] = "stopped" if isinstance(error, StoppedError) else "failed"
    before = status_left(folder)
    with suppress(OSError):
        write_record(Path(folder) / STATUS_JSON, replace(before, state="finished" if before.finished else state,
                                                         error=Failure(error.exit_code, error.message, error.hint)))


def forget_failure(folder: PathLike) -> None:
    """Take away the reason of a call before, where the results are finished."""
    status = read_status(folder)
    if status.finished and status.error:
        update_status(folder, error=None)
