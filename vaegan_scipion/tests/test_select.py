"""Selecting particles: text to labels and ids, and subsets whose ids and values are exactly those asked for."""
import os
import shutil
import tempfile
import unittest
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
from emtable import Table
from pwem.constants import ALIGN_PROJ
from pwem.objects import SetOfParticlesFlex
from pyworkflow.object import Pointer
from pyworkflow.protocol import MODE_RESUME

from vaegan_scipion.constants import EMBEDDING_DIR, SELECTED_IDS_TXT, SELECTED_STAR
from vaegan_scipion.convert.from_engine import Clusters
from vaegan_scipion.convert.result_columns import ids_in_range, known_columns, of_groups, read_values
from vaegan_scipion.convert.selection import (
    SelectionError,
    ids_of_clusters,
    parse_cluster_labels,
    read_particle_ids,
    select,
)
from vaegan_scipion.engine.vaegan_engine.contract import result_files
from vaegan_scipion.protocols import VaeganProtCluster, VaeganProtSelect, VaeganProtTrain3D
from vaegan_scipion.protocols.protocol_select import BY_CLUSTERS, BY_FILE, BY_RANGE
from vaegan_scipion.tests.phantom import (
    DISABLED_IDS,
    ENABLED_IDS,
    SAMPLING_RATE_ANG,
    ProjectTest,
    import_phantom,
    label_of,
)
from vaegan_scipion.viewers.viewer_cluster import free_path

NEEDS_RELION = unittest.skipIf(find_spec("relion") is None, "scipion-em-relion is missing; it writes the star file")


