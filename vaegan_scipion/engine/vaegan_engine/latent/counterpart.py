"""``counterpart``: a particle as the networks see it, beside what the generator makes at its z.

In 3D the generator knows no pose of the particle: of many evenly spread orientations, the projection is
shown that resembles the particle most. In 2D the image is turned in the plane in the same way, unless the generator
was trained without turns (``model.pose_prior`` none), where the angle is left to z.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..contract import result_files, run_json
from ..contract.analysis_records import CounterpartNumbers
from ..contract.errors import DataError
from ..contract.record import write_record
from ..contract.setting import check_settings
from ..contract.settings import CounterpartRun, EmbedRun, TrainRun
from ..contract.status import update_status
from ..data.mrc_files import write_stack
from ..data.particle_tables import read_latents, rows_of
from ..data.pose_table import read_plane_poses, read_poses
from ..data.run_images import check_row_ids
from ..networks.generators import turned
from ..physics.ctf import ctf_2d
from ..physics.projection import extract_slices, images_to_slices, map_to_fourier, shift_slices, slices_to_images
from ..physics.rotations import euler_to_matrix, matrix_to_euler, super_fibonacci_rotations
from ..training.decoded import check_latents, load_trained
from .embed import particles_of

BATCH = 256  # orientations projected at a time


class Match(NamedTuple):
    """The generated image that resembles a particle most."""

    rotation: Tensor | None  # (3, 3) Euler matrix; None where none was tried
    shift_px: Tensor  # (2,) x, y
    clean: Tensor  # (d, d), not shifted, no CTF
    modulated: Tensor  # (d, d), with CTF and shift
    score: float  # inner product with the particle / norm of the image


def best_match(image: Tensor, candidates: Iterator[tuple[Tensor | None, Tensor]], ctf: Tensor,
               max_shift_px: float) -> Match:
    """The candidate and shift with the largest normalised cross-correlation.

    ``score(f, s) = sum_r x(r) (h * f)(r - s) / |h * f|``, the likelihood of white noise with a free
    amplitude.

    Parameters
    ----------
    image : ``(d, d)`` particle x.
    candidates : batches of (Euler matrices ``(n, 3, 3)`` or None, half planes ``(n, d, d//2 + 1)`` of f).
    ctf : ``(d, d//2 + 1)``, transform of h.
    max_shift_px : shifts s are tried within this distance along each axis.
    """
    d = image.shape[-1]
    transform = images_to_slices(image[None])
    reach = min(int(max_shift_px), (d - 1) // 2)
    window = slice(d // 2 - reach, d // 2 + reach + 1)
    best: Match | None = None
    for rotations, slices in candidates:
        modulated = slices * ctf
        norm = slices_to_images(modulated).square().sum((-2, -1)).sqrt().clamp_min(1e-12)
        scores = slices_to_images(transform * modulated.conj())[:, window, window] / norm[:, None, None]
        flat = scores.flatten(1)
        row = int(flat.amax(1).argmax())
        score = float(flat[row].max())
        if best is not None and score <= best.score:
            continue
        place = int(flat[row].argmax())
        width = 2 * reach + 1
        shift = torch.tensor([place % width - reach, place // width - reach], dtype=image.dtype, device=image.device)
        moved = slices_to_images(shift_slices(modulated[row:row + 1], shift[None]))[0]
        best = Match(None if rotations is None else rotations[row], shift,
                     slices_to_images(slices[row:row + 1])[0], moved, score)
    if best is None:
        raise ValueError("there are no candidates")
    return best


def projections(map_: Tensor, n_orientations: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Evenly spread projections of a map ``(d, d, d)``, as batches for ``best_match``."""
    transform = map_to_fourier(map_[None])
    rotations = super_fibonacci_rotations(n_orientations, map_.device, map_.dtype)
    for batch in rotations.split(BATCH):
        index = torch.zeros(len(batch), dtype=torch.long, device=map_.device)
        yield batch, extract_slices(transform, index, batch, map_.shape[-1])


def turns(image: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """An image ``(d, d)`` at even turns in the plane, as batches for ``best_match``: its edge moves by a pixel each."""
    n_turns = math.ceil(math.pi * image.shape[-1])
    psi_deg = torch.arange(n_turns, device=image.device, dtype=image.dtype) * (360 / n_turns)
    for batch in euler_to_matrix(0 * psi_deg, 0 * psi_deg, psi_deg).split(BATCH):
        yield batch, images_to_slices(turned(image.expand(len(batch), -1, -1), batch))


def correlation_in_circle(a: Tensor, b: Tensor, radius_px: float) -> float:
    """Pearson correlation of images ``(d, d)`` inside a circle about their centre."""
    d = a.shape[-1]
    x = torch.arange(d, device=a.device) - d // 2
    inside = x[:, None].square() + x[None].square() <= radius_px ** 2
    u, v = a[inside] - a[inside].mean(), b[inside] - b[inside].mean()
    return float((u * v).sum() / (u.norm() * v.norm()).clamp_min(1e-12))


def run_counterpart(run: CounterpartRun, out_dir: Path) -> CounterpartNumbers:
    """Write the particle and its counterpart into ``out_dir``. Returns what ``counterpart.json`` holds.

    Raises ConfigError for a number of orientations outside 1 to 100,000, DataError for a particle that
    was not embedded.
    """
    out_dir = Path(out_dir)
    check_settings(run)
    trained = load_trained(run.run_dir, run.compute)
    latents = read_latents(run.embedding_dir)
    check_latents(trained, latents.z, run.embedding_dir, run.run_dir)
    result_files.forget(out_dir, result_files.COUNTERPART_JSON, result_files.COUNTERPART_MRCS)
    run_json.write_run(run, out_dir / result_files.RUN_JSON)
    z = latents.z[rows_of(latents.particle_id, np.array([run.particle_id]), run.embedding_dir)]
    embedded = embedding_of(run)
    image, ctf = particle_of(run, embedded, trained)
    made = torch.as_tensor(trained.decode(z), dtype=torch.float32)[0]
    data, box_px = trained.run.data, trained.box_px
    match = best_match(image, candidates_of(made, run, trained.run), ctf, largest_shift_px(run, embedded, trained))
    write_stack(out_dir / result_files.COUNTERPART_MRCS,
                np.stack([image.numpy(), match.modulated.numpy(), match.clean.numpy()]), trained.pixel_size_ang)
    numbers = CounterpartNumbers(
        run.particle_id, match.shift_px.tolist(),
        correlation_in_circle(image, match.modulated, data.particle_radius_frac * box_px),
        **angles_deg(match, made.ndim))
    write_record(out_dir / result_files.COUNTERPART_JSON, numbers)
    update_status(out_dir, state="finished", command=run.command, error=None)
    print(numbers_text(numbers), flush=True)
    return numbers


def candidates_of(made: Tensor, run: CounterpartRun, training: TrainRun) -> Iterator[tuple[Tensor | None, Tensor]]:
    """What a map's or image's views are, of a generator that was trained so; batches for ``best_match``."""
    if made.ndim == 3:
        return projections(made, run.n_orientations)
    if training.data.posed or training.model.pose_prior != "none":
        return turns(made)
    return iter([(None, images_to_slices(made[None]))])


def angles_deg(match: Match, ndim: int) -> dict[str, float]:
    """The angles of a match by their names in ``counterpart.json``: of a map three, of a turned image one."""
    if match.rotation is None:
        return {}
    rot, tilt, psi = map(float, matrix_to_euler(match.rotation))
    return {"psi_deg": psi} if ndim == 2 else {"rot_deg": rot, "tilt_deg": tilt, "psi_deg": psi}


def numbers_text(numbers: CounterpartNumbers) -> str:
    """The same for people."""
    x, y = numbers.shift_px
    view = "" if numbers.rot_deg is None else f", rot {numbers.rot_deg:.1f}, tilt {numbers.tilt_deg:.1f}"
    turn = "" if numbers.psi_deg is None else f", psi {numbers.psi_deg:.1f} degrees"
    return (f"particle {numbers.particle_id}: correlation {numbers.correlation:.3f} with the image made of it, shift "
            f"{x:g}, {y:g} px{view}{turn}")


def embedding_of(run: CounterpartRun) -> EmbedRun:
    """Settings of the embedding. Raises DataError where it is none."""
    embedded = run_json.read_run(Path(run.embedding_dir) / result_files.RUN_JSON)
    if not isinstance(embedded, EmbedRun):
        raise DataError(f"{run.embedding_dir}: its run.json is a '{embedded.command}', not an embedding.",
                        "Give the --out folder of embed.")
    return embedded


def largest_shift_px(run: CounterpartRun, embedded: EmbedRun, trained: Any) -> float:
    """How far a particle may lie off centre: as the generator itself moves its images, and at least one pixel.

    Of a training with poses, which moves none, as far as the particle's own pose says too.
    """
    most = max(1.0, trained.run.model.max_shift_frac * trained.box_px)
    data = trained.run.data
    if not data.posed:
        return most
    table = (read_poses if trained.is_3d else read_plane_poses)(
        replace(data, particles=embedded.particles or data.particles))
    _, here = table.rows_of(np.array([run.particle_id]))
    return max([most, *(1 + np.abs(table.shifts_ang[here]) / trained.pixel_size_ang).ravel().tolist()])


def particle_of(run: CounterpartRun, embedded: EmbedRun, trained: Any) -> tuple[Tensor, Tensor]:
    """The prepared image ``(d, d)`` and CTF half plane ``(d, d//2 + 1)`` of the particle."""
    cache = particles_of(replace(embedded, run_dir=run.run_dir), trained, Path(run.embedding_dir))
    check_row_ids(run.embedding_dir, embedded.particles or trained.run.data.particles)
    row = int(rows_of(cache.particle_id, np.array([run.particle_id]), run.embedding_dir)[0])
    image = torch.from_numpy(np.asarray(cache.images[row], np.float32))
    ctf = ctf_2d(torch.from_numpy(np.array(cache.ctf[row:row + 1], np.float32)), trained.box_px,
                 trained.pixel_size_ang)[0]
    return image, ctf
