"""The sentence of an evaluation: what was found against what is known, of states, clusters and classes."""
from dataclasses import replace

import pytest
from made_records import comparison, states_summary
from vaegan_engine.contract import answer as said
from vaegan_engine.contract.map_records import PoseError
from vaegan_engine.contract.records import MOSTLY_JUNK, Evaluation, LabelScores, MapEvaluation

SCORES = LabelScores(clusters=3, n_particles=1200, unassigned_frac=0.0, coverage=1.0, nmi=0.95, ami=0.94, ari=0.9,
                     unlabelled=0, states=["maps/a.mrc", "b.mrc", "c.mrc"],
                     contingency={0: [390, 10, 0], 1: [0, 400, 0], 2: [0, 0, 380], -1: [10, 0, 10]})
MAP = MapEvaluation(4.5, "a.mrc", 0.9, False, "a.mrc", {"a.mrc": 0.9}, 0, 400, "maps/x.mrc",
                    comparison(resolution_05_ang=11.25, nyquist_frac_05=0.8))


def test_the_same_groups_are_called_so():
    text = said.evaluation_answer(Evaluation([], SCORES), "states")
    assert text == ("3 states found, the labels have 3: the same groups, NMI 0.950, AMI 0.940 (1 = the same groups) of "
                    "1,200 particles.")


def test_what_states_say_against_themselves_comes_first():
    doubt = said.doubt_about(states_summary(verdict="no structure beyond a blob", has_states=False))
    text = said.evaluation_answer(Evaluation([], SCORES, doubt=doubt), "states")
    assert text.startswith("These states say of themselves that there is nothing to trust yet: no structure beyond a "
                           "blob. 3 states found")
    assert "mostly junk" in said.doubt_about(states_summary(verdict_kind=MOSTLY_JUNK))
    assert said.doubt_about(states_summary()) == ""


def test_methods_say_what_was_compared():
    values = Evaluation([MAP, replace(MAP, label=1)], SCORES)
    assert said.evaluation_methods(values, "states") == (
        "The states were compared with labels of 1,200 particles: normalised mutual information 0.95 (adjusted 0.94, "
        "adjusted Rand index 0.90). 2 maps were each aligned to a reference map over rotation, shift and hand, and "
        "compared by FSC inside a soft sphere; the best agrees to 11.2 Å at FSC 0.5.")
    assert said.evaluation_methods(Evaluation([MAP]), "clusters").startswith("One map was aligned")
    assert said.evaluation_methods(Evaluation([]), "clusters") == ""


def test_what_is_missing_and_what_is_split_is_named():
    """Two clusters of a, none of c; one label too many among the found."""
    scores = replace(SCORES, nmi=0.6, contingency={0: [200, 0, 0], 1: [200, 10, 50], 2: [0, 390, 350]})
    text = said.evaluation_answer(Evaluation([], scores), "clusters")
    assert "No cluster of its own: c." in text and "In several clusters: a." in text
    assert "the same groups, NMI" not in text


def test_junk_is_no_label_of_particles():
    scores = replace(SCORES, states=["a.mrc", "b.mrc", "c.mrc", "junk"], junk_recall=0.915, junk_precision=0.82,
                     contingency={0: [400, 0, 0, 5], 1: [0, 400, 0, 0], 2: [0, 0, 390, 0], -1: [0, 0, 10, 95]})
    text = said.evaluation_answer(Evaluation([], scores), "states")
    assert "the labels have 3" in text and "No state" not in text
    assert "Of the junk 92 % was set aside; of what was set aside 82 % is junk." in text


def test_classes_are_judged_by_their_majorities():
    """Classes part views: many of one label are as good as one."""
    scores = replace(SCORES, clusters=4, nmi=0.5, states=["a.mrc", "b.mrc"],
                     contingency={0: [100, 0], 1: [100, 0], 2: [0, 100], 3: [20, 80], -1: [50, 50]})
    assert said.purity(scores) == pytest.approx(380 / 400)
    text = said.evaluation_answer(Evaluation([], scores), "classes")
    assert "4 classes found" in text and "95.0 % are in one whose majority has their label" in text
    assert "In several" not in text
    assert said.majorities(scores)[3] == said.Majority("b", 0.8)


def test_resolutions_and_poses_are_said_with_their_units():
    values = Evaluation([MAP, replace(MAP, label=1)], None, pose_errors=[PoseError(0, 1.26)])
    assert said.evaluation_answer(values, "states") == (
        "Maps agree with their references, at FSC 0.5, to: state 1 11.2 Å (0.80 of Nyquist), state 2 11.2 Å (0.80 of "
        "Nyquist). Poses are off by, in the median: state 1 1.3°.")
    assert said.evaluation_answer(Evaluation([]), "states") == "Nothing was compared."
    assert "and 4 more" in said.evaluation_answer(Evaluation([MAP] * 10), "states")


@pytest.mark.parametrize(("name", "expected"), [
    ("maps/a.mrc", "a"), ("C:\\x\\b.MAP", "b"), ("4.5 A state", "4.5 A state"), ("12", "12"), (".mrc", ".mrc")])
def test_short_names_lose_folder_and_suffix_of_a_map_alone(name, expected):
    assert said.short(name) == expected
