"""The box that a form takes where its field is left empty."""
import os
from unittest.mock import patch

from pwem.objects import SetOfParticles

from vaegan_scipion.engine.vaegan_engine.contract import result_files
from vaegan_scipion.protocols import (
    VaeganProtClasses2D,
    VaeganProtCluster,
    VaeganProtStates,
    VaeganProtTrain2D,
    VaeganProtTrain3D,
)
from vaegan_scipion.protocols.protocol_train_3d import NO_POSES, OF_PARTICLES
from vaegan_scipion.tests.phantom import ProjectTest


class TestBoxField(ProjectTest):
    """Images of 32 px, smaller than the default of 48."""

    def forms(self, **values):
        """Every form that takes particles and a box, filled but for the box."""
        particles = (self.imported, "outputParticles")
        kinds = ((VaeganProtStates, {}), (VaeganProtClasses2D, {}), (VaeganProtTrain2D, {}),
                 (VaeganProtTrain3D, {"posesFrom": NO_POSES}), (VaeganProtTrain3D, {"posesFrom": OF_PARTICLES}))
        return [self.filled(kind, inputParticles=particles, **{**own, **values}) for kind, own in kinds]

    def boxes(self, **values):
        """What the engine is asked for."""
        return {form._getSettings().data.box_px for form in self.forms(**values)}

    def test_small_images_have_the_box_that_they_fill(self):
        self.assertEqual(self.boxes(), {32})
        self.assertEqual(self.boxes(cropFrac=0.8), {24})  # 26 px are kept
        for form in self.forms():
            self.assertEqual([line for line in form.validate() if "box" in line.lower()], [])

    def test_an_empty_box_fits_where_the_kept_part_is_rounded_up(self):
        """0.73 of 32 px are 23.4 px: the engine keeps 24, its nearest even number, and that is the box."""
        self.assertEqual(self.boxes(cropFrac=0.73), {24})
        for form in self.forms(cropFrac=0.73):
            self.assertEqual([line for line in form.validate() if "box" in line.lower()], [])

    def test_a_part_that_is_none_is_said(self):
        for part in (float("nan"), float("inf"), 2.0, 0.0, -1.0):
            for form in self.forms(cropFrac=part, particleDiameterAng=70.0):
                self.assertRegex(" ".join(form._validate()), r"Part of the box kept'? is .*Use 0.1 to 1")

    def test_the_circle_is_that_of_the_pixels_that_are_kept(self):
        """0.9 of 32 px: 28 are kept, not 28.8; in states, in a training on them and in one of its own."""
        given = {"boxPx": 16, "cropFrac": 0.9, "inputParticles": (self.imported, "outputParticles")}
        states = self.make(VaeganProtStates, **given, particleDiameterAng=70.0)
        of_states = self.filled(VaeganProtTrain3D, inputStates=states)
        alone = self.filled(VaeganProtTrain3D, **given, particleDiameterAng=70.0)
        for form in (of_states, alone):
            self.assertAlmostEqual(form._getSettings().data.particle_radius_frac, 35 / (28 * 3.5), 5)

    def test_clusters_with_this_box_and_part_kept_are_no_others(self):
        given = {"boxPx": 16, "cropFrac": 0.9, "inputParticles": (self.imported, "outputParticles")}
        training = self.make(VaeganProtTrain3D, **given)
        table = os.path.join(training.getRunDir(), result_files.STATUS_JSON)
        of_engine = {**result_files.read_json(table), "pixel_size_ang": 3.5 * 28 / 16}
        result_files.write_json(table, of_engine)
        clustering = self.make(VaeganProtCluster, inputTraining=training, nNeighbors=5)
        form = self.filled(VaeganProtStates, **given, inputClusters=clustering)
        self.assertEqual([line for line in form._validate() if "at least 200" not in line], [])

    def test_larger_images_have_the_default(self):
        with patch.object(SetOfParticles, "getXDim", lambda self: 200):
            self.assertEqual(self.boxes(), {48})

    def test_what_is_typed_is_taken(self):
        self.assertEqual(self.boxes(boxPx=16), {16})
        for form in self.forms(boxPx=40):
            self.assertIn("or leave it empty", " ".join(form.validate()))

    def test_an_empty_box_is_that_of_the_states(self):
        states = self.make(VaeganProtStates, boxPx=16, inputParticles=(self.imported, "outputParticles"))
        self.assertEqual(self.filled(VaeganProtTrain3D, inputStates=states)._getSettings().data.box_px, 16)
        fitting = self.make(VaeganProtStates, inputParticles=(self.imported, "outputParticles"))
        self.assertEqual(fitting.getImageSettings()["box_px"], 32)
        self.assertIn("(box 32 px of 3.50 Å", fitting._methods()[0])
