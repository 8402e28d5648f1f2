"""Which circle the images are seen through, so that neighbours do not decide the poses (``masked_images``).

A mask needs to know how large the particle is. A diameter that was given says so; what is measured on crowded images is
the particle and its neighbours. Where none is given there is no mask, and what is not crowded loses nothing.
"""
from __future__ import annotations

from dataclasses import replace

from ..contract.settings import StatesRun
from ..reconstruction.images import Images
from ..reconstruction.masked_images import Circle
from .problem import GivenPoses
from .tuning import TUNING, MaskTuning


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
