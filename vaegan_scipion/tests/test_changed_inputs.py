"""Runs whose inputs changed since: particles that were disabled, clusters that were made anew, particles given anew."""
import os
import shutil
import sqlite3
import time
import unittest
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from emtable import Table
from pyworkflow.config import Config
from pyworkflow.project import Project
from pyworkflow.protocol import MODE_RESTART

from vaegan_scipion.annotate_space import getAnnotateSpaceArguments
from vaegan_scipion.convert.to_engine import relion_groups
from vaegan_scipion.engine.vaegan_engine.contract import result_files
from vaegan_scipion.engine.vaegan_engine.contract.status import update_status
from vaegan_scipion.engine_run import EngineError
from vaegan_scipion.protocols import (
    VaeganProtClasses2D,
    VaeganProtCluster,
    VaeganProtConsensus,
    VaeganProtEvaluate,
    VaeganProtFullres,
    VaeganProtSelect,
    VaeganProtStates,
    VaeganProtTrain3D,
    VaeganProtTraverse,
)
from vaegan_scipion.protocols.protocol_base import validate_particles
from vaegan_scipion.protocols.protocol_train_3d import OF_PARTICLES
from vaegan_scipion.tests.phantom import (
    ENABLED_IDS,
    OTHER_OPTICS_IDS,
    ProjectTest,
    import_mask,
    import_phantom,
    write_again,
)
from vaegan_scipion.viewers import VaeganClusterViewer, VaeganEvaluateViewer, VaeganTraverseViewer

DARK = "the centre is brighter than the rest"


def read_column_names(table, attribute):
    """Columns of a set's table with an attribute."""
    with closing(sqlite3.connect(table)) as connection:
        return [name for name, in connection.execute("SELECT column_name FROM Classes WHERE label_property = ?",
                                                     [attribute])]