class TestText(unittest.TestCase):
    """What users type."""

    def test_cluster_numbers(self):
        present = [-1, 0, 1, 2, 4]
        for text, labels in (("1", {0}), ("1 3", {0, 2}), ("1-3,5", {0, 1, 2, 4}), (" 2 ; Unassigned ", {1, -1})):
            self.assertEqual(parse_cluster_labels(text, present), labels)
        for text, words in (("", "empty"), ("4", "not there"), ("0", "not there"), ("0-1", "not there"),
                            ("3-1", "not there"), ("one", "not a number"), ("-1", "not a number")):
            with self.assertRaisesRegex(SelectionError, words) as caught:
                parse_cluster_labels(text, present)
            self.assertIn("1, 2, 3, 5, unassigned", str(caught.exception))
        with self.assertRaisesRegex(SelectionError, "not there"):
            parse_cluster_labels("unassigned", [0])

    def test_numbers_that_are_none_and_ranges_without_end(self):
        """Digits that Python does not read, and a list that no memory holds."""
        for text, words in (("\u00b2", "not a number"), ("9" * 5000, "not a number"), ("1-999999999", "not there"),
                            ("2-" + "9" * 5000, "not a number")):
            with self.assertRaisesRegex(SelectionError, words):
                parse_cluster_labels(text, [0, 1])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ids.txt"
            for word in ("\u00b2", "9" * 5000):
                path.write_text(f"1 {word}")
                with self.assertRaisesRegex(SelectionError, "line 1: .* is not a particle id"):
                    read_particle_ids(str(path))

    def test_file_of_ids(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "ids.txt"
        path.write_text("# lasso of 3\n5 7,9\n\n  12;\t5\n")
        self.assertEqual(read_particle_ids(str(path)), {5, 7, 9, 12})
        for text, words in (("# nothing\n", "no particle id"), ("1 2\n3 x4 5\n", "line 2: 'x4'"), ("1.5", "'1.5'"),
                            ("-3", "'-3'")):
            path.write_text(text)
            with self.assertRaisesRegex(SelectionError, words):
                read_particle_ids(str(path))
        with self.assertRaisesRegex(SelectionError, "cannot be read"):
            read_particle_ids(str(path) + ".no")

    def test_a_mark_before_the_first_id_is_none(self):
        """As editors of Windows write it."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "marked.txt"
        path.write_bytes(b"\xef\xbb\xbf3\r\n5\r\n")
        self.assertEqual(read_particle_ids(str(path)), {3, 5})

    def test_a_lasso_never_takes_the_file_of_another(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        for name in ("lasso_001.txt", "lasso_003.txt", "notes.txt"):  # the second was deleted
            open(os.path.join(folder, name), "w").close()
        self.assertEqual(os.path.basename(free_path(folder)), "lasso_004.txt")

    def test_membership(self):
        clusters = Clusters(np.array([2, 4, 6, 8]), np.array([0, 0, 1, -1]), np.array([0.2, 0.9, 1.0, 0.0]),
                            np.zeros((4, 2)))
        self.assertEqual(ids_of_clusters(clusters, {0, -1}, 0.0), {2, 4, 8})
        self.assertEqual(ids_of_clusters(clusters, {0, -1}, 0.5), {4, 8})

    def test_sets(self):
        self.assertEqual(select({3, 9, 4}, {3, 4, 9, 11}, {4}, False, "x"), ([3, 9], 1))
        self.assertEqual(select({3, 9}, {3, 4, 9, 11}, {4}, True, "x"), ([11], 1))
        with self.assertRaisesRegex(SelectionError, "1 of 2 particle ids are not in .* first is 5"):
            select({3, 5}, {3}, set(), False, "x")
        with self.assertRaisesRegex(SelectionError, "no enabled particle"):
            select({4}, {3, 4}, {4}, False, "x")


class TestCoordinates(unittest.TestCase):
    """What a run knows of each particle."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.run_ = SimpleNamespace(getClustersDir=lambda: folder.name,
                                    _getExtraPath=lambda *names: os.path.join(folder.name, *names))
        (Path(folder.name) / "particles.csv").write_text("particle_id,label,contrast,motion\n7,0,1.5,\n9,-1,0.5,\n")

    def test_values(self):
        self.assertEqual(read_values(self.run_, "contrast"), {7: 1.5, 9: 0.5})

    def test_values_of_what_was_set_aside_are_left_out(self):
        clusters = Clusters(np.array([7, 9]), np.array([0, -1]), np.ones(2), np.zeros((2, 2)))
        self.assertEqual(of_groups({7: 1.5, 9: 0.5, 11: 2.0}, clusters), {7: 1.5})

    def test_the_label_is_no_coordinate(self):
        """It counts from 0, what is shown from 1."""
        self.assertEqual(known_columns(self.run_), ["contrast", "motion"])

    def test_how_sure_a_latent_is(self):
        """After a training with poses each coordinate has its standard deviation, and all have one together."""
        embedding = Path(self.run_._getExtraPath(EMBEDDING_DIR))
        result_files.write_npz(embedding / result_files.LATENTS_NPZ, particle_id=np.array([9, 7]),
                               z=np.array([[1.0, 2.0], [3.0, 4.0]]),
                               precision=np.array([np.diag([4.0, 1.0]), np.diag([25.0, 100.0])]))
        self.assertEqual(known_columns(self.run_)[2:], ["z_1", "z_2", "z_std", "z_1_std", "z_2_std"])
        self.assertEqual(read_values(self.run_, "z_2"), {9: 2.0, 7: 4.0})
        self.assertEqual(read_values(self.run_, "z_1_std"), {9: 0.5, 7: 0.2})
        found = read_values(self.run_, "z_std")
        self.assertAlmostEqual(found[9], np.sqrt((0.25 + 1.0) / 2))
        self.assertEqual(ids_in_range(found, None, 0.5), {7})

    def test_a_coordinate_without_a_value_is_refused(self):
        """States that do not vary have the column motion, and nothing in it."""
        with self.assertRaisesRegex(SelectionError, "No particle of this run has a value of 'motion'"):
            read_values(self.run_, "motion")


