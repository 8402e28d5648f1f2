"""``status.json`` of a results folder: what a command last said about itself.

Standard library only, Python 3.8 syntax: Scipion reads it while a command runs.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Optional

from . import result_files
from .record import read_record, write_record


@dataclass(frozen=True)
class EndReason:
    """Why a command ended before its end."""

    code: int
    message: str
    hint: str


@dataclass(frozen=True)
class Status:
    """Everything that any command says of itself; None where it says nothing of the kind."""

    state: Optional[str] = None  # running, finished, failed or stopped
    command: Optional[str] = None
    stage: Optional[str] = None
    error: Optional[EndReason] = None
    warning: Optional[str] = None
    # what it works on
    n_particles: Optional[int] = None
    particles: Optional[str] = None  # digest of the prepared images
    ids_are_rows_of: Optional[str] = None  # SHA-256 of the star file, where particle ids are its row numbers
    own_ids: Optional[bool] = None  # whether the particles have ids of their own
    pixel_size_ang: Optional[float] = None
    box_px: Optional[int] = None
    device: Optional[str] = None
    seed: Optional[int] = None
    versions: Optional[Dict[str, str]] = None
    # how far a training is
    images_seen: Optional[int] = None
    total_images: Optional[int] = None
    images_per_second: Optional[float] = None
    stage_seconds_left: Optional[float] = None
    checkpoint: Optional[str] = None
    scf: Optional[float] = None
    # what came out
    z_dim: Optional[int] = None
    clusters: Optional[int] = None
    states: Optional[int] = None
    unassigned_frac: Optional[float] = None
    verdict: Optional[str] = None
    points: Optional[int] = None


def read_status(folder: result_files.PathLike, command: str = "") -> Status:
    """The status of a folder; empty where there is none, unless ``command`` must have made it. Raises DataError."""
    path = Path(folder) / result_files.STATUS_JSON
    return read_record(Status, path, command) if command or path.exists() else Status()


def update_status(folder: result_files.PathLike, **values: Any) -> Status:
    """Lay fields of ``Status`` over those of a folder and return the whole."""
    status = replace(read_status(folder), **values)
    write_record(Path(folder) / result_files.STATUS_JSON, status)
    return status
