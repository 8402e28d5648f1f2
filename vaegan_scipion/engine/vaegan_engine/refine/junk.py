"""Images that no state explains are set aside: empty ones, aggregates, pieces at the edge, strangers.

Every image is compared with the map of its state at its best pose, in a band, with the common noise spectrum:

* misfit ``sum_k w |X - C S|^2 / sum_k weight`` (1 on average where map, pose and noise are right). What is in
  the image and not in the map raises it. The limit is ``MISFIT_WIDTHS`` widths above the median of all images, the
  width taken from the lower side of the distribution, where no junk is.
* gain ``Re sum_k w X* C S - 1/2 sum_k w |C S|^2``: log likelihood against an empty map. Below ``LEAST_GAIN`` nothing of
  the state is seen in the image.

Most particles of high misfit are in a wrong pose. So whatever is above the limit is searched once more, on a finer
grid and at the resolution of the comparison, in all states, before it is judged.

A state of which more than half is junk is none; its images are tried in the others. Then maps and noise are made
without junk and all images, junk too, are judged anew.
"""
from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from ..physics.fourier_band import make_band
from ..reconstruction.images import Images
from .assignment import explained, reassign
from .second_search import searched_again
from .states import Assignment

MISFIT_WIDTHS = 6.0
LEAST_GAIN = 3.0  # log likelihood ratio
MOST_OF_A_STATE = 0.5
ROUNDS = 3


def misfit_limit(misfit: np.ndarray) -> float:
    """Median and ``MISFIT_WIDTHS`` times its distance to the 16th percentile, a standard deviation of a normal one."""
    low, middle = np.percentile(misfit, (15.87, 50))
    return float(middle + MISFIT_WIDTHS * (middle - low))


def set_aside(data: Images, found: Assignment, radius: float, mask: Tensor, smallest: int, largest_shift_px: float
              ) -> tuple[Assignment, dict[str, Any]]:
    """The assignment with ``aside`` set, and the numbers behind it."""
    band, n_searched = make_band(data.box_px, radius, data.device), 0
    for turn in range(ROUNDS):
        misfit, gain = explained(data, found, band)
        limit = misfit_limit(misfit[~found.aside])
        again = np.flatnonzero(misfit > limit)
        if turn == 0 and len(again):
            found, n_searched = searched_again(data, found, again, band, largest_shift_px, mask), len(again)
            misfit, gain = explained(data, found, band)
        unlike, empty = misfit > limit, gain < LEAST_GAIN
        junk = unlike | empty
        shares = [junk[found.class_ == c].mean() if (found.class_ == c).any() else 1.0 for c in range(found.n_classes)]
        worst = int(np.argmax(shares))
        if shares[worst] > MOST_OF_A_STATE and found.n_classes > 1:
            found = found.without(worst)
            misfit, gain = explained(data, found, band)
            unlike, empty = misfit > limit, gain < LEAST_GAIN
        found.aside = unlike | empty
        if (~found.aside).sum() < smallest:  # nothing would be left: the numbers say so, the images stay
            found.aside = np.zeros_like(found.aside)
            found = found.without_small(smallest)
            break
        found = reassign(data, found, radius, mask, 1, smallest)
    return found, {
        "n_junk": int(found.aside.sum()), "n_searched_again": n_searched, "fraction": float(found.aside.mean()),
        "misfit_limit": limit, "median_misfit": float(np.median(misfit)), "n_misfit": int(unlike.sum()),
        "n_empty": int((empty & ~unlike).sum()), "least_gain": LEAST_GAIN}
