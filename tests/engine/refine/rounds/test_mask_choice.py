"""The mask of refine's maps: as wide as the particle, by images that the maps were made without."""
from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from refine_particles import PIXEL_SIZE_ANG, RUN, blobs, problem_of, simulated
from vaegan_engine.contract import wording
from vaegan_engine.contract.records import MaskRow
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.refine.rounds import mask_choice, rounds
from vaegan_engine.refine.rounds.evidence import Evidence
from vaegan_engine.refine.states import State

CPU = torch.device("cpu")


def particles(box_px: int, arm_frac: float, n: int = 240, noise: float = 1.0):
    """Images and state at true poses; with an arm, a blob as far out as ``arm_frac`` of the box."""
    map_ = blobs(3, box_px, reach_frac=0.15)
    if arm_frac:
        x = np.arange(box_px) - box_px // 2
        z, y, x = np.meshgrid(x, x, x, indexing="ij")
        r2 = (x - arm_frac * box_px) ** 2 + y ** 2 + z ** 2
        map_ += torch.from_numpy((2 * np.exp(-r2 / (2 * (0.05 * box_px) ** 2))).astype(np.float32))
    data, _, rotations, shifts = simulated([map_], n, noise)
    return data, State(np.arange(n), rotations, shifts, map_)


@pytest.mark.parametrize("box_px", [24, 25])
@pytest.mark.parametrize(("arm_frac", "kept"), [(0.0, 0), (0.24, 1), (0.40, 2)])
def test_the_mask_is_as_wide_as_the_particle(box_px, arm_frac, kept):
    """Of circles of 0.30 - 0.05, + 0.03 and + 0.10 of the box, each with an edge of 0.08."""
    data, state = particles(box_px, arm_frac)
    masks = mask_choice.candidate_masks(box_px, 0.30, CPU)
    rows = mask_choice.rate_masks(problem_of(data, particle_radius_frac=0.30), [state], masks, 6.0)
    assert [row.kept for row in rows] == [k == kept for k in range(3)]
    assert [row.radius_ang for row in rows] == pytest.approx(
        [frac * box_px * PIXEL_SIZE_ANG for frac in (0.25, 0.33, 0.40)])
    assert rows[kept].misfit == min(row.misfit for row in rows)


def test_misfit_is_half_the_degrees_of_freedom():
    """Without a mask that cuts, ``sum w |X - C S|^2`` has as its mean the coefficients of the band: w is from it."""
    data, state = particles(24, 0.0)
    row = mask_choice.rate_masks(problem_of(data), [state], [torch.ones(24, 24, 24)] * 3, 6.0)[0]
    assert row.misfit == pytest.approx(0.5 * float(make_band(24, 6.0, CPU).weight.sum()), rel=0.02)


def test_copies_of_images_count_once():
    """Every image three times is what it is once: no more images, and none that both halves of a state have."""
    data, state = particles(24, 0.24, n=80)
    masks = mask_choice.candidate_masks(24, 0.30, CPU)
    once = mask_choice.rate_masks(problem_of(data, particle_radius_frac=0.30), [state], masks, 6.0)
    rows = np.tile(np.arange(80), 3)
    thrice = State(np.arange(240), state.rotations[rows], state.shifts_px[rows], state.map)
    problem = replace(problem_of(data.part(rows), particle_radius_frac=0.30), twin_id=rows)
    assert mask_choice.rate_masks(problem, [thrice], masks, 6.0) == once


def test_states_count_by_their_images(monkeypatch):
    """200 images of one state that the wide mask suits, 100 of one that the tight one suits: the sum decides."""
    data, state = particles(24, 0.0, n=300)
    sums = {200: np.array([230.0, 210.0, 200.0]), 100: np.array([100.0, 110.0, 115.0])}
    monkeypatch.setattr(mask_choice, "unseen_misfits", lambda problem, state, *_: sums[len(state.rows)])
    some = [state.part(np.arange(300) < 200), state.part(np.arange(300) >= 200)]
    rows = mask_choice.rate_masks(problem_of(data), some, mask_choice.candidate_masks(24, 0.3, CPU), 6.0)
    assert [row.misfit for row in rows] == pytest.approx([330 / 300, 320 / 300, 315 / 300])
    assert rows[2].kept


@pytest.mark.parametrize("cut", [False, True])
def test_a_mask_that_was_given_is_kept_and_rated(cut):
    """About the particle and its arm it is better than any sphere; without the arm a sphere that holds it is better."""
    data, state = particles(24, 0.24)
    seen = state.map > 0.02 * state.map.max()
    seen[..., 16:] &= not cut
    problem = problem_of(data, particle_radius_frac=0.30, mask=seen.float(), run=replace(RUN, mask="/mask.mrc"))
    rows = mask_choice.rate_given(problem, [state], mask_choice.candidate_masks(24, 0.30, CPU), 6.0)
    assert [row.kept for row in rows] == [row.given for row in rows] == [False, False, False, True]
    assert (rows[3].misfit > min(row.misfit for row in rows)) == cut
    text = wording.mask_text(rows)
    assert text.startswith(f"mask: as given, out to {rows[3].radius_ang:.0f} A (misfit of unseen images")
    assert ("may reach past the mask" in text) == cut
    evidence = Evidence(0.0, 0.0)
    this = rounds.Round(problem, 0, torch.Generator(), Mock(step=lambda name, make, rng: make()))
    chosen, told = rounds.choose_mask(this, [state], evidence)
    assert torch.equal(chosen.problem.mask, problem.mask) and told.masks[3].given


def test_words_say_what_to_do_at_the_edge():
    rows = [MaskRow(80.2, 171.71, False), MaskRow(96.0, 138.0, True), MaskRow(110.0, 140.0, False)]
    assert wording.mask_text(rows) == (
        "mask: radius 96 A (misfit of unseen images by radius: 80 A 171.7, 96 A 138.0, 110 A 140.0)")
    rows[1:] = replace(rows[1], kept=False), replace(rows[2], kept=True)
    assert wording.mask_text(rows).endswith(
        "; the widest mask is the best: the particle may reach to its edge or past it (then take a larger particle "
        "diameter, or a larger box), or neighbours stand that near")
