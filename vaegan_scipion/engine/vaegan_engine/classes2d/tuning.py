"""The numbers that ``classes2d`` was set with: what each is, and how sensitive it is. Shells are cycles per box."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassTuning:
    """All of them."""

    min_images: int = 20  # of a class, below it is dissolved; and a class of less than min_share of a fair share
    min_share: float = 0.1  # of n / classes
    mask_edge_frac: float = 0.06  # of the box
    typical_radius_frac: float = 0.32  # particle radius / box that the shells below were set on
    first_shells: float = 5.0  # of the first steps
    search_shells: float = 10.0  # of the search over all poses
    online_images: int = 1000  # of a part
    apart_shells: float = 6.0  # of the search of the halves apart
    near_rounds: int = 6  # of all images near their poses
    steps_per_period: float = 3.0  # turns (at the particle's edge) and shifts of a search, per finest period
    contrast_spread: float = 0.25  # of the images' contrasts
    least_log_weight: float = -5.0  # of a pose / of the best: below it it is left out
    min_distance: float = 2.0  # of two classes, in standard deviations of single images (``settle``)
    next_shells: float = 3.0  # of the next round past the fall of the FRC
    weak_share: float = 0.3  # of a fair share: a class below it is given to a large one during the steps
    large_share: float = 2.0  # the same: one above it gets a copy
    n_candidates: int = 4  # classes of an image that are kept after a search
    noise_floor: float = 1e-3  # of the mean noise variance
    check_shells: int = 6  # whose misfit tells images that hold more than their class (``junk``)
    misfit_widths: float = 2.0  # of its logarithm, above the median: 2 to 5 of 100 plain particles
    min_gain: float = 5.0  # of a class's typical image with the other half's average; noise: up to 3
    empty_frac: float = 0.25  # of the typical gain of its class: an image of less, and of less than min_gain, is empty
    second_frac: float = 0.67  # contrast of a second particle over that of the first, above it is one
    min_second_gain: float = 10.0  # of it: some hundred places are tried
    max_junk_frac: float = 0.5  # of a class's images, above it all of it is junk


TUNING = ClassTuning()
