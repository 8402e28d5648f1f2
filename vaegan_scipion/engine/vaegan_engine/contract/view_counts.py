"""Viewing directions counted in bins of equal area, for the same picture in viewers and reports. numpy alone."""
from __future__ import annotations

from typing import Any, Tuple

import numpy as np

VIEWS_PER_BIN = 10
COS_BINS = (3, 18)  # fewest and most bins in cos(tilt); twice as many in rot
FINE = 12  # parts that the side of a bin is drawn in: on a map of the sphere it is a curve


def view_bins(n_views: int) -> Tuple[int, int]:
    """Bins in rot and in cos(tilt) for so many views: about ``VIEWS_PER_BIN`` in each, so that noise is no pattern."""
    n_cos = int(np.clip(np.sqrt(n_views / VIEWS_PER_BIN / 2), *COS_BINS))
    return 2 * n_cos, n_cos


def view_counts(rot_deg: Any, tilt_deg: Any) -> np.ndarray:
    """Particles per bin, ``view_bins``; even views give the same number everywhere.

    Bins are even in rot (from -180 deg) and in cos(tilt) (from -1), so that they have equal areas on the sphere.
    """
    counts, _, _ = np.histogram2d((np.asarray(rot_deg) + 180) % 360 - 180, np.cos(np.deg2rad(tilt_deg)),
                                  bins=view_bins(len(rot_deg)), range=((-180, 180), (-1, 1)))
    return np.asarray(counts)


def draw_view_counts(axes: Any, counts: np.ndarray) -> Any:
    """Counts of ``view_counts`` on axes with matplotlib's Mollweide projection, which keeps areas; returns the mesh."""
    fine = np.repeat(np.repeat(counts.T, FINE, axis=0), FINE, axis=1)
    longitude = np.linspace(-np.pi, np.pi, fine.shape[1] + 1)
    latitude = np.arcsin(np.linspace(-1, 1, fine.shape[0] + 1))
    most = max(2 * counts.mean(), counts.max())
    mesh = axes.pcolormesh(longitude, latitude, fine, rasterized=True, vmin=0, vmax=most, cmap="cividis")
    axes.set(xticks=np.deg2rad([-120, -60, 0, 60, 120]), yticks=np.deg2rad([-60, -30, 0, 30, 60]))
    axes.set_yticklabels([f"{tilt} deg" for tilt in (150, 120, 90, 60, 30)])
    axes.tick_params(labelsize=7, colors="0.35")
    axes.grid(color="0.8", lw=0.4)
    return mesh
