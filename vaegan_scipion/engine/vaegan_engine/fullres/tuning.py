"""The numbers that ``fullres`` was set with. Shells are cycles per box; "wide": little depends on it."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FullresTuning:
    """Rounds of local refinement (``half_set_rounds``), noise, and the hand-over to RELION."""

    min_rounds: int = 2
    settled_frac: float = 0.1  # of the angle that moves the last shell by one: below it a particle has not turned
    pose_iterations: int = 4
    min_fsc: float = 0.143  # of the half maps: the band of the poses ends where it falls below; RELION's too
    next_shells: int = 2  # beyond it
    min_shells: float = 4.0  # of the band
    wider_frac: float = 0.3  # of the maps beyond the band of the poses, so that their FSC can tell where it ends; wide
    wider_shells: int = 8
    min_group_images: int = 50  # of a noise spectrum of its own
    max_power_images: int = 2000  # of a state, that the spectra before the first round are measured on; wide
    max_held: int = 2 ** 24  # coefficients of a half's images that stay in memory, of 12 bytes: 0.2 GB
    mask_edge_frac: float = 0.08  # of the states' box, as their masks have


TUNING = FullresTuning()
