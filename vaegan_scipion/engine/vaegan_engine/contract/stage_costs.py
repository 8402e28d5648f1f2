"""``costs.json`` of ``states``: what each stage of a run took. Written by the engine.

Standard library only, Python 3.8 syntax.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence


@dataclass(frozen=True)
class StageCost:
    """What one stage took, all rounds and states together."""

    stage: str
    seconds: float  # of the clock
    image_poses: int  # images times the poses at which each was compared with a map


def costs_text(costs: Sequence[StageCost]) -> str:
    """A table: stage, seconds, part of the whole, millions of image poses."""
    whole = sum(cost.seconds for cost in costs) or 1.0
    lines: List[str] = [f"{'stage':<28}{'seconds':>9}{'%':>6}{'10^6 image poses':>19}"]
    lines += [f"{cost.stage:<28}{cost.seconds:>9.1f}{100 * cost.seconds / whole:>6.1f}{cost.image_poses / 1e6:>19.1f}"
              for cost in costs]
    return "\n".join(lines)
