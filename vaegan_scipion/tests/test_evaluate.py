"""The evaluate protocol: labels by id, reference maps with their pixel size, what the form refuses."""
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import mrcfile
import numpy as np
from pwem.objects import Volume
from pyworkflow.protocol import MODE_RESUME

from vaegan_scipion.convert.from_engine import Picture
from vaegan_scipion.protocols import (
    VaeganProtClasses2D,
    VaeganProtCluster,
    VaeganProtEvaluate,
    VaeganProtStates,
    VaeganProtTrain2D,
    VaeganProtTrain3D,
)
from vaegan_scipion.protocols.mask_field import write_volume
from vaegan_scipion.protocols.protocol_evaluate import FROM_FILE, NO_LABELS, validate_labels
from vaegan_scipion.tests.phantom import ENABLED_IDS, ProjectTest, import_phantom, label_of
from vaegan_scipion.viewers import VaeganEvaluateViewer, VaeganStatesViewer


class TestEvaluate(ProjectTest):
    """Runs on the fake engine, whose NMI is the share of particles that have a label."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        particles = (cls.imported, "outputParticles")
        cls.training = cls.make(VaeganProtTrain3D, boxPx=16, nCategories=3, inputParticles=particles)
        cls.clustering = cls.make(VaeganProtCluster, inputTraining=cls.training, nNeighbors=5)

    def write(self, text):
        """A file; returns its path."""
        handle, path = tempfile.mkstemp(suffix=".csv")
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        return path

    def test_classes_of_the_project_as_labels(self):
        run = self.run_protocol(VaeganProtEvaluate, inputClusters=self.clustering,
                                inputClasses=(self.clustering, "outputClasses"))
        scores, n_unassigned = run.readEvaluation().labels, sum(label_of(i) < 0 for i in ENABLED_IDS)
        self.assertEqual(scores.unlabelled, n_unassigned)  # being in no cluster is no label
        self.assertAlmostEqual(scores.nmi, 1 - n_unassigned / len(ENABLED_IDS))
        self.assertFalse(run.hasAttribute("outputVolumes"))
        self.assertIn("Answer: 3 clusters found, the labels have 3", run._summary()[0])
        self.assertIn(f"against 3 labels, {len(ENABLED_IDS) - n_unassigned} particles", run._summary()[1])
        self.assertIn(f"{scores.nmi:.2f}", run._methods()[0])

    def test_junk_of_classes_2d_is_junk_as_a_label(self):
        classes = self.make(VaeganProtClasses2D, boxPx=16, inputParticles=(self.imported, "outputParticles"))
        run = self.make(VaeganProtEvaluate, inputClusters=self.clustering, inputClasses=(classes, "outputClasses"))
        self.assertEqual(run.readEvaluation().labels.states, ["1", "2", "junk"])

    def test_classes_of_other_particles_are_refused(self):
        other = import_phantom(self.proj, defocus_offset_ang=5000.0)
        classes = self.make(VaeganProtCluster, nNeighbors=5, inputTraining=self.make(
            VaeganProtTrain3D, boxPx=16, inputParticles=(other, "outputParticles")))
        run = self.filled(VaeganProtEvaluate, inputClusters=self.clustering, inputClasses=(classes, "outputClasses"))
        self.assertIn("the ids name other particles", " ".join(run._validate()))

    def test_references_then_labels_in_a_file(self):
        run = self.run_protocol(VaeganProtEvaluate, inputClusters=self.clustering, labelsFrom=NO_LABELS,
                                inputReferences=(self.training, "outputVolumes"))
        rate = self.training.getTrainingPixelSize()
        self.assertEqual(run.outputVolumes.getSize(), 3)
        self.assertAlmostEqual(run.outputVolumes.getSamplingRate(), rate, 3)
        sources = {parent.getObjId() for parent in self.proj.getSourceParents(run.outputVolumes)}
        self.assertLessEqual(sources, {self.imported.getObjId(), self.imported.outputParticles.getObjId()})
        self.assertTrue(sources)
        for volume in run.outputVolumes:
            with mrcfile.open(volume.getFileName(), header_only=True) as mrc:
                self.assertAlmostEqual(float(mrc.voxel_size.x), rate, 3)
        self.assertIn("cluster 2 against component 2", run._summary()[2])
        self.assertIn("other hand", run._summary()[2])
        x, y = run.outputFSCs.getFirstItem().getData()
        np.testing.assert_allclose(x, np.arange(1, 9) / (16 * rate), rtol=1e-5)
        np.testing.assert_allclose(y, 1 - np.arange(1, 9) / 8)

        rows = run.readEvaluation().maps[:1]
        odd = [replace(rows[0], compared=replace(rows[0].compared, box_px=17))]  # as many shells as a box of 16
        x, _ = run._makeFSCs(odd).getFirstItem().getData()
        np.testing.assert_allclose(x, np.arange(1, 9) / (17 * rate), rtol=1e-5)

        half = ENABLED_IDS[::2]
        run.labelsFrom.set(FROM_FILE)
        run.labelsFile.set(self.write("id,label\n" + "".join(f"{i},{i % 3}\n" for i in half)))
        run.inputReferences.set(None)
        run.runMode.set(MODE_RESUME)
        self.launch(run)
        self.assertAlmostEqual(run.readEvaluation().labels.nmi, len(half) / len(ENABLED_IDS))
        self.assertIn(f"{len(ENABLED_IDS) - len(half)} particles without a label", run._summary()[2])
        again = self.proj.getProtocol(run.getObjId(), fromRuns=False)
        self.assertEqual(again.outputVolumes.getSize(), 0)  # nothing of the references is left
        self.assertEqual(again.outputFSCs.getSize(), 0)

    def test_a_table_of_a_spreadsheet_has_a_mark_before_its_first_column(self):
        labels = self.write("\ufeffid,label\n" + "".join(f"{i},{i % 3}\n" for i in ENABLED_IDS))
        run = self.make(VaeganProtEvaluate, inputClusters=self.clustering, labelsFrom=FROM_FILE, labelsFile=labels)
        self.assertEqual(run._validate(), [])
        self.assertEqual(run.readEvaluation().labels.nmi, 1.0)

    def test_what_is_no_text_is_no_table_of_labels(self):
        path = self.write("id,label\n1,2\n")
        with open(path, "ab") as stream:
            stream.write(b"3,\xe9tat\n")
        run = self.filled(VaeganProtEvaluate, inputClusters=self.clustering, labelsFrom=FROM_FILE, labelsFile=path)
        self.assertIn("the labels cannot be read", " ".join(run._validate()))

    def test_references_keep_their_order_however_many(self):
        run = self.filled(VaeganProtEvaluate, inputClusters=self.clustering, labelsFrom=NO_LABELS)
        self.proj.saveProtocol(run)
        run.makePathsAndClean()
        volume = self.training.outputVolumes.getFirstItem().clone()
        written = []
        with patch.object(run, "_references", lambda: [volume] * 101), patch(
                "vaegan_scipion.protocols.protocol_evaluate.write_volume",
                lambda _volume, path: (written.append(os.path.basename(path)), open(path, "w").close())):
            run.convertInputStep("")
        self.assertEqual([os.path.basename(path) for path in run._getSettings().maps], written)

    def test_a_reference_keeps_the_name_that_it_was_compared_by(self):
        """Where one of the set was disabled since, or all are gone."""
        training = self.make(VaeganProtTrain3D, boxPx=16, nCategories=3,
                             inputParticles=(self.imported, "outputParticles"))
        run = self.make(VaeganProtEvaluate, inputClusters=self.clustering, labelsFrom=NO_LABELS,
                        inputReferences=(training, "outputVolumes"))
        said = run._summary()
        self.assertIn("cluster 1 against component 1", " ".join(said))
        training.outputVolumes.close()
        with closing(sqlite3.connect(training.outputVolumes.getFileName())) as table:
            table.execute("UPDATE Objects SET enabled = 0 WHERE id = 1")
            table.commit()
        self.assertEqual(run._summary(), said)
        run.inputReferences.set(None)
        self.assertEqual(run._summary(), said)

    def test_references_that_are_gone_or_without_a_sampling_rate_are_refused(self):
        volumes = self.training.outputVolumes.getFirstItem().clone(), self.training.outputVolumes.getFirstItem().clone()
        volumes[0].setFileName("gone.mrc")
        volumes[1]._samplingRate.set(None)
        run = self.filled(VaeganProtEvaluate, inputClusters=self.clustering, labelsFrom=NO_LABELS)
        with patch.object(run, "_references", lambda: volumes):
            said = " ".join(run._validate())
        self.assertIn("gone.mrc: the reference map is not there", said)
        self.assertIn("has a sampling rate of None", said)

    def test_states_have_an_answer_pictures_and_a_report(self):
        states = self.make(VaeganProtStates, boxPx=16, inputParticles=(self.imported, "outputParticles"))
        compared = self.make(VaeganProtEvaluate, inputClusters=states,
                             inputClasses=(self.clustering, "outputClasses"),
                             inputReferences=(states, "outputVolumes"))
        self.assertTrue(compared.outputVolumes.getFirstItem().getObjLabel().startswith("state 1 against"))
        viewer = VaeganEvaluateViewer(project=self.proj, protocol=compared)
        viewer.setProtocol(compared)
        with patch("webbrowser.open") as opened:
            views = {name: show(name) for name, show in viewer._getVisualizeDict().items()}
            views["showReport"][0].show()
        figures = {name: views[name][0].getFigure() for name in viewer.DRAWINGS}
        axes, = figures["showCounts"].axes
        self.assertEqual([tick.get_text() for tick in axes.get_yticklabels()], ["state 1", "state 2", "set aside"])
        answer = figures["showAnswer"].texts[0].get_text().replace("\n", " ")
        for words in ("2 states found, the labels have 3", "state 2", "of Nyquist"):
            self.assertIn(words, answer)
        self.assertEqual([axes.get_ylabel() for axes in figures["showMaps"].axes][::3],
                         ["state 1", "state 1", "state 2", "state 2"])  # each above its reference, which is itself
        self.assertIn("state 1: ", figures["showFsc"].axes[0].get_legend().get_texts()[0].get_text())
        page = Path(opened.call_args[0][0][len("file://"):].replace("%20", " ")).read_text()
        self.assertIn(os.path.abspath(compared._getExtraPath("evaluation")), page)
        self.assertIn(os.path.abspath(states.getStatesDir()), page)
        own = VaeganStatesViewer(project=self.proj, protocol=states)
        own.setProtocol(states)
        with open(own._report()[0].path) as stream:  # the states' own report has it too
            self.assertIn(os.path.abspath(compared._getExtraPath("evaluation")), stream.read())

    def test_reference_is_written_with_the_sampling_rate_of_the_set(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        source, path = os.path.join(folder, "in.mrc"), os.path.join(folder, "out.mrc")
        array = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
        with mrcfile.new(source) as mrc:
            mrc.set_data(array)
            mrc.voxel_size = 9.0  # headers are often wrong: the set decides
        volume = Volume(location=source)
        volume.setSamplingRate(2.5)
        write_volume(volume, path)
        np.testing.assert_array_equal(Picture(0, path).read(), array)
        with mrcfile.open(path) as mrc:
            self.assertAlmostEqual(float(mrc.voxel_size.x), 2.5, 5)

    def test_blanks_beside_the_names_of_columns_are_no_part_of_them(self):
        self.assertEqual(validate_labels(self.write("id , label\n3, 1\n")), [])

    def test_form_refuses(self):
        flat = self.make(VaeganProtCluster, nNeighbors=5, inputTraining=self.make(
            VaeganProtTrain2D, boxPx=16, inputParticles=(self.imported, "outputParticles")))
        for message, clustering, reference, values in (
                ("nothing to compare with", self.clustering, None, {"labelsFrom": NO_LABELS}),
                ("there are none", self.clustering, None, {}),
                ("is empty", self.clustering, None, {"labelsFrom": FROM_FILE}),
                ("cannot be read", self.clustering, None, {"labelsFrom": FROM_FILE, "labelsFile": "/no/such.csv"}),
                ("it has the columns a, b", self.clustering, None,
                 {"labelsFrom": FROM_FILE, "labelsFile": self.write("a,b\n1,2\n")}),
                ("of no use after a 2D", flat, (self.training, "outputVolumes"), {"labelsFrom": NO_LABELS})):
            run = self.newProtocol(VaeganProtEvaluate, **values)
            run.inputClusters.set(clustering)
            if reference:
                run.inputReferences.set(reference[0])
                run.inputReferences.setExtended(reference[1])
            self.assertIn(message, "\n".join(run._validate()))
