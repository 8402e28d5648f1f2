"""Sentences that both sides say, from their numbers."""
from dataclasses import replace

import pytest
from made_records import comparison, proof
from vaegan_engine.contract import wording
from vaegan_engine.contract.wording import LADDER, Rung, expected_nmi, halves_text, pose_free_note


@pytest.mark.parametrize(("crossed", "words"), [
    (True, "the halves fall apart at 12.0 A, and share their start down to 10.0 A"),
    (False, "the halves agree to 12.0 A (Nyquist), but share their start down to 10.0 A")])
def test_halves_that_never_fall_apart_are_not_said_to(crossed, words):
    halves = replace(comparison([1.0, 0.9, 0.8]), resolution_0143_ang=12.0, crossed_0143=crossed)
    shared = replace(proof(2), proven_0143=False, shared_ang=10.0)
    assert halves_text(halves, shared) == f"no resolution is proven: {words}"


def test_the_ladder_climbs():
    assert [rung.snr for rung in LADDER] == sorted({rung.snr for rung in LADDER})
    assert 0 <= LADDER[0].nmi and [rung.nmi for rung in LADDER] == sorted(rung.nmi for rung in LADDER)
    assert LADDER[-1].nmi <= 1


def test_between_rungs_it_is_linear_in_the_logarithm_and_beyond_them_constant(monkeypatch):
    monkeypatch.setattr(wording, "LADDER", (Rung(0.1, 0.0), Rung(1.0, 0.4), Rung(10.0, 0.6)))
    assert expected_nmi(1.0) == 0.4
    assert expected_nmi(10**-0.5) == pytest.approx(0.2)
    assert expected_nmi(10**0.5) == pytest.approx(0.5)
    assert (expected_nmi(1e-6), expected_nmi(0.1), expected_nmi(10.0), expected_nmi(1e6)) == (0.0, 0.0, 0.6, 0.6)


@pytest.mark.parametrize(("snr", "nmi", "words"), [
    (0.2, 0.02, "separated nothing in our tests"),
    (2.0, 0.5, "separated a part in our tests"),
    (50.0, 0.95, "separated nearly all in our tests")])
def test_a_note_says_the_snr_the_figure_and_what_to_do(monkeypatch, snr, nmi, words):
    monkeypatch.setattr(wording, "LADDER", (Rung(snr, nmi),))
    note = pose_free_note(snr)
    assert note.startswith(f"Estimated SNR {snr:.2g}: ") and f"NMI {nmi:.2f}" in note and words in note
    assert "Find states and poses first" in note
