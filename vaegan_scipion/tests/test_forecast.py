"""The wizard that says what a run will take, before it."""
import os
import subprocess
import sys
import threading
import time
import unittest
from shutil import which
from unittest.mock import Mock, patch

from pyworkflow.config import Config
from pyworkflow.viewer import DESKTOP_TKINTER

from vaegan_scipion import forecast
from vaegan_scipion.engine.vaegan_engine.contract import run_json
from vaegan_scipion.protocols import (
    VaeganProtClasses2D,
    VaeganProtCluster,
    VaeganProtFullres,
    VaeganProtStates,
    VaeganProtTrain2D,
    VaeganProtTrain3D,
)
from vaegan_scipion.protocols.protocol_train_3d import NO_POSES
from vaegan_scipion.tests.phantom import ENABLED_IDS, ProjectTest

DIALOG = """
import tkinter as tk
from vaegan_scipion.wizards import wizard_forecast
from vaegan_scipion.wizards.wizard_forecast import ForecastDialog

class Measuring:
    n_particles, asked, stopped = 130000, 0, 0
    def answer(self):
        self.asked += 1
        return None if self.asked < 3 else "about 1.5 h"
    def stop(self):
        self.stopped += 1

wizard_forecast.POLL_MS = 20
root, measuring, seen = tk.Tk(), Measuring(), []

def look():
    dialog, = [child for child in root.winfo_children() if isinstance(child, ForecastDialog)]
    seen.append(dialog.text.get())
    if "1.5 h" in seen[-1]:
        dialog._handleResult(dialog.buttons[0][1])
    else:
        root.after(5, look)

root.after(1, look)
ForecastDialog(root, measuring)
print("said", "for 130,000 particles" in seen[0], seen[-1], measuring.asked, measuring.stopped)
"""


def answered(measuring):
    """What is said in the end."""
    said = None
    while said is None:
        time.sleep(0.05)
        said = measuring.answer()
    return said


