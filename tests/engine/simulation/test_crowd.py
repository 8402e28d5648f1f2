"""Neighbours stand where they should, and the noise of micrographs differs as asked."""
import csv

import mrcfile
import numpy as np
import pytest
import starfile
import torch
from vaegan_engine.simulation import simulate
from vaegan_engine.simulation.crowd import draw_crowd, draw_micrographs, particle_diameter_px, within_reach
from vaegan_engine.simulation.junk_images import JunkImages
from vaegan_engine.simulation.options import SimulateOptions


@pytest.mark.parametrize("box_px", [15, 16])
def test_diameter_of_a_ball(box_px):
    axis = np.arange(box_px) - box_px // 2
    ball = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis ** 2 <= 25).astype(np.float32)
    assert particle_diameter_px(np.stack((ball, 0.5 * ball))) == pytest.approx(10.0)


def test_neighbours_are_as_many_and_as_far_as_asked():
    crowd = draw_crowd(0.5, 4000, 3, 20.0, np.random.default_rng(0))
    distance = crowd.shift_px.norm(dim=1)
    assert float(distance.min()) >= 1.1 * 20 - 1e-4
    assert float(distance.max()) <= 1.5 * 20 + 1e-4
    assert len(crowd.owner) / 4000 == pytest.approx(2.0, abs=0.06)
    assert set(np.unique(crowd.map_index)) == {0, 1, 2}
    # no quadrant holds two
    quadrant = np.floor(np.arctan2(*crowd.shift_px.numpy().T[::-1]) / (np.pi / 2)).astype(int)
    assert len({*zip(crowd.owner.tolist(), quadrant.tolist(), strict=True)}) == len(crowd.owner)


def test_no_neighbour_comes_in_on_the_other_side():
    box_px, radius_px = 32, 14
    axis = torch.arange(float(box_px)) - box_px // 2
    distance = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis ** 2).sqrt()
    ball = torch.sigmoid(2 * (radius_px - 2 - distance))[None]
    flat = torch.tensor([0.0, 0, 0, 300, 0, 1, 0, 0])  # a CTF of 1
    drawn = draw_crowd(1.0, 100, 1, 2 * radius_px, np.random.default_rng(0))
    crowd = within_reach(drawn, 2 * radius_px, box_px)
    made = JunkImages(crowd, ball, 1.0)
    plane = torch.hypot(*torch.meshgrid(axis, axis, indexing="ij"))
    for row in range(100):
        own = crowd.owner == row
        image = made.clean(row, flat)
        nearest = torch.stack([torch.hypot(axis[None] - x, axis[:, None] - y) for x, y in crowd.shift_px[own]]
                              or [torch.full_like(plane, 99.0)]).amin(0)
        assert float(image[nearest > radius_px + 2].abs().max()) < 0.02 * float(ball.sum((1, 2)).max())
    # and none that reaches in is left out
    left = np.setdiff1d(np.arange(len(drawn.owner)), np.flatnonzero(
        np.isin(drawn.shift_px[:, 0].numpy(), crowd.shift_px[:, 0].numpy())))
    assert len(left) > 20
    assert float(drawn.shift_px[left].abs().amax(1).min()) > box_px / 2 + radius_px


def test_noise_of_micrographs():
    micrograph, factor = draw_micrographs(0.3, 100_000, np.random.default_rng(1))
    assert micrograph[-1] == 999
    assert float(factor.mean()) == pytest.approx(1.0, abs=0.03)
    assert float(factor.std()) == pytest.approx(0.3, abs=0.03)
    assert all(len(np.unique(factor[micrograph == k])) == 1 for k in (0, 17, 999))


def test_a_crowded_set_differs_by_its_neighbours_alone(tmp_path):
    same = {"phantom": 1, "per_map": 30, "box_px": 24, "snr": 1e6, "device": "cpu", "seed": 3}
    simulate.run_simulate(SimulateOptions(**same), tmp_path / "alone")
    simulate.run_simulate(SimulateOptions(**same, crowding=0.4, micrograph_noise_spread=0.3), tmp_path / "crowded")
    alone, crowded = ([*csv.DictReader((tmp_path / name / "truth.csv").read_text().splitlines())]
                      for name in ("alone", "crowded"))
    moved = [row["id"] for row in crowded if int(row["neighbours"])]
    assert 10 < len(moved) < 30
    stacks = [mrcfile.read(tmp_path / name / "particles.mrcs") for name in ("alone", "crowded")]
    change = np.abs(stacks[0] - stacks[1]).max((1, 2)) / stacks[0].std((1, 2))
    has = np.array([int(row["neighbours"]) > 0 for row in crowded])
    assert change[~has].max() < 0.004  # the noise
    assert change[has].min() > 0.004
    assert np.median(change[has]) > 0.05
    for name in ("rot_deg", "contrast", "map"):
        assert [row[name] for row in alone] == [row[name] for row in crowded]
    assert "rlnMicrographName" in starfile.read(tmp_path / "crowded" / "particles.star")["particles"]
