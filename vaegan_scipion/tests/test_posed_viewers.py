"""What there is to see after a training at the poses of states: answer, colours of the UMAP, saved pictures."""
import os
import sqlite3
import subprocess
from contextlib import closing
from unittest.mock import patch

import numpy as np
from pyworkflow.protocol import STATUS_FINISHED
from pyworkflow.viewer import MessageView

from vaegan_scipion.convert.columns import ColumnError, read_column
from vaegan_scipion.convert.from_engine import read_clusters
from vaegan_scipion.engine.vaegan_engine.contract.errors import DataError
from vaegan_scipion.protocols import VaeganProtCluster, VaeganProtStates, VaeganProtTrain3D
from vaegan_scipion.tests.phantom import ENABLED_IDS, ProjectTest, import_phantom, label_of
from vaegan_scipion.viewers import VaeganClusterViewer, VaeganStatesViewer
from vaegan_scipion.viewers.engine_views import make_counterpart
from vaegan_scipion.viewers.viewer_cluster import COLOURS


class TestPosedViewers(ProjectTest):
    """What there is to see after a training at the poses of states."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.states = cls.make(VaeganProtStates, boxPx=16, inputParticles=(cls.imported, "outputParticles"))
        training = cls.make(VaeganProtTrain3D, inputStates=cls.states)
        cls.clustering = cls.make(VaeganProtCluster, inputTraining=training, nNeighbors=5)

    def viewer(self, **values):
        viewer = VaeganClusterViewer(project=self.proj, protocol=self.clustering)
        viewer.setProtocol(self.clustering)
        for name, value in values.items():
            getattr(viewer, name).set(value)
        return viewer

    def test_the_answer(self):
        figure = self.viewer()._getVisualizeDict()["showAnswer"]()[0].getFigure()
        sentence = " ".join(figure.texts[0].get_text().split())
        self.assertIn("Trust the states.", sentence)
        self.assertIn(f"Answer: {sentence}", self.clustering._summary()[0])
        crossed = self.clustering.readCrossing()
        self.assertEqual(crossed.n_particles, self.states.outputParticles.getSize())
        ids = [i for i in ENABLED_IDS if i % 10 and label_of(i) == 1]
        self.assertEqual(crossed.counts[1], (sum(i % 2 == 0 for i in ids), sum(i % 2 for i in ids)))

    def test_the_report_has_the_states_at_whose_poses_the_training_was_made(self):
        other = self.newProtocol(VaeganProtStates)  # newer, of the clustered particles: not at its poses
        other.inputParticles.set(self.states)
        other.inputParticles.setExtended("outputParticles")
        self.proj.saveProtocol(other)
        other.setStatus(STATUS_FINISHED)
        self.proj._storeProtocol(other)
        with patch("vaegan_scipion.viewers.viewer_base.make_report", return_value="report.html") as made:
            self.viewer()._getVisualizeDict()["showReport"]()
        self.assertEqual(made.call_args[1]["states"].getObjId(), self.states.getObjId())

    def test_every_colour(self):
        ids = [i for i in ENABLED_IDS if i % 10]
        for number, (colour, expected) in enumerate(zip(COLOURS, (
                [label_of(i) for i in ids], [i % 2 for i in ids], [10000.0 + i for i in ids],
                [1 + i / 100 for i in ids], [10.0 + i % 160 for i in ids], None, [0.5] * len(ids), None))):
            viewer = self.viewer(colourBy=number, colourColumn="_ctfModel._phaseShift")
            views = viewer._getVisualizeDict()["showColoured"]()
            if colour == "micrograph":  # this import knows none
                self.assertIsInstance(views[0], MessageView)
                continue
            self.assertTrue(views[0].getFigure().axes, colour)
            if expected is not None:
                clusters = read_clusters(self.clustering.getClustersDir())
                np.testing.assert_allclose(viewer.values_of(colour, clusters).values, expected)

    def test_a_column_that_is_not_there(self):
        particles = self.imported.outputParticles
        with self.assertRaisesRegex(ColumnError, "no column 'defocusU'. Did you mean _ctfModel._defocusU?"):
            read_column(particles, "defocusU")
        with self.assertRaisesRegex(ColumnError, "no column ''. They have"):
            read_column(particles, "")
        with self.assertRaisesRegex(ColumnError, "'_ctfModel._fitQuality' holds nothing"):
            read_column(particles, "_ctfModel._fitQuality")
        self.assertEqual(read_column(particles, "_ctfModel._defocusU")[ENABLED_IDS[0]], 10000 + ENABLED_IDS[0])

    def test_two_windows_ask_for_counterparts_at_once(self):
        """Each gets that of its own particle: the first engine is still at work when the second is asked."""
        second = []
        run = subprocess.run

        def slow(command, **words):
            if not second:
                second.append(None)
                second[0] = make_counterpart(self.clustering, ENABLED_IDS[1])
            return run(command, **words)

        with patch("vaegan_scipion.viewers.engine_views.subprocess.run", side_effect=slow):
            first = make_counterpart(self.clustering, ENABLED_IDS[2])
        self.assertEqual((int(first.image[0, 0]), int(second[0].image[0, 0])), (ENABLED_IDS[2] + 1, ENABLED_IDS[1] + 1))
        self.assertEqual(os.listdir(self.clustering._getTmpPath()), [])

    def test_zeros_are_values(self):
        """No phase plate: a phase shift of 0 degrees of all particles can be shown and selected by."""
        particles = import_phantom(self.proj).outputParticles
        particles.close()
        with closing(sqlite3.connect(particles.getFileName())) as table:
            column, = table.execute("SELECT column_name FROM Classes WHERE label_property = '_ctfModel._phaseShift'"
                                    ).fetchone()
            table.execute(f"UPDATE Objects SET {column} = 0")
            table.commit()
        self.assertEqual(set(read_column(particles, "_ctfModel._phaseShift").values()), {0})

    def test_results_of_another_release_are_told(self):
        viewer = VaeganStatesViewer(project=self.proj, protocol=self.states)
        viewer.setProtocol(self.states)
        unread = DataError("states.json: it cannot be read.", "Run vaegan states first.")
        with patch.object(VaeganProtStates, "readSummary", side_effect=unread), \
                patch.object(viewer, "showError", create=True) as shown:
            viewer._visualizeParam("showVerdict")
        self.assertIn("nothing to show here. Run it again with Restart.\n\nstates.json", shown.call_args[0][0])

    def test_all_pictures_are_saved(self):
        states = VaeganStatesViewer(project=self.proj, protocol=self.states)
        for viewer, n_drawings in ((self.viewer(), 6), (states, 9)):
            views = viewer._getVisualizeDict()["savePictures"]()
            self.assertIsInstance(views[0], MessageView)
            folder = viewer.protocol._getExtraPath("pictures")
            found = sorted(os.listdir(folder))
            self.assertEqual(len(found), 3 * n_drawings, found)
            for name in found:
                with open(os.path.join(folder, name), "rb") as stream:
                    self.assertIn(stream.read(4), (b"\x89PNG", b"%PDF", b"<?xm"))
