"""The user's mask on the forms of states and full resolution: what the engine is given, and what is refused."""
import os
from unittest.mock import patch

import mrcfile
import numpy as np

from vaegan_scipion.constants import MASK_MRC
from vaegan_scipion.protocols import VaeganProtFullres, VaeganProtStates
from vaegan_scipion.tests.phantom import SAMPLING_RATE_ANG, ProjectTest, import_mask, import_phantom


def ball(box_px, high=1.0):
    """A soft ball in the middle of a box."""
    x = np.arange(box_px) - box_px // 2
    radius = np.sqrt(x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None, :] ** 2)
    return high * np.clip(1.5 - 4 * radius / box_px, 0, 1)


class TestMask(ProjectTest):
    """On the fake engine; the particles' box is 32 px of 3.5 A."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.aligned = (import_phantom(cls.proj, poses=True), "outputParticles")
        cls.mask = (import_mask(cls.proj, ball(32), SAMPLING_RATE_ANG), "outputMask")
        enough = patch("vaegan_scipion.protocols.protocol_states.N_PARTICLES_MIN", 20)
        enough.start()
        cls.addClassCleanup(enough.stop)

    def posed(self, **values):
        """A form of states that starts from the particles' alignment."""
        return {"boxPx": 16, "inputParticles": self.aligned, "useAlignment": True, **values}

    def test_the_engine_reads_a_copy_with_the_sampling_rate(self):
        run = self.make(VaeganProtStates, **self.posed(inputMask=self.mask))
        self.assertEqual(run.validate(), [])
        self.assertEqual(run._getSettings().mask, MASK_MRC)
        path = run._getExtraPath(MASK_MRC)
        with mrcfile.open(path) as mrc:
            self.assertAlmostEqual(float(mrc.voxel_size.x), SAMPLING_RATE_ANG, 4)
            np.testing.assert_allclose(mrc.data, ball(32), atol=1e-6)
        at_full_size = self.make(VaeganProtFullres, inputStates=run, inputMask=self.mask)
        self.assertEqual(at_full_size.validate(), [])
        for said in (run._methods()[0], at_full_size._methods()[0]):
            self.assertIn("inside a given mask", said)
        self.assertEqual(at_full_size._getSettings().mask, MASK_MRC)
        self.assertTrue(os.path.exists(at_full_size._getExtraPath(MASK_MRC)))
        self.assertEqual(self.filled(VaeganProtFullres, inputStates=run)._getSettings().mask, "")  # that of the states

    def test_without_poses_there_is_no_mask(self):
        """The field is hidden then; what was put in it before is left out."""
        run = self.filled(VaeganProtStates, **self.posed(inputMask=self.mask, useAlignment=False))
        self.assertEqual(run._getSettings().mask, "")
        self.assertFalse(run.evalParamCondition("inputMask"))
        self.assertEqual(run.validate(), [])

    def test_results_of_another_mask_are_left_behind(self):
        run = self.make(VaeganProtStates, **self.posed(inputMask=self.mask))
        before, folder = [step.argsStr.get() for step in run._steps], run.getStatesDir()
        run.convertInputStep("", True, "")
        self.assertTrue(os.path.isdir(folder))
        run.inputMask.set(import_mask(self.proj, ball(32) ** 2, SAMPLING_RATE_ANG))
        run.inputMask.setExtended("outputMask")
        run._steps = []
        run._insertAllSteps()
        self.assertFalse(set(before) & {step.argsStr.get() for step in run._steps})  # Continue does all of them again
        run.convertInputStep("", True, "")
        self.assertFalse(os.path.isdir(folder))
        os.makedirs(folder)
        run.inputMask.set(None)
        run.convertInputStep("", True, "")
        self.assertFalse(os.path.isdir(folder))
        self.assertFalse(os.path.exists(run._getExtraPath(MASK_MRC)))

    def test_what_is_no_mask_or_does_not_fit_is_refused(self):
        states = self.make(VaeganProtStates, **self.posed())
        gone = import_mask(self.proj, ball(32), SAMPLING_RATE_ANG)
        os.remove(gone.outputMask.getFileName())
        broken = import_mask(self.proj, ball(32), SAMPLING_RATE_ANG)
        with open(broken.outputMask.getFileName(), "w") as stream:
            stream.write("no map")
        for message, mask in (
                ("Mask: 32 voxels of 1.000 Å are 32 Å; the box is 112 Å wide.", import_mask(self.proj, ball(32), 1.0)),
                ("Mask: its values go from 0 to 7", import_mask(self.proj, ball(32, 7.0), SAMPLING_RATE_ANG)),
                ("Mask: its values go from 0 to 0.3", import_mask(self.proj, ball(32, 0.3), SAMPLING_RATE_ANG)),
                ("32 x 32 x 16 voxels, it must be a cube", import_mask(self.proj, ball(32)[:16], SAMPLING_RATE_ANG)),
                ("is not there", gone), ("cannot be read", broken)):
            for kind, values in ((VaeganProtStates, self.posed()), (VaeganProtFullres, {"inputStates": states})):
                form = self.filled(kind, inputMask=(mask, "outputMask"), **values)
                self.assertIn(message, " ".join(form.validate()), kind.__name__)
        coarse = (import_mask(self.proj, ball(16), 2 * SAMPLING_RATE_ANG), "outputMask")  # made in the states' box
        self.assertEqual(self.filled(VaeganProtFullres, inputStates=states, inputMask=coarse).validate(), [])
