"""Contrast transfer function with RELION's parameters and sign.

Equation, with ``g`` the spatial frequency in 1/A at azimuth ``phi``::

    CTF(g) = sin(pi lambda z(phi) g^2 - pi/2 Cs lambda^3 g^4 + asin(w) + p) exp(-B g^2 / 4)
    z(phi) = (U + V) / 2 + (U - V) / 2 cos(2 (phi - angle))

``U``, ``V``: defocus (A, positive = underfocus); ``w``: amplitude contrast; ``p``: phase shift.
It is minus the sine of RELION's ``gamma`` and equals ``+w`` at zero frequency: protein is positive
(white) in the images. Images that were phase-flipped (multiplied by the sign of their CTF) have ``abs(CTF)``;
the table's last column says so, row by row, so that whoever asks for a CTF gets that of the images as they are.
"""
from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

CTF_COLUMNS = ("defocus_u_ang", "defocus_v_ang", "defocus_angle_deg", "voltage_kv", "cs_mm",
               "amplitude_contrast", "phase_shift_deg", "phase_flipped")

_N_PHYSICAL = len(CTF_COLUMNS) - 1  # the others say what was done to the images
_ANG_PER_MM = 1e7


def electron_wavelength_ang(voltage_kv: Tensor) -> Tensor:
    """Relativistic wavelength in A: ``12.2643 / sqrt(V (1 + 0.978466e-6 V))``, V in volts."""
    volts = 1e3 * voltage_kv
    return 12.2643247 / torch.sqrt(volts * (1 + 0.978466e-6 * volts))


@lru_cache(maxsize=16)
def _frequency_grid(box_px: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """``k^2``, ``kx^2 - ky^2`` and ``2 kx ky`` ``(d, d//2 + 1)`` in cycles^2 per px^2."""
    ky = torch.fft.fftfreq(box_px, device=device, dtype=dtype)[:, None]
    kx = torch.fft.rfftfreq(box_px, device=device, dtype=dtype)[None, :]
    return kx * kx + ky * ky, kx * kx - ky * ky, 2 * kx * ky


def ctf_2d(params: Tensor, box_px: int, pixel_size_ang: float, b_factor_ang2: float = 0.0) -> Tensor:
    """CTF images in rfft layout.

    Parameters
    ----------
    params : ``(n, 8)`` floats, columns as ``CTF_COLUMNS``; without the last, ``(n, 7)``, no image is flipped.
    box_px : side of the image, even or odd.
    pixel_size_ang : A per pixel of the image that the CTF is applied to.
    b_factor_ang2 : envelope ``exp(-B g^2 / 4)``, B in A^2.

    Returns
    -------
    ``(n, box_px, box_px//2 + 1)`` real, zero frequency at ``[:, 0, 0]``, of ``params``' dtype.
    """
    k2, difference, cross = _frequency_grid(box_px, params.device, params.dtype)
    ctf = _ctf(params[:, None, None], k2, difference, cross, pixel_size_ang)
    if b_factor_ang2:
        ctf = ctf * torch.exp((-b_factor_ang2 / 4 / pixel_size_ang ** 2) * k2)
    return ctf


def ctf_at(params: Tensor, k: Tensor, pixel_size_ang: float) -> Tensor:
    """CTF ``(n, p)`` at frequencies ``k`` ``(p, 2)`` (x, y) in cycles per pixel; ``params`` as those of ``ctf_2d``."""
    kx, ky = k.unbind(-1)
    return _ctf(params[:, None], kx * kx + ky * ky, kx * kx - ky * ky, 2 * kx * ky, pixel_size_ang)


def _ctf(params: Tensor, k2: Tensor, difference: Tensor, cross: Tensor, pixel_size_ang: float) -> Tensor:
    """CTF of ``params`` ``(..., 8)`` or ``(..., 7)`` at polynomials of the frequency (``_frequency_grid``)."""
    u, v, angle_deg, voltage_kv, cs_mm, amplitude, phase_deg = params[..., :_N_PHYSICAL].unbind(-1)
    wavelength = electron_wavelength_ang(voltage_kv)
    per_px2 = 1.0 / pixel_size_ang ** 2
    axis = torch.deg2rad(2 * angle_deg)
    # k^2 cos(2 (phi - angle)) without the azimuth: cos 2phi and sin 2phi are polynomials of k
    mean = (math.pi / 2 * per_px2) * wavelength * (u + v)
    astigmatism = (math.pi / 2 * per_px2) * wavelength * (u - v)
    spherical = (math.pi / 2 * _ANG_PER_MM * per_px2 ** 2) * cs_mm * wavelength ** 3
    constant = torch.asin(amplitude) + torch.deg2rad(phase_deg)
    phase = ((mean - spherical * k2) * k2 + (astigmatism * axis.cos()) * difference
             + (astigmatism * axis.sin()) * cross + constant)
    ctf = torch.sin(phase)
    if params.shape[-1] > _N_PHYSICAL:
        ctf = torch.where(params[..., _N_PHYSICAL] != 0, ctf.abs(), ctf)
    return ctf
