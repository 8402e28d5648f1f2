"""Drawings that both sides share: frequencies, resolutions, sections and bars by their closed forms."""
import numpy as np
import pytest
from matplotlib.figure import Figure
from vaegan_engine.contract import drawings
from vaegan_engine.contract.drawings import Curve
from vaegan_engine.contract.labels import STATES


@pytest.mark.parametrize(("box_px", "n_shells"), [(16, 9), (15, 8)])
def test_frequencies_are_those_of_a_transform_up_to_nyquist(box_px, n_shells):
    expected = np.abs(np.fft.rfftfreq(box_px, 3.0))
    np.testing.assert_allclose(drawings.frequencies_per_ang(box_px, 3.0), expected)
    assert len(expected) == n_shells


@pytest.mark.parametrize("d", [4, 5])
def test_sections_go_through_the_centre(d):
    array = np.arange(d ** 3, dtype=float).reshape(d, d, d)
    expected = array[d // 2], array[:, d // 2], array[:, :, d // 2]
    for ours, theirs in zip(drawings.central_sections(array), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    image = array[0]
    assert drawings.central_sections(image) == [image]


def test_a_curve_is_called_by_its_resolutions_where_it_has_no_text():
    x = np.linspace(0.01, 0.1, 10)
    axes = Figure().add_subplot()
    drawings.draw_fsc(axes, [Curve(1, x, 1 - 10 * x), Curve(0, x, 1 - 10 * x, "mine"), Curve(0, x, x, "_none", "--")],
                      naming=STATES)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["state 2: 11.7, 20.0 Å", "mine"]
    assert axes.lines[2].get_linestyle() == "--"
    assert axes.xaxis.get_major_formatter()(0.1, None) == "1/10.0"


@pytest.mark.parametrize("beside", [True, False])
def test_what_is_in_no_group_lies_lowest_and_small_groups_above_large_ones(beside):
    axes, labels = Figure().add_subplot(), np.array([0] * 5 + [1] * 9 + [-1] * 20)
    drawings.draw_umap(axes, np.zeros((34, 3)), labels, STATES, beside)
    assert [len(dots.get_offsets()) for dots in axes.collections] == [20, 9, 5]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["state 1: 5", "state 2: 9", "set aside: 20"]


def test_many_particles_are_a_density():
    labels = np.arange(drawings.MAX_POINTS + 1) % 2
    axes = Figure().add_subplot()
    drawings.draw_umap(axes, np.random.default_rng(0).normal(size=(len(labels), 2)), labels)
    assert len(axes.images) == 1 and not any(len(dots.get_offsets()) for dots in axes.collections)
