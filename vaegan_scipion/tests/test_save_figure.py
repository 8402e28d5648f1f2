"""Figures saved as PNG, PDF and SVG from the window that shows them."""
import os
import subprocess
import sys
import tempfile
import unittest
from shutil import which
from types import SimpleNamespace
from unittest.mock import patch

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vaegan_scipion.viewers import viewer_base
from vaegan_scipion.viewers.save_figure import FORMATS, MOST_DOTS, add_save_button, ask_and_save, file_stem, save_figure

MAGIC = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
IN_A_WINDOW = """
import sys, tkinter, matplotlib
matplotlib.use("TkAgg")
import matplotlib.pyplot as plt
from unittest.mock import patch
from vaegan_scipion.viewers.save_figure import FORMATS, add_save_button
figure = plt.figure()
button = add_save_button(figure, "FSC between halves")
menu = button.nametowidget(button["menu"])
assert [menu.entrycget(k, "label") for k in range(menu.index("end") + 1)] == [name for name, _ in FORMATS]
for k, (_, suffix) in enumerate(FORMATS):
    with patch("tkinter.filedialog.asksaveasfilename", return_value=sys.argv[1] + "/made" + suffix) as asked:
        menu.invoke(k)
    assert asked.call_args[1]["initialfile"] == "fsc_between_halves" + suffix
print("SAVED")
"""


def drawn():
    """A figure with something in it."""
    figure = Figure(figsize=(2, 2))
    FigureCanvasAgg(figure)
    figure.add_subplot().plot([1, 2], [3, 4])
    return figure


class TestSaveFigure(unittest.TestCase):
    """Without a window, but for the last."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def check(self, path, suffix):
        """A file of this format."""
        self.assertTrue(path.endswith(suffix))
        with open(path, "rb") as stream:
            self.assertTrue(stream.read().startswith(MAGIC[suffix]), path)

    def test_every_format(self):
        for _, suffix in FORMATS:
            for name in ("fsc", "fsc" + suffix):
                path = save_figure(drawn(), os.path.join(self.folder, name), suffix)
                self.assertEqual(os.path.basename(path), "fsc" + suffix)
                self.check(path, suffix)
        self.assertEqual(file_stem("FSC, half maps (Å)"), "fsc_half_maps_å")
        self.assertEqual(file_stem(""), "figure")

    def test_a_cloud_of_dots_is_an_image_in_svg(self):
        sizes = []
        for n in (100, 20_000):
            figure = drawn()
            figure.axes[0].scatter(range(n), range(n))
            with open(save_figure(figure, os.path.join(self.folder, f"dots_{n}"), ".svg")) as stream:
                text = stream.read()
            self.assertEqual("<image" in text, n > MOST_DOTS)
            sizes.append(len(text))
        self.assertLess(sizes[1], 10 * sizes[0])

    def test_what_cannot_be_written_is_said(self):
        figure = drawn()
        figure.canvas.manager = unittest.mock.Mock()
        with patch("tkinter.filedialog.asksaveasfilename", return_value=os.path.join(self.folder, "no", "x.pdf")), \
                patch("tkinter.messagebox.showerror") as shown:
            self.assertEqual(ask_and_save(figure, "x", ".pdf"), "")
        self.assertIn("x.pdf cannot be written (No such file or directory)", shown.call_args[0][1])
        with patch("tkinter.filedialog.asksaveasfilename", return_value=""):
            self.assertEqual(ask_and_save(figure, "x", ".svg"), "")  # the dialog was closed

    def test_every_window_of_a_viewer_has_the_button(self):
        """All windows are made in one place; a figure without a window has none."""
        self.assertIsNone(add_save_button(drawn(), "x"))
        viewer = SimpleNamespace(_saved=None)
        with patch.object(viewer_base, "add_save_button") as added:
            viewer_base.VaeganViewer.figure_view(viewer, lambda figure: None, title="FSC")
        self.assertEqual(added.call_args[0][1], "FSC")

    @unittest.skipIf(which("xvfb-run") is None, "xvfb-run is not installed")
    def test_the_menu_in_a_window(self):
        made = subprocess.run(["xvfb-run", "-a", sys.executable, "-c", IN_A_WINDOW, self.folder],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertIn("SAVED", made.stdout)
        for _, suffix in FORMATS:
            self.check(os.path.join(self.folder, "made" + suffix), suffix)
