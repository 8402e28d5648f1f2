"""Find states and poses: classes and particles with RELION's poses, half maps, FSCs; what the form refuses."""
import os
import unittest
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import mrcfile
import numpy as np
from emtable import Table
from matplotlib.figure import Figure
from pwem.constants import ALIGN_PROJ
from pwem.objects import SetOfParticlesFlex

from vaegan_scipion.annotate_space import getAnnotateSpaceArguments
from vaegan_scipion.convert.poses import Pose, pose_matrices, pose_matrix, star_pose
from vaegan_scipion.engine.vaegan_engine.contract import result_files
from vaegan_scipion.engine.vaegan_engine.contract.labels import STATES
from vaegan_scipion.engine.vaegan_engine.contract.map_records import HalvesProof, MapComparison, StateFigures
from vaegan_scipion.engine.vaegan_engine.contract.records import (
    ClusterRow,
    JunkNumbers,
    LandscapeNumbers,
    MaskRow,
    RestartRow,
    Separation,
    Shells,
    StartRow,
    StatesSummary,
)
from vaegan_scipion.engine.vaegan_engine.contract.settings import DataConfig
from vaegan_scipion.engine.vaegan_engine.contract.view_counts import view_counts
from vaegan_scipion.engine_run import EngineError
from vaegan_scipion.protocols import (
    VaeganProtCluster,
    VaeganProtSelect,
    VaeganProtStates,
    VaeganProtTrain3D,
)
from vaegan_scipion.tests.phantom import (
    ENABLED_IDS,
    SAMPLING_RATE_ANG,
    ProjectTest,
    environment,
    run_in_shell,
    said_by_fake,
)
from vaegan_scipion.viewers import states_drawings

NEEDS_RELION = "scipion-em-relion is not installed; it writes the star file" if find_spec("relion") is None else ""


STARTS = [StartRow("alone", [88.8, 99.9], 110.1, False), StartRow("beside", [], 120.4, True)]
MASKS = [MaskRow(80.0, 171.7, False), MaskRow(96.0, 138.0, True)]
RESTARTS = [RestartRow(1.58, 0.75, 241.7, 223.2, True)]
KEPT_IDS = [i for i in ENABLED_IDS if i % 10]


def i_of_state_2(particle):
    """Whether a particle is of the state that moves."""
    return particle.getObjId() % 2 == 1


