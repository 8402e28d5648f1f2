"""Images that no state explains are set aside: empty ones, aggregates, pieces at the edge, other molecules.

Every image is compared with the map of its state at its best pose, in a band, with the common noise spectrum:

* misfit ``sum_k w |X - C S|^2 / sum_k weight`` (1 on average where map, pose and noise are right). What is in
  the image and not in the map raises it. The limit is ``JunkTuning.misfit_widths`` widths above the median of all
  images, the width taken from the lower side of the distribution, where no junk is.
* gain: log likelihood against an empty map, at the best contrast for it. Where images of noise alone, searched in the
  same maps, would gain as much, nothing of the state is seen in the image (``empty_images``).

Where most images are junk, so are the typical ones, which maps, noise and limits are made of. It shows as two groups
with a valley between them, of misfits or of how strongly images match, the worse one the larger (``worse_majority``).
That one is left out of maps and noise once; then all are judged by the limits above, as everywhere.

Most particles of high misfit are in a wrong pose. So whatever is above the limit is searched once more, in all states,
before it is judged.

Junk that matches little of its state's map passes for a faint particle in both. Misfit and contrast together tell most
of it (``with_faint``).

A state of which more than half is junk, and plainly more than of the others, is none; its images are tried in the
others. Then maps and noise are made without junk and all images, junk too, are judged anew, until the same images are
set aside as before.
"""
from __future__ import annotations

import numpy as np

from ...contract.records import JunkNumbers
from ...physics.fourier_band import make_band
from ...stats.low_majority import low_majority
from ...stats.peak_width import symmetric_strengths
from ...stats.two_populations import TailLimits, hidden_tail
from ..assignment import Explained, explained, misfit_and_gain, reassign
from ..problem import Problem
from ..states import Assignment
from ..tuning import TUNING, JunkTuning
from .empty_images import least_gain
from .second_search import search_again

REASONS = ("", "empty", "misfit", "outlier", "faint")  # why an image is set aside, by its number
LEAST_MISFIT = 1e-6  # of which a logarithm is taken
LOWER_PERCENT = 15.87  # of a normal distribution lies more than one standard deviation below its middle


def middle_and_width(values: np.ndarray) -> tuple[float, float]:
    """Median, and its distance to the 16th percentile: the standard deviation of a normal distribution."""
    low, middle = np.percentile(values, (LOWER_PERCENT, 50))
    return middle, middle - low


def misfit_limit(misfit: np.ndarray, tuning: JunkTuning = TUNING.junk) -> float:
    """Above it an image is junk: the median and some widths of the lower side."""
    middle, width = middle_and_width(misfit)
    return float(middle + tuning.misfit_widths * width)


