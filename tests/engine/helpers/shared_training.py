"""A small training, as one of several processes where the environment says so: ``RUN_JSON OUT [HOW]``.

HOW: ``--resume``; or ``SIGKILL`` or ``SIGTERM``, which the last process gets in the middle of its third step.
"""
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from told_errors import errors_told
from vaegan_engine.contract import run_json
from vaegan_engine.reconstruction import principal_maps
from vaegan_engine.runtime import launch
from vaegan_engine.training import batch_parts, checkpoints, plane_frames, posed_trainer, train
from vaegan_engine.training.posed_trainer import PosedTrainer
from vaegan_engine.training.trainer import Trainer

SMALL_PARTS = ((batch_parts, "PART_IMAGES", 4), (batch_parts, "ENCODER_PART_IMAGES", 4),
               (principal_maps, "FAMILY_CHUNK_IMAGES", 32),
               (posed_trainer, "FAMILY_CHUNK_IMAGES", 32), (plane_frames, "FAMILY_CHUNK_IMAGES", 32))
AT_STEP = 3


def trained(request, out, resume=False):
    """A training of a request in small parts, without a message where it fails."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in SMALL_PARTS:
            patch.setattr(module, name, value)
        train.run_train(run_json.read_run(Path(request)), Path(out), resume)


def by_two(request, out, how=""):
    """The same by two processes; returns their exit code."""
    return launch.run_processes([sys.executable, __file__, str(request), str(out), *([how] if how else [])], 2)


def assert_same_networks(one, other):
    """Networks, optimisers and random numbers of the newest checkpoints of two folders."""
    compare(*(checkpoints.read(checkpoints.newest(out)) for out in (one, other)))


def compare(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, (dict, list)):
        assert len(a) == len(b)
        for key in a if isinstance(a, dict) else range(len(a)):
            compare(a[key], b[key])
    else:
        assert a == b


def signal_in_step(kind, number):
    """Send this process a signal in a step of the trainer ``kind``."""
    step, count = kind.step, []

    def and_signal(self, *batch):
        count.append(1)
        if len(count) == AT_STEP:
            os.kill(os.getpid(), number)
        return step(self, *batch)

    kind.step = and_signal


def main(request, out, how=""):
    if how.startswith("SIG") and os.environ.get("RANK") == "1":
        for kind in (Trainer, PosedTrainer):
            signal_in_step(kind, getattr(signal, how))
    with errors_told():
        trained(request, out, how == "--resume")


if __name__ == "__main__":
    main(*sys.argv[1:])
