"""Whole protocols on the fake engine: ids, sizes, sampling rates, continue, restart, error sentences."""
import json
import os
from types import SimpleNamespace

import mrcfile
import numpy as np
from pyworkflow.protocol import MODE_RESTART, MODE_RESUME

from vaegan_scipion import Plugin
from vaegan_scipion.constants import VAEGAN_ENV_ACTIVATION
from vaegan_scipion.engine.vaegan_engine.contract import result_files, run_json
from vaegan_scipion.engine.vaegan_engine.contract.settings import ClusterRun
from vaegan_scipion.engine.vaegan_engine.contract.status import read_status, update_status
from vaegan_scipion.protocols import (
    VaeganProtCluster,
    VaeganProtSelect,
    VaeganProtTrain2D,
    VaeganProtTrain3D,
    VaeganProtTraverse,
)
from vaegan_scipion.protocols.protocol_base import warn_particles
from vaegan_scipion.protocols.same_kind import validate_same_kind
from vaegan_scipion.tests.phantom import (
    BOX_PX,
    DISABLED_IDS,
    ENABLED_IDS,
    SAMPLING_RATE_ANG,
    ProjectTest,
    environment,
    import_phantom,
    label_of,
    said_by_fake,
)

TRAINING_BOX_PX = 16
TRAINING_RATE_ANG = SAMPLING_RATE_ANG * BOX_PX / TRAINING_BOX_PX
N_COMPONENTS = 4


class OddBox:
    """As much of a set as the warnings look at."""

    @staticmethod
    def getSize():
        return 3

    @staticmethod
    def isStreamOpen():
        return False

    @staticmethod
    def getUniqueValues(_name, where):
        return [1, 2, 3]

    @staticmethod
    def getXDim():
        return 33

    @staticmethod
    def isPhaseFlipped():
        return False

    @staticmethod
    def hasCTF():
        return False


