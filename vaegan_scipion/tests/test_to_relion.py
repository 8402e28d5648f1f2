"""From particles to RELION: states with poses, then Class3D without alignment and Refine3D around our poses.

The steps of docs/use/to-relion.rst on exact projections (240 images of 32 px, three species by id): the poses that the
star file knows pass through *find states and poses* (the stand-in engine keeps them) into RELION's own programs.
"""
import os
import shutil
import subprocess
import sys
import time
import unittest
from datetime import datetime
from pathlib import Path
from unittest.mock import patch

import mrcfile
import numpy as np
from emtable import Table
from pwem.protocols import ProtImportParticles

from vaegan_scipion.constants import SELECTED_STAR
from vaegan_scipion.engine.vaegan_engine.contract import result_files
from vaegan_scipion.protocols import VaeganProtSelect, VaeganProtStates
from vaegan_scipion.tests.phantom import ProjectTest
from vaegan_scipion.tests.test_chain import IDS, NEEDS_RELION, RATE_ANG, defocus_ang, write_relion_particles

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
KEPT_IDS = [i for i in IDS if i % 10]
MPI_HERE = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",  # three processes on what there is
            "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}


def script():
    """The module of `scripts/to_relion.py`."""
    with patch.object(sys, "path", [str(SCRIPTS), *sys.path]):
        import to_relion
    return to_relion


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
        to_relion = script()
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

    @unittest.skipUnless((SCRIPTS / "to_relion.py").exists(), "installed without its scripts")
    def test_the_mask_is_of_the_particle_and_not_of_the_noise(self):
        """A ball in noise of a third of its density, RELION's own mask: one that fills the box masks nothing."""
        to_relion, voxel_ang = script(), 3.0
        away = np.linalg.norm(np.indices((48,) * 3) - 24, axis=0)
        density = (away < 10) + 0.3 * np.random.default_rng(0).normal(size=away.shape)
        with mrcfile.new("ball.mrc", overwrite=True) as mrc:
            mrc.set_data(density.astype(np.float32))
            mrc.voxel_size = voxel_ang
        found = to_relion.threshold("ball.mrc", voxel_ang)
        values = {"i": "ball.mrc", "o": "mask.mrc", "angpix": voxel_ang, "lowpass": to_relion.MASK_LOW_PASS_ANG,
                  "extend_inimask": 0, "width_soft_edge": 0, "ini_threshold": found}
        subprocess.run(["relion_mask_create", *(word for name, value in values.items()
                                                for word in (f"--{name}", str(value)))],
                       check=True, stdout=subprocess.DEVNULL)
        with mrcfile.open("mask.mrc", permissive=True) as mrc:
            inside = np.squeeze(mrc.data) > 0.5
        self.assertGreater(inside[away < 9].mean(), 0.99)
        self.assertLess(inside[away > 14].mean(), 0.02)

    @unittest.skipUnless((SCRIPTS / "to_relion.py").exists(), "installed without its scripts")
    def test_a_finished_step_is_kept_only_as_it_is_asked_for(self):
        """Another value, another run before it, a run before it that was run again, or its file written again."""
        to_relion = script()
        star = write_relion_particles(os.getcwd())
        states = [self.make(VaeganProtStates, boxPx=16, inputParticles=(self.imported, "outputParticles"))
                  for _ in range(2)]

        def steps(of, numbers="1", rate_ang=RATE_ANG):
            with patch.object(to_relion, "launch", lambda _project, run, label: (
                    run.setObjLabel(label), self.launch(run))), patch("builtins.print") as said:
                road = to_relion.Road(self.proj)
                runs = (road.step("import", ProtImportParticles, samplingRate=rate_ang, magnification=50000,
                                  importFrom=ProtImportParticles.IMPORT_FROM_RELION, starFile=star),
                        road.step("select", VaeganProtSelect, {"inputClusters": (of, "")}, clusterNumbers=numbers))
            return [run.getObjId() for run in runs], " ".join(call[0][0] for call in said.call_args_list)

        first, said = steps(states[0])
        self.assertEqual(said, "")
        self.assertEqual(steps(states[0]), (first, "import: finished before select: finished before"))
        other, said = steps(states[0], "2", 2 * RATE_ANG)
        self.assertFalse(set(other) & set(first))
        self.assertIn(f"import: made again, as samplingRate was {RATE_ANG} and is {2 * RATE_ANG} now", said)
        self.assertIn("select: made again, as clusterNumbers was 1 and is 2 now", said)
        self.assertEqual(steps(states[0])[0], first)  # both are there now
        last, said = steps(states[1], "1", 2 * RATE_ANG)
        self.assertIn("was made again", said)
        states[1].endTime.set(datetime.now())
        os.utime(star, (time.time() + 3600,) * 2)
        again, said = steps(states[1], "1", 2 * RATE_ANG)
        self.assertFalse(set(again) & set(last))
        self.assertIn("was run again after it", said)
        self.assertIn("run_data.star was written after it", said)

    def check_labels(self, star, id_column, states, number):
        """A star file has the particles of one state, each with its own image and CTF; rows joined by id."""
        expected = {int(row["particle_id"]) for row in result_files.read_csv(
            os.path.join(states.getStatesDir(), result_files.PARTICLES_CSV)) if int(row["label"]) == number - 1}
        rows = {getattr(row, id_column): row for row in Table(fileName=star, tableName="particles")}
        self.assertEqual(set(rows), expected)
        images = {item.getObjId(): item.getIndex() for item in states.inputParticles.get()}
        for i, row in rows.items():
            self.assertEqual(int(row.rlnImageName.split("@")[0]), images[i])
            self.assertEqual(row.rlnDefocusU, defocus_ang(i))
        return rows

    def test_the_star_files_for_relion_have_the_particles_of_the_state(self):
        """Particles came with the classes of an older job (all 7): those are not the states' numbers."""
        from relion.protocols import ProtRelionReconstruct

        imported = self.imported_from_relion()
        states = self.make(VaeganProtStates, boxPx=16, useAlignment=True, inputParticles=(imported, "outputParticles"))
        for number in (1, 2):
            selected = self.make(VaeganProtSelect, inputClusters=states, clusterNumbers=str(number), exportStar=True)
            rows = self.check_labels(selected._getExtraPath(SELECTED_STAR), "vaeParticleId", states, number)
            self.assertEqual({row.rlnClassNumber for row in rows.values()}, {number})
            self.assertEqual({item.getClassId() for item in selected.outputParticles}, {number})
        both = self.make(VaeganProtSelect, inputClusters=states, clusterNumbers="1-2", exportStar=True)
        for row in Table(fileName=both._getExtraPath(SELECTED_STAR), tableName="particles"):
            self.assertEqual(row.rlnClassNumber, row.vaeParticleId % 2 + 1)  # of the stand-in engine
        relion = self.filled(ProtRelionReconstruct, inputParticles=(selected, "outputParticles"))
        self.proj.saveProtocol(relion)
        relion.makePathsAndClean()
        relion._createFilenameTemplates()
        relion.convertInputStep()
        self.check_labels(relion._getFileName("input_particles"), "rlnImageId", states, 2)

    def imported_from_relion(self):
        """The particles, as RELION leaves them after a job with classes."""
        return self.run_protocol(
            ProtImportParticles, importFrom=ProtImportParticles.IMPORT_FROM_RELION, magnification=50000,
            starFile=write_relion_particles(os.getcwd(), 7), samplingRate=RATE_ANG, haveDataBeenPhaseFlipped=False)

    def test_states_to_class3d_and_refine3d_with_our_poses(self):
        """To the end of post-processing, by the settings of `scripts/to_relion.py`."""
        from relion.protocols import ProtRelionClassify3D, ProtRelionReconstruct

        imported = self.imported_from_relion()
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
        self.check_refined(selected, mean, ours)

    def check_refined(self, selected, mean, ours):
        """RELION's auto-refine around our poses ends, keeps them near, and is post-processed."""
        from relion.protocols import ProtRelionCreateMask3D, ProtRelionPostprocess, ProtRelionRefine3D

        if not shutil.which("mpirun") or not (SCRIPTS / "to_relion.py").exists():
            return
        to_relion, of_mean = script(), (mean, "outputVolume")
        mask = self.run_protocol(
            ProtRelionCreateMask3D, inputVolume=of_mean, initialLowPassFilterA=to_relion.MASK_LOW_PASS_ANG, extend=2,
            edge=3, threshold=to_relion.threshold(mean.outputVolume.getFileName(), RATE_ANG))
        with patch.dict(os.environ, MPI_HERE):
            refined = self.run_protocol(
                ProtRelionRefine3D, inputParticles=(selected, "outputParticles"), referenceVolume=of_mean,
                referenceMask=(mask, "outputMask"), initialLowPassFilterA=20.0, **to_relion.AROUND_OUR_POSES)
        found = self.matrices(refined.outputParticles)
        turned_deg = [np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3] @ ours[i][:3, :3].T) - 1) / 2, -1, 1)))
                      for i, matrix in found.items()]
        self.assertEqual(sorted(found), sorted(ours))
        self.assertLess(np.median(turned_deg), 20.0)  # blobs of two species let poses drift, not be lost (126: chance)
        post = self.run_protocol(ProtRelionPostprocess, protRefine=refined, solventMask=(mask, "outputMask"))
        self.assertTrue(os.path.exists(post.outputVolume.getFileName()))
