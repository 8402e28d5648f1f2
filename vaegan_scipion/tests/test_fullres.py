"""Refine states at full resolution: maps with half maps, particles with refined alignment; what the form refuses."""
import os
import time
from dataclasses import replace
from unittest.mock import patch

import numpy as np
from pwem.constants import ALIGN_PROJ
from pyworkflow.object import Pointer

from vaegan_scipion.convert.poses import Pose, pose_matrix
from vaegan_scipion.engine.vaegan_engine.contract import result_files
from vaegan_scipion.engine.vaegan_engine.contract.record import write_record
from vaegan_scipion.engine.vaegan_engine.contract.settings import ComputeConfig, FullresRun
from vaegan_scipion.engine_run import EngineError
from vaegan_scipion.protocols import (
    VaeganProtCluster,
    VaeganProtEvaluate,
    VaeganProtFullres,
    VaeganProtSelect,
    VaeganProtStates,
    VaeganProtTrain3D,
)
from vaegan_scipion.protocols.protocol_fullres import same_part
from vaegan_scipion.tests.phantom import (
    DISABLED_IDS,
    ENABLED_IDS,
    SAMPLING_RATE_ANG,
    ProjectTest,
    environment,
    import_phantom,
    run_in_shell,
    write_again,
)
from vaegan_scipion.viewers import (
    VaeganClusterViewer,
    VaeganEvaluateViewer,
    VaeganFullresViewer,
    VaeganStatesViewer,
)

KEPT_IDS = [i for i in ENABLED_IDS if i % 10]


