"""What evidence it takes for two states to be two."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from known_assignment import RADIUS, assignment
from refine_particles import blobs, problem_of, simulated
from vaegan_engine.physics.rotations import random_rotations
from vaegan_engine.refine.rounds.join_states import separate_pairs
from vaegan_engine.refine.rounds.separation import is_separate, separation
from vaegan_engine.stats.density_valley import valley_ratio


def test_separation_needs_agreement_and_a_valley():
    rng = torch.Generator().manual_seed(0)
    rotations = random_rotations(2000, rng)
    state = 6.0 * (torch.arange(2000) % 2) - 3.0
    first, second = (state + torch.randn(2000, generator=rng) for _ in range(2))
    assert is_separate(separation(first, second, second, rotations))
    noise = [torch.randn(2000, generator=rng) for _ in range(2)]
    assert not is_separate(separation(*noise, noise[1], rotations))
    ramp = torch.linspace(-3, 3, 2000)
    moving = separation(ramp + 0.3 * noise[0], ramp + 0.3 * noise[1], ramp + 0.3 * noise[1], rotations)
    assert moving.agreement > 0.5 and not is_separate(moving)


def test_what_the_view_divides_is_no_state_unless_it_is_plain():
    """A cone of views has a map of its own: agreement and valley would do, but the view explains the sides."""
    rng = torch.Generator().manual_seed(1)
    rotations = random_rotations(2000, rng)
    cone = torch.where(rotations[:, 2, 2].abs() > 0.7, 2.0, -2.0)
    values = [cone + 0.8 * torch.randn(2000, generator=rng) for _ in range(3)]
    cut = separation(*values, rotations)
    assert cut.by_view > 0.5 and 0.5 < cut.agreement < 0.95
    assert not is_separate(replace(cut, agreement=0.7))
    assert is_separate(replace(cut, agreement=0.7, by_view=0.3, valley=0.3))
    assert is_separate(replace(cut, agreement=0.95, valley=0.05))  # wrong poses part images by views, and plainly


def test_one_normal_distribution_has_no_valley():
    rng = np.random.default_rng(0)
    one = rng.standard_normal((4000, 1))
    assert valley_ratio(one[one[:, 0] < 0][:, None].reshape(-1, 1), one[one[:, 0] >= 0].reshape(-1, 1)) > 0.6


def test_copies_of_images_add_nothing_to_what_tells_states_apart():
    """60 images, each four times: as many particles, and about as much evidence, as of one each."""
    data, label, rotations, shifts = simulated([blobs(0), blobs(1)], 30, 3.0)
    rows = np.tile(np.arange(60), 4)

    def pair_of(rows, twin_id):
        at = torch.from_numpy(rows)
        found = assignment(data.part(rows), label[rows], rotations[at], shifts[at], 2)
        problem = replace(problem_of(data.part(rows)), twin_id=twin_id)
        return separate_pairs(problem, found, RADIUS, torch.Generator().manual_seed(0))[0]

    once, often = pair_of(np.arange(60), None), pair_of(rows, rows)
    assert often.n_particles == once.n_particles == 60
    assert once.valley_evidence > 1 and often.valley_evidence < 2 * once.valley_evidence