class TestForecast(ProjectTest):
    """The forms that search and train."""

    def forms(self, **values):
        """Each, filled in so that it may be run."""
        particles = (self.imported, "outputParticles")
        with patch("vaegan_scipion.protocols.protocol_states.N_PARTICLES_MIN", 20):
            for kind, own in ((VaeganProtStates, {}), (VaeganProtClasses2D, {}), (VaeganProtTrain2D, {}),
                              (VaeganProtTrain3D, {"posesFrom": NO_POSES})):
                form = self.filled(kind, inputParticles=particles, **own, **values)
                form.useGpu.set(False) if form.hasAttribute("useGpu") else None
                self.assertEqual(form.validate(), [])
                yield form

    def test_scipion_finds_it_on_each_form(self):
        for form in self.forms():
            found = Config.getDomain().findWizards(form, DESKTOP_TKINTER)
            self.assertEqual(found["expectedCost"].__name__, "VaeganForecastWizard")

    @patch.object(os, "getloadavg", lambda: (0.5, 0.5, 0.5))
    def test_the_engine_is_asked_with_the_form_as_it_stands(self):
        for form in self.forms(particleDiameterAng="70"):
            measuring = forecast.ForecastProcess(form)
            folder = measuring._folder
            with open(os.path.join(folder, forecast.NAMES_STAR)) as stream:
                self.assertEqual(stream.read().count("@"), len(ENABLED_IDS))
            said = answered(measuring)
            request = run_json.read_run(os.path.join(folder, forecast.REQUEST_JSON.format(1)))
            self.assertEqual(said.splitlines(), [f"Expected: {request.command}, box 32, 0.3125.", "  stage: 1 s"])
            measuring.stop()
            self.assertFalse(os.path.exists(folder))

    @patch.object(os, "getloadavg", lambda: (0.5, 0.5, 0.5))
    def test_embedding_and_clusters_are_asked_before_there_is_an_embedding(self):
        training = self.make(VaeganProtTrain3D, inputParticles=(self.imported, "outputParticles"), posesFrom=NO_POSES)
        form, lines = self.filled(VaeganProtCluster, inputTraining=training), []
        form.useGpu.set(False)
        self.assertEqual(form.validate(), [])
        found = Config.getDomain().findWizards(form, DESKTOP_TKINTER)
        self.assertEqual(found["expectedCost"].__name__, "VaeganForecastWizard")
        for halves in (False, True):
            form.doHalves.set(halves)
            measuring = forecast.ForecastProcess(form)
            lines.append(answered(measuring).splitlines())
            measuring.stop()
        model, n = run_json.read_run(os.path.join(training.getRunDir(), "run.json")).model, len(ENABLED_IDS)
        n_numbers = model.n_categories + model.n_normal
        self.assertEqual(lines[0], [
            f"Embed, expected: embed, {n} particles.", "  stage: 1 s",
            f"Cluster, expected: cluster, {n} points of {n_numbers} numbers.", "  stage: 1 s"])
        self.assertEqual(lines[1], [*lines[0], forecast.HALVES_LINE])

    @patch.object(os, "getloadavg", lambda: (0.5, 0.5, 0.5))
    def test_full_resolution_is_asked_of_the_particles_themselves(self):
        particles = (self.imported, "outputParticles")
        states = self.make(VaeganProtStates, boxPx=16, inputParticles=particles)
        for others, name in (({}, ""), ({"inputParticles": particles}, forecast.NAMES_STAR)):
            form = self.filled(VaeganProtFullres, inputStates=states, **others)
            form.useGpu.set(False)
            self.assertEqual(form.validate(), [])
            self.assertIn("expectedCost", Config.getDomain().findWizards(form, DESKTOP_TKINTER))
            measuring = forecast.ForecastProcess(form)
            star = os.path.join(measuring._folder, forecast.NAMES_STAR)
            self.assertEqual(answered(measuring).splitlines(), [f"Expected: fullres, states, {name}.", "  stage: 1 s"])
            if others:
                with open(star) as stream:
                    self.assertIn("_rlnDefocusU", stream.read())
            measuring.stop()

    def test_the_star_file_of_other_particles_is_written_beside_the_window(self):
        particles = (self.imported, "outputParticles")
        states = self.make(VaeganProtStates, boxPx=16, inputParticles=particles)
        form = self.filled(VaeganProtFullres, inputStates=states, inputParticles=particles)
        form.useGpu.set(False)
        threads, go_on = [], threading.Event()

        def slow(*_arguments):
            threads.append(threading.current_thread())
            go_on.wait(20)
            raise ValueError("a stack that cannot be read")

        with patch.object(forecast, "write_particles_star", slow):
            measuring = forecast.ForecastProcess(form)
            self.assertIsNone(measuring.answer())
            go_on.set()
            self.assertEqual(answered(measuring), "This cannot be forecast: a stack that cannot be read")
        self.assertIsNot(threads[0], threading.main_thread())
        measuring.stop()
        self.assertFalse(os.path.exists(measuring._folder))
        measuring = forecast.ForecastProcess(form)
        measuring.stop()  # while it is being written: nothing is asked, nothing stays
        for _ in range(200):
            if not os.path.exists(measuring._folder):
                break
            time.sleep(0.05)
        self.assertFalse(os.path.exists(measuring._folder))

    def test_close_ends_what_still_measures(self):
        with patch.object(forecast.Plugin, "getEngineProgram", lambda gpu: "sleep 60; true"):
            measuring = forecast.ForecastProcess(next(self.forms()))
            self.assertIsNone(measuring.answer())
            measuring.stop()
        self.assertIsNotNone(measuring._process.poll())

    def test_why_there_is_none(self):
        with patch.object(forecast.Plugin, "getEngineProgram", lambda gpu: "echo 'vaegan run: no GPU. Use the CPU.'; "
                                                                           "exit 2; true"):
            measuring = forecast.ForecastProcess(next(self.forms()))
            measuring._process.wait()
            self.assertEqual(measuring.answer(), "This cannot be forecast: no GPU. Use the CPU.")
            measuring.stop()
        self.assertIn("want of memory", forecast.reason(137, ["Traceback"]))

    def test_a_form_that_cannot_be_run_is_not_measured(self):
        from vaegan_scipion.wizards import wizard_forecast

        form = Mock(protocol=self.filled(VaeganProtStates, inputParticles=(self.imported, "outputParticles"), boxPx=20))
        with patch.object(wizard_forecast.dialog, "showWarning") as warned, \
                patch.object(wizard_forecast, "ForecastProcess") as begun:
            wizard_forecast.VaeganForecastWizard().show(form)
        self.assertIn("multiple of 8", warned.call_args[0][1])
        begun.assert_not_called()

    @unittest.skipIf(which("xvfb-run") is None, "xvfb is not installed")
    def test_dialog_on_a_display(self):
        environment = {**os.environ, "MPLBACKEND": "TkAgg"}
        done = subprocess.run(["xvfb-run", "-a", sys.executable, "-c", DIALOG], capture_output=True, text=True,
                              env=environment, timeout=120)
        self.assertIn("said True about 1.5 h 3 1", done.stdout, done.stderr[-2000:])