class TestChangedInputs(ProjectTest):
    """On the fake engine."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.particles = (cls.imported, "outputParticles")
        cls.training = cls.make(VaeganProtTrain3D, boxPx=16, invertContrast=True, inputParticles=cls.particles)
        cls.states = cls.make(VaeganProtStates, boxPx=16, invertContrast=True, inputParticles=cls.particles)

    def test_particles_disabled_since_the_training_are_left_out(self):
        imported = import_phantom(self.proj)
        training = self.make(VaeganProtTrain3D, boxPx=16, inputParticles=(imported, "outputParticles"))
        with closing(sqlite3.connect(imported.outputParticles.getFileName())) as table:
            table.execute("UPDATE Objects SET enabled = 0 WHERE id IN (3, 4)")
            table.commit()
        imported.outputParticles.close()
        clustering = self.make(VaeganProtCluster, inputTraining=training, nNeighbors=5)
        self.assertEqual(sorted(item.getObjId() for item in clustering.outputParticles),
                         [i for i in ENABLED_IDS if i not in (3, 4)])

    def test_strips_of_clusters_that_were_made_anew_are_not_shown(self):
        clustering = self.make(VaeganProtCluster, inputTraining=self.training, nNeighbors=5)
        traversal = self.make(VaeganProtTraverse, inputClusters=clustering)
        viewer = VaeganClusterViewer(project=self.proj, protocol=clustering)
        viewer.setProtocol(clustering)
        self.assertTrue(viewer._strips())
        table = os.path.join(clustering.getClustersDir(), result_files.CLUSTERS_CSV)
        os.utime(table, (time.time() + 3600,) * 2)  # as where the project was copied
        self.assertTrue(viewer._strips())
        with open(table, "a") as stream:
            stream.write("\n")
        self.assertFalse(viewer._strips())
        own = VaeganTraverseViewer(project=self.proj, protocol=traversal)  # nor in the traversal's own report
        own.setProtocol(traversal)
        self.assertIn("were made anew after", own._report()[0].getMessage())

    def test_a_copied_project_goes_on_where_it_was(self):
        """Files of a copy have other times and the same contents: no step's arguments differ from those that ran."""
        clustering = self.make(VaeganProtCluster, inputTraining=self.training, nNeighbors=5)
        mask = import_mask(self.proj, np.ones((16, 16, 16)), 7.0)
        runs = [self.training, self.states, clustering,
                self.make(VaeganProtStates, boxPx=16, inputParticles=self.particles, inputMask=(mask, "outputMask")),
                self.make(VaeganProtTraverse, inputClusters=clustering),
                self.make(VaeganProtSelect, inputClusters=clustering, clusterNumbers="1"),
                self.make(VaeganProtFullres, inputStates=self.states),
                self.make(VaeganProtConsensus, inputRuns=[clustering, self.states]),
                self.make(VaeganProtEvaluate, inputClusters=clustering, labelsFrom=0),
                self.make(VaeganProtClasses2D, boxPx=16, inputParticles=self.particles)]
        copied = self.proj.path + "_copied"
        shutil.rmtree(copied, ignore_errors=True)
        shutil.copytree(self.proj.path, copied, copy_function=shutil.copyfile, symlinks=True)
        project = Project(Config.getDomain(), copied)
        try:
            project.load(chdir=True)
            for run in runs:
                with self.subTest(type(run).__name__):
                    ran = [step.argsStr.get() for step in run._steps]
                    copy = project.getProtocol(run.getObjId())
                    copy._steps = []
                    copy._insertAllSteps()
                    self.assertEqual([step.argsStr.get() for step in copy._steps], ran)
        finally:
            os.chdir(self.proj.path)

    def test_labels_of_classes_that_were_made_anew_are_not_shown(self):
        classes = self.make(VaeganProtClasses2D, boxPx=16, inputParticles=self.particles)
        compared = self.make(VaeganProtEvaluate, inputClusters=classes, inputClasses=(classes, "outputClasses"))
        viewer = VaeganEvaluateViewer(project=self.proj, protocol=compared)
        viewer.setProtocol(compared)
        self.assertFalse(hasattr(viewer._maps()[0], "getMessage"))
        with open(os.path.join(classes.getClassesDir(), result_files.CLUSTERS_CSV), "a") as table:
            table.write("\n")
        for show in (viewer._maps, viewer._report):
            self.assertIn("were made anew after", show()[0].getMessage())

    def test_a_table_of_another_release_is_named(self):
        classes = self.make(VaeganProtClasses2D, boxPx=16, inputParticles=self.particles)
        table = Path(classes.getClassesDir(), result_files.PARTICLES_CSV)
        table.write_text(table.read_text().replace(",gain,", ",older,"))
        with self.assertRaisesRegex(EngineError, "particles.csv: it has no column 'gain'"):
            classes.readAlignments(1.0)

    def test_clusters_that_are_older_than_their_training_are_not_traversed(self):
        training = self.make(VaeganProtTrain3D, boxPx=16, inputParticles=self.particles)
        clustering = self.make(VaeganProtCluster, inputTraining=training, nNeighbors=5)
        run = self.filled(VaeganProtTraverse, inputClusters=clustering)
        self.assertEqual(run._validate(), [])
        for folder, networks in ((clustering.getClustersDir(), "of then"), (training.getRunDir(), "of now")):
            update_status(folder, networks=networks)
        self.assertIn("--run_dir", getAnnotateSpaceArguments(clustering.outputParticles))  # older ones do not say
        later = self.make(VaeganProtCluster, inputTraining=training, nNeighbors=5)
        later = self.proj.getProtocol(later.getObjId(), fromRuns=False).outputParticles  # as it was stored
        self.assertIn("--run_dir", getAnnotateSpaceArguments(later))
        update_status(training.getRunDir(), networks="of later")
        with self.assertRaisesRegex(ValueError, "was trained on or anew since these latent vectors"):
            getAnnotateSpaceArguments(later)
        said = " ".join(run._validate())
        for words in (clustering.getRunName(), training.getRunName(), "Run embed and cluster again first."):
            self.assertIn(words, said)

    def test_continue_that_would_begin_anew_is_warned_of(self):
        """A checkpoint that was made with other settings would be removed, hours of training with it."""
        said = "Continue begins it anew with those of now"
        training = self.make(VaeganProtTrain3D, boxPx=16, inputParticles=self.particles)
        states = self.make(VaeganProtStates, boxPx=16, inputParticles=self.particles)
        classes = self.make(VaeganProtClasses2D, boxPx=16, inputParticles=self.particles)
        fullres = self.make(VaeganProtFullres, inputStates=states)
        for run, folder, field in (
                (training, training.getRunDir(), "totalKimg"), (states, states.getStatesDir(), "nMaps"),
                (classes, classes.getClassesDir(), "nSteps"), (fullres, fullres.getStatesDir(), "maxRounds")):
            result_files.write_npz(os.path.join(folder, result_files.CHECKPOINTS, "stage.npz"), fake=np.zeros(1))
            with self.subTest(type(run).__name__):
                self.assertNotIn(said, " ".join(run._warnings()))
                getattr(run, field).set("7")
                self.assertIn(said, " ".join(run._warnings()))
                run.runMode.set(MODE_RESTART)
                self.assertNotIn(said, " ".join(run._warnings()))

    def test_methods_count_the_particles_that_were_used(self):
        """Not those of the set, of which a part was asked for, and which may have grown since."""
        given = {"boxPx": 16, "maxImages": "30", "inputParticles": self.particles}
        self.assertIn(" of 30 particles (box 16 px", self.make(VaeganProtStates, **given)._methods()[0])
        self.assertIn("30 particles (box 16 px", self.make(VaeganProtClasses2D, **given)._methods()[0])

    def test_poses_that_were_found_anew_since_the_training_are_refused(self):
        """Also where the engine could not know: it is given the star file of another run than the training's."""
        states = self.make(VaeganProtStates, boxPx=16, inputParticles=self.particles)
        training = self.make(VaeganProtTrain3D, inputStates=states, maxImages="20")
        form = self.filled(VaeganProtCluster, inputTraining=training, nNeighbors=5)
        self.assertEqual(form._validate(), [])
        write_again(os.path.join(states.getStatesDir(), result_files.PARTICLES_CSV))
        said = " ".join(form._validate())
        for words in (training.getRunName(), "were found anew since", "Train again first."):
            self.assertIn(words, said)

    def test_particles_that_were_refined_anew_since_the_training_are_refused(self):
        refined = import_phantom(self.proj, poses=True)
        training = self.make(VaeganProtTrain3D, boxPx=16, posesFrom=OF_PARTICLES,
                             inputParticles=(refined, "outputParticles"))
        table = refined.outputParticles.getFileName()

        def run_in_sql(words):
            refined.outputParticles.close()
            with closing(sqlite3.connect(table)) as connection:
                connection.execute(words)
                connection.commit()

        run_in_sql("UPDATE Objects SET enabled = 0 WHERE id = 3")  # others as they were: these can be embedded
        self.make(VaeganProtCluster, inputTraining=training, nNeighbors=5)
        for given, n_notes in (({}, 0), ({"inputParticles": (refined, "outputParticles")}, 1)):
            notes = self.filled(VaeganProtCluster, inputTraining=training, **given)._warnings()
            self.assertEqual(" ".join(notes).count("must lie in the same frame"), n_notes)
        column, = read_column_names(table, "_transform._matrix")
        run_in_sql(f"UPDATE Objects SET {column} = (SELECT {column} FROM Objects WHERE id = 60) WHERE id = 4")
        with self.assertRaisesRegex(EngineError, r"Particle 4 has another alignment .* \(1 such particles\)"):
            self.make(VaeganProtCluster, inputTraining=training, nNeighbors=5)

    def test_networks_that_were_trained_anew_are_heard_by_a_training_that_starts_with_them(self):
        """With as many images as before, so that their checkpoint has the same name."""
        older = self.make(VaeganProtTrain3D, boxPx=16, inputParticles=self.particles)
        run = self.filled(VaeganProtTrain3D, boxPx=16, inputParticles=self.particles, continueFrom=older)
        self.proj.saveProtocol(run)

        def arguments():
            run._steps = []
            run._insertAllSteps()
            return run._steps[1].argsStr.get()

        before = arguments()
        self.assertEqual(arguments(), before)
        update_status(older.getRunDir(), networks="of other learning rates")
        self.assertNotEqual(arguments(), before)

    def test_contrast_of_particles_given_anew_is_looked_at(self):
        """The phantom is bright; states and training were told that it is dark."""
        for kind, before in ((VaeganProtFullres, {"inputStates": self.states}),
                             (VaeganProtCluster, {"inputTraining": self.training})):
            self.assertNotIn(DARK, " ".join(self.filled(kind, **before)._warnings()))
            self.assertIn(DARK, " ".join(self.filled(kind, **before, inputParticles=self.particles)._warnings()))

    def test_images_corrected_for_amplitude_are_refused(self):
        corrected = import_phantom(self.proj).outputParticles
        self.assertEqual(validate_particles(corrected, True, 1), [])
        corrected.setIsAmplitudeCorrected(True)
        self.assertIn("corrected for the amplitude of their CTF", " ".join(validate_particles(corrected, True, 1)))
        self.assertEqual(validate_particles(corrected, False, 1), [])

    def test_groups_for_relion_are_those_of_the_particles(self):
        """The text of an import stays as it is where it tells of all of them."""
        numbers, text = relion_groups(self.imported.outputParticles)
        self.assertEqual({i for i, number in numbers.items() if number == 2}, set(OTHER_OPTICS_IDS))
        self.assertIn("200", text)
        aligned = import_phantom(self.proj, poses=True).outputParticles
        self.assertEqual(relion_groups(aligned), (numbers, aligned.getAcquisition().opticsGroupInfo.get()))

    @unittest.skipIf(find_spec("relion") is None, "scipion-em-relion is missing; it writes the star file")
    def test_an_exported_star_file_has_both_microscopes_and_takes_blanks_in_paths(self):
        selected = self.make(VaeganProtSelect, inputClusters=self.states, clusterNumbers="1 2", exportStar=True)
        star = selected._getExtraPath("selected.star")
        voltages = {row.rlnOpticsGroup: row.rlnVoltage for row in Table(fileName=star, tableName="optics")}
        for row in Table(fileName=star, tableName="particles"):
            self.assertEqual(voltages[row.rlnOpticsGroup], 200 if row.vaeParticleId in OTHER_OPTICS_IDS else 300)
        self.assertFalse(selected.outputParticles.getAcquisition().opticsGroupInfo.get())
        subset = selected._createSetOfParticles("_blanks")
        subset.copyInfo(selected.outputParticles)
        for item in selected.outputParticles:
            item.setFileName("Runs/my data/x.mrcs")
            subset.append(item.clone())
        subset.write()
        selected._writeStar(subset)
        names = {row.rlnImageName.split("@")[1] for row in Table(fileName=star, tableName="particles")}
        self.assertEqual(names, {"Runs/my data/x.mrcs"})