class TestProtocols(ProjectTest):
    """Workflows that end well, and runs that must not start or must fail with a sentence."""

    @classmethod
    def train(cls, protocol_class=VaeganProtTrain3D, **values):
        settings = {"boxPx": TRAINING_BOX_PX, "nCategories": N_COMPONENTS, **values}
        return cls.run_protocol(protocol_class, inputParticles=(cls.imported, "outputParticles"), **settings)

    @classmethod
    def trained(cls):
        """A 3D training that several tests read and none changes."""
        if not hasattr(cls, "_trained"):
            cls._trained = cls.make(VaeganProtTrain3D, boxPx=TRAINING_BOX_PX, nCategories=N_COMPONENTS,
                                    inputParticles=(cls.imported, "outputParticles"))
        return cls._trained

    def check_images(self, output, size, rate=TRAINING_RATE_ANG):
        """Size, sampling rate of the set and its items, readable files."""
        self.assertEqual(output.getSize(), size)
        self.assertAlmostEqual(output.getSamplingRate(), rate, 3)
        for item in output:
            self.assertAlmostEqual(item.getSamplingRate(), rate, 3)
            with mrcfile.open(item.getFileName(), header_only=True) as mrc:
                self.assertAlmostEqual(float(mrc.voxel_size.x), rate, 3)

    def check_classes(self, classes):
        """Every enabled particle is in the class of its own label, the unassigned last, none is lost."""
        found = {}
        for item in classes:
            label = item._vaeganLabel.get()
            self.assertEqual(item.getObjId(), 4 if label == -1 else label + 1)
            rows = [particle.getObjId() for particle in item]
            self.assertEqual(item.getSize(), len(rows))
            found.update(dict.fromkeys(rows, label))
            self.assertAlmostEqual(item.getRepresentative().getSamplingRate(), TRAINING_RATE_ANG, 3)
            self.assertTrue(os.path.exists(item.getRepresentative().getFileName()))
        self.assertEqual(found, {i: label_of(i) for i in ENABLED_IDS})
        self.assertEqual(classes.getSize(), 4)

    def test_3d(self):
        training = self.train()
        self.check_images(training.outputVolumes, N_COMPONENTS)
        self.assertEqual(training.outputVolumes.getDim(), (16, 16, 16))
        z = training.outputVolumes.getFirstItem()._vaeganZ
        self.assertEqual([float(value) for value in z], [1, 0, 0, 0])
        self.assertEqual(read_status(training.getRunDir()).n_particles, len(ENABLED_IDS))
        self.assertEqual(said_by_fake(training.getRunDir())["visible_gpus"], "")
        self.assertIn("9,600 of 9,600 images seen", "\n".join(training._summary()))
        self.assertIn(str(len(ENABLED_IDS)), training._methods()[0])
        update_status(training.getRunDir(), warning="The camera has collapsed.")
        self.assertIn("The camera has collapsed.", training._summary())

        clustering = self.run_protocol(VaeganProtCluster, inputTraining=training, doHalves=True, nNeighbors=5)
        self.check_classes(clustering.outputClasses)
        self.check_images(clustering.outputVolumes, 3)
        for volume in clustering.outputVolumes:
            label = volume._vaeganLabel.get()
            self.assertEqual(volume._vaeganParticles.get(), sum(label_of(i) == label for i in ENABLED_IDS))
            self.assertEqual(os.path.basename(volume.getFileName()), f"cluster_{label:02d}.mrc")
        self.check_flexible(clustering)
        self.assertEqual(clustering.outputFSCs.getSize(), 3)
        x, y = clustering.outputFSCs.getFirstItem().getData()
        np.testing.assert_allclose(x, np.arange(1, 9) / 8 * 0.05)
        np.testing.assert_allclose(y, 1 - np.arange(1, 9) / 8)
        self.assertIn(f"3 clusters of {len(ENABLED_IDS)} particles", clustering._summary())
        self.assertIn("Number of clusters, by the particles of the smallest: 15: 3, 30: 2", clustering._summary())
        self.assertIn("Verdict: 3 clusters, of which 1 unstable", clustering._summary())
        self.assertIn(", class 2, stability 0.80", clustering._summary()[3])

        traversal = self.run_protocol(VaeganProtTraverse, inputClusters=clustering, nPoints=3, nComponents=2)
        self.check_images(traversal.outputVolumes, 3 * 2 * 3)
        near = [volume._vaeganNear.get() for volume in traversal.outputVolumes]
        self.assertEqual(near, [10, 11, 12] * 6)
        self.assertFalse(traversal.hasAttribute("outputAverages"))
        self.assertIn("Particles near a point: 10 to 12", traversal._summary())

    def check_flexible(self, clustering):
        """z and the embedding of each particle are its own, joined by id."""
        flexible = clustering.outputParticles
        self.assertEqual([item.getObjId() for item in flexible.iterItems(orderBy="id")], ENABLED_IDS)
        self.assertAlmostEqual(flexible.getSamplingRate(), SAMPLING_RATE_ANG, 3)
        self.assertTrue(flexible.hasCTF())
        self.assertEqual(flexible.getFlexInfo().getProgName(), "VAE-GAN")
        self.assertTrue(os.path.isdir(flexible.getFlexInfo()._vaeganRun.get()))
        for item in flexible:
            particle_id = item.getObjId()
            np.testing.assert_allclose(item.getZFlex(), [particle_id, label_of(particle_id)])
            self.assertFalse(hasattr(item, "_vaeganZStd"))  # without poses the encoder knows none
            np.testing.assert_allclose(item.getZRed(), [0.25 * particle_id, -0.5 * label_of(particle_id)])
            self.assertEqual(item.getCTF().getDefocusU(), 10000 + particle_id)

    def test_2d(self):
        training = self.train(VaeganProtTrain2D)
        self.check_images(training.outputAverages, N_COMPONENTS)
        self.assertEqual([item.getIndex() for item in training.outputAverages], [1, 2, 3, 4])
        clustering = self.run_protocol(VaeganProtCluster, inputTraining=training, nNeighbors=5)
        self.check_classes(clustering.outputClasses)
        self.assertEqual([item.getRepresentative().getIndex() for item in clustering.outputClasses], [1, 2, 3, 4])
        self.assertFalse(clustering.hasAttribute("outputVolumes"))
        traversal = self.run_protocol(VaeganProtTraverse, inputClusters=clustering, nPoints=2)
        self.check_images(traversal.outputAverages, 6)

    def test_continue_with_another_setting_leaves_nothing_stale(self):
        training = self.train()
        first = training.outputVolumes.getFileName()
        training.nCategories.set(3)
        training.runMode.set(MODE_RESUME)
        self.launch(training)
        self.assertEqual(training.outputVolumes.getSize(), 3)
        self.assertEqual(training.outputVolumes.getFileName(), first)
        self.assertFalse(said_by_fake(training.getRunDir())["resumed"])  # another model: its own start
        names = os.listdir(os.path.join(training.getRunDir(), result_files.MAPS))
        self.assertEqual(len(names), 3)

        clustering = self.run_protocol(VaeganProtCluster, inputTraining=training, doHalves=True, nNeighbors=5)
        self.assertTrue(clustering.hasAttribute("outputFSCs"))
        clustering.doHalves.set(False)
        clustering.nNeighbors.set(6)
        clustering.runMode.set(MODE_RESUME)
        self.launch(clustering)
        request = json.load(open(clustering._getExtraPath("cluster.json")))
        self.assertEqual(request["n_neighbors"], 6)
        self.check_classes(clustering.outputClasses)
        again = self.proj.getProtocol(clustering.getObjId(), fromRuns=False)
        self.assertEqual(again.outputFSCs.getSize(), 0)
        self.assertNotIn("FSC", "\n".join(again._summary()))

    def test_continue_after_a_stop_resumes(self):
        with environment(VAEGAN_FAKE_EXIT="train3d:143"):
            training = self.run_protocol(VaeganProtTrain3D, wait_ok=False, boxPx=TRAINING_BOX_PX,
                                         inputParticles=(self.imported, "outputParticles"))
        self.assertIn("fake message 143. Fake hint.", training.getErrorMessage())
        training.runMode.set(MODE_RESUME)
        self.launch(training)
        self.assertTrue(said_by_fake(training.getRunDir())["resumed"])
        training.runMode.set(MODE_RESTART)
        self.launch(training)
        self.assertFalse(said_by_fake(training.getRunDir())["resumed"])

    def test_continue_with_other_particles_forgets_the_networks(self):
        training = self.train()
        self.assertTrue(os.path.exists(training.getRunDir()))
        training.convertInputStep("", False)
        self.assertTrue(os.path.exists(training.getRunDir()))  # the same particles
        other = import_phantom(self.proj).outputParticles
        other.setSamplingRate(2 * SAMPLING_RATE_ANG)
        training.inputParticles.set(other)
        training.convertInputStep("", False)
        self.assertFalse(os.path.exists(training.getRunDir()))

    def test_halves_of_other_particles_are_refused(self):
        protocol = self.newProtocol(VaeganProtCluster, doHalves=True, nNeighbors=5)
        protocol.inputTraining.set(self.trained())
        self.assertNotIn("Other particles", "\n".join(protocol._validate()))
        protocol.inputParticles.set(import_phantom(self.proj))
        protocol.inputParticles.setExtended("outputParticles")
        self.assertIn("with Other particles they cannot be compared", "\n".join(protocol._validate()))

    def test_a_failure_is_one_sentence(self):
        for variable, words in (("VAEGAN_FAKE_EXIT", "fake message 4. Fake hint."),
                                ("VAEGAN_FAKE_MUTE", "The training diverged: a loss is not finite.")):
            with environment(**{variable: "train3d:4"}):
                failed = self.run_protocol(VaeganProtTrain3D, wait_ok=False, boxPx=TRAINING_BOX_PX,
                                           inputParticles=(self.imported, "outputParticles"))
            self.assertIn(words, failed.getErrorMessage())
            self.assertFalse(failed.hasAttribute("outputVolumes"))

    def test_a_lost_particle_is_an_error(self):
        training = self.trained()
        for command in ("embed", "cluster"):
            with environment(VAEGAN_FAKE_DROP=command):
                failed = self.run_protocol(VaeganProtCluster, wait_ok=False, inputTraining=training, nNeighbors=5)
            self.assertIn(f"holds {len(ENABLED_IDS) - 1} particles, the input set {len(ENABLED_IDS)}; "
                          f"the first particle id that differs is {ENABLED_IDS[-1]}", failed.getErrorMessage())
            self.assertFalse(failed.hasAttribute("outputClasses"))

    def test_other_particles(self):
        training, other = self.trained(), import_phantom(self.proj)
        clustering = self.run_protocol(VaeganProtCluster, inputTraining=training, nNeighbors=5,
                                       inputParticles=(other, "outputParticles"))
        self.check_classes(clustering.outputClasses)
        self.assertEqual(clustering.outputClasses.getImages().getObjId(), other.outputParticles.getObjId())

    def test_a_training_starts_with_the_networks_of_another(self):
        old = self.trained()
        new = self.train(continueFrom=old, seed=1, totalKimg=2.0)
        run = run_json.read_run(new._getExtraPath("train3d.json"))
        self.assertEqual(run.training.continue_from, os.path.abspath(old.getRunDir()))
        self.assertIn(f"Started with the networks of '{old.getRunName()}'", new._summary())
        untrained = self.newProtocol(VaeganProtTrain3D)
        self.proj.saveProtocol(untrained)
        for message, older, values in (
                ("", old, {}), ("has no checkpoint", untrained, {}),
                ("'Part of the box kept' is 0.5 here and was 1.0", old, {"cropFrac": 0.5}),
                (f"'Number of components' is 5 here and was {N_COMPONENTS}", old, {"nCategories": 5}),
                ("'Training box (px)' is 24 here and was 16", old, {"boxPx": 24})):
            protocol = self.newProtocol(VaeganProtTrain3D, **{"boxPx": TRAINING_BOX_PX, "nCategories": N_COMPONENTS,
                                                              **values})
            protocol.inputParticles.set(self.imported)
            protocol.inputParticles.setExtended("outputParticles")
            protocol.continueFrom.set(older)
            problems = protocol._validate()
            self.assertEqual(bool(problems), bool(message), problems)
            self.assertIn(message, "\n".join(problems))
        self.assertIn("Take another seed", "\n".join(protocol._warnings()))

    def test_one_structure_has_nothing_to_cluster(self):
        names = VaeganProtTrain3D._presets()
        training = self.train(preset=names.index("thesis-3d-homogeneous"), nCategories="")
        self.assertTrue(training.isHomogeneous())
        self.assertFalse(self.trained().isHomogeneous())
        clustering = self.newProtocol(VaeganProtCluster)
        clustering.inputTraining.set(training)
        self.assertIn("learned one structure", "\n".join(clustering._validate()))

    def validate(self, protocol_class, message, imported=None, **values):
        """The form refuses these values with this text."""
        protocol = self.newProtocol(protocol_class, **values)
        protocol.inputParticles.set(imported or self.imported)
        protocol.inputParticles.setExtended("outputParticles")
        self.assertIn(message, "\n".join(protocol._validate()))

    def test_train_form_refuses(self):
        self.validate(VaeganProtTrain3D, "have no CTF", import_phantom(self.proj, with_ctf=False))
        self.validate(VaeganProtTrain3D, "'Training box (px)' is 33; the networks", boxPx=33)
        self.validate(VaeganProtTrain3D, "64 px, more than the 32 px kept", boxPx=64)
        self.validate(VaeganProtTrain3D, "more than the 16 px kept", boxPx=24, cropFrac=0.5)
        self.validate(VaeganProtTrain3D, "'Part of the box kept' is 2.0", cropFrac=2.0)
        self.validate(VaeganProtTrain3D, "generator is 'dcgan' in a 3D", extraSettings="model.generator=dcgan")
        self.validate(VaeganProtTrain2D, "'Other settings': settings: model: unknown key 'nonsense'",
                      extraSettings="model.nonsense=1")
        self.validate(VaeganProtTrain2D, "is not SECTION.KEY=VALUE", extraSettings="nonsense")
        self.validate(VaeganProtTrain3D, "on every GPU of the list runs one process", gpuList="0 0")
        self.validate(VaeganProtTrain3D, "Particles to train on is 3. Use at least 16, or leave it empty", maxImages=3)
        gone = import_phantom(self.proj)
        os.rename(gone._getExtraPath("phantom.mrcs"), gone._getExtraPath("away.mrcs"))
        self.validate(VaeganProtTrain3D, "image files of the input set are not there", gone, boxPx=16)

    def test_doubtful_inputs_are_warned_of(self):
        imported = import_phantom(self.proj)
        imported.outputParticles.setIsPhaseFlipped(True)
        protocol = self.newProtocol(VaeganProtTrain3D, boxPx=16)
        protocol.inputParticles.set(imported)
        protocol.inputParticles.setExtended("outputParticles")
        self.assertIn("marked as phase-flipped", "\n".join(protocol._warnings()))
        self.assertTrue(protocol._getSettings().data.phase_flipped)
        self.assertIn("33 px, an odd number", "\n".join(warn_particles(OddBox, 2)))

    def test_train_form_accepts(self):
        protocol = self.newProtocol(VaeganProtTrain3D, boxPx=16)
        protocol.inputParticles.set(self.imported)
        protocol.inputParticles.setExtended("outputParticles")
        self.assertEqual(protocol.validate(), [])
        self.assertIn(f"{len(ENABLED_IDS)} enabled particles", "\n".join(protocol._warnings()))

    def test_sampling_rate_of_zero_is_refused(self):
        imported = import_phantom(self.proj)
        imported.outputParticles.setSamplingRate(0)
        self.validate(VaeganProtTrain3D, "sampling rate is 0", imported, boxPx=16)

    def test_cluster_form_refuses(self):
        untrained = self.newProtocol(VaeganProtTrain3D)
        untrained.inputParticles.set(self.imported)
        untrained.inputParticles.setExtended("outputParticles")
        self.proj.saveProtocol(untrained)
        for message, values in (("no finished training", {}), ("UMAP neighbours is 500", {"nNeighbors": 500}),
                                ("Number of clusters is 1", {"method": 1, "nClusters": 1}),
                                ("Smallest cluster (fraction of all) is 0.9", {"minClusterFrac": 0.9}),
                                (f"Smallest cluster (particles) is 40. With {len(ENABLED_IDS)} particles use at most "
                                 f"{len(ENABLED_IDS) // 2}",
                                 {"minClusterSize": 40}), ("HDBSCAN samples is 0", {"minSamples": 0}),
                                ("Join groups above this valley is 2", {"joinValley": 2.0}),
                                ("Repeats for the stability is 101", {"stabilityRepeats": 101})):
            protocol = self.newProtocol(VaeganProtCluster, **values)
            protocol.inputTraining.set(untrained)
            self.assertIn(message, "\n".join(protocol._validate()))

    def test_hidden_fields_of_the_other_method_do_not_count(self):
        protocol = self.newProtocol(VaeganProtCluster, method=1, minClusterSize="abc", minSamples=0)
        protocol.inputTraining.set(self.newProtocol(VaeganProtTrain3D))
        self.assertEqual(protocol._clusterValues()["n_clusters"], protocol.nClusters.get())
        self.assertEqual(protocol._getClusterSettings().min_samples, ClusterRun.min_samples)

    def test_particles_of_another_kind_are_refused(self):
        ours = self.imported.outputParticles
        self.assertEqual(validate_same_kind(ours, ours), [])
        other = import_phantom(self.proj).outputParticles
        other.setSamplingRate(2.0)
        self.assertIn("2.000 Å/px, those of the training 3.500", validate_same_kind(other, ours)[0])
        self.assertIn("33 px, that of the training 32", validate_same_kind(
            SimpleNamespace(getSamplingRate=lambda: SAMPLING_RATE_ANG, getXDim=lambda: 33), ours)[0])
        other.setSamplingRate(SAMPLING_RATE_ANG)
        other.setIsPhaseFlipped(True)
        self.assertIn("phase-flipped, but not both", validate_same_kind(other, ours)[0])

    def test_missing_environment_is_refused_with_its_cure(self):
        with environment(VAEGAN_ENV_ACTIVATION=". '/my env/bin/activate"):
            self.assertIn("which no shell can read (No closing quotation)", Plugin.validateInstallation()[0])
        with environment(**{VAEGAN_ENV_ACTIVATION: ". /nowhere/bin/activate"}):
            self.assertIn("installb vaegan", Plugin.validateInstallation()[0])
        with environment(**{VAEGAN_ENV_ACTIVATION: "source /nowhere/bin/activate"}):
            self.assertIn("'. /nowhere/bin/activate'", Plugin.validateInstallation()[0])
            for protocol_class in (VaeganProtTrain3D, VaeganProtCluster):  # the form shows it
                self.assertIn("'. /nowhere/bin/activate'", "\n".join(self.newProtocol(protocol_class).validate()))
            self.assertEqual(VaeganProtSelect.validateInstallation(), [])
        self.assertEqual(Plugin.validateInstallation(), [])

    def test_disabled_particles_are_left_out(self):
        training = self.trained()
        star = open(training._getExtraPath("particles.star")).read()
        rows = [line.split() for line in star.split("data_particles")[1].splitlines() if "@" in line]
        self.assertEqual([int(row[2]) for row in rows], ENABLED_IDS)
        self.assertFalse({int(row[2]) for row in rows} & set(DISABLED_IDS))
