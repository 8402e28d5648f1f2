"""Hollow shells: starts of cubic symmetry, which is then given up."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from refine_particles import FEW_ROTATIONS, blobs, problem_of, recorder_of, simulated
from vaegan_engine.contract.settings import ComputeConfig, StatesRun
from vaegan_engine.contract.wording import start_text
from vaegan_engine.physics.map_alignment import align_map, move_map
from vaegan_engine.physics.map_constraint import symmetrised_maps
from vaegan_engine.physics.map_resize import resized_maps
from vaegan_engine.physics.symmetry import group_of
from vaegan_engine.refine.start import ab_initio

RUN = StatesRun(n_maps=1, n_starts=2, start_steps=12, search_steps=9, batch_size=60, start_shells=6.0,
                search_shells=6.0, state_shells=6.0, compute=ComputeConfig(device="cpu", threads=1, seed=0))
TRIES_CUBIC = replace(FEW_ROTATIONS, start=replace(FEW_ROTATIONS.start, tries_cubic=True, n_rotations=900,
                                                   search_n_rotations=900))


def octahedral() -> torch.Tensor:
    return symmetrised_maps(blobs(3, n=6)[None], group_of("O"))[0]


def started(truth, tmp_path, **settings):
    data, *_ = simulated([truth], 200, noise=0.5)
    problem = problem_of(data, run=replace(RUN, **settings), tuning=TRIES_CUBIC)
    return ab_initio.ab_initio(problem, None, recorder_of(tmp_path))


def test_an_octahedral_particle_is_found_from_its_tetrahedral_part_and_its_map_is_free(tmp_path):
    truth = octahedral()
    found = started(truth, tmp_path)
    alone, cubic = found.starts[:2]
    assert (alone.kind, cubic.kind) == ("alone", "cubic") and found.one_frame
    assert cubic.kept and not alone.kept and cubic.log_evidence > alone.log_evidence
    assert "cubic symmetry" in start_text(cubic)
    made = resized_maps(found.maps, len(truth))[0].numpy()
    turned = move_map(made, group_of("T").numpy()[5], np.zeros(3))
    assert 0.9 < np.corrcoef(turned.ravel(), made.ravel())[0, 1] < 0.9999  # as the particle, and not held to it
    assert np.corrcoef(align_map(made, truth.numpy(), 4.0).map.ravel(), truth.numpy().ravel())[0, 1] > 0.8


def test_a_particle_without_symmetry_goes_on_from_the_start_without(tmp_path):
    found = started(blobs(3), tmp_path)
    assert found.starts[0].log_evidence > found.starts[1].log_evidence + 3
    assert [row.kept for row in found.starts] == [True, False]


@pytest.mark.parametrize("symmetry", ["O", "C4"])
def test_what_has_a_symmetry_is_not_asked_for_another(tmp_path, symmetry):
    assert [row.kind for row in started(octahedral(), tmp_path, symmetry=symmetry).starts] == ["alone"]