class TestStates(ProjectTest):
    """On the fake engine: state = id % 2, every tenth set aside; angles and shifts that tell the id."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        particles = cls.particles = (cls.imported, "outputParticles")
        cls.training = cls.make(VaeganProtTrain3D, boxPx=16, nCategories=3, inputParticles=particles)
        cls.clustering = cls.make(VaeganProtCluster, inputTraining=cls.training, nNeighbors=5)
        # the phantom is smaller than the form allows
        cls.run_ = cls.make(VaeganProtStates, boxPx=16, inputParticles=particles, inputClusters=cls.clustering)

    def check_particle(self, item):
        """Class, alignment and values of one particle."""
        i = item.getObjId()
        self.assertEqual(item.getClassId(), 0 if i % 10 == 0 else i % 2 + 1)
        self.assertEqual(item._rlnRandomSubset.get(), i % 2 + 1)
        self.assertAlmostEqual(item._vaeganContrast.get(), 1 + i / 100)
        self.assertEqual(item.getCTF().getDefocusU(), 10000 + i)
        pose = Pose(i % 2, 0.75, i % 170, 10 + i % 160, -(i % 90), 0.5 * i, -0.25 * i, 1)
        np.testing.assert_allclose(item.getTransform().getMatrix(), pose_matrix(pose, SAMPLING_RATE_ANG), atol=1e-6)

    def test_classes_carry_projection_alignment(self):
        classes = self.run_.outputClasses
        self.assertEqual(classes.getSize(), 2)
        found = []
        for item in classes:
            self.assertEqual(item.getAlignment(), ALIGN_PROJ)
            self.assertAlmostEqual(item.getRepresentative().getSamplingRate(), 7.0, 4)
            for particle in item:
                self.check_particle(particle)
                found.append(particle.getObjId())
        self.assertEqual(sorted(found), KEPT_IDS)

    def test_particles_maps_and_fscs(self):
        self.assertEqual([item.getObjId() for item in self.run_.outputParticles.iterItems(orderBy="id")], KEPT_IDS)
        self.assertTrue(self.run_.outputParticles.hasAlignmentProj())
        for particle in self.run_.outputParticles:
            self.check_particle(particle)
            if i_of_state_2(particle):
                self.assertAlmostEqual(particle._vaeganMotion.get(), particle.getObjId() / 1000)
            else:
                self.assertFalse(particle._vaeganMotion.hasValue())
        for volume in self.run_.outputVolumes:
            halves = volume.getHalfMaps().split(",")
            self.assertEqual(len(halves), 2)
            for path in (volume.getFileName(), *halves):
                with mrcfile.open(path, header_only=True) as mrc:
                    self.assertAlmostEqual(float(mrc.voxel_size.x), 7.0, 4)
        x, y = self.run_.outputFSCs.getFirstItem().getData()
        np.testing.assert_allclose(x, np.arange(1, 9) / 160)
        np.testing.assert_allclose(y, 1 - np.arange(1, 9) / 8)
        self.assertIn("Verdict: 2 states", self.run_._summary())
        self.assertTrue(self.run_._summary()[0].startswith("Answer: 2 states, to trust and to go on with"))
        self.assertIn("state 2: ", self.run_._summary()[3])
        self.assertRegex(self.run_._methods()[0], r"16 px of 7\.00 Å.* \[Scheres2012\].*: 2 states\..*\(FSC 0\.143\)")

    def test_what_was_set_aside_and_the_motion_are_outputs(self):
        junk = [item.getObjId() for item in self.run_.outputJunk.iterItems(orderBy="id")]
        self.assertEqual(junk, sorted(set(ENABLED_IDS) - set(KEPT_IDS)))
        for particle in self.run_.outputJunk:
            self.check_particle(particle)
        flexible = self.run_.outputMotionParticles
        self.assertTrue(isinstance(flexible, SetOfParticlesFlex) and flexible.hasAlignmentProj() and flexible.hasCTF())
        moving = [i for i in KEPT_IDS if i % 2]
        self.assertEqual([item.getObjId() for item in flexible.iterItems(orderBy="id")], moving)
        for particle in flexible:
            i = particle.getObjId()
            np.testing.assert_allclose(particle.getZFlex(), [i / 1000], atol=1e-6)
            np.testing.assert_allclose([float(x) for x in particle._vaeganZStd], [i / 2000], atol=1e-6)
            np.testing.assert_allclose(particle.getZRed(), [i / 1000, 2], atol=1e-6)
            self.assertEqual(particle.getCTF().getDefocusU(), 10000 + i)
            self.assertEqual((particle.getClassId(), particle._rlnRandomSubset.get(),
                              hasattr(particle, "_vaeganContrast")), (2, i % 2 + 1, False))  # it was that of junk
        with self.assertRaisesRegex(ValueError, "no networks to decode it"):
            getAnnotateSpaceArguments(flexible)
        labels = [volume.getObjLabel() for volume in self.run_.outputMotions]
        self.assertEqual(labels, ["state 2, t = 0.0", "state 2, t = 0.5", "state 2, t = 1.0"])
        self.assertIn("varies continuously", self.run_._summary()[3])
        lines = states_drawings.evidence_lines(self.run_.readSummary(), self.run_.readClusterRows())
        self.assertTrue(any(f"Set aside: {len(junk)} images" in line for line in lines))
        self.assertTrue(any("0.90" in line for line in lines))

    def test_what_is_no_output_any_more_is_emptied(self):
        run = self.make(VaeganProtStates, boxPx=16, inputParticles=self.particles, inputClusters=self.clustering)
        self.addCleanup(self.proj.deleteProtocol, run)
        folder = Path(run.getStatesDir())
        rows = result_files.read_json(folder / result_files.CLUSTERS_JSON)
        result_files.write_json(folder / result_files.CLUSTERS_JSON, [{**row, "motion_files": []} for row in rows])
        table = folder / result_files.PARTICLES_CSV
        lines = table.read_text().splitlines()
        table.write_text("\n".join([lines[0], *(line for line in lines[1:] if line.split(",")[1] != "-1")]) + "\n")
        run.createOutputStep("", "")
        again = self.proj.getProtocol(run.getObjId(), fromRuns=False)
        self.assertEqual(run.outputJunk.getSize(), 0)
        self.assertEqual(run.outputMotions.getSize(), 0)
        self.assertEqual(again.outputParticles.getSize(), len(KEPT_IDS))

    def test_a_folder_that_was_emptied_has_no_verdict(self):
        run = self.make(VaeganProtStates, boxPx=16, inputParticles=self.particles, inputClusters=self.clustering)
        self.addCleanup(self.proj.deleteProtocol, run)
        (Path(run.getStatesDir()) / result_files.STATES_JSON).unlink()
        self.assertNotIn("Verdict", "\n".join(run._summary()))
        self.assertEqual(run._methods(), [])

    def test_continue_after_a_stop_resumes(self):
        run = self.filled(VaeganProtStates, boxPx=16, inputParticles=self.particles)
        self.proj.saveProtocol(run)
        run.makePathsAndClean()
        run.convertInputStep("", False, "")
        with patch.object(run, "runJob", side_effect=run_in_shell):
            with environment(VAEGAN_FAKE_EXIT="states:143"), self.assertRaisesRegex(EngineError, "fake message 143"):
                run.statesStep("", "")
            self.assertEqual(run._summary(), ["Stopped at: divide. Continue goes on from there."])
            for n_maps, resumed in ((3, True), (4, False)):  # other settings begin anew
                run.nMaps.set(n_maps)
                run.statesStep("", "")
                self.assertIs(said_by_fake(run.getStatesDir())["resumed"], resumed)

    @unittest.skipIf(NEEDS_RELION, NEEDS_RELION)
    def test_relion_reads_the_poses_as_they_were_written(self):
        from relion.convert import writeSetOfParticles

        writeSetOfParticles(self.run_.outputParticles, "refined.star", alignType=ALIGN_PROJ)
        for row in Table(fileName=os.path.abspath("refined.star"), tableName="particles"):
            i = row.rlnImageId
            np.testing.assert_allclose([row.rlnAngleRot, row.rlnAngleTilt, row.rlnAnglePsi],
                                       [i % 170, 10 + i % 160, -(i % 90)], atol=1e-3)
            np.testing.assert_allclose([row.rlnOriginXAngst, row.rlnOriginYAngst], [-0.5 * i, 0.25 * i], atol=1e-3)

    def test_every_button_of_the_viewer_draws(self):
        from vaegan_scipion.viewers import VaeganStatesViewer

        viewer = VaeganStatesViewer(project=self.proj, protocol=self.run_)
        for name, show in viewer._getVisualizeDict().items():
            if name in ("showClasses", "showReport", "savePictures", "showChimera", "saveFilm"):
                continue  # Scipion's own window, the browser, another program, files
            with self.subTest(name):
                figure = show()[0].getFigure()
                self.assertTrue(figure.axes or figure.texts)
        self.assertIn("Set CHIMERA_HOME", viewer._chimera()[0].getMessage())
        script = Path(self.run_._getExtraPath("chimerax", "states.cxc")).read_text().splitlines()
        self.assertEqual([line.split()[0] for line in script], ["open", "volume", "open", "volume", "tile", "view"])
        self.assertIn(f"color {STATES.colour(1)}", script[3])
        self.assertIn("state_02.gif", viewer._save_film()[0].getMessage())
        film = viewer._film()[0].getFigure().content
        self.assertEqual([frame.text for frame in film.frames], [f"state 2, t = {t}" for t in (0.0, 0.5, 1.0)])
        views = viewer._views()[0].getFigure().axes[0].get_title()
        self.assertIn("particles; SCF 0.75 (1 = even views)", views)
        grey = viewer._fsc()[0].getFigure().axes[0].patches
        self.assertEqual(len(grey), 1)
        self.assertEqual([fsc.getObjLabel() for fsc in self.run_.outputFSCs],
                         ["state 1 (proven beyond 60 Å)", "state 2 (proven beyond 60 Å)"])
        self.assertEqual([card.n_particles for card in viewer.read_cards()],
                         [row.n_particles for row in self.run_.readClusterRows()])

    def test_report_shows_the_clusters_and_the_states(self):
        from vaegan_scipion.viewers import VaeganClusterViewer, VaeganStatesViewer

        for viewer in (VaeganStatesViewer(project=self.proj, protocol=self.run_),
                       VaeganClusterViewer(project=self.proj, protocol=self.clustering)):
            view, = viewer._getVisualizeDict()["showReport"]()
            with open(view.path) as stream:
                page = stream.read()
            self.assertIn(os.path.abspath(self.run_.getStatesDir()), page)
            self.assertIn(os.path.abspath(self.clustering.getClustersDir()), page)

    def test_report_of_states_alone(self):
        from vaegan_scipion.viewers import VaeganStatesViewer

        run = self.make(VaeganProtStates, boxPx=16, seed=3, inputParticles=self.particles)
        view, = VaeganStatesViewer(project=self.proj, protocol=run)._getVisualizeDict()["showReport"]()
        with open(view.path) as stream:
            page = stream.read()
        self.assertIn(os.path.abspath(run.getStatesDir()), page)
        self.assertNotIn(os.path.abspath(self.clustering.getClustersDir()), page)

    def test_the_engine_is_asked_for_what_the_form_says(self):
        run = self.filled(VaeganProtStates, boxPx=16, cropFrac=0.75, particleDiameterAng=60.0, maxShiftFrac=0.1,
                          invertContrast=True, maxImages=40, inputParticles=self.particles)
        settings = run._getSettings()
        self.assertEqual(settings.data, DataConfig(particles="particles.star", box_px=16, crop_frac=0.75,
                                                   invert_contrast=True, max_images=40))
        self.assertEqual((settings.particle_diameter_ang, settings.max_shift_frac), (60.0, 0.1))
        self.assertEqual((settings.run_dir, settings.clusters_dir), ("", ""))
        run.inputClusters.set(self.clustering)
        self.assertTrue(run._getSettings().clusters_dir.endswith("clusters"))
        run.useAlignment.set(True)
        self.assertEqual((run._getSettings().clusters_dir, run._getSettings().data.input_poses), ("", True))
        self.assertIsNone(run.getClustering())  # nor are they in the report
        run.relaxSymmetry.set(" C4 ")
        self.assertEqual((run._getSettings().symmetry, run._getSettings().relax_symmetry), ("C1", "C4"))
        run.useAlignment.set(False)  # its field is hidden then
        run.symmetry.set("D2")
        self.assertEqual((run._getSettings().symmetry, run._getSettings().relax_symmetry), ("D2", ""))
        self.assertIn("'Symmetry' is D2 and clusters are given", "\n".join(run._validate()))

    def test_select_takes_states(self):
        picked = self.make(VaeganProtSelect, inputClusters=self.run_, clusterNumbers="2")
        self.assertTrue(picked.outputParticles.hasAlignmentProj())  # what was imported has none
        ours = {item.getObjId(): item.getTransform().getMatrix() for item in self.run_.outputParticles}
        for item in picked.outputParticles:
            np.testing.assert_allclose(item.getTransform().getMatrix(), ours[item.getObjId()], atol=1e-9)
            self.assertEqual(item._rlnRandomSubset.get(), item.getObjId() % 2 + 1)
        self.assertEqual([item.getObjId() for item in picked.outputParticles.iterItems(orderBy="id")],
                         [i for i in KEPT_IDS if i % 2])
        self.assertIn("state 2", "\n".join(picked._summary()))
        self.assertEqual(picked._citations(), ["Scheres2012"])

    def test_where_every_image_was_set_aside_it_is_still_said_what_was_done(self):
        run = self.proj.getProtocol(self.run_.getObjId(), fromRuns=False)
        del run.outputParticles  # there is none then
        self.assertIn(f"States and poses of {len(KEPT_IDS)} of {len(ENABLED_IDS)} particles", run._methods()[0])

    def test_the_poses_are_read_once_for_alignment_and_class(self):
        with patch.object(result_files, "read_columns", wraps=result_files.read_columns) as read:
            self.make(VaeganProtSelect, inputClusters=self.run_, clusterNumbers="2")
        names = [os.path.basename(str(call.args[0])) for call in read.call_args_list]
        self.assertEqual(names.count(result_files.PARTICLES_CSV), 1)

    def test_form_refuses(self):
        box = "Box of the images used (px)"
        for message, values in ((f"has {len(ENABLED_IDS)} enabled particles; at least 200", {}),
                                ("Use falling numbers", {"startResolutionAng": 20.0, "stateResolutionAng": 25.0}),
                                ("Resolution that tells states apart (Å) is 10. Use 14.0 to 56.0 Å",
                                 {"stateResolutionAng": 10.0}),
                                ("Resolution of the start (Å) is 'fine', which is not a number. Give a number, or "
                                 "leave it empty.", {"startResolutionAng": "fine"}),
                                ("'Symmetry' is 'Z3'. Use C1, C2 to C99", {"symmetry": "Z3"}),
                                ("'Symmetry to relax' is 'C'. Use C1", {"relaxSymmetry": "C", "useAlignment": True}),
                                ("'Symmetry' is D2 and 'Symmetry to relax' C4: maps cannot be held to the one",
                                 {"symmetry": "D2", "relaxSymmetry": "C4", "useAlignment": True}),
                                ("Starts to try is 0", {"nStarts": 0}), ("Batch size is 1", {"batchSize": 1}),
                                ("Smallest state (fraction of all) is 0.7", {"smallestFrac": 0.7}),
                                ("Largest shift (fraction of the box) is 0.9", {"maxShiftFrac": 0.9}),
                                (f"{box} is 20. Use a multiple of 8.", {"boxPx": 20}),
                                (f"{box} is 8. Use 16 to 512 px.", {"boxPx": 8}),
                                (f"{box} is 40, more than the 32 px kept of the images (32 px)", {"boxPx": 40}),
                                ("Part of the box kept is 2", {"cropFrac": 2.0}),
                                ("Particle diameter (Å) is 500; the kept part of the box is 112 Å wide. Use 11 to 112",
                                 {"particleDiameterAng": 500.0}),
                                ("Particle diameter (Å) is -3.0. Use 1 to 100,000 Å; empty = 0.9",
                                 {"particleDiameterAng": -3.0}),
                                ("Particles to use is 30. Use at least 200, or leave it empty for all.",
                                 {"maxImages": 30}),
                                ("carry no projection alignment. Give refined particles, or set it to No.",
                                 {"useAlignment": True})):
            run = self.filled(VaeganProtStates, inputParticles=self.particles, **{"boxPx": 16, **values})
            self.assertIn(message, "\n".join(run._validate()))
        run = self.filled(VaeganProtStates, boxPx=24, inputParticles=self.particles, inputClusters=self.clustering)
        self.assertIn("have maps of 16 px of 7.000 Å; here it would be 24 px of 4.667 Å. Use the box",
                      "\n".join(run._validate()))
        run.boxPx.set(16)
        self.assertEqual([line for line in run._validate() if "at least 200" not in line], [])

    @unittest.skipIf(NEEDS_RELION, NEEDS_RELION)
    def test_states_go_on_from_the_alignment_of_states(self):
        """The star file that the engine gets has the very angles and origins that it gave."""
        run = self.make(VaeganProtStates, boxPx=16, useAlignment=True, inputParticles=(self.run_, "outputParticles"))
        rows = list(Table(fileName=run._getExtraPath("particles.star"), tableName="particles"))
        self.assertEqual([row.vaeParticleId for row in rows], KEPT_IDS)
        for row in rows:
            i = row.vaeParticleId
            np.testing.assert_allclose([row.rlnAngleRot, row.rlnAngleTilt, row.rlnAnglePsi],
                                       [i % 170, 10 + i % 160, -(i % 90)], atol=1e-3)
            np.testing.assert_allclose([row.rlnOriginXAngst, row.rlnOriginYAngst], [-0.5 * i, 0.25 * i], atol=1e-3)
        self.assertIn("starting from the particles' alignment", run._methods()[0])


class TestPoses(unittest.TestCase):
    """The matrix of many poses at once, against products of rotations and a general inverse."""

    def test_matrices_of_many(self):
        def about(axis, deg):
            c, s = np.cos(np.radians(deg)), np.sin(np.radians(deg))
            return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]] if axis == "z" else [[c, 0, s], [0, 1, 0], [-s, 0, c]])

        rng = np.random.default_rng(0)
        poses = {7 * i: Pose(0, 1.0, *rng.uniform(-180, 180, 3), *rng.normal(size=2), 1) for i in range(50)}
        poses[1] = Pose(0, 1.0, 20.0, 0.0, 30.0, 1.0, -2.0, 1)  # seen along the axis
        for i, matrix in pose_matrices(poses, 3.5).items():
            pose, expected = poses[i], np.eye(4)
            expected[:3, :3] = about("z", -pose.psi_deg) @ about("y", -pose.tilt_deg) @ about("z", -pose.rot_deg)
            expected[:2, 3] = np.array([pose.shift_x_ang, pose.shift_y_ang]) / 3.5
            np.testing.assert_allclose(matrix, np.linalg.inv(expected), atol=1e-12)
            back = star_pose(matrix, 3.5)
            np.testing.assert_allclose(back[3:], [-pose.shift_x_ang, -pose.shift_y_ang], atol=1e-9)
            again = pose_matrices({i: Pose(0, 1.0, *back[:3], -back[3], -back[4], 1)}, 3.5)[i]
            np.testing.assert_allclose(again, matrix, atol=1e-9)
        self.assertEqual(pose_matrices({}, 3.5), {})


class TestDrawings(unittest.TestCase):
    """Drawings of states, from arrays."""

    def test_even_views_have_equal_counts(self):
        rng = np.random.default_rng(0)
        rot, tilt = rng.uniform(0, 360, 200000), np.rad2deg(np.arccos(rng.uniform(-1, 1, 200000)))
        counts = view_counts(rot, tilt)
        self.assertEqual(counts.sum(), 200000)
        self.assertLess(np.abs(counts / counts.mean() - 1).max(), 0.25)
        side = view_counts(rot, np.full(200000, 90.0))
        self.assertEqual(np.count_nonzero(side.sum(axis=0)), 1)

    def test_few_views_have_large_bins(self):
        """400 even views: no bin is empty by chance alone, as it was with 288 bins."""
        rng = np.random.default_rng(0)
        tilt = np.rad2deg(np.arccos(rng.uniform(-1, 1, 400)))
        counts = view_counts(rng.uniform(-180, 180, 400), tilt)
        self.assertGreaterEqual(counts.mean(), 10)
        self.assertGreater(counts.min(), 0)

    def test_evidence_names_every_number(self):
        pair = Separation([0, 1], 100, 50, 0.99, 0.05, 251.4, 0.03, 9.0)
        details = StatesSummary(
            2, "2 states", Shells(6.0, 8.0, 10.0), STARTS, 120.4, 3.0, 0.234, 0.08, MASKS, RESTARTS, [pair],
            JunkNumbers(77, 0.0642, 20, 1.73, 1.02, 52, 16, 3.0, 9),
            [LandscapeNumbers(100, 1, 2, [5.0, 4.0], 0.1, 13, 0.5, [87], [])])
        falling = [1.0, 0.5, 0.0]
        halves = MapComparison(falling, 20.0, 0.7, True, 30.0, 0.5, True)
        proof = HalvesProof(falling, falling, 1, 60.0, 19.0, 25.0, [0.0, 0.0, 1.0], True, 21.0)
        rows = [ClusterRow(label, 50, 0.5, [], "map.mrc", label, state=StateFigures(
            ["a.mrc", "b.mrc"], 4.0, 1.0, False, agreement, [], halves, proof))
            for label, agreement in enumerate((0.87, None))]
        text = "\n".join(states_drawings.evidence_lines(details, rows))
        for part in ("2 states", "120.4", "one random map: 110.1 per image (the best of 88.8, 99.9).",
                     "andom maps beside it: 120.4 per image, kept.", "Mask: radius 96 Å",
                     "deviation 23 %; below 8 %", "0.99", "0.05", "0.03", "all images 251",
                     "241.7 per unseen image, 223.2 before, taken.", "77 images (6.4 %)",
                     "52", "16", "9 because they", "1.73", "1.02", "0.87",
                     "Groups of the images of one state: one state (2 groups without valleys between), 13 outside."):
            self.assertIn(part, text)
        many = replace(details, pairs=[pair] * 40)
        figure = Figure(states_drawings.evidence_size_in(many, rows))
        states_drawings.draw_evidence(figure, many, rows)
        self.assertIn("lines more", figure.texts[-1].get_text())
