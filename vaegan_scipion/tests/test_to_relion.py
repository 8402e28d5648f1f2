"""From particles to RELION: states with poses, then Class3D without alignment and Refine3D around our poses.

The steps of docs/use/to-relion.rst on exact projections (240 images of 32 px, three species by id): the poses that the
star file knows pass through *find states and poses* (the stand-in engine keeps them) into RELION's own programs.
"""
import os
import sys
import unittest
from pathlib import Path
from unittest.mock import patch

import numpy as np
from pwem.protocols import ProtImportParticles

from vaegan_scipion.protocols import VaeganProtSelect, VaeganProtStates
from vaegan_scipion.tests.phantom import ProjectTest
from vaegan_scipion.tests.test_chain import IDS, NEEDS_RELION, RATE_ANG, write_relion_particles

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
KEPT_IDS = [i for i in IDS if i % 10]


@unittest.skipIf(NEEDS_RELION, NEEDS_RELION)
class TestToRelion(ProjectTest):
    """One project, step by step."""

    def matrices(self, particles):
        """Alignment of each particle, by id."""
        return {item.getObjId(): item.getTransform().getMatrix() for item in particles}

    def check_same_poses(self, found, expected, angle_deg, shift_px):
        """All particles are there, turned and moved by less than this."""
        self.assertEqual(sorted(found), sorted(expected))
        for i, matrix in found.items():
            turn = matrix[:3, :3] @ expected[i][:3, :3].T
            self.assertLess(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))), angle_deg)
            # the shift in the image: the inverse of the matrix has it
            moved = [-m[:3, :3].T @ m[:3, 3] for m in (matrix, expected[i])]
            self.assertLess(np.abs(moved[0] - moved[1])[:2].max(), shift_px)

    @unittest.skipUnless((SCRIPTS / "to_relion.py").exists(), "installed without its scripts")
    def test_the_script_imports_with_the_microscope_of_the_star_file(self):
        """Not with the 300 kV of the form; two microscopes are refused."""
        with patch.object(sys, "path", [str(SCRIPTS), *sys.path]):
            import to_relion

        head = "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnVoltage\n_rlnSphericalAberration\n_rlnAmplitudeContrast\n"
        images = "\ndata_particles\n\nloop_\n_rlnImageName\n000001@x.mrcs\n"
        for name, text in (("one", head + "1 200.0 1.4 0.07\n2 200.0 1.4 0.07\n" + images), ("none", images),
                           ("two", head + "1 200.0 1.4 0.07\n2 300.0 2.7 0.1\n" + images)):
            Path(name + ".star").write_text(text)
        self.assertEqual(to_relion.microscope_of("one.star"),
                         {"voltage": 200.0, "sphericalAberration": 1.4, "amplitudeContrast": 0.07})
        self.assertEqual(to_relion.microscope_of("none.star"), {})
        with self.assertRaisesRegex(SystemExit, "are of 2 microscopes"):
            to_relion.microscope_of("two.star")

    def test_states_to_class3d_with_our_poses(self):
        from relion.protocols import ProtRelionClassify3D, ProtRelionReconstruct

        imported = self.run_protocol(
            ProtImportParticles, importFrom=ProtImportParticles.IMPORT_FROM_RELION, magnification=50000,
            starFile=write_relion_particles(os.getcwd()), samplingRate=RATE_ANG, haveDataBeenPhaseFlipped=False)
        given = self.matrices(imported.outputParticles)
        states = self.run_protocol(VaeganProtStates, boxPx=16, useAlignment=True,
                                   inputParticles=(imported, "outputParticles"))
        ours = self.matrices(states.outputParticles)
        self.check_same_poses(ours, {i: given[i] for i in KEPT_IDS}, 0.01, 0.01)

        selected = self.run_protocol(VaeganProtSelect, inputClusters=states, clusterNumbers="1-2", exportStar=True)
        self.check_same_poses(self.matrices(selected.outputParticles), ours, 0.01, 0.01)
        mean = self.run_protocol(ProtRelionReconstruct, inputParticles=(selected, "outputParticles"))
        classified = self.run_protocol(
            ProtRelionClassify3D, copyAlignment=True, doImageAlignment=False, numberOfClasses=2, numberOfIterations=2,
            doGpu=False, numberOfMpi=1, numberOfThreads=1, initialLowPassFilterA=20.0,
            inputParticles=(selected, "outputParticles"), referenceVolume=(mean, "outputVolume"))
        found = {}
        for item in classified.outputClasses:
            found.update(self.matrices(item))
        self.check_same_poses(found, ours, 0.01, 0.01)
