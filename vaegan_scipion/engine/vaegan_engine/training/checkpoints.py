"""Checkpoints: tensors and plain values only, atomic, named by images seen."""
from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..contract import result_files
from ..contract.errors import DataError
from ..contract.run_json import read_training
from ..contract.settings import TrainRun
from ..contract.status import read_status

if TYPE_CHECKING:
    from .posed_trainer import PosedTrainer
    from .trainer import Trainer


def save(trainer: Trainer | PosedTrainer, folder: Path) -> Path:
    """Write ``checkpoints/ckpt_<images>.pt`` and keep the newest two."""
    folder = folder / result_files.CHECKPOINTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"ckpt_{trainer.images_seen:010d}.pt"
    state = {
        "images_seen": trainer.images_seen,
        "box_px": trainer.vae_gan.box_px,
        "pixel_size_ang": trainer.vae_gan.pixel_size_ang,
        "modules": {name: module.state_dict() for name, module in trainer.modules().items()},
        "optimizers": {name: o.state_dict() for name, o in trainer.optimizers.items()},
        "rng": trainer.vae_gan.rng.get_state(),
    }
    part = path.with_name(path.name + ".tmp")
    try:
        with open(part, "wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())  # the older ones go below
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch's own writer raises the second on a full disk
        part.unlink(missing_ok=True)
        raise DataError(f"{path}: the checkpoint could not be written ({getattr(error, 'strerror', None) or error}).",
                        "Free disk space or choose another folder, then continue with --resume.") from error
    for old in sorted(known for known in folder.glob("ckpt_*.pt") if known.name <= path.name)[:-2]:
        old.unlink()
    return path


def clear(folder: Path) -> None:
    """Forget all checkpoints of a results folder."""
    for old in (folder / result_files.CHECKPOINTS).glob("ckpt_*.pt*"):
        old.unlink()


def read(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The stored state; code in the file is never run."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise DataError(f"{path}: the checkpoint cannot be read ({error}).",
                        "Delete it and continue from the one before, or train again.") from error


def newest(folder: Path) -> Path | None:
    """Newest checkpoint of a results folder: the one recorded in ``status.json``, or the newest before it.

    Where none is left, the recorded one.
    """
    name = read_status(folder).checkpoint
    if not name:
        return None
    left = sorted(path for path in (folder / result_files.CHECKPOINTS).glob("ckpt_*.pt") if path.name <= name)
    return left[-1] if left else folder / result_files.CHECKPOINTS / name


def read_run(run_dir: Path, device: torch.device) -> tuple[TrainRun, dict[str, Any]]:
    """Settings and newest checkpoint of a training, for what reads its networks back. Raises DataError."""
    stored = newest(run_dir)
    if stored is None or not stored.exists():
        raise DataError(f"{run_dir}: there is no checkpoint of a training.",
                        "Give the --out folder of train3d or train2d, after its first checkpoint.")
    return read_training(run_dir), read(stored, device)


def take_networks(trainer: Trainer | PosedTrainer, folder: Path) -> Path:
    """Start with the networks of another training, averages included; returns the checkpoint they came from.

    Optimisers, random numbers and the count of images begin anew. Raises DataError where there is no
    checkpoint or its networks are of another size.
    """
    stored = newest(folder)
    if stored is None or not stored.exists():
        raise DataError(f"training.continue_from is {folder}: there is no checkpoint in it.",
                        "Give the folder of a training that has made one.")
    state = read(stored, trainer.device)
    size, pixel_ang = state["box_px"], state["pixel_size_ang"]
    own_px, own_ang = trainer.vae_gan.box_px, trainer.vae_gan.pixel_size_ang
    if size != own_px or abs(pixel_ang - own_ang) > 1e-3 * own_ang:
        raise DataError(f"{stored}: its networks are for {size} px of {pixel_ang:.3f} A, the training is for "
                        f"{own_px} px of {own_ang:.3f} A.",
                        "Train at the same box and pixel size, or from scratch.")
    try:
        for name, module in trainer.modules().items():
            module.load_state_dict(state["modules"][name])
    except (RuntimeError, KeyError) as error:
        raise DataError(f"{stored}: its networks are of another kind ({' '.join(str(error).split())[:200]}).",
                        "Use the model settings of that training, or train from scratch.") from error
    return stored


def restore_networks(modules: Mapping[str, nn.Module], state: dict[str, Any]) -> None:
    """Put stored networks back, by name; what else was stored is left."""
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])


def restore(trainer: Trainer | PosedTrainer, state: dict[str, Any]) -> None:
    """Put a stored state back, random numbers included; learning rates and betas are those of the trainer.

    A state that was stored on another kind of device has random numbers of another kind: they begin anew.
    """
    restore_networks(trainer.modules(), state)
    for name, optimizer in trainer.optimizers.items():
        asked = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        optimizer.load_state_dict(state["optimizers"][name])
        for group, options in zip(optimizer.param_groups, asked, strict=True):
            group.update(options)
    trainer.images_seen = state["images_seen"]
    stored = state["rng"].cpu()
    if len(stored) == len(trainer.vae_gan.rng.get_state()):
        trainer.vae_gan.rng.set_state(stored)
    else:
        print("the checkpoint was made on another kind of device: random numbers begin anew", flush=True)
        trainer.vae_gan.rng.manual_seed(trainer.run.compute.seed + 1 + trainer.images_seen)
