"""Maps that a start begins with."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from refine_particles import blobs, problem_of, simulated
from vaegan_engine.contract.settings import ComputeConfig, StatesRun
from vaegan_engine.refine.start.starting_maps import starting_mixture


@pytest.mark.parametrize(("n_given", "n_maps", "expected"), [(0, 3, 3), (1, 3, 3), (4, 3, 4)])
def test_given_maps_are_filled_up_with_random_ones(n_given, n_maps, expected):
    data, _, _, _ = simulated([blobs(0)], 40, 1.0)
    given = torch.stack([blobs(k) for k in range(n_given)]) if n_given else None
    run = StatesRun(start_shells=5.0, compute=ComputeConfig(device="cpu"))
    model = starting_mixture(problem_of(data, run=run), given, n_maps, torch.Generator().manual_seed(0))
    assert model.n_maps == expected
    assert len({round(float(m.norm()), 4) for m in model.maps}) == expected  # no map twice
    for map_ in model.maps[:n_given]:
        best = max(np.corrcoef(map_.flatten(), blobs(k).flatten())[0, 1] for k in range(n_given))
        assert best > 0.8
