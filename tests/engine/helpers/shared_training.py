"""A small training, as one of several processes where the environment says so: ``RUN_JSON OUT [HOW]``.

HOW: ``--resume``; or ``SIGKILL`` or ``SIGTERM``, which the last process gets in the middle of its third step.
"""
import os
import signal
import sys
from pathlib import Path

from told_errors import errors_told
from vaegan_engine.contract import run_json
from vaegan_engine.training import batch_parts, train
from vaegan_engine.training.posed_trainer import PosedTrainer
from vaegan_engine.training.trainer import Trainer

PART_IMAGES = 4
AT_STEP = 3


def trained(request, out, resume=False):
    """Without a message where it fails."""
    batch_parts.PART_IMAGES = PART_IMAGES
    train.run_train(run_json.read_run(Path(request)), Path(out), resume)


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
