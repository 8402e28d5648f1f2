"""Classes 2D: classes of the original particles with RELION's 2D alignment, averages, junk; what the form refuses."""
import os
import unittest
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import numpy as np
from emtable import Table
from pwem.constants import ALIGN_2D
from pwem.objects import SetOfClasses2D
from pyworkflow.viewer import MessageView

from vaegan_scipion.convert.plane_classes import PlanePose, plane_matrix
from vaegan_scipion.engine.vaegan_engine.contract.settings import Classes2dRun, ComputeConfig, DataConfig
from vaegan_scipion.engine_run import EngineError
from vaegan_scipion.protocols import VaeganProtClasses2D, VaeganProtEvaluate, VaeganProtSelect
from vaegan_scipion.protocols.protocol_select import BY_RANGE
from vaegan_scipion.tests.phantom import ENABLED_IDS, SAMPLING_RATE_ANG, ProjectTest, environment, run_in_shell
from vaegan_scipion.viewers import VaeganClasses2DViewer, VaeganEvaluateViewer

NEEDS_RELION = "scipion-em-relion is not installed; it writes the star file" if find_spec("relion") is None else ""
JUNK_IDS = [i for i in ENABLED_IDS if i % 3 == 2 or i % 10 == 0]


class TestClasses2D(ProjectTest):
    """On the fake engine: class = id % 3, the third one of junk, every tenth image junk too."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.particles = (cls.imported, "outputParticles")
        cls.run_ = cls.make(VaeganProtClasses2D, boxPx=16, inputParticles=cls.particles)

    def check_particle(self, item):
        """Class, alignment and values of one particle."""
        i = item.getObjId()
        self.assertEqual(item.getClassId(), i % 3 + 1)
        self.assertEqual(item.getCTF().getDefocusU(), 10000 + i)
        self.assertEqual(item._rlnRandomSubset.get(), i % 2 + 1)
        self.assertEqual(item._vaeganJunk.get(), i in JUNK_IDS)
        pose = PlanePose(i % 3, False, 0.75, i % 170, 0.5 * i, -0.25 * i, 1.0, 0.0, 1)
        np.testing.assert_allclose(item.getTransform().getMatrix(), plane_matrix(pose, SAMPLING_RATE_ANG), atol=1e-6)

    def test_classes_carry_the_2d_alignment(self):
        classes = self.run_.outputClasses
        self.assertIsInstance(classes, SetOfClasses2D)
        found = []
        for item in classes:
            self.assertEqual(item.getAlignment(), ALIGN_2D)
            representative = item.getRepresentative()
            self.assertEqual(representative.getIndex(), item.getObjId())
            self.assertTrue(os.path.exists(representative.getFileName()))
            self.assertAlmostEqual(representative.getSamplingRate(), 7.0, 4)
            for particle in item:
                self.check_particle(particle)
                found.append(particle.getObjId())
        self.assertEqual(sorted(found), ENABLED_IDS)
        labels = [item.getObjLabel() for item in classes]
        self.assertEqual(labels, ["class 1: 15.0 Å", "class 2: 16.0 Å", "class 3: junk, off centre"])

    def test_averages_particles_and_junk(self):
        self.assertEqual([item.getIndex() for item in self.run_.outputAverages], [1, 2])
        for name, ids in (("outputParticles", sorted(set(ENABLED_IDS) - set(JUNK_IDS))), ("outputJunk", JUNK_IDS)):
            items = getattr(self.run_, name)
            self.assertTrue(items.hasAlignment2D())
            self.assertEqual([item.getObjId() for item in items.iterItems(orderBy="id")], ids)
            for particle in items:
                self.check_particle(particle)
        self.assertIn("Answer: 2 classes of", self.run_._summary()[0])
        self.assertEqual(self.run_._summary()[1], "Verdict: 2 classes of particles")
        self.assertIn("2 classes of particles", self.run_._methods()[0])

    def test_the_viewer_shows_answer_averages_frc_and_junk(self):
        viewer = VaeganClasses2DViewer(project=self.proj, protocol=self.run_)
        viewer.setProtocol(self.run_)
        with patch("webbrowser.open") as opened:
            views = {name: show(name) for name, show in viewer._getVisualizeDict().items()}
            views["showReport"][0].show()
        page = Path(opened.call_args[0][0][len("file://"):].replace("%20", " "))
        self.assertIn(os.path.abspath(self.run_.getClassesDir()), page.read_text())
        self.assertIn("12 files are in", views["savePictures"][0].getMessage())
        figures = {name: views[name][0].getFigure() for name in viewer.DRAWINGS}
        self.assertIn(figures["showAnswer"].texts[0].get_text().split()[0], self.run_._summary()[0])
        titles = [axes.get_title() for axes in figures["showAverages"].axes]
        self.assertEqual([title.split(", ")[1] for title in titles], ["15.0 Å", "16.0 Å", "off centre"])
        np.testing.assert_allclose(figures["showFrc"].axes[0].lines[0].get_ydata(), [0.5, 0.0])
        odd = [replace(row, in_plane=replace(row.of_class, box_px=5)) for row in self.run_.readClassRows()]
        with patch.object(self.run_, "readClassRows", return_value=odd):  # 3 shells, as a box of 4 has
            drawn = viewer._frc()[0].getFigure().axes[0].lines[0].get_xdata()
        np.testing.assert_allclose(drawn, np.arange(1, 3) / (5 * odd[0].of_class.pixel_size_ang))
        shown = [(axes.get_xlabel(), float(axes.images[0].get_array()[0, 0])) for axes in figures["showJunk"].axes]
        self.assertTrue(all(float(name) == value for name, value in shown))
        unlike = [i for i in ENABLED_IDS if i % 3 != 2 and i % 10 == 0]
        self.assertEqual([int(name) for name, _ in shown][:2], unlike[:2])
        self.assertIn("nlike the other images of its class", figures["showJunk"].texts[0].get_text())
        self.assertNotIsInstance(views["showClasses"][0], MessageView)

    def test_classes_are_selected_and_evaluated(self):
        kept = [i for i in ENABLED_IDS if i % 3 == 0 and i not in JUNK_IDS]
        selection = self.make(VaeganProtSelect, inputClusters=self.run_, clusterNumbers="1")
        self.assertEqual([item.getObjId() for item in selection.outputParticles.iterItems(orderBy="id")], kept)
        self.assertIn("those of class 1", selection._summary()[0])
        self.assertTrue(selection.outputParticles.hasAlignment2D())
        ours = {item.getObjId(): item.getTransform().getMatrix() for item in self.run_.outputParticles}
        for item in selection.outputParticles:
            np.testing.assert_allclose(item.getTransform().getMatrix(), ours[item.getObjId()], atol=1e-9)
        gain = self.make(VaeganProtSelect, inputClusters=self.run_, selectBy=BY_RANGE, rangeColumn="gain", rangeLow="2",
                         rangeHigh="3")
        self.assertEqual([item.getObjId() for item in gain.outputParticles.iterItems(orderBy="id")],
                         [i for i in ENABLED_IDS if 2 <= 0.1 * i <= 3 and i not in JUNK_IDS])
        compared = self.make(VaeganProtEvaluate, inputClusters=self.run_, inputClasses=(self.run_, "outputClasses"))
        self.assertIn("Of the particles in classes 100.0 % are in one whose majority", compared._summary()[0])
        self.assertIn("classes against 3 labels", compared._summary()[1])
        viewer = VaeganEvaluateViewer(project=self.proj, protocol=compared)
        viewer.setProtocol(compared)
        titles = [axes.get_title() for axes in viewer._maps()[0].getFigure().axes]
        self.assertEqual(titles, ["1: 100 % 1", "2: 100 % 2"])
        self.assertIn("100.0 %", viewer._answer()[0].getFigure().texts[0].get_text())
        self.assertEqual([tick.get_text() for tick in viewer._counts()[0].getFigure().axes[0].get_yticklabels()],
                         ["class 1", "class 2", "junk"])
        with open(viewer._report()[0].path) as stream:
            page = stream.read()
        for folder in (compared._getExtraPath("evaluation"), self.run_.getClassesDir()):
            self.assertIn(os.path.abspath(folder), page)

    @unittest.skipIf(NEEDS_RELION, NEEDS_RELION)
    def test_relion_reads_the_alignment_as_it_was_written(self):
        from relion.convert import writeSetOfParticles

        writeSetOfParticles(self.run_.outputParticles, "classified.star", alignType=ALIGN_2D)
        rows = list(Table(fileName=os.path.abspath("classified.star"), tableName="particles"))
        self.assertEqual(len(rows), len(ENABLED_IDS) - len(JUNK_IDS))
        for row in rows:
            i = row.rlnImageId
            self.assertAlmostEqual((row.rlnAnglePsi - i % 170 + 180) % 360 - 180, 0, 3)
            np.testing.assert_allclose([row.rlnOriginXAngst, row.rlnOriginYAngst], [-0.5 * i, 0.25 * i], atol=1e-3)

    def test_the_engine_is_asked_for_what_the_form_says(self):
        run = self.filled(VaeganProtClasses2D, boxPx=24, cropFrac=0.75, particleDiameterAng="60", nClasses=20,
                          maxShiftFrac=0.2, invertContrast=True, maxImages="50", seed=3, numberOfThreads=2,
                          inputParticles=self.particles)
        self.assertEqual(run._getSettings(), Classes2dRun(
            data=DataConfig(particles="particles.star", box_px=24, crop_frac=0.75, invert_contrast=True,
                            max_images=50),
            particle_diameter_ang=60.0, n_classes=20, max_shift_frac=0.2,
            compute=ComputeConfig(device="cpu", threads=2, seed=3)))

    def test_what_the_form_refuses(self):
        for values, words in (({"boxPx": 40}, "more than the 32 px"), ({"boxPx": 20}, "multiple of 8"),
                              ({"nClasses": 0}, "Classes to start from"), ({"maxImages": "12"}, "at least 40"),
                              ({"particleDiameterAng": "500"}, "Particle diameter")):
            run = self.filled(VaeganProtClasses2D, inputParticles=self.particles, **{"boxPx": 16, **values})
            self.assertIn(words, " ".join(run._validate()), values)

    def test_an_error_of_the_engine_is_shown(self):
        run = self.filled(VaeganProtClasses2D, boxPx=16, inputParticles=self.particles)
        self.proj.saveProtocol(run)
        run.makePathsAndClean()
        run.convertInputStep("")
        with patch.object(run, "runJob", side_effect=run_in_shell), environment(VAEGAN_FAKE_EXIT="classes2d:3"), \
                self.assertRaisesRegex(EngineError, "fake message 3"):
            run.classesStep("", "")
