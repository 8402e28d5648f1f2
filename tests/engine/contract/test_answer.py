"""Clusters crossed with states, and which to trust."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import clustering, comparison, junk_numbers, proof, state_row, states_summary
from sklearn.metrics import normalized_mutual_info_score
from vaegan_engine.contract.answer import clusters_answer, crossing, states_answer, trusted
from vaegan_engine.contract.records import Stability

STABLE = clustering(stability=Stability(3, 100, 0.85, [0.97, 0.95, 0.99, 0.96], [4, 4, 4]))
UNSTABLE = clustering(stability=Stability(3, 100, 0.85, [0.97, 0.40], [2, 3, 2]))


def crossed(clusters, states):
    return crossing(dict(enumerate(clusters)), dict(enumerate(states)))


def test_rows_are_joined_by_id_and_those_of_no_group_come_last():
    found = crossing({7: 0, 3: -1, 9: 1, 100: 1}, {9: 1, 7: -1, 3: 1, 5: 0})
    assert (found.clusters, found.states) == ((0, 1, -1), (1, -1))
    assert found.counts == ((0, 1), (1, 0), (1, 0))
    assert found.n_particles == 3


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3)), min_size=1, max_size=60))
def test_nmi_is_that_of_scikit_learn_on_particles_in_groups(pairs):
    kept = [pair for pair in pairs if min(pair) >= 0]
    nmi = crossed(*zip(*pairs, strict=True)).nmi
    if not kept:
        assert nmi == 0
    else:
        np.testing.assert_allclose(nmi, normalized_mutual_info_score(*zip(*kept, strict=True)), atol=1e-9)


@pytest.mark.parametrize(("clusters", "states", "details", "posed", "begin", "end"), [
    ([0, 1, 2] * 5, [2, 0, 1] * 5, STABLE, True, "3 states: the states and the embedding's",
     "half maps and resolutions."),
    ([0] * 9, [0] * 9, STABLE, True, "One structure", "part the particles."),
    ([0, 1, 2, 3] * 5, [0, 0, 1, 1] * 5, STABLE, True, "At least 4 groups: at the poses of 2 states", "refining each."),
    ([0, 1, 2, 3] * 5, [0, 0, 1, 1] * 5, STABLE, False, "2 states: the embedding has 4 clusters, but it was made "
     "without poses", "Trust the states."),
    ([0, 1] * 5, [0, 0] * 5, UNSTABLE, True, "One state: the embedding has 2 clusters, but it does not part them the "
     "same way in repeats (lowest stability 0.40)", "Trust the states."),
    ([0, 1] * 5, [0, 0] * 5, clustering(), True, "One state: the embedding has 2 clusters", "Trust the states."),
    ([0, 0, 1] * 5, [0, 1, 2] * 5, STABLE, True, "3 states: the embedding parts only 2", "Trust the states."),
    ([0, 1, 0, 1] * 5, [0, 0, 1, 1] * 5, STABLE, True, "Not settled: 2 states and as many clusters", "table of both."),
])
def test_which_to_trust(clusters, states, details, posed, begin, end):
    text = trusted(crossed(clusters, states), details, posed, states_summary())
    assert text.startswith(begin), text
    assert text.endswith(end), text


def test_states_without_states_are_not_to_be_trusted_crossed_either():
    none = states_summary(verdict="poses are not determined", has_states=False)
    same = crossed([0, 1] * 5, [0, 1] * 5)
    text = trusted(same, STABLE, True, none)
    assert text == ("Nothing to trust yet: poses are not determined. Clusters made at these poses inherit this: do not "
                    "trust them either.")
    assert trusted(same, STABLE, False, none).startswith("Nothing to trust yet: poses are not determined.")
    junk = states_summary(verdict_kind="mostly junk", junk=junk_numbers(800, 0.8))
    assert trusted(same, STABLE, True, junk).startswith("Mostly junk: most images fit no state.")


def test_crossed_where_all_are_set_aside():
    for clusters, states, words in (([0, 1], [-1, -1], "Nothing to compare: the states set aside every particle"),
                                    ([-1, -1], [0, 1], "2 states: no particle is in a cluster.")):
        assert trusted(crossed(clusters, states), STABLE, True, states_summary()).startswith(words)


def test_states_are_told_in_plain_words():
    """What is proven, what is not, what moves, what was set aside."""
    def row(label, resolution_ang, **figures):
        proven = proof(proven_0143=figures.pop("proven", True))
        motion_files = figures.pop("motion_files", [])
        return state_row(label, 100, 0.5, comparison(resolution_0143_ang=resolution_ang, **figures), proven,
                         motion_files=motion_files)

    two = states_answer(states_summary(junk=junk_numbers(10, 0.05)), [row(0, 12.0), row(1, 14.26)])
    assert two == (
        "2 states, to trust and to go on with: two halves of the images agree on who belongs where (to 0.98 for the "
        "two states most alike; 1 = perfect). Half maps agree to 12.0 to 14.3 Å. 5 % of the images fit no state and "
        "are set aside.")
    one = states_answer(states_summary(pairs=[]), [row(0, 12.0, crossed_0143=False)])
    assert one == (
        "One structure: no group of its images differs from the others by more than noise does. Half maps agree to "
        "12.0 Å, the finest that this box can show.")
    lost = junk_numbers(10, 0.05, n_outliers=8)
    moves = states_answer(states_summary(junk=lost), [row(0, 12.0), row(1, 12.0, motion_files=["a.mrc"])])
    assert moves.endswith("8 of them lie beside what varies, and may be an end of the motion that few images show.")
    assert "may be an end" not in states_answer(states_summary(junk=lost), [row(0, 12.0), row(1, 12.0)])
    unproven = row(1, 9.0, proven=False)
    assert "of state 2 no resolution is proven" in states_answer(states_summary(), [row(0, 12.0), unproven])
    assert "No resolution is proven: the half maps" in states_answer(states_summary(), [unproven])
    nothing = states_answer(states_summary(verdict="no structure found", has_states=False), [row(0, 12.0)])
    assert nothing == "Nothing to trust yet: no structure found."


@pytest.mark.parametrize(("n", "words"), [(1, "one state"), (2, "2 states")])
def test_mostly_junk_is_not_recommended(n, words):
    rows = [state_row(label, 100, 0.1) for label in range(n)]
    text = states_answer(states_summary(verdict_kind="mostly junk", junk=junk_numbers(800, 0.8)), rows)
    assert text.startswith("Mostly junk: ") and f"the others make {words}." in text and "80 %" in text
    assert "to trust" not in text and "One structure" not in text


def test_agreement_is_claimed_only_where_it_was_measured():
    text = states_answer(states_summary(pairs=[]), [state_row(0, 100, 0.5), state_row(1, 100, 0.5)])
    assert "2 states: whether two halves of the images agree on who belongs where is not known." in text


def test_clusters_without_states_are_a_first_look():
    assert "confirm it" in clusters_answer(clustering(verdict="3 clusters"), posed=False)
    assert clusters_answer(clustering(verdict="3 clusters"), posed=True) == "3 clusters."
    for posed in (False, True):  # the turn in the plane is no view
        said = clusters_answer(clustering(verdict="3 clusters"), posed, in_plane=True)
        assert said.startswith("3 clusters. Views part") and "groups of views" in said and "without poses" not in said
    assert clusters_answer(clustering(), posed=True) == "3 clusters, whose stability was not looked at."
    assert clusters_answer(clustering(clusters=1), posed=True) == "1 cluster, whose stability was not looked at."
