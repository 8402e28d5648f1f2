"""The expectation and maximisation step near known poses, compiled, image by image.

Every image is compared with the classes it may belong to, turned and shifted a little about its pose in each; log
likelihood ratios as of ``search_kernels``.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..physics.compiled import compiled
from .plane_kernels import add_to_plane, plane_value


@compiled
def products_near(plane: np.ndarray, pose: np.ndarray, image: np.ndarray, power: np.ndarray, points: np.ndarray,
                  step: float, turns_rad: np.ndarray, near: np.ndarray, products: np.ndarray, powers: np.ndarray,
                  room: np.ndarray) -> None:
    """Products ``(r, s)`` of an image ``(p, 2)`` with a plane about a pose (psi in radians, shift x, y in px).

    ``turns_rad`` (r,) are added to psi; ``near`` (s, 2, p) are the phases of the shifts that are added. ``step``:
    radians of phase per pixel of shift and grid unit. ``powers`` (r,): those of the template; ``room`` (4, p).
    """
    middle = np.float32(plane.shape[0] // 2)
    sx, sy = np.float32(step * pose[1]), np.float32(step * pose[2])
    for k in range(len(points)):
        phase = points[k, 0] * sx + points[k, 1] * sy
        c, s = np.float32(math.cos(phase)), np.float32(math.sin(phase))
        room[0, k] = c * image[k, 0] - s * image[k, 1]
        room[1, k] = c * image[k, 1] + s * image[k, 0]
    for j in range(len(turns_rad)):
        psi = pose[0] + turns_rad[j]
        cosine, sine = np.float32(math.cos(psi)), np.float32(math.sin(psi))
        total = np.float32(0.0)
        for k in range(len(points)):
            x, y = points[k, 0], points[k, 1]
            re, im = plane_value(plane, middle + x * cosine - y * sine, middle + x * sine + y * cosine)
            total += power[k] * (re * re + im * im)
            room[2, k] = room[0, k] * re + room[1, k] * im
            room[3, k] = room[1, k] * re - room[0, k] * im
        powers[j] = total
        for t in range(len(near)):
            value = np.float32(0.0)
            for k in range(len(points)):
                value += room[2, k] * near[t, 0, k] - room[3, k] * near[t, 1, k]
            products[j, t] = value


@compiled
def add_image(image: np.ndarray, power: np.ndarray, points: np.ndarray, step: float, pose: tuple, weight: Any,
              power_weight: Any, sums: np.ndarray) -> None:
    """Adds ``weight`` times an image at a pose (psi, x, y), and its power, to the sums ``(g, g, 3)`` of a class."""
    middle = np.float32(sums.shape[0] // 2)
    cosine, sine = np.float32(math.cos(pose[0])), np.float32(math.sin(pose[0]))
    sx, sy = np.float32(step * pose[1]), np.float32(step * pose[2])
    w, pw = np.float32(weight), np.float32(power_weight)
    for k in range(len(points)):
        px, py = points[k, 0], points[k, 1]
        phase = px * sx + py * sy
        c, s = w * np.float32(math.cos(phase)), w * np.float32(math.sin(phase))
        add_to_plane(sums, middle + px * cosine - py * sine, middle + px * sine + py * cosine,
                     c * image[k, 0] - s * image[k, 1], c * image[k, 1] + s * image[k, 0], pw * power[k])


@compiled
def residual_at(plane: np.ndarray, plain: np.ndarray, ctf: np.ndarray, points: np.ndarray, step: float, pose: tuple,
                contrast: Any, residual: np.ndarray) -> None:
    """``X - a C A`` of an image ``(p, 2)`` at a pose (psi, x, y), centred on its particle, into ``residual`` (2, p)."""
    middle = np.float32(plane.shape[0] // 2)
    cosine, sine = np.float32(math.cos(pose[0])), np.float32(math.sin(pose[0]))
    sx, sy = np.float32(step * pose[1]), np.float32(step * pose[2])
    for k in range(len(points)):
        px, py = points[k, 0], points[k, 1]
        re, im = plane_value(plane, middle + px * cosine - py * sine, middle + px * sine + py * cosine)
        phase = px * sx + py * sy
        c, s = np.float32(math.cos(phase)), np.float32(math.sin(phase))
        a = np.float32(contrast) * ctf[k]
        residual[0, k] = c * plain[k, 0] - s * plain[k, 1] - a * re
        residual[1, k] = c * plain[k, 1] + s * plain[k, 0] - a * im


@compiled
def residuals(planes: np.ndarray, half: np.ndarray, class_of: np.ndarray, pose: np.ndarray, contrast: np.ndarray,
              plain: np.ndarray, ctf: np.ndarray, points: np.ndarray, step: float, out: np.ndarray) -> None:
    """``residual_at`` of n images with the planes ``(2, c, g, g, 2)`` of half set ``half`` (n,), 0 or 1: ``(n, 2, p)``.

    ``class_of`` (n,), ``pose`` (n, 3), ``contrast`` (n,), ``plain`` (n, p, 2), ``ctf`` (n, p).
    """
    for i in range(len(half)):
        residual_at(planes[half[i], class_of[i]], plain[i], ctf[i], points, step,
                    (pose[i, 0], pose[i, 1], pose[i, 2]), contrast[i], out[i])


@compiled
def near_image(planes: np.ndarray, candidates: np.ndarray, poses: np.ndarray, image: np.ndarray, power: np.ndarray,
               points: np.ndarray, step: float, turns_rad: np.ndarray, shifts_px: np.ndarray, near: np.ndarray,
               prior: float, least: float, room: np.ndarray, log_evidence: np.ndarray, sums: np.ndarray) -> tuple:
    """One image near its poses: adds it to the sums of its classes and moves ``poses`` (q, 3) to the best ones.

    ``log_evidence`` (q,) of each candidate. Returns the best candidate's place and its contrast.
    """
    n_q, n_r, n_s = len(candidates), len(turns_rad), len(shifts_px)
    products, powers = np.empty((n_q, n_r, n_s), np.float32), np.empty((n_q, n_r), np.float32)
    scores = np.empty((n_q, n_r, n_s))
    for q in range(n_q):
        products_near(planes[candidates[q]], poses[q], image, power, points, step, turns_rad, near, products[q],
                      powers[q], room)
        for j in range(n_r):
            whole = powers[q, j] + prior
            for s in range(n_s):
                b = max(products[q, j, s] + prior, 0.0)
                scores[q, j, s] = 0.5 * (b * b / whole - prior - math.log(whole / prior))
    top = scores.max()
    total = 0.0
    for q in range(n_q):
        own = 0.0
        for j in range(n_r):
            for s in range(n_s):
                own += math.exp(scores[q, j, s] - top)
        log_evidence[q] = top + math.log(own + 1e-300)
        total += own
    best, contrast = 0, 0.0
    for q in range(n_q):
        psi, x, y = poses[q, 0], poses[q, 1], poses[q, 2]
        own_top = -np.inf
        for j in range(n_r):
            for s in range(n_s):
                a = max(products[q, j, s] + prior, 0.0) / (powers[q, j] + prior)
                score = scores[q, j, s]
                if score - top > least:
                    weight = math.exp(score - top) / total
                    add_image(image, power, points, step,
                              (psi + turns_rad[j], x + shifts_px[s, 0], y + shifts_px[s, 1]), weight * a,
                              weight * a * a, sums[candidates[q]])
                if score > own_top:
                    own_top = score
                    poses[q, 0], poses[q, 1], poses[q, 2] = psi + turns_rad[j], x + shifts_px[s, 0], y + shifts_px[s, 1]
                    if score == top:
                        best, contrast = q, a
    return best, contrast


@compiled
def near_images(planes: np.ndarray, sums: np.ndarray, half: np.ndarray, candidates: np.ndarray, poses: np.ndarray,
                plain: np.ndarray, ctf: np.ndarray, product: np.ndarray, power: np.ndarray, points: np.ndarray,
                step: float, turns_rad: np.ndarray, shifts_px: np.ndarray, near: np.ndarray, prior: float,
                least: float, shell: np.ndarray, weight: np.ndarray, log_evidence: np.ndarray, contrast: np.ndarray,
                misfit: np.ndarray) -> None:
    """``near_image`` of n images with the planes ``(2, c, g, g, 2)`` of their own half set ``half`` (n,), 0 or 1.

    ``candidates`` (n, q), -1 = none (the last ones); ``poses`` (n, q, 3) are moved; ``plain``, ``product`` (n, p, 2),
    ``ctf``, ``power`` (n, p). ``log_evidence`` (n, q), ``contrast`` (n,), ``misfit`` (n, n_shells) are written.
    """
    room = np.empty((4, len(points)), np.float32)
    for i in range(len(half)):
        n_q = 0
        while n_q < candidates.shape[1] and candidates[i, n_q] >= 0:
            n_q += 1
        own, h = candidates[i, :n_q], half[i]
        best, contrast[i] = near_image(planes[h], own, poses[i], product[i], power[i], points, step, turns_rad,
                                       shifts_px, near, prior, least, room, log_evidence[i], sums[h])
        pose = poses[i, best]
        residual_at(planes[h, own[best]], plain[i], ctf[i], points, step, (pose[0], pose[1], pose[2]), contrast[i],
                    room)
        for k in range(len(points)):
            misfit[i, shell[k]] += weight[k] * (room[0, k] * room[0, k] + room[1, k] * room[1, k])


@compiled
def nearest_poses(planes: np.ndarray, poses: np.ndarray, image: np.ndarray, power: np.ndarray, points: np.ndarray,
                  step: float, turns_rad: np.ndarray, shifts_px: np.ndarray) -> None:
    """Moves ``poses`` (c, 3) of one image ``(p, 2)``, already weighted by ``power``, to where each plane is nearest."""
    n_r, n_s = len(turns_rad), len(shifts_px)
    room, near = np.empty((4, len(points)), np.float32), np.empty((n_s, 2, len(points)), np.float32)
    for s in range(n_s):
        for k in range(len(points)):
            phase = step * (points[k, 0] * shifts_px[s, 0] + points[k, 1] * shifts_px[s, 1])
            near[s, 0, k], near[s, 1, k] = math.cos(phase), math.sin(phase)
    products, powers = np.empty((n_r, n_s), np.float32), np.empty(n_r, np.float32)
    for c in range(len(planes)):
        products_near(planes[c], poses[c], image, power, points, step, turns_rad, near, products, powers, room)
        best, turn, shift = np.inf, 0, 0
        for j in range(n_r):
            for s in range(n_s):
                distance = powers[j] - 2 * products[j, s]
                if distance < best:
                    best, turn, shift = distance, j, s
        poses[c, 0] += turns_rad[turn]
        poses[c, 1] += shifts_px[shift, 0]
        poses[c, 2] += shifts_px[shift, 1]