class TestSelect(ProjectTest):
    """Subset runs."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        training = cls.make(VaeganProtTrain3D, boxPx=16, inputParticles=(cls.imported, "outputParticles"))
        cls.clustering = cls.make(VaeganProtCluster, inputTraining=training, nNeighbors=5)

    def check(self, run, ids):
        """Exactly these ids, each with the values of the original particle."""
        subset, original = run.outputParticles, self.imported.outputParticles
        self.assertEqual([item.getObjId() for item in subset.iterItems(orderBy="id")], sorted(ids))
        self.assertEqual(subset.getSize(), len(ids))
        self.assertEqual(subset.getSamplingRate(), SAMPLING_RATE_ANG)
        self.assertTrue(subset.hasCTF())
        for item in subset:
            source = original[item.getObjId()]
            self.assertTrue(item.isEnabled())
            self.assertEqual(item.getLocation(), source.getLocation())
            self.assertEqual(item.getSamplingRate(), SAMPLING_RATE_ANG)
            self.assertEqual(item.getCTF().getDefocusU(), 10000 + item.getObjId())
            self.assertEqual(item.getAcquisition().getVoltage(), source.getAcquisition().getVoltage())
            self.assertEqual(item._rlnRandomSubset.get(), source._rlnRandomSubset.get())
        with open(run._getExtraPath(SELECTED_IDS_TXT)) as stream:
            self.assertEqual([int(word) for word in stream.readline().split()], sorted(ids))

    def write(self, text):
        """A file of ids; returns its path."""
        handle, path = tempfile.mkstemp(suffix=".txt")
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        return path

    def test_clusters_then_all_others(self):
        first = [i for i in ENABLED_IDS if label_of(i) in (0, -1)]
        run = self.run_protocol(VaeganProtSelect, inputClusters=self.clustering, clusterNumbers="1 unassigned")
        self.check(run, first)
        self.assertIn(f"{len(first)} of", run._summary()[0])
        self.assertIn("cluster 1 unassigned", run._methods()[0])
        run.invertSelection.set(True)
        run.runMode.set(MODE_RESUME)
        self.launch(run)
        self.check(run, sorted(set(ENABLED_IDS) - set(first)))

    def test_every_field_is_heard(self):
        path = self.write("8 11\n")
        second = [i for i in ENABLED_IDS if label_of(i) == 1]
        for values, ids in (({"clusterNumbers": "2"}, second), ({"clusterNumbers": "2", "minProbability": 0.4}, second),
                            ({"clusterNumbers": "2", "invertSelection": True}, set(ENABLED_IDS) - set(second)),
                            ({"selectBy": BY_FILE, "selectionFile": path}, [8, 11]),
                            # umap_1 is id / 4, z_2 the label, the column of the particles tells the id
                            ({"selectBy": BY_RANGE, "rangeColumn": "umap_1", "rangeLow": "3", "rangeHigh": "5"},
                             [i for i in ENABLED_IDS if 12 <= i <= 20]),
                            ({"selectBy": BY_RANGE, "rangeColumn": "z_2", "rangeHigh": "0.5"},
                             [i for i in ENABLED_IDS if label_of(i) <= 0]),
                            ({"selectBy": BY_RANGE, "rangeColumn": "_ctfModel._defocusU", "rangeLow": "10050"},
                             [i for i in ENABLED_IDS if i >= 50]),
                            ({"selectBy": BY_FILE, "selectionFile": path, "invertSelection": True},
                             set(ENABLED_IDS) - {8, 11})):
            self.check(self.make(VaeganProtSelect, inputClusters=self.clustering, **values), ids)

    def test_a_file_that_was_written_again_is_read_again(self):
        path = self.write("8 11\n")
        run = self.run_protocol(VaeganProtSelect, inputClusters=self.clustering, selectBy=BY_FILE, selectionFile=path)
        self.check(run, [8, 11])
        with open(path, "w") as stream:  # the same name, other ids
            stream.write("15")
        run.runMode.set(MODE_RESUME)
        self.launch(run)
        self.check(run, [15])

    def test_disabled_particles_stay_out(self):
        path = self.write(f"{DISABLED_IDS[0]} 9 8")
        run = self.make(VaeganProtSelect, inputClusters=self.clustering, selectBy=BY_FILE, selectionFile=path)
        self.check(run, [8, 9])

    @NEEDS_RELION
    def test_full_resolution_poses_and_optics(self):
        """From another set with the same ids: its own images, poses and optics groups come along."""
        other = import_phantom(self.proj, poses=True)
        run = self.run_protocol(VaeganProtSelect, inputClusters=self.clustering, clusterNumbers="1", exportStar=True,
                                inputParticles=(other, "outputParticles"))
        ids = [i for i in ENABLED_IDS if label_of(i) == 0]
        subset = run.outputParticles
        self.assertEqual(subset.getAlignment(), ALIGN_PROJ)
        self.assertEqual([item.getObjId() for item in subset.iterItems(orderBy="id")], ids)
        for item in subset:
            source = other.outputParticles[item.getObjId()]
            np.testing.assert_allclose(item.getTransform().getMatrix(), source.getTransform().getMatrix())
            self.assertIn(os.path.basename(other._getPath()), item.getFileName())
        table = Table(fileName=run._getExtraPath(SELECTED_STAR), tableName="particles")
        self.assertEqual([row.vaeParticleId for row in table], ids)
        for row in table:
            self.assertAlmostEqual(row.rlnAngleTilt, 10 + row.vaeParticleId, 3)
            self.assertEqual(row.rlnDefocusU, 10000 + row.vaeParticleId)
            self.assertEqual(row.rlnOpticsGroup, 2 if row.vaeParticleId > 60 else 1)
        optics = Table(fileName=run._getExtraPath(SELECTED_STAR), tableName="optics")
        self.assertEqual([(row.rlnOpticsGroup, row.rlnVoltage) for row in optics], [(1, 300.0), (2, 200.0)])
        run.exportStar.set(False)
        run.runMode.set(MODE_RESUME)
        self.launch(run)
        self.assertFalse(os.path.exists(run._getExtraPath(SELECTED_STAR)))

    def test_flexible_particles_stay_flexible(self):
        run = self.make(VaeganProtSelect, inputClusters=self.clustering, clusterNumbers="2",
                        inputParticles=(self.clustering, "outputParticles"))
        self.assertIsInstance(run.outputParticles, SetOfParticlesFlex)
        self.assertEqual(run.outputParticles.getFlexInfo().getProgName(), "VAE-GAN")
        for item in run.outputParticles:
            np.testing.assert_allclose(item.getZFlex(), [item.getObjId(), label_of(item.getObjId())])

    def test_other_particles_of_the_same_ids_are_refused(self):
        other = import_phantom(self.proj, defocus_offset_ang=5000.0)
        run = self.run_protocol(VaeganProtSelect, wait_ok=False, inputClusters=self.clustering,
                                inputParticles=(other, "outputParticles"))
        self.assertIn("the ids name other particles", run.getErrorMessage())
        run = self.filled(VaeganProtSelect, inputClusters=self.clustering, inputParticles=(other, "outputParticles"))
        self.assertIn("the ids name other particles", " ".join(run._validate()))

    def test_a_blank_beside_the_name_of_a_file_is_no_part_of_it(self):
        path = self.write("8 11\n")
        run = self.make(VaeganProtSelect, inputClusters=self.clustering, selectBy=BY_FILE,
                        selectionFile=f" {path} ")
        self.check(run, [8, 11])
        self.assertIn(f"the ids in {os.path.basename(path)}", run._summary()[0] + "|")

    def test_particles_that_are_given_stand_in_for_clustered_ones_that_are_gone(self):
        with patch.object(VaeganProtCluster, "getParticlesPointer", lambda run: Pointer()):
            run = self.filled(VaeganProtSelect, inputClusters=self.clustering, clusterNumbers="2")
            self.assertIn("The clustered particles are gone", " ".join(run._validate()))
            run = self.make(VaeganProtSelect, inputClusters=self.clustering, clusterNumbers="2",
                            inputParticles=(self.imported, "outputParticles"))
            self.assertEqual(run._validate(), [])
            self.check(run, [i for i in ENABLED_IDS if label_of(i) == 1])
            run.selectBy.set(BY_RANGE)
            run.rangeColumn.set("_ctfModel._defocusU")
            self.assertIn("The particles are gone, and with them the column", " ".join(run._validate()))
            run.inputParticles.set(None)
            self.assertIn(f"{run.outputParticles.getSize()} particles, those of", run._summary()[0])
            self.assertIn("particles were selected", run._methods()[0])

    def test_form_refuses(self):
        unknown = self.write("8 9999")
        for message, values in (("names a cluster that is not there", {"clusterNumbers": "7"}),
                                ("not a number", {"clusterNumbers": "a"}),
                                ("Least membership is 2", {"minProbability": 2.0}),
                                ("is empty. Choose the file", {"selectBy": BY_FILE}),
                                ("This run knows probability, umap_1, umap_2, z_1, z_2 too.",
                                 {"selectBy": BY_RANGE, "rangeColumn": "beauty"}),
                                ("Give the smaller number first", {"selectBy": BY_RANGE, "rangeLow": "2",
                                                                   "rangeHigh": "1"}),
                                ("in this range; the values go from 0.5 to 0.5", {"selectBy": BY_RANGE,
                                                                                  "rangeLow": "0.9"}),
                                ("From is 'much', which is not a number", {"selectBy": BY_RANGE, "rangeLow": "much"}),
                                ("cannot be read", {"selectBy": BY_FILE, "selectionFile": "/no/such.txt"}),
                                ("1 of 2 particle ids are not in", {"selectBy": BY_FILE, "selectionFile": unknown})):
            run = self.newProtocol(VaeganProtSelect, **values)
            run.inputClusters.set(self.clustering)
            self.assertIn(message, "\n".join(run._validate()))
        run = self.newProtocol(VaeganProtSelect, selectBy=BY_CLUSTERS, clusterNumbers="1-3")
        run.inputClusters.set(self.clustering)
        self.assertEqual(run.validate(), [])
