"""Class averages of a simulated set against the projections that their images were made of.

A member of a class, a clean projection of map m along A at shift s, lies in the class at the angle psi and shift t that
were found. There it is the projection along ``A'`` at shift ``R(psi) (s - t)``, with

    A'_0 = cos psi A_0 - sin psi A_1,    A'_1 = sin psi A_0 + cos psi A_1.

The mean of these, without CTF and noise, is what the average should be; it is as blurred as the members' views and the
errors of their alignment make it. The projection of the one member that is most like the average is not.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import torch

from ...contract import result_files
from ...contract.record import named, read_record
from ...data.particle_tables import JUNK
from ...physics.fsc import fourier_shell_correlation, resolution_at
from ...physics.projection import extract_slices, map_to_fourier, shift_slices, slices_to_images
from ...physics.rotations import euler_to_matrix
from ...simulation.options import Simulation
from ...simulation.simulate import SIMULATION_JSON, TRUTH_CSV, load_maps

_AT_A_TIME = 256


@dataclass(frozen=True)
class Member:
    """How an image was made and where it was found to lie."""

    map_index: int
    angles_deg: tuple[float, float, float]
    shift_px: np.ndarray  # (2,)
    psi_deg: float
    found_shift_px: np.ndarray  # (2,)


def members_of(classes_dir: Path, truth_csv: Path, pixel_size_ang: float) -> dict[int, list[Member]]:
    """True particles of every class by its label; images that the classification calls junk are left out."""
    truth = {int(row["id"]): row for row in result_files.read_csv(truth_csv)}
    values: dict[int, list[Member]] = {}
    for row in result_files.read_csv(classes_dir / result_files.PARTICLES_CSV):
        true = truth[int(row["particle_id"])]
        if int(row["junk"]) or true["map_file"] == JUNK:
            continue
        angles = float(true["rot_deg"]), float(true["tilt_deg"]), float(true["psi_deg"])
        at_ang = np.array([float(row["shift_x_ang"]), float(row["shift_y_ang"])])
        values.setdefault(int(row["label"]), []).append(Member(
            int(true["map"]), angles, np.array([float(true["shift_x_px"]), float(true["shift_y_px"])]),
            float(row["psi_deg"]), at_ang / pixel_size_ang))
    return values


def clean_members(map_ft: torch.Tensor, members: list[Member], box_px: int) -> np.ndarray:
    """Clean projections ``(n, d, d)`` of the members of a class, as they lie in it."""
    made = []
    for first in range(0, len(members), _AT_A_TIME):
        some = members[first:first + _AT_A_TIME]
        rotations = euler_to_matrix(*torch.tensor([member.angles_deg for member in some], dtype=torch.float64).T)
        psi = torch.deg2rad(torch.tensor([member.psi_deg for member in some], dtype=torch.float64))
        c, s = psi.cos(), psi.sin()
        turn = torch.stack((torch.stack((c, -s), -1), torch.stack((s, c), -1)), -2)  # R(psi), (n, 2, 2)
        rotations[:, :2] = turn @ rotations[:, :2]
        apart = torch.from_numpy(np.stack([member.shift_px - member.found_shift_px for member in some]))
        index = torch.tensor([member.map_index for member in some])
        planes = extract_slices(map_ft, index, rotations.float(), box_px)
        made.append(slices_to_images(shift_slices(planes, (turn @ apart[..., None])[..., 0].float())).numpy())
    return np.concatenate(made)


@dataclass(frozen=True)
class PlaneScores:
    """Class averages against the truth, means over the images of the classes; resolutions are medians."""

    frc_auc: float  # mean over the shells of the FRC of an average with the mean of its clean members
    view_frc_auc: float  # with the one member that is most like the average
    resolution_05_ang: float = named("resolution_0.5_ang")  # where the FRC falls below 0.5
    view_resolution_05_ang: float = named("view_resolution_0.5_ang")


def plane_scores(folder: Path, data: Path) -> PlaneScores | None:
    """Figures of a folder of classes against the simulated ``data``; None where no class has a particle."""
    simulation = read_record(Simulation, data / SIMULATION_JSON, "simulate")
    maps, pixel_size_ang, _ = load_maps(simulation.options)
    with mrcfile.open(folder / result_files.MAPS / result_files.CLASSES_MRCS, permissive=True) as file:
        averages = np.array(file.data, np.float64)
    map_ft, d = map_to_fourier(torch.from_numpy(maps)), averages.shape[-1]
    areas, resolutions, weights = [], [], []
    for label, members in sorted(members_of(folder, data / TRUTH_CSV, pixel_size_ang).items()):
        average = averages[label]
        mask = (np.abs(average) > 0).astype(np.float64)
        clean = clean_members(map_ft, members, d) * mask
        flat = clean.reshape(len(clean), -1)
        likeness = flat @ average.ravel() / np.maximum(np.linalg.norm(flat, axis=1), 1e-30)
        curves = [fourier_shell_correlation(average, true) for true in (clean.mean(0), clean[int(likeness.argmax())])]
        areas.append([float(curve[1:].mean()) for curve in curves])
        resolutions.append([resolution_at(curve, 0.5, d, pixel_size_ang).ang for curve in curves])
        weights.append(len(members))
    if not weights:
        return None
    mean = np.average(areas, axis=0, weights=weights)
    typical = [weighted_median(np.array(column), np.array(weights)) for column in zip(*resolutions, strict=True)]
    return PlaneScores(float(mean[0]), float(mean[1]), typical[0], typical[1])


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value below which half of the weight lies."""
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)])
