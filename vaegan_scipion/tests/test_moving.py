"""Figures that move and that answer the mouse: events in, drawn numbers out. No Scipion project."""
import os
import tempfile
from dataclasses import replace
from unittest import TestCase
from unittest.mock import patch

import numpy as np
from matplotlib.backend_bases import KeyEvent, MouseButton, MouseEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from vaegan_scipion.convert.from_engine import Clusters
from vaegan_scipion.engine.vaegan_engine.contract.drawings import Curve
from vaegan_scipion.engine.vaegan_engine.contract.status import Status
from vaegan_scipion.viewers.cards import Card, chosen, draw_cards, facts
from vaegan_scipion.viewers.moving import Frame, LiveCurves, Movie, headline
from vaegan_scipion.viewers.plots import Point
from vaegan_scipion.viewers.umap_explorer import Counterpart, ExplorerCalls, UmapExplorer

SPIRAL = 150  # particles


def new_figure(width_in=10, height_in=7):
    figure = Figure(figsize=(width_in, height_in))
    FigureCanvasAgg(figure)
    return figure


def new_film(frames, pixel_size_ang):
    """The figure of a film of maps with a pixel size."""
    figure = new_figure()
    figure.content = Movie(figure, frames, pixel_size_ang)
    return figure


class TestExplorer(TestCase):
    """Mouse events as the window sends them."""

    def setUp(self):
        turn = np.linspace(0, 12, SPIRAL)
        umap = np.stack((turn * np.cos(turn), turn * np.sin(turn)), 1)
        self.clusters = Clusters(np.arange(SPIRAL) * 3 + 5, np.arange(SPIRAL) % 3 - 1, np.ones(SPIRAL), umap)
        self.created, self.asked = [], []
        self.explorer = UmapExplorer(new_figure(), self.clusters, {0: np.zeros((4, 4))},
                                     ExplorerCalls(self.image_of, self.counterpart_of, self.create))
        self.explorer.figure.canvas.draw()

    def image_of(self, particle_id):
        return np.full((4, 4), particle_id)

    def counterpart_of(self, particle_id):
        self.asked.append(particle_id)
        if particle_id == 5:
            raise ValueError("no such luck")
        return Counterpart(np.full((4, 4), -particle_id), 0.5)

    def create(self, ids):
        self.created.append(ids)
        return "done"

    def send(self, name, point, button=None):
        """A mouse event at data coordinates."""
        x, y = self.explorer.axes.transData.transform(point)
        canvas = self.explorer.figure.canvas
        canvas.callbacks.process(name, MouseEvent(name, canvas, x, y, button))

    def drag(self, corners):
        self.send("button_press_event", corners[0], MouseButton.LEFT)
        for corner in corners:
            self.send("motion_notify_event", corner, MouseButton.LEFT)
        self.send("button_release_event", corners[-1], MouseButton.LEFT)

    def test_hover(self):
        self.send("motion_notify_event", self.clusters.umap[40])
        self.assertEqual(self.explorer.shown, 40)
        np.testing.assert_array_equal(self.explorer.particle_axes.images[0].get_array(), 125)
        self.send("motion_notify_event", (0.0, 11.9))  # nothing is near
        self.assertEqual(self.explorer.shown, 40)

    def test_lasso(self):
        corners = np.array([(-1, -6), (9, -6), (9, 6), (-1, 6)], float)
        self.drag(corners)
        x, y = self.clusters.umap.T
        inside = (x > -1) & (x < 9) & (y > -6) & (y < 6)
        self.assertEqual(self.explorer.selected_ids, self.clusters.particle_id[inside].tolist())
        self.assertIn(f"{inside.sum()} particles selected", self.explorer.status.get_text())
        self.explorer.on_create()
        self.assertEqual(self.created, [self.clusters.particle_id[inside].tolist()])
        self.assertEqual(self.explorer.status.get_text(), "done")

    def test_shift_adds_a_region(self):
        def key(name):
            self.explorer.figure.canvas.callbacks.process(name, KeyEvent(name, self.explorer.figure.canvas, "shift"))

        ids, x = self.clusters.particle_id, self.clusters.umap[:, 0]
        first, second = (x > -1) & (x < 4), (x > 5) & (x < 9)
        boxes = [[(low, -99), (high, -99), (high, 99), (low, 99)] for low, high in ((-1, 4), (5, 9), (5, 9))]
        self.explorer.on_lasso(boxes[0])
        key("key_press_event")
        self.explorer.on_lasso(boxes[1])
        self.assertEqual(self.explorer.selected_ids, sorted(ids[first | second].tolist()))
        self.assertIn(f"{(first | second).sum()} particles selected", self.explorer.status.get_text())
        key("key_release_event")
        self.explorer.on_lasso(boxes[2])
        self.assertEqual(self.explorer.selected_ids, sorted(ids[second].tolist()))
        self.explorer.on_clear()
        self.assertEqual((self.explorer.selected_ids, self.explorer._drawn), ([], []))

    def test_a_click_is_no_lasso(self):
        self.drag([self.clusters.umap[70]])
        self.assertEqual(self.explorer.selected_ids, [])
        self.explorer._pending.result(10)
        self.explorer.poll()
        np.testing.assert_array_equal(self.explorer.generated_axes.images[0].get_array(), -215)
        self.drag([(0.0, 11.9)])  # where no dot is
        self.assertEqual(self.asked, [215])

    def test_a_counterpart_that_fails_says_why(self):
        self.explorer.show_counterpart(0)
        self.explorer._pending.exception(10)
        self.explorer.poll()
        self.assertEqual(self.explorer.status.get_text(), "no such luck")

    def test_an_image_that_is_gone_is_said(self):
        def gone(_particle_id):
            raise OSError("no such file")

        self.explorer.calls = self.explorer.calls._replace(read_image=gone)
        self.explorer.show_particle(0)
        self.assertIn("cannot be read (no such file). Bring its file back.", self.explorer.status.get_text())

    def test_closing_the_window_stops_the_timer(self):
        with patch.object(self.explorer._timer, "stop") as stop:
            self.explorer.figure.canvas.callbacks.process("close_event", None)
        stop.assert_called_once()


