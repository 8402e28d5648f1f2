"""A 3D training with poses: of states, or of the particles' own alignment; and what comes after it."""
import os
import sqlite3
from contextlib import closing

import numpy as np
from emtable import Table

from vaegan_scipion.annotate_space import getAnnotateSpaceArguments
from vaegan_scipion.engine.vaegan_engine.contract import result_files, run_json
from vaegan_scipion.engine.vaegan_engine.contract.settings import DataConfig
from vaegan_scipion.engine.vaegan_engine.contract.status import update_status
from vaegan_scipion.protocols import (
    VaeganProtClasses2D,
    VaeganProtCluster,
    VaeganProtSelect,
    VaeganProtStates,
    VaeganProtTrain2D,
    VaeganProtTrain3D,
    VaeganProtTraverse,
)
from vaegan_scipion.protocols.protocol_train_2d import OF_CLASSES
from vaegan_scipion.protocols.protocol_train_3d import NO_POSES, OF_PARTICLES, OF_STATES
from vaegan_scipion.tests.phantom import (
    ENABLED_IDS,
    SAMPLING_RATE_ANG,
    ProjectTest,
    import_phantom,
    label_of,
    write_again,
)

KEPT_IDS = [i for i in ENABLED_IDS if i % 10]  # every tenth is set aside from the states
DIAMETER_ANG = 70.0


