"""What the steps of a refinement take, and the table of it by stages."""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from ..contract.status import StageCost
from ..reconstruction.pose_count import counted_poses

T = TypeVar("T")
STEP = "step"  # the ``stage`` of its lines in ``log.jsonl``
OTHER = "reading, writing, the rest"
# stages by the first words of their steps' names, the longer ones first
STAGES = (("ab_initio", "starts"), ("ball_null", "balls"), ("contrast_states", "pose search"),
          ("first_states", "pose search"), ("contrast", "contrasts"), ("mask", "mask"), ("divide", "landscapes"),
          ("search", "search in all states"), ("settle", "states settled and joined"), ("restart", "restarts"),
          ("again", "second search"), ("junk", "junk"), ("follow", "poses along motions"), ("detail", "half maps"),
          ("frame", "common frame"), ("motion", "motions"))


class Cost(NamedTuple):
    """Of one step, without the steps inside of it."""

    seconds: float
    image_poses: int

    def plus(self, more: Cost) -> Cost:
        """Both together."""
        return Cost(self.seconds + more.seconds, self.image_poses + more.image_poses)


class StepClock:
    """Measures steps, some inside of others."""

    def __init__(self) -> None:
        self._inside = [Cost(0.0, 0)]  # what the steps inside of each that is under way have taken

    def measured(self, make: Callable[[], T]) -> tuple[T, Cost]:
        """The value that ``make`` gives, and what it took."""
        began, counted = time.monotonic(), counted_poses()
        self._inside.append(Cost(0.0, 0))
        try:
            value = make()
        finally:
            inside = self._inside.pop()
            whole = Cost(time.monotonic() - began, counted_poses() - counted)
            self._inside[-1] = self._inside[-1].plus(whole)
        return value, Cost(whole.seconds - inside.seconds, whole.image_poses - inside.image_poses)


def stage_of(step: str) -> str:
    """The stage that a step belongs to."""
    return next((stage for first, stage in STAGES if step.startswith(first)), OTHER)


def stage_costs(log: Sequence[dict[str, Any]], seconds: float) -> list[StageCost]:
    """The stages in their order, from lines of ``log.jsonl`` of a run of ``seconds``; what is in no step comes last."""
    total = {stage: Cost(0.0, 0) for stage in (*dict.fromkeys(stage for _, stage in STAGES), OTHER)}
    for line in log:
        if line.get("stage") == STEP:
            stage = stage_of(line["step"])
            total[stage] = total[stage].plus(Cost(line["took_seconds"], line["image_poses"]))
    in_steps = sum(cost.seconds for cost in total.values())
    total[OTHER] = total[OTHER].plus(Cost(max(seconds - in_steps, 0.0), 0))
    return [StageCost(stage, round(cost.seconds, 1), cost.image_poses) for stage, cost in total.items()
            if cost.seconds > 0]
