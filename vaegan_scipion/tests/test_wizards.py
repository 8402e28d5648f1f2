"""The particle size wizard: the sample of real particles, the contrast, the picture, and the dialog on a display."""
import os
import sqlite3
import subprocess
import sys
import unittest
from shutil import which
from unittest.mock import Mock, patch

import mrcfile
import numpy as np
from matplotlib.figure import Figure
from pyworkflow.config import Config
from pyworkflow.viewer import DESKTOP_TKINTER

from vaegan_scipion.convert.sample_images import contrast_note, contrast_sigma, low_passed, sample_images
from vaegan_scipion.protocols import VaeganProtStates, VaeganProtTrain3D
from vaegan_scipion.tests.phantom import ENABLED_IDS, ProjectTest
from vaegan_scipion.wizards.size_picture import SizePicture, size_text

DIALOG = """
import tkinter as tk
import numpy as np
from vaegan_scipion.convert.sample_images import Sample
from vaegan_scipion.wizards.wizard_particle_size import ParticleSizeDialog

root = tk.Tk()

def press():
    dialog, = [child for child in root.winfo_children() if isinstance(child, ParticleSizeDialog)]
    dialog.diameter_scale.set(14.1)
    dialog.update()
    dialog.crop_scale.set(0.7)
    dialog.update()
    dialog._handleResult(dialog.buttons[0][1])

root.after(1500, press)
images = np.random.default_rng(0).normal(size=(8, 24, 24)).astype("f")
chosen = ParticleSizeDialog(root, Sample(list(range(8)), images), 2.0, 0.02, 0.9)
print("chosen", chosen.resultYes(), round(chosen.crop_frac, 3), round(chosen.radius_frac, 3))
"""


class TestSample(ProjectTest):
    """Images by id, from real files."""

    def test_images_belong_to_their_ids(self):
        particles = self.imported.outputParticles
        sample = sample_images(particles, 9)
        self.assertEqual(len(sample.ids), 9)
        self.assertEqual((sample.ids[0], sample.ids[-1]), (ENABLED_IDS[0], ENABLED_IDS[-1]))
        self.assertLessEqual(set(sample.ids), set(ENABLED_IDS))
        with mrcfile.open(particles.getFirstItem().getFileName()) as stack:
            for particle_id, image in zip(*sample):
                np.testing.assert_array_equal(image, stack.data[particles[particle_id].getIndex() - 1])

    def test_contrast_of_the_form(self):
        sample = sample_images(self.imported.outputParticles)
        self.assertGreater(contrast_sigma(sample.images, 0.2), 5)
        protocol = self.newProtocol(VaeganProtTrain3D, boxPx=16, particleDiameterAng=0.4 * 112)
        protocol.inputParticles.set(self.imported)
        protocol.inputParticles.setExtended("outputParticles")
        self.assertNotIn("dark", " ".join(protocol._warnings()))
        protocol.invertContrast.set(True)
        self.assertIn("most likely the answer is No", " ".join(protocol._warnings()))

    def test_scipion_finds_the_wizard_for_both_fields(self):
        for form in (VaeganProtTrain3D, VaeganProtStates):
            self.check_wizard(Config.getDomain().findWizards(self.newProtocol(form), DESKTOP_TKINTER))

    def check_wizard(self, found):
        """It stands beside both fields."""
        self.assertEqual({name for name, wizard in found.items() if wizard.__name__ == "VaeganParticleSizeWizard"},
                         {"cropFrac", "particleDiameterAng"})

    def test_a_diameter_in_ang_there_and_back(self):
        """The dialog moves a radius over the kept box; the form of the states has A."""
        from vaegan_scipion.wizards import wizard_particle_size

        self.assertEqual(wizard_particle_size.radius_of(60.0, 100.0), 0.3)
        for empty in ("", "abc", None):  # it begins where its own rule is kept
            radius_frac = wizard_particle_size.radius_of(empty, 100.0)
            self.assertEqual(radius_frac, 0.38)
            self.assertNotIn("is better", size_text(100, 1.0, 1.0, radius_frac))
        protocol = self.filled(VaeganProtStates, particleDiameterAng=56.0, cropFrac=0.5,
                               inputParticles=(self.imported, "outputParticles"))
        form, asked = Mock(protocol=protocol), []

        def dialog(root, sample, pixel_size_ang, crop_frac, radius_frac):
            asked.append((crop_frac, radius_frac))
            return Mock(resultYes=lambda: True, crop_frac=1.0, radius_frac=0.4)

        with patch.object(wizard_particle_size, "ParticleSizeDialog", dialog):
            wizard_particle_size.VaeganParticleSizeWizard().show(form)
        box_ang = 3.5 * self.imported.outputParticles.getXDim()
        self.assertEqual(asked, [(0.5, 56.0 / box_ang)])
        form.setVar.assert_any_call("particleDiameterAng", round(0.8 * box_ang, 1))


    def test_a_set_without_an_enabled_particle_has_no_picture(self):
        from vaegan_scipion.wizards import wizard_particle_size

        protocol = self.filled(VaeganProtStates, inputParticles=(self.imported, "outputParticles"))
        with patch.object(wizard_particle_size.dialog, "showWarning") as said, \
                patch("vaegan_scipion.convert.sample_images.enabled_ids", return_value=[]):
            wizard_particle_size.VaeganParticleSizeWizard().show(Mock(protocol=protocol))
        self.assertIn("no enabled particle", said.call_args[0][1])

    def test_a_set_whose_table_is_gone_has_no_picture(self):
        from vaegan_scipion.wizards import wizard_particle_size

        protocol = self.filled(VaeganProtStates, inputParticles=(self.imported, "outputParticles"))
        with patch.object(wizard_particle_size.dialog, "showError") as said, \
                patch("vaegan_scipion.convert.sample_images.enabled_ids",
                      side_effect=sqlite3.OperationalError("no such table: Objects")):
            wizard_particle_size.VaeganParticleSizeWizard().show(Mock(protocol=protocol))
        self.assertIn("cannot be read (no such table", said.call_args[0][1])