class TestFullres(ProjectTest):
    """On the fake engine: the states' poses, turned by a degree, at the particles' own box."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.particles = (cls.imported, "outputParticles")
        cls.states = cls.make(VaeganProtStates, boxPx=16, inputParticles=cls.particles)
        cls.run_ = cls.make(VaeganProtFullres, inputStates=cls.states)

    def test_particles_have_the_refined_alignment_and_those_set_aside_are_left_out(self):
        particles = self.run_.outputParticles
        self.assertEqual(particles.getAlignment(), ALIGN_PROJ)
        self.assertEqual([item.getObjId() for item in particles.iterItems(orderBy="id")], KEPT_IDS)
        for item in particles:
            i = item.getObjId()
            pose = Pose(i % 2, 0.75, i % 170 + 1, 10 + i % 160, -(i % 90), 0.5 * i, -0.25 * i, i % 2 + 1)
            np.testing.assert_allclose(item.getTransform().getMatrix(), pose_matrix(pose, SAMPLING_RATE_ANG), atol=1e-6)
            self.assertEqual(item.getClassId(), i % 2 + 1)
            self.assertEqual(item._rlnRandomSubset.get(), i % 2 + 1)
            self.assertEqual(item.getCTF().getDefocusU(), 10000 + i)

    def test_a_selection_has_the_refined_alignment(self):
        picked = self.make(VaeganProtSelect, inputClusters=self.run_, clusterNumbers="1").outputParticles
        ours = {item.getObjId(): item.getTransform().getMatrix() for item in self.run_.outputParticles}
        self.assertEqual(picked.getAlignment(), ALIGN_PROJ)
        self.assertEqual(picked.getSize(), sum(i % 2 == 0 for i in KEPT_IDS))
        for item in picked:
            np.testing.assert_allclose(item.getTransform().getMatrix(), ours[item.getObjId()], atol=1e-9)

    def test_maps_are_at_the_particles_own_pixel_size_with_half_maps(self):
        for name in ("outputVolumes", "outputSharpened"):
            volumes = getattr(self.run_, name)
            self.assertEqual(volumes.getSize(), 2)
            self.assertAlmostEqual(volumes.getSamplingRate(), SAMPLING_RATE_ANG, 4)
            for volume in volumes:
                self.assertTrue(os.path.exists(volume.getFileName()))
        for volume in self.run_.outputVolumes:
            halves = volume.getHalfMaps().split(",")
            self.assertEqual(len(halves), 2)
            self.assertTrue(all(os.path.exists(path) for path in halves))
        labels = [volume.getObjLabel() for volume in self.run_.outputSharpened]
        self.assertEqual(labels, ["state 1, sharpened by B = -80 Å² (Guinier fit)",
                                  "state 2, not sharpened: too coarse"])
        self.assertEqual(self.run_.outputFSCs.getSize(), 2)
        self.assertEqual([item.getSize() for item in self.run_.outputClasses],
                         [sum(i % 2 == label for i in KEPT_IDS) for label in range(2)])

    def test_what_is_said(self):
        summary = self.run_._summary()
        self.assertIn("Answer: In the particles' own box (32 px of 3.50 Å) half maps agree, at FSC 0.143, to: state 1 "
                      "8.0 Å (0.88 of Nyquist; before 20.0 Å), state 2 9.0 Å", summary[0])
        self.assertIn("8.0 Å at FSC 0.143 (before: 20.0 Å)", summary[1])
        self.assertIn("state 1 8.0 Å; state 2 9.0 Å", self.run_._methods()[0])
        self.assertEqual(self.filled(VaeganProtFullres, inputStates=self.states)._summary(),
                         ["The states are not refined yet."])

    def test_the_engine_is_asked_for_what_the_form_says(self):
        run = self.filled(VaeganProtFullres, inputStates=self.states, bFactorAng2="-60", maxRounds=4, numberOfThreads=3)
        self.proj.saveProtocol(run)
        folder = os.path.relpath(self.states.getStatesDir(), run._getExtraPath())
        self.assertEqual(run._getSettings(), FullresRun(
            states_dir=folder, particles="particles.star", b_factor_ang2=-60.0, max_rounds=4,
            compute=ComputeConfig(device="cpu", threads=3)))

    def test_other_particles_and_unfinished_states_are_refused(self):
        self.assertEqual(self.filled(VaeganProtFullres, inputStates=self.states)._validate(), [])
        same = import_phantom(self.proj)
        run = self.filled(VaeganProtFullres, inputStates=self.states, inputParticles=(same, "outputParticles"))
        self.assertEqual(run._validate(), [])
        with patch("vaegan_scipion.protocols.protocol_fullres.in_states", return_value=[1, 3, 4]):
            self.assertIn("Particle 1 of the states is not among the particles at full size (1 are missing)",
                          " ".join(run._validate()))
        with patch("vaegan_scipion.protocols.protocol_fullres.in_states", return_value=[3, DISABLED_IDS[0]]):
            self.assertIn(f"Particle {DISABLED_IDS[0]} of the states is disabled (1 are)", " ".join(run._validate()))
        fresh = self.filled(VaeganProtStates, boxPx=16, inputParticles=self.particles)
        self.proj.saveProtocol(fresh)
        self.assertIn("is at full resolution already", " ".join(
            self.filled(VaeganProtFullres, inputStates=self.run_)._validate()))
        self.assertIn("has no states. Finish it first", " ".join(
            self.filled(VaeganProtFullres, inputStates=fresh)._validate()))

    def test_particles_that_are_not_those_of_the_states_are_refused(self):
        """Other picks of the same ids; images after phase flipping; none at all."""
        def said(**changes):
            other = import_phantom(self.proj, **changes)
            run = self.filled(VaeganProtFullres, inputStates=self.states, inputParticles=(other, "outputParticles"))
            if not changes:
                other.outputParticles.setIsPhaseFlipped(True)
            return " ".join(run._validate())

        self.assertIn("the ids name other particles", said(defocus_offset_ang=5000.0))
        self.assertIn("Either the particles or those of the states are phase-flipped, but not both", said())
        with patch.object(VaeganProtStates, "getParticlesPointer", lambda run: Pointer()):
            self.assertIn("Give the particles here", " ".join(
                self.filled(VaeganProtFullres, inputStates=self.states)._validate()))

    def test_a_training_at_these_poses_sees_the_part_of_the_images_that_the_states_saw(self):
        """In a larger box a smaller share of it, with the same circle in A; in a smaller one all of it."""
        settings = {"crop_frac": 0.75, "particle_radius_frac": 0.4, "box_px": 16}
        self.assertEqual(same_part(settings, 100.0, 100.0), settings)
        self.assertEqual(same_part(settings, 0.0, 100.0), settings)
        self.assertEqual(same_part(settings, 100.0, 150.0), {**settings, "crop_frac": 0.5})
        self.assertEqual(same_part(settings, 100.0, 60.0), {**settings, "crop_frac": 1.0, "particle_radius_frac": 0.5})
        self.assertEqual(same_part({**settings, "particle_radius_frac": 0.3}, 100.0, 60.0),
                         {**settings, "crop_frac": 1.0, "particle_radius_frac": 0.375})
        other = import_phantom(self.proj)
        run = self.make(VaeganProtFullres, inputStates=self.states, inputParticles=(other, "outputParticles"))
        before = self.states.getImageSettings()
        self.assertEqual(run.getImageSettings(), before)
        other.outputParticles.setSamplingRate(2 * SAMPLING_RATE_ANG)
        self.assertEqual(run.getImageSettings(), {**before, "crop_frac": before["crop_frac"] / 2})

    def test_the_report_shows_the_search_that_it_began_with(self):
        for viewer in (VaeganEvaluateViewer(project=self.proj, protocol=self.make(
                VaeganProtEvaluate, inputClusters=self.run_, inputClasses=(self.run_, "outputClasses"))),
                VaeganClusterViewer(project=self.proj, protocol=self.make(
                    VaeganProtCluster, nNeighbors=5, inputTraining=self.make(
                        VaeganProtTrain3D, inputStates=self.run_)))):
            self.assertIn(os.path.abspath(self.states.getStatesDir()), self.page_of(viewer))

    def page_of(self, viewer):
        """The report that a viewer shows: the stand-in engine names the folders."""
        view, = viewer._getVisualizeDict()["showReport"]()
        with open(view.path) as stream:
            return stream.read()

    def test_the_report_has_full_resolution_of_its_own_viewer_and_of_the_search(self):
        own = self.page_of(VaeganFullresViewer(project=self.proj, protocol=self.run_))
        for run in (self.run_, self.states):
            self.assertIn(os.path.abspath(run.getStatesDir()), own)
        of_search = self.page_of(VaeganStatesViewer(project=self.proj, protocol=self.states))
        self.assertIn(os.path.abspath(self.states.getStatesDir()), of_search)
        self.assertRegex(of_search, r"VaeganProtFullres/extra/fullres")  # the newest of those that the tests make

    def test_a_refinement_of_states_that_were_found_anew_is_not_reported(self):
        states = self.make(VaeganProtStates, boxPx=16, inputParticles=self.particles)
        run = self.make(VaeganProtFullres, inputStates=states)
        viewer = VaeganStatesViewer(project=self.proj, protocol=states)
        self.assertIn(os.path.abspath(run.getStatesDir()), self.page_of(viewer))
        os.utime(run._statesTable(), (time.time() + 3600,) * 2)  # as where the project was copied
        self.assertIn(os.path.abspath(run.getStatesDir()), self.page_of(viewer))
        write_again(run._statesTable())
        self.assertNotIn(os.path.abspath(run.getStatesDir()), self.page_of(viewer))

    def test_what_the_states_say_against_themselves_is_repeated(self):
        states = self.make(VaeganProtStates, boxPx=16, inputParticles=self.particles)
        path = os.path.join(states.getStatesDir(), result_files.STATES_JSON)
        write_record(path, replace(states.readSummary(), verdict="no structure beyond a blob", has_states=False))
        run = self.make(VaeganProtFullres, inputStates=states)
        self.assertIn("nothing to trust yet: no structure beyond a blob. In the particles' own box", run._summary()[0])
        compared = self.make(VaeganProtEvaluate, inputClusters=states, inputClasses=(self.states, "outputClasses"))
        self.assertIn("nothing to trust yet: no structure beyond a blob. 2 states found", compared._summary()[0])

    def test_it_can_be_compared_with_references_as_states_can(self):
        run = self.filled(VaeganProtEvaluate, inputClusters=self.run_, labelsFrom=0)
        self.assertIn("nothing to compare with", " ".join(run._validate()))

    def test_its_work_is_not_shared_as_that_of_the_search_is(self):
        """The engine refuses several processes for it."""
        run = self.filled(VaeganProtFullres, inputStates=self.states, useGpu=True, gpuList="0 1")
        self.assertIn("the engine uses one GPU", " ".join(run._validate()))
        self.assertIn("The engine uses one", str(run.getParam("gpuList").help))
        run = self.filled(VaeganProtFullres, inputStates=self.states, numberOfMpi=2)
        self.assertEqual(run._countProcesses(), 1)

    def test_an_error_of_the_engine_is_shown(self):
        run = self.filled(VaeganProtFullres, inputStates=self.states)
        self.proj.saveProtocol(run)
        run.makePathsAndClean()
        run.convertInputStep("")
        with patch.object(run, "runJob", side_effect=run_in_shell), environment(VAEGAN_FAKE_EXIT="fullres:3"), \
                self.assertRaisesRegex(EngineError, "fake message 3"):
            run.fullresStep("", "")

    def test_rounds_of_states_that_were_run_again_are_left_behind(self):
        states = self.make(VaeganProtStates, boxPx=16, inputParticles=self.particles)
        run = self.filled(VaeganProtFullres, inputStates=states)
        self.proj.saveProtocol(run)
        run.makePathsAndClean()
        run.convertInputStep("")
        rounds, table = os.path.join(run.getStatesDir(), "round"), run._statesTable()
        os.makedirs(run.getStatesDir())
        open(rounds, "w").close()
        run.convertInputStep("")
        self.assertTrue(os.path.exists(rounds))
        os.utime(table, ns=(1, 1))  # as where the project was copied
        run.convertInputStep("")
        self.assertTrue(os.path.exists(rounds))
        write_again(table)
        run.convertInputStep("")
        self.assertFalse(os.path.exists(rounds))

    def test_the_viewer_draws_everything(self):
        viewer = VaeganFullresViewer(project=self.proj, protocol=self.run_)
        for name, view in viewer._getVisualizeDict().items():
            if name in viewer.DRAWINGS:
                self.assertTrue(view(), name)
