"""Watches the trained camera: views that do not fill Fourier space bring a warning."""
from __future__ import annotations

import torch

from ..networks.pose_network import CameraNetwork
from ..physics.view_coverage import SHELL_PX, Completeness, completeness, views_of

N_TRACKED = 4000  # poses of the camera, at each tick
COLLAPSED_SCF = 0.5  # below: reported as a collapse of the camera; side views alone have 8 / pi^2 = 0.81


@torch.no_grad()
def camera_completeness(camera: CameraNetwork, n: int, shell_px: float = SHELL_PX) -> Completeness:
    """SCF of ``n`` poses of a camera, of the same latents at every call."""
    rng = torch.Generator(camera.last.weight.device).manual_seed(0)
    return completeness(views_of(camera.sample(n, rng)), shell_px)


def collapse_warning(scf: float) -> str | None:
    """One sentence where the camera looks from too few directions, else None."""
    if scf >= COLLAPSED_SCF:
        return None
    return (f"The camera has collapsed: its poses have a sampling compensation factor of {scf:.3f}, below "
            f"{COLLAPSED_SCF:g} (1 is complete). The map is not determined; train with model.pose_prior uniform.")