class TestMoving(TestCase):
    """Live curves and movies."""

    def test_curves_follow_the_training(self):
        rows, status = [{"kimg": 1.0, "loss": 3.0}], Status(
            state="running", images_seen=1000, total_images=4000, images_per_second=50.0, stage_seconds_left=60.0)
        figure = new_figure()
        live = LiveCurves(figure, lambda: rows, lambda: status)
        self.assertIn("running, 1.0 of 4.0 thousand images, 50 images/s, 1 min left", headline(status))
        rows.append({"kimg": 2.0, "loss": 1.0})
        self.assertTrue(live.update())
        np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [3, 1])
        status = replace(status, state="finished")
        self.assertFalse(live.update())
        self.assertIn("finished", figure._suptitle.get_text())

    def test_movie(self):
        frames = [Frame(float(i), np.full((4, 4, 4), float(i)), f"state 2, t = {i}", "#882255") for i in (2, 0, 1)]
        figure = new_figure()
        movie = Movie(figure, frames)
        self.assertEqual(len(movie.pictures), 3)
        seen = []
        for _ in range(4):
            seen.append(float(movie.pictures[0].get_array()[0, 0]))
            movie.advance()
        self.assertEqual(seen, [0, 1, 2, 0])
        movie.on_slider(3)
        self.assertFalse(movie.playing)
        self.assertEqual(float(movie.pictures[2].get_array()[0, 0]), 2)
        self.assertEqual(movie.title.get_text(), "state 2, t = 2 (point 3 of 3)")
        self.assertEqual(movie.title.get_color(), "#882255")
        self.assertEqual([text.get_text() for axes in figure.axes[:3] for text in axes.texts], [])
        self.assertEqual([text.get_text() for axes in new_film(frames, 5.0).axes[:3] for text in axes.texts], ["5 Å"])
        with tempfile.TemporaryDirectory() as folder:
            with Image.open(movie.save_gif(os.path.join(folder, "a", "movie.gif"))) as gif:
                self.assertEqual(gif.n_frames, 4)  # forth and back

    def test_cards(self):
        rng = np.random.default_rng(0)
        x = np.linspace(0.01, 0.1, 10)
        strip = [Point(0, 1, float(i), i, rng.normal(size=(4, 4))) for i in range(9)]
        cards = [Card(0, 60, 0.6, 0.9, rng.normal(size=(4, 4, 4)), 0.75, strip, Curve(0, x, 1 - 10 * x)),
                 Card(-1, 40, 0.4, 0.0, None)]
        figure = draw_cards(new_figure(), cards)
        self.assertEqual(len(figure.axes), (1 + 3 + 5 + 1) + 1)
        near = [axes.get_title() for axes in figure.axes if "near" in axes.get_title()]
        self.assertEqual(near, [f"{i} near" for i in (0, 2, 4, 6, 8)])
        self.assertEqual(facts(cards[0]), ["60 particles (60.0 %)", "mean membership 0.90", "stability 0.75",
                                           "halves agree to 11.7 Å"])
        self.assertEqual(facts(cards[1]), ["40 particles (40.0 %)"])
        for card in (cards[0]._replace(proven=False), cards[0]._replace(curve=Curve(0, x, 0 * x))):
            self.assertEqual(facts(card)[-1], "no resolution is proven")
        self.assertEqual(chosen("abc", 5), ["a", "b", "c"])