def worse_majority(misfit: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Images ``(n,)`` bool of the worse of two groups, where more than half are in it.

    By log misfit, or by ``sqrt(2 gain)``: an image that matches its state's map at all has it so many standard
    deviations off 0, whatever the noise.
    """
    strength = np.sqrt(2 * np.maximum(gain, 0))
    return low_majority(-np.log(np.maximum(misfit, LEAST_MISFIT))) | low_majority(strength)


def set_junk_aside(problem: Problem, assignment: Assignment, max_shell: float) -> tuple[Assignment, JunkNumbers]:
    """The assignment with ``aside`` set, and the numbers behind it."""
    images, tuning = problem.images, problem.tuning.junk
    band, n_searched, min_gain = make_band(problem.box_px, max_shell, problem.device), 0, tuning.min_gain
    for number in range(tuning.rounds):
        misfit, gain = misfit_and_gain(images, assignment, band)
        limit = misfit_limit(misfit[~assignment.aside], tuning)
        badly_explained = np.flatnonzero(misfit > limit)
        if number == 0 and len(badly_explained):
            assignment, n_searched = search_again(problem, assignment, badly_explained, band), len(badly_explained)
            misfit, gain = misfit_and_gain(images, assignment, band)
        if number == 0:
            min_gain = least_gain(problem, assignment, gain, band)
        unlike, empty = misfit > limit, gain < min_gain
        left_out = worse_majority(misfit, gain) if number == 0 else np.zeros_like(empty)
        worst = state_of_junk(assignment, unlike | empty, tuning.max_junk_frac)
        if worst is not None:
            assignment = assignment.without(worst)
            misfit, gain = misfit_and_gain(images, assignment, band)
            unlike, empty = misfit > limit, gain < min_gain
        before = assignment
        assignment = assignment.with_junk(unlike | empty | left_out)
        if assignment.n_in_states < problem.min_state:  # nothing would be left: the numbers say so, the images stay
            assignment = assignment.with_junk(np.zeros_like(unlike)).without_small(problem.min_state)
            break
        if number > 0 and worst is None and np.array_equal(assignment.aside, before.aside):
            break  # maps of the same images: the round before has settled them
        assignment = reassign(problem, assignment, max_shell)
    return assignment, JunkNumbers(
        n_junk=int(assignment.aside.sum()), fraction=float(assignment.aside.mean()), n_searched_again=n_searched,
        misfit_limit=limit, median_misfit=float(np.median(misfit)), n_misfit=int(unlike.sum()),
        n_empty=int((empty & ~unlike).sum()), least_gain=min_gain)


def explained_now(problem: Problem, assignment: Assignment, max_shell: float) -> Explained:
    """``explained`` in the shells of a round; setting images aside changes nothing of it, dissolving a state does."""
    return explained(problem.images, assignment, make_band(problem.box_px, max_shell, problem.device))


def with_outliers(problem: Problem, assignment: Assignment, each: Explained, outside: np.ndarray
                  ) -> tuple[Assignment, int]:
    """Set aside too: images ``outside`` (n,) bool of the landscape's groups that are still badly explained.

    Where the pose was wrong an image lay outside as well; by now its pose may be right, and its misfit small. States
    that are left with too few images are dissolved. Returns also how many were set aside.
    """
    middle, width = middle_and_width(each.misfit[~assignment.aside])
    more = outside & ~assignment.aside & (each.misfit > middle + problem.tuning.junk.outlier_widths * width)
    return without_more(problem, assignment, more)


def with_faint(problem: Problem, assignment: Assignment, each: Explained) -> tuple[Assignment, int]:
    """Set aside too: images that match little of their state's map and are likelier junk than faint particles.

    Pieces at the edge and other molecules that are found in a pose of little contrast have no misfit that stands out
    alone. Particles and junk are two populations of (log misfit, contrast), both taken at the best contrast of each
    image, the contrasts so that those of particles are symmetric (``symmetric_strengths``); what was set aside before
    begins the second (``hidden_tail``). Returns also how many were set aside.
    """
    tuning = problem.tuning.junk
    strength = symmetric_strengths(each.contrast, each.contrast_variance, ~assignment.aside)
    marks = np.stack((np.log(np.maximum(each.least_misfit, LEAST_MISFIT)), strength), 1)
    more = hidden_tail(marks, assignment.aside, TailLimits(tuning.faint_apart, tuning.faint_errors))
    return without_more(problem, assignment, more)


def without_more(problem: Problem, assignment: Assignment, more: np.ndarray) -> tuple[Assignment, int]:
    """With images ``more`` (n,) bool set aside too, and how many; none where too few images would be left."""
    if not more.any() or (~assignment.aside & ~more).sum() < problem.min_state:
        return assignment, 0
    return assignment.with_junk(assignment.aside | more).without_small(problem.min_state), int(more.sum())


def state_of_junk(assignment: Assignment, junk: np.ndarray, max_junk_frac: float) -> int | None:
    """The state that holds junk (n,) bool and little else; None where there is none, or one state alone.

    More than ``max_junk_frac`` of its images are junk; in a set that is mostly junk, where this is so of every state,
    it keeps less than half of the share that the other states keep.
    """
    if assignment.n_states == 1:
        return None
    shares = junk_shares(assignment, junk)
    worst = int(np.argmax(shares))
    others = junk[assignment.state_of != worst]
    of_others = float(others.mean()) if len(others) else 0.0
    most = max_junk_frac if of_others <= max_junk_frac else 1 - 0.5 * (1 - of_others)
    return worst if shares[worst] > most else None


def junk_shares(assignment: Assignment, junk: np.ndarray) -> list[float]:
    """Part of each state's images that are junk (n,) bool; 1 of a state without any."""
    members = [assignment.state_of == state for state in range(assignment.n_states)]
    return [junk[own].mean() if own.any() else 1.0 for own in members]


def reasons_of(assignment: Assignment, each: Explained, least_gain_asked: float, later: dict[str, np.ndarray]
               ) -> np.ndarray:
    """Why each image is set aside ``(n,)`` int8, a place in ``REASONS``; 0 of those that are not.

    ``later``: images (n,) bool that were set aside for a reason after the others (``with_outliers``, ``with_faint``).
    Of the others those are empty whose gain is below ``least_gain_asked``; the rest have too high a misfit.
    """
    reason = np.where(each.gain < least_gain_asked, REASONS.index("empty"), REASONS.index("misfit"))
    for name, chosen in later.items():
        reason[chosen] = REASONS.index(name)
    return np.where(assignment.aside, reason, 0).astype(np.int8)
