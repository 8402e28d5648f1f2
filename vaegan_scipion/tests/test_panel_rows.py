"""Drawings of many states on one screen: no panel, title or name lies on another."""
import unittest

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vaegan_scipion.engine.vaegan_engine.contract import drawings
from vaegan_scipion.engine.vaegan_engine.contract.labels import STATES, state_colour, state_name
from vaegan_scipion.viewers import cards, map_drawings, plots, states_drawings
from vaegan_scipion.viewers.panel_rows import PanelRows
from vaegan_scipion.viewers.viewer_base import on_screen

MANY = 12
TOUCH_PX = 2.0  # neighbours may share the width of a line


def drawn(draw, *arguments, size_in):
    """The boxes (left, bottom, right, top; px) of all axes with their titles and names, in their order."""
    figure = Figure(figsize=on_screen(size_in))
    FigureCanvasAgg(figure)
    draw(figure, *arguments)
    figure.canvas.draw()
    return [axes.get_tightbbox().extents for axes in figure.axes]


def overlaps(boxes):
    """Pairs of boxes that lie on each other by more than a line."""
    return [(i, j) for i, one in enumerate(boxes) for j, other in enumerate(boxes[:i])
            if (np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]) > TOUCH_PX).all()]


class TestManyStates(unittest.TestCase):
    """Twelve states, as nested assemblies have."""

    maps = [np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)] * MANY
    names = [f"{state_name(k)}, 1000" for k in range(MANY)]
    colours = [state_colour(k) for k in range(MANY)]

    def test_sections_and_surfaces(self):
        for draw, size_in in ((plots.draw_slices, plots.slices_size_in),
                              (map_drawings.draw_surfaces, map_drawings.surfaces_size_in)):
            boxes = drawn(draw, self.maps, self.names, self.colours, 4.0, size_in=size_in(MANY))
            self.assertEqual((len(boxes), overlaps(boxes)), (3 * MANY, []), draw.__name__)

    def test_local_resolution(self):
        inside = [np.abs(array) + 3 for array in self.maps]
        for n in (1, 4, MANY):
            boxes = drawn(plots.draw_local_resolution, inside[:n], self.names[:n], self.colours[:n], 4.0,
                          size_in=plots.local_size_in(n))
            self.assertEqual((len(boxes), overlaps(boxes)), (3 * n + 1, []))
            width_px, height_px = (100 * inch for inch in on_screen(plots.local_size_in(n)))
            for left, bottom, right, top in boxes:
                self.assertTrue(left >= 0 and bottom >= 0 and right <= width_px and top <= height_px)
        rows = PanelRows(MANY, 3)
        self.assertLess(on_screen(plots.local_size_in(MANY))[1], 1 + 2 * rows.n_below)  # in blocks beside each other

    def test_viewing_directions(self):
        rng = np.random.default_rng(0)
        shown = [states_drawings.Views(k, rng.uniform(-180, 180, 300), rng.uniform(0, 180, 300),
                                       "SCF 0.93; all of Fourier space is sampled") for k in range(MANY)]
        boxes = drawn(states_drawings.draw_views, shown, size_in=states_drawings.views_size_in(MANY))
        self.assertEqual((len(boxes), overlaps(boxes)), (2 * MANY, []))

    def test_cards(self):
        curve = [1.0, 0.9, 0.4, 0.0]
        made = [cards.Card(k, 1000, 0.08, 0.9, self.maps[k], curve=drawings.Curve(k, [0.01, 0.02, 0.03, 0.04], curve))
                for k in range(MANY)]
        boxes = drawn(cards.draw_cards, made, STATES, size_in=cards.cards_size_in(MANY))
        self.assertEqual((len(boxes), overlaps(boxes)), (5 * MANY, []))


class TestPlaces(unittest.TestCase):
    """Numbers of the panels."""

    def test_few_stand_below_each_other(self):
        rows = PanelRows(3, 2)
        self.assertEqual([rows.subplot(row, column) for row in range(3) for column in range(2)],
                         [(3, 2, number) for number in range(1, 7)])
        self.assertEqual(rows.size_in(5.0, 2.0, 0.5), (5.0, 6.5))
        self.assertEqual(PanelRows(0, 3).size_in(5.0, 2.0, 0.5), (5.0, 2.5))

    def test_many_stand_in_blocks_in_which_pairs_stay_together(self):
        for n in (5, 6, 9, 12, 20, 31):
            rows = PanelRows(n, 3)
            places = [rows.subplot(row, column) for row in range(n) for column in range(3)]
            self.assertEqual(len(set(places)), 3 * n)
            self.assertLessEqual(max(number for _, _, number in places), places[0][0] * places[0][1])
            for row in range(1, n, 2):
                self.assertFalse(rows.is_first(row))
