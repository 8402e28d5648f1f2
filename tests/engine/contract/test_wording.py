"""Sentences that both sides say, from their numbers."""
from dataclasses import replace

import pytest
from made_records import comparison, proof
from vaegan_engine.contract.wording import halves_text


@pytest.mark.parametrize(("crossed", "words"), [
    (True, "the halves fall apart at 12.0 A, and share their start down to 10.0 A"),
    (False, "the halves agree to 12.0 A (Nyquist), but share their start down to 10.0 A")])
def test_halves_that_never_fall_apart_are_not_said_to(crossed, words):
    halves = replace(comparison([1.0, 0.9, 0.8]), resolution_0143_ang=12.0, crossed_0143=crossed)
    shared = replace(proof(2), proven_0143=False, shared_ang=10.0)
    assert halves_text(halves, shared) == f"no resolution is proven: {words}"
