"""The posterior over poses by the compiled loops and by whole arrays."""
from __future__ import annotations

import pytest
import torch
from vaegan_engine.reconstruction import map_mixture


@pytest.mark.parametrize("scale", [0.1, 4.0, 60.0])  # flat, broad, sharp
@pytest.mark.parametrize("spread", [0.0, 0.3])
@pytest.mark.parametrize("entries", [False, True])
def test_the_compiled_posterior_is_the_posterior(scale, spread, entries):
    rng = torch.Generator().manual_seed(0)
    scores = scale * torch.randn(5, 9, 3 * 70, generator=rng)
    power = scale * torch.rand(5, 3 * 70, generator=rng)
    found = map_mixture.posterior_compiled(scores.clone(), power, 3, entries, spread)
    expected = map_mixture.posterior(scores.clone(), power, 3, entries, spread)
    for name in found._fields:
        ours, theirs = getattr(found, name), getattr(expected, name)
        if ours.is_floating_point():
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * scale)
        else:
            assert torch.equal(ours, theirs), name
    assert (len(found.weight) > 0) == entries


def test_equal_scores_are_all_kept():
    found = map_mixture.posterior_compiled(torch.zeros(2, 20, 2 * 40), torch.zeros(2, 80), 2, True, 0.0)
    assert len(found.weight) == 2 * 20 * 80
    torch.testing.assert_close(found.weight, torch.full_like(found.weight, 1 / 1600))
