"""What speaks for structure and for the number of states, and the verdict."""
from __future__ import annotations

from dataclasses import dataclass, field

from ..contract.records import (
    ClusterRow,
    JunkNumbers,
    LandscapeNumbers,
    MaskRow,
    RestartRow,
    Separation,
    StartRow,
)
from .tuning import TUNING


@dataclass(frozen=True)
class Evidence:
    """What speaks for structure and for the number of states."""

    unseen: float  # mean log likelihood ratio of unseen images, maps against an empty one
    min_unseen: float  # below it there is no structure
    starts: list[StartRow] = field(default_factory=list)  # the same of every kind of start (``ab_initio``)
    pairs: list[Separation] = field(default_factory=list)  # ``join_states.separate_pairs`` of the states
    junk: JunkNumbers | None = None  # ``junk.set_junk_aside``
    contrast_spread: float = 0.0  # standard deviation of the particles' contrast
    masks: list[MaskRow] = field(default_factory=list)  # ``mask_choice.rate_masks``
    restarts: list[RestartRow] = field(default_factory=list)  # ``restart_states.restart_states``
    landscapes: list[LandscapeNumbers] = field(default_factory=list)  # ``landscape`` of each state of the last round

    @property
    def structured(self) -> bool:
        """Whether there is anything in the images."""
        return self.unseen >= self.min_unseen


def verdict(rows: list[ClusterRow], evidence: Evidence, mostly_frac: float = TUNING.junk.mostly_frac) -> str:
    """One sentence, from the evidence alone; "mostly junk" where more than ``mostly_frac`` of the images are."""
    if not evidence.structured:
        return (f"no structure found: maps explain unseen images no better than an empty map "
                f"(log likelihood {evidence.unseen:.1f} per image, at least {evidence.min_unseen:g} is asked)")
    moving = sum(bool(row.of_state.motion_files) for row in rows)
    junk, share = (evidence.junk.n_junk, evidence.junk.fraction) if evidence.junk is not None else (0, 0.0)
    n = len(rows)
    text = "one state" if n == 1 else f"{n} states"
    if moving:
        text += (", which varies continuously" if n == 1
                 else f", {moving} of which var{'ies' if moving == 1 else 'y'} continuously")
    if junk:
        text += (f"; {junk} image ({100 * share:.1f} %) fits no state and is set aside" if junk == 1
                 else f"; {junk} images ({100 * share:.1f} %) fit no state and are set aside")
    return f"mostly junk: {text}" if share > mostly_frac else text
