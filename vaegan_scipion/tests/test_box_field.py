"""The box that a form takes where its field is left empty."""
from unittest.mock import patch

from pwem.objects import SetOfParticles

from vaegan_scipion.protocols import VaeganProtClasses2D, VaeganProtStates, VaeganProtTrain2D, VaeganProtTrain3D
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
