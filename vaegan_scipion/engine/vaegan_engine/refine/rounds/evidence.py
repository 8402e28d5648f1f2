"""What speaks for structure and for the number of states, and the verdict."""
from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import numpy as np

from ...contract.labels import state_name
from ...contract.records import (
    MOSTLY_JUNK,
    ClusterRow,
    JunkNumbers,
    LandscapeNumbers,
    MaskRow,
    RestartRow,
    Separation,
    StartRow,
)
from ...contract.wording import lost_end_text
from ..start.ball_null import BallNull
from ..tuning import TUNING, RefineTuning


class Kind(str, Enum):
    """Verdicts, the most fundamental first."""

    NO_STRUCTURE = "no structure"
    BLOB = "no structure beyond a blob"
    POSES = "poses are not determined"
    JUNK = MOSTLY_JUNK
    VARIES = "a state varies continuously"
    STATES = "states"

    @property
    def has_states(self) -> bool:
        """Whether there are states to speak of."""
        return self in (Kind.JUNK, Kind.VARIES, Kind.STATES)


class Verdict(NamedTuple):
    """A kind, and the sentence with its numbers."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Evidence:
    """What speaks for structure and for the number of states."""

    unseen: float  # mean log likelihood ratio of unseen images, maps against an empty one
    min_unseen: float  # below it there is no structure
    starts: list[StartRow] = field(default_factory=list)  # the same of every kind of start (``ab_initio``)
    pairs: list[Separation] = field(default_factory=list)  # ``join_states.separate_pairs`` of the states
    junk: JunkNumbers | None = None  # ``junk.set_junk_aside``
    junk_reason: np.ndarray | None = None  # ``junk.reasons_of`` (n,)
    contrast_spread: float = 0.0  # standard deviation of the particles' contrast
    masks: list[MaskRow] = field(default_factory=list)  # ``mask_choice.rate_masks``
    restarts: list[RestartRow] = field(default_factory=list)  # ``restart_states.restart_states``
    landscapes: list[LandscapeNumbers] = field(default_factory=list)  # ``landscape`` of each state of the last round
    ball: BallNull | None = None  # maps against balls; None where not even an empty map is beaten

    @property
    def structured(self) -> bool:
        """Whether there is anything in the images that a ball does not explain."""
        return self.unseen >= self.min_unseen and (self.ball is None or self.ball.is_beaten)


def verdict(rows: list[ClusterRow], evidence: Evidence, tuning: RefineTuning = TUNING) -> Verdict:
    """The most fundamental kind that holds, from the evidence and the states' rows of ``clusters.json`` alone."""
    if evidence.unseen < evidence.min_unseen:
        return Verdict(Kind.NO_STRUCTURE, (
            f"no structure found: maps explain unseen images no better than an empty map "
            f"(log likelihood {evidence.unseen:.1f} per image, at least {evidence.min_unseen:g} is asked)"))
    ball = evidence.ball
    if not evidence.structured and ball is not None:
        return Verdict(Kind.BLOB, (
            "no structure beyond a blob: something is in the images, but maps explain unseen ones no better than "
            f"balls of the same profile ({ball.text()})"))
    states, junk_frac = states_text(rows, evidence), 0.0 if evidence.junk is None else evidence.junk.fraction
    if ball is not None and ball.open_deg > tuning.start.max_open_deg * ball.n_alike ** (-1 / 3) and not any(
            row.of_state.proof.proven_0143 for row in rows):
        shared_ang = min(row.of_state.proof.shared_ang for row in rows)
        return Verdict(Kind.POSES, (
            f"poses are not determined: an unseen image leaves {ball.open_deg:.0f} degrees of rotation open on "
            f"average, and halves that search their poses apart agree on nothing finer than the {shared_ang:.0f} A "
            f"that they share; do not trust what was found ({states})"))
    if junk_frac > tuning.junk.mostly_frac:
        return Verdict(Kind.JUNK, f"mostly junk: {states}")
    moves = any(row.of_state.motion_files for row in rows)
    return Verdict(Kind.VARIES if moves else Kind.STATES, states)


def states_text(rows: list[ClusterRow], evidence: Evidence) -> str:
    """How many states, which vary, and how many images were set aside."""
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
    if moving and evidence.junk is not None and (lost := lost_end_text(evidence.junk)):
        text += f"; {lost}"
    if mirrored := [state_name(row.label) for row in rows if row.of_state.hand_open]:
        text += f"; {', '.join(mirrored)}: both hands fit the other states alike, so this may be the mirror image"
    return text
