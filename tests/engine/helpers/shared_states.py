"""``states`` of few images, as one of several processes where the environment says so: ``STAR OUT [DIE | --resume]``.

DIE: the step after which the last process is killed. Parts are small, so that there are several of few images.
"""
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from told_errors import errors_told
from vaegan_engine.contract.settings import ComputeConfig, DataConfig
from vaegan_engine.evaluation.device.measures import TOY
from vaegan_engine.physics import slices
from vaegan_engine.reconstruction import polar_search
from vaegan_engine.refine.refine import run_states
from vaegan_engine.refine.rounds import landscape
from vaegan_engine.runtime.step_store import Checkpoints

BOX_PX = 16
# After so few steps maps say no more than balls: structure is taken for granted, so that all steps are made.
STRUCTURED = replace(TOY.tuning, start=replace(TOY.tuning.start, min_ball_errors=-1e6, min_ball_frac=-1e6))
SMALL_PARTS = ((slices, "CHUNK_IMAGES", 16), (slices, "_LEAST_ADDED", 8), (polar_search, "PART_IMAGES", 8),
               (landscape, "FAMILY_CHUNK_IMAGES", 32))


def refined(star, out, resume=False):
    """States of the particles, without a message where it fails."""
    run = replace(TOY.states, data=DataConfig(particles=str(star), box_px=BOX_PX),
                  compute=ComputeConfig("cpu", threads=1))
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in SMALL_PARTS:
            patch.setattr(module, name, value)
        run_states(run, Path(out), resume, STRUCTURED)


def die_after(last):
    """Let this process be killed once a step is made."""
    step = Checkpoints.step

    def and_die(self, name, make, rng=None):
        value = step(self, name, make, rng)
        if name == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    Checkpoints.step = and_die


def main(star, out, how=""):
    if how != "--resume" and os.environ.get("RANK") == "1":
        die_after(how)
    with errors_told():
        refined(star, out, how == "--resume")


if __name__ == "__main__":
    main(*sys.argv[1:])
