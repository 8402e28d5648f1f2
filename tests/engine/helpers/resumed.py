"""A training with poses in one go, and the same one that was stopped on the way and goes on."""
from pathlib import Path
from typing import Any

import pytest
import torch
from vaegan_engine.contract.settings import TrainRun
from vaegan_engine.training import checkpoints, train
from vaegan_engine.training.posed_trainer import PosedTrainer

STOPPED_AFTER = 1000  # images


def same_after_a_resume(run: TrainRun, folder: Path) -> dict[str, Any]:
    """Train into ``folder / whole`` and ``folder / parts``; all weights must be the same to the bit. Returns them."""
    train.run_train(run, folder / "whole")
    step = PosedTrainer.step

    def stumbling(self: PosedTrainer, rows: Any) -> Any:
        if self.images_seen >= STOPPED_AFTER:
            raise KeyboardInterrupt
        return step(self, rows)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PosedTrainer, "step", stumbling)
        with pytest.raises(KeyboardInterrupt):
            train.run_train(run, folder / "parts")
    train.run_train(run, folder / "parts", resume=True)
    one, other = (checkpoints.read(checkpoints.newest(folder / name))["modules"] for name in ("whole", "parts"))
    assert one.keys() == other.keys()
    for module in one:
        for key, value in one[module].items():
            assert torch.equal(value, other[module][key]), (module, key)
    return one
