"""Which circle the images are seen through, so that neighbours do not decide the poses (``masked_images``).

A mask needs to know how large the particle is. A diameter that was given says so; what is measured on crowded images is
the particle and its neighbours. Where none is given there is no mask, and what is not crowded loses nothing.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..contract.settings import StatesRun
from ..reconstruction.images import Images
from ..reconstruction.masked_images import Around, Circle, own_side
from .problem import GivenPoses
from .tuning import TUNING, MaskTuning

_SAMPLE = 1000  # images whose hidden part is measured


def circle_of(run: StatesRun, images: Images, poses: GivenPoses | None, tuning: MaskTuning = TUNING.mask
              ) -> Circle | None:
    """The circle of the settings; None where neither its diameter nor the particle's is given.

    The particle's own one and room for the largest shift; about given poses it lies where the particle is.
    """
    d = images.box_px
    if run.mask_diameter_ang:
        radius_px = 0.5 * run.mask_diameter_ang / images.pixel_size_ang
    elif run.particle_diameter_ang:
        shift_frac = 0.0 if poses is not None else run.max_shift_frac
        radius_px = (run.data.particle_radius_frac + shift_frac) * d
    else:
        return None
    return Circle(radius_px, tuning.image_edge_frac * d)


def capped(tuning: MaskTuning, particle_radius_frac: float, circle: Circle, box_px: int) -> MaskTuning:
    """The maps' masks that are tried, without those that reach beyond what the images' circle shows.

    There is noise alone outside of it; those up to the ``first`` stay, so that there is a choice.
    """
    reach = circle.radius_px / box_px - particle_radius_frac
    least = tuning.beyond_fracs[:tuning.first + 1]
    return replace(tuning, beyond_fracs=least + tuple(beyond for beyond in tuning.beyond_fracs[tuning.first + 1:]
                                                      if beyond <= reach))


def around(run: StatesRun, poses: GivenPoses | None, near_ang: np.ndarray | None, images: Images, circle: Circle
           ) -> Around:
    """Places of particles, which given poses know, and of the neighbours that are hidden; says how many."""
    centre_px = None if poses is None else poses.shifts_px.cpu().numpy()
    if near_ang is None or not run.hide_neighbours:
        return Around(centre_px)
    near_px = near_ang / np.float32(images.pixel_size_ang)
    return Around(centre_px, hidden_neighbours(near_px, run.data.particle_radius_frac, circle, images.box_px))


def hidden_neighbours(near_px: np.ndarray, radius_frac: float, circle: Circle, box_px: int,
                      tuning: MaskTuning = TUNING.mask) -> np.ndarray | None:
    """Of neighbours ``(n, k, 2)`` those that reach into the circle, NaN for the others; None where all are left alone.

    A neighbour nearer than ``nearest_frac`` of the particle's diameter overlaps with it, or is the same particle: no
    line parts them. Where that holds for many, the coordinates are not those of this particle, or in other pixels.
    """
    distance = np.hypot(near_px[..., 0], near_px[..., 1])
    with np.errstate(invalid="ignore"):
        is_near = distance < tuning.nearest_frac * 2 * radius_frac * box_px
        reaches = ~is_near & (distance < 2 * (circle.radius_px + circle.edge_px))
    n_near, n_crowded = int(is_near.any(axis=1).sum()), int(reaches.any(axis=1).sum())
    of_all = f"of {len(near_px)} images"
    if n_near > tuning.most_overlapping_frac * len(near_px):
        print(f"neighbours: NOT hidden: in {n_near} {of_all} another particle stands nearer than "
              f"{tuning.nearest_frac:g} particle diameters, by the coordinates. Are particles picked twice, or is the "
              "pixel size of the micrographs another (--micrograph-pixel-size-ang)?", flush=True)
        return None
    if not n_crowded:
        return None
    near_px = np.where(reaches[..., None], near_px, np.float32(np.nan))
    sample = near_px[np.linspace(0, len(near_px) - 1, min(len(near_px), _SAMPLE)).astype(int)]
    seen = circle.mask(box_px)
    hidden = np.mean([1 - (seen * own_side(box_px, np.zeros(2), near[np.isfinite(near[:, 0])], circle.edge_px)).sum()
                      / seen.sum() for near in sample])
    print(f"neighbours: {n_crowded} {of_all} show others, by the coordinates; what lies nearer to them is hidden "
          f"({100 * hidden:.0f} % of the images' circle)" + (
              f"; {n_near} overlap with another one" if n_near else ""), flush=True)
    return near_px