class TestPicture(unittest.TestCase):
    """Arrays in, drawing out."""

    def test_contrast_needs_evidence(self):
        rng = np.random.default_rng(0)
        noise = rng.normal(size=(50, 16, 16))
        self.assertLess(abs(contrast_sigma(noise, 0.25)), 4)
        self.assertEqual(contrast_note(noise, 0.25, True), "")
        y, x = np.mgrid[:16, :16] - 8
        dark = noise - (np.hypot(x, y) < 4)
        self.assertLess(contrast_sigma(dark, 0.25), -5)
        self.assertIn("darker", contrast_note(dark, 0.25, False))
        self.assertEqual(contrast_note(dark, 0.25, True), "")
        self.assertEqual(contrast_sigma(np.ones((3, 8, 8)), 0.25), 0)

    def test_low_pass_keeps_the_mean_and_damps_as_its_equation(self):
        x = np.arange(32)
        wave = np.cos(2 * np.pi * 4 * x / 32)[None, None] * np.ones((1, 32, 1))  # a quarter of Nyquist
        np.testing.assert_allclose(low_passed(wave + 3.0, 0.25), 3 + np.exp(-0.5) * wave, atol=1e-5)

    def test_marks_are_where_the_numbers_say(self):
        images = np.random.default_rng(0).normal(size=(7, 20, 20))
        picture = SizePicture(Figure(), images, 2.5)
        text = picture.update(0.5, 0.4)
        self.assertEqual(len(picture.marks), 6)
        for kept, circle in picture.marks:
            self.assertEqual(kept.get_bbox().bounds, (4.5, 4.5, 10.0, 10.0))
            self.assertEqual((circle.center, circle.radius), ((10, 10), 4.0))
        self.assertIn("kept box 10 px, 25 Å", text)
        self.assertIn("particle 8 px, 20 Å across", text)
        self.assertNotIn("is better", size_text(20, 2.5, 1.0, 0.38))
        self.assertIn("1.11 particle diameters wide", size_text(20, 2.5, 1.0, 0.45))

    @unittest.skipIf(which("xvfb-run") is None, "xvfb is not installed")
    def test_dialog_on_a_display(self):
        environment = {**os.environ, "MPLBACKEND": "TkAgg"}
        done = subprocess.run(["xvfb-run", "-a", sys.executable, "-c", DIALOG], capture_output=True, text=True,
                              env=environment, timeout=120)
        self.assertIn("chosen True 0.7 0.21", done.stdout, done.stderr[-2000:])