class TestPosed(ProjectTest):
    """On the fake engine."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.states = cls.make(VaeganProtStates, boxPx=16, particleDiameterAng=DIAMETER_ANG, invertContrast=True,
                              inputParticles=(cls.imported, "outputParticles"))

    def test_the_road(self):
        """States, training at their poses, clusters, traversal, selection: each by its own protocol."""
        training = self.run_protocol(VaeganProtTrain3D, inputStates=self.states)
        run = run_json.read_run(os.path.join(training.getRunDir(), result_files.RUN_JSON))
        self.assertEqual(run.preset, "posed")
        self.assertEqual(os.path.realpath(run.data.poses_dir), os.path.realpath(self.states.getStatesDir()))
        kept_ang = 2 * run.data.particle_radius_frac * SAMPLING_RATE_ANG * 32
        self.assertAlmostEqual(kept_ang, DIAMETER_ANG, 2)
        self.assertEqual((run.data.box_px, run.data.invert_contrast, run.data.crop_frac), (16, True, 1.0))
        self.assertEqual(self.ids_of(run.data.particles), KEPT_IDS)
        self.assertIn("at the poses of the states", training._methods()[0])
        self.assertIn("3D variational autoencoder", training._methods()[0])  # no critic is trained by default
        self.assertEqual(training.outputVolumes.getSize(), 6)

        clustering = self.run_protocol(VaeganProtCluster, inputTraining=training, nNeighbors=5)
        found = {particle.getObjId(): item._vaeganLabel.get() for item in clustering.outputClasses
                 for particle in item}
        self.assertEqual(found, {i: label_of(i) for i in KEPT_IDS})
        self.assertTrue(clustering.outputParticles.hasAlignmentProj())
        first = self.states.outputParticles.getFirstItem()
        np.testing.assert_allclose(clustering.outputParticles[first.getObjId()].getTransform().getMatrix(),
                                   first.getTransform().getMatrix())

        arguments = getAnnotateSpaceArguments(clustering.outputParticles, gpu_id="1").split()
        self.assertEqual(arguments[::2], ["--run_dir", "--server_functions_path", "--env_name", "--gpu_id"])
        self.assertTrue(os.path.exists(arguments[3]))
        self.assertEqual(os.path.realpath(arguments[1]), os.path.realpath(training.getRunDir()))

        traversal = self.run_protocol(VaeganProtTraverse, inputClusters=clustering, nPoints=3)
        self.assertEqual(traversal.outputVolumes.getSize(), 9)
        selection = self.run_protocol(VaeganProtSelect, inputClusters=clustering, clusterNumbers="2")
        self.assertEqual(sorted(item.getObjId() for item in selection.outputParticles),
                         [i for i in KEPT_IDS if label_of(i) == 1])
        self.assertTrue(selection.outputParticles.hasAlignmentProj())

    def test_the_road_in_the_plane(self):
        """Classes 2D, training with their alignment, clusters, traversal: each by its own protocol."""
        classes = self.make(VaeganProtClasses2D, boxPx=16, particleDiameterAng=DIAMETER_ANG, invertContrast=True,
                            inputParticles=(self.imported, "outputParticles"))
        training = self.run_protocol(VaeganProtTrain2D, posesFrom=OF_CLASSES, inputClasses2D=classes)
        run = run_json.read_run(os.path.join(training.getRunDir(), result_files.RUN_JSON))
        self.assertEqual((run.preset, run.command, run.model.generator), ("posed", "train2d", "basis"))
        self.assertEqual(os.path.realpath(run.data.poses_dir), os.path.realpath(classes.getClassesDir()))
        self.assertAlmostEqual(2 * run.data.particle_radius_frac * SAMPLING_RATE_ANG * 32, DIAMETER_ANG, 2)
        self.assertEqual((run.data.box_px, run.data.invert_contrast, run.training.band_shells), (16, True, 7.0))
        kept = [i for i in ENABLED_IDS if i % 10 and i % 3 != 2]  # those that the fake classes do not call junk
        self.assertEqual(self.ids_of(run.data.particles), kept)
        self.assertIn("with the alignment of class averages", training._methods()[0])
        clustering = self.run_protocol(VaeganProtCluster, inputTraining=training, nNeighbors=5)
        self.assertEqual({particle.getObjId() for item in clustering.outputClasses for particle in item}, set(kept))
        traversal = self.run_protocol(VaeganProtTraverse, inputClusters=clustering, nPoints=3)
        self.assertEqual(traversal.outputAverages.getSize(), 9)
        others = self.filled(VaeganProtCluster, inputTraining=training, nNeighbors=5,
                             inputParticles=(self.imported, "outputParticles"))
        self.assertIn("alignment of classes 2D, which 'Other particles' are not in", "\n".join(others.validate()))
        unfinished = self.filled(VaeganProtClasses2D, inputParticles=(self.imported, "outputParticles"))
        self.proj.saveProtocol(unfinished)
        refused = self.filled(VaeganProtTrain2D, posesFrom=OF_CLASSES, inputClasses2D=unfinished)
        self.assertIn("has no classes of particles. Finish it first", "\n".join(refused.validate()))

    def ids_of(self, star):
        """Particle ids of a star file."""
        return sorted(row.vaeParticleId for row in Table(fileName=str(star), tableName="particles"))

    def test_label_and_membership_are_of_the_groups_that_were_asked_for(self):
        """The fake's memberships are 0.75 in states and in classes of the plane and 0.5 in clusters."""
        particles = (self.states, "outputParticles")
        clustering = self.make(VaeganProtCluster, inputTraining=self.make(VaeganProtTrain3D, inputStates=self.states),
                               nNeighbors=5)
        flexible = (clustering, "outputParticles")
        selected = self.make(VaeganProtSelect, inputClusters=clustering, clusterNumbers="1-3").outputParticles
        again = self.make(VaeganProtStates, boxPx=16, inputParticles=flexible)
        classes = self.make(VaeganProtClasses2D, boxPx=16, inputParticles=particles)
        of_classes = self.make(VaeganProtSelect, inputClusters=classes, clusterNumbers="1-2").outputParticles
        for made, of_id, membership in ((self.states.outputParticles, lambda i: i % 2, 0.75),
                                        (selected, label_of, 0.5), (again.outputParticles, lambda i: i % 2, 0.75),
                                        (of_classes, lambda i: i % 3, 0.75)):
            found = {item.getObjId(): (item._vaeganLabel.get(), item._vaeganProbability.get()) for item in made}
            self.assertEqual(found, {i: (of_id(i), membership) for i in made.getIdSet()})
        for members in clustering.outputClasses:
            for item in members:
                self.assertEqual((item._vaeganLabel.get(), item._vaeganProbability.get()),
                                 (label_of(item.getObjId()), 0.5))

    def test_the_form_s_own_box_wins(self):
        protocol = self.filled(VaeganProtTrain3D, inputStates=self.states, boxPx=24)
        self.assertEqual(protocol._getSettings().data.box_px, 24)

    def test_poses_that_the_particles_carry(self):
        aligned = import_phantom(self.proj, poses=True)
        training = self.run_protocol(VaeganProtTrain3D, posesFrom=OF_PARTICLES, boxPx=16,
                                     inputParticles=(aligned, "outputParticles"))
        run = run_json.read_run(os.path.join(training.getRunDir(), result_files.RUN_JSON))
        self.assertTrue(run.data.input_poses)
        rows = {row.vaeParticleId: row for row in Table(fileName=run.data.particles, tableName="particles")}
        self.assertEqual(sorted(rows), ENABLED_IDS)
        self.assertAlmostEqual(rows[ENABLED_IDS[5]].rlnAngleTilt, 10 + ENABLED_IDS[5], 4)
        clustering = self.filled(VaeganProtCluster, inputTraining=training, nNeighbors=5,
                                 inputParticles=(self.imported, "outputParticles"))
        self.assertIn("'Other particles' have no projection alignment", "\n".join(clustering.validate()))
        clustering = self.run_protocol(VaeganProtCluster, inputTraining=training, nNeighbors=5,
                                       inputParticles=(aligned, "outputParticles"))
        star = Table(fileName=clustering._getExtraPath("particles.star"), tableName="particles")
        self.assertTrue(star.hasColumn("rlnAngleTilt"))
        for item in clustering.outputParticles:  # the stand-in's uncertainty tells the id
            np.testing.assert_allclose([float(x) for x in item._vaeganZStd], [item.getObjId() / 1000, 0.5], rtol=1e-3)

    def test_a_selection_of_clusters_from_larger_images_has_the_alignment_that_was_trained_at(self):
        """Of states' poses, of those that the particles carried, and of classes 2D; shifts in the new pixels."""
        fine = import_phantom(self.proj)
        fine.outputParticles.setSamplingRate(SAMPLING_RATE_ANG / 2)
        aligned = import_phantom(self.proj, poses=True, shift_px=1.5)
        classes = self.make(VaeganProtClasses2D, boxPx=16, inputParticles=(self.imported, "outputParticles"))
        for training, source in (
                (self.make(VaeganProtTrain3D, inputStates=self.states), self.states.outputParticles),
                (self.make(VaeganProtTrain2D, posesFrom=OF_CLASSES, inputClasses2D=classes), classes.outputParticles),
                (self.make(VaeganProtTrain3D, posesFrom=OF_PARTICLES, boxPx=16,
                           inputParticles=(aligned, "outputParticles")), aligned.outputParticles)):
            clustering = self.make(VaeganProtCluster, inputTraining=training, nNeighbors=5)
            chosen = self.make(VaeganProtSelect, inputClusters=clustering, clusterNumbers="2",
                               inputParticles=(fine, "outputParticles")).outputParticles
            self.assertEqual(chosen.getAlignment(), source.getAlignment())
            self.assertGreater(chosen.getSize(), 10)
            for item in chosen:
                expected = np.array(source[item.getObjId()].getTransform().getMatrix())
                self.assertGreater(np.abs(expected[:3, 3]).max(), 0.5)
                expected[:3, 3] *= 2
                np.testing.assert_allclose(item.getTransform().getMatrix(), expected, atol=1e-6)

    def test_a_disabled_particle_without_an_alignment_is_no_hindrance(self):
        aligned = import_phantom(self.proj, poses=True)
        with closing(sqlite3.connect(aligned.outputParticles.getFileName())) as table:
            column = dict(table.execute("SELECT label_property, column_name FROM Classes"))["_transform._matrix"]
            table.execute(f"UPDATE Objects SET {column} = NULL WHERE enabled = 0")
            table.commit()
        aligned.outputParticles.close()
        clustering = self.make(VaeganProtCluster, nNeighbors=5, inputTraining=self.make(
            VaeganProtTrain3D, posesFrom=OF_PARTICLES, boxPx=16, inputParticles=(aligned, "outputParticles")))
        chosen = self.make(VaeganProtSelect, inputClusters=clustering, clusterNumbers="2").outputParticles
        self.assertEqual(chosen.getIdSet(), {i for i in ENABLED_IDS if label_of(i) == 1})
        self.assertTrue(chosen.hasAlignmentProj())

    def test_networks_without_a_critic_are_no_vae_gan(self):
        """Not in the methods of what follows a training at poses, nor in its citations."""
        posed = self.make(VaeganProtCluster, inputTraining=self.make(VaeganProtTrain3D, inputStates=self.states),
                          nNeighbors=5)
        selected = self.make(VaeganProtSelect, inputClusters=posed, clusterNumbers="1")
        for run in (posed, selected):
            self.assertIn("a variational autoencoder [KingmaWelling2014]", run._methods()[0])
            self.assertNotIn("VAE-GAN", run._methods()[0])
            self.assertEqual(run._citations()[0], "KingmaWelling2014")
        plain = self.make(VaeganProtCluster, method=1, nNeighbors=5, inputTraining=self.make(
            VaeganProtTrain3D, boxPx=16, inputParticles=(self.imported, "outputParticles")))
        self.assertIn("a VAE-GAN [Larsen2016]", plain._methods()[0])
        self.assertEqual(plain._citations(), ["Larsen2016", "McInnes2018"])  # k-means is no HDBSCAN
        training = plain.inputTraining.get()
        for form in (training, plain):  # the embedding's summary says what the training's says
            self.assertNotIn("Estimated SNR", "\n".join(form._summary()))
        update_status(training.getRunDir(), snr=0.2)
        for form in (training, plain):
            self.assertIn("Estimated SNR 0.2: at this SNR an embedding without poses", "\n".join(form._summary()))

    def test_what_the_form_refuses(self):
        def text(**values):
            return "\n".join(self.filled(VaeganProtTrain3D, **values).validate())

        self.assertIn("States and poses", text(posesFrom=OF_STATES))
        unfinished = self.filled(VaeganProtStates, inputParticles=(self.imported, "outputParticles"))
        self.proj.saveProtocol(unfinished)
        self.assertIn("has no particles with poses. Finish it first", text(inputStates=unfinished))
        self.assertIn("have no projection alignment",
                      text(posesFrom=OF_PARTICLES, boxPx=16, inputParticles=(self.imported, "outputParticles")))
        self.assertEqual(text(inputStates=self.states), "")
        of_group = self.make(VaeganProtStates, boxPx=16, inputParticles=(self.imported, "outputParticles"))
        table = os.path.join(of_group.getStatesDir(), result_files.STATES_JSON)
        result_files.write_json(table, {**result_files.read_json(table), "symmetry": "D7"})
        self.assertRegex(text(inputStates=of_group), r"held to symmetry D7: .*'Symmetry to relax' D7, and give that")
        training = self.make(VaeganProtTrain3D, inputStates=self.states)
        clustering = self.filled(VaeganProtCluster, inputTraining=training, nNeighbors=5,
                                 inputParticles=(self.imported, "outputParticles"))
        self.assertIn("poses of states, which 'Other particles' are not in", "\n".join(clustering.validate()))

    def test_without_poses_the_form_says_what_is_better(self):
        protocol = self.filled(VaeganProtTrain3D, posesFrom=NO_POSES, boxPx=16,
                               inputParticles=(self.imported, "outputParticles"))
        self.assertIn("Run 'find states and poses' first", "\n".join(protocol.warnings()))
        posed = self.filled(VaeganProtTrain3D, inputStates=self.states)
        self.assertNotIn("Without poses", "\n".join(posed.warnings()))

    def test_other_poses_mean_another_training(self):
        """Continue hears that the states were found anew, or that a field of their form was changed."""
        protocol = self.filled(VaeganProtTrain3D, inputStates=self.states)
        self.proj.saveProtocol(protocol)

        def arguments():
            protocol._steps = []
            protocol._insertAllSteps()
            return protocol._steps[1].argsStr.get()

        before = arguments()
        table = os.path.join(self.states.getStatesDir(), result_files.PARTICLES_CSV)
        os.utime(table, ns=(1, 1))  # as where the project was copied
        self.assertEqual(arguments(), before)
        write_again(table)
        self.assertNotEqual(arguments(), before)

    def test_states_that_were_run_again_are_heard_by_training_and_clustering(self):
        """The clusters' steps have other arguments; the training forgets what it learned at the poses before."""
        training = self.make(VaeganProtTrain3D, inputStates=self.states)
        clustering = self.filled(VaeganProtCluster, inputTraining=training, nNeighbors=5)
        self.proj.saveProtocol(clustering)

        def arguments(protocol, step):
            protocol._steps = []
            protocol._insertAllSteps()
            return protocol._steps[step].argsStr.get()

        steps = [(training, 0), (clustering, 1)]
        before, status = [arguments(*step) for step in steps], os.path.join(training.getRunDir(), "status.json")
        training.convertInputStep("", False)
        self.assertTrue(os.path.exists(status))
        write_again(os.path.join(self.states.getStatesDir(), result_files.PARTICLES_CSV))
        for step, text in zip(steps, before):
            self.assertNotEqual(arguments(*step), text)
        training.convertInputStep("", False)
        self.assertFalse(os.path.exists(status))

    def test_settings_of_states_without_a_diameter(self):
        states = self.filled(VaeganProtStates, inputParticles=(self.imported, "outputParticles"), cropFrac=0.8)
        settings = states.getImageSettings()
        self.assertAlmostEqual(settings["particle_radius_frac"], DataConfig().particle_radius_frac)
