"""Viewers of runs whose files were deleted or cut, and forms that take them: a picture or a sentence, no traceback."""
import os
import shutil
from pathlib import Path
from unittest.mock import Mock, patch

from pwem.viewers import EmPlotter
from pyworkflow.viewer import MessageView

from vaegan_scipion.protocols import (
    VaeganProtClasses2D,
    VaeganProtCluster,
    VaeganProtConsensus,
    VaeganProtEvaluate,
    VaeganProtFullres,
    VaeganProtSelect,
    VaeganProtStates,
    VaeganProtTrain2D,
    VaeganProtTrain3D,
    VaeganProtTraverse,
)
from vaegan_scipion.protocols.protocol_evaluate import NO_LABELS
from vaegan_scipion.protocols.protocol_select import BY_RANGE
from vaegan_scipion.protocols.protocol_train_2d import OF_CLASSES
from vaegan_scipion.tests.phantom import ProjectTest
from vaegan_scipion.viewers import (
    VaeganClasses2DViewer,
    VaeganClusterViewer,
    VaeganEvaluateViewer,
    VaeganStatesViewer,
    VaeganTrainViewer,
    VaeganTraverseViewer,
)
from vaegan_scipion.viewers.engine_views import BrowserView

RESULTS = (".json", ".jsonl", ".csv", ".mrc", ".mrcs", ".png", ".npz")


class TestBrokenResults(ProjectTest):
    """On the fake engine."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        particles = (cls.imported, "outputParticles")
        states = cls.states = cls.make(VaeganProtStates, boxPx=16, inputParticles=particles)
        training = cls.training = cls.make(VaeganProtTrain3D, inputStates=states)
        clustering = cls.clustering = cls.make(VaeganProtCluster, inputTraining=training, nNeighbors=5)
        cls.viewers = [
            (VaeganStatesViewer, states), (VaeganTrainViewer, training), (VaeganClusterViewer, clustering),
            (VaeganTraverseViewer, cls.make(VaeganProtTraverse, inputClusters=clustering)),
            (VaeganEvaluateViewer, cls.make(VaeganProtEvaluate, inputClusters=clustering,
                                            inputClasses=(states, "outputClasses"))),
            (VaeganClasses2DViewer, cls.make(VaeganProtClasses2D, boxPx=16, inputParticles=particles))]

    def press_all(self, viewer_class, protocol):
        """Press every button; how many gave a message."""
        viewer = viewer_class(project=self.proj, protocol=protocol)
        viewer.setProtocol(protocol)
        with patch.object(viewer, "showError", create=True) as said, patch.object(MessageView, "show") as told, \
                patch.object(EmPlotter, "show"), patch.object(BrowserView, "show"), \
                patch.object(viewer, "table_view", Mock(return_value=[])):  # Scipion's own
            for name in viewer._getVisualizeDict():
                with self.subTest(viewer=viewer_class.__name__, button=name):
                    viewer._visualizeParam(name)
        return said.call_count + told.call_count

    def forms(self):
        """Forms that take the runs, each filled in so that it may be run."""
        classes = self.viewers[-1][1]
        return [self.filled(VaeganProtFullres, inputStates=self.states),
                self.filled(VaeganProtTrain3D, inputStates=self.states),
                self.filled(VaeganProtTrain2D, posesFrom=OF_CLASSES, inputClasses2D=classes),
                self.filled(VaeganProtCluster, inputTraining=self.training, nNeighbors=5),
                self.filled(VaeganProtTrain3D, continueFrom=self.training, inputStates=self.states),
                self.filled(VaeganProtStates, boxPx=16, inputClusters=self.clustering,
                            inputParticles=(self.imported, "outputParticles")),
                self.filled(VaeganProtTraverse, inputClusters=self.clustering),
                *[self.filled(VaeganProtSelect, inputClusters=run, **values)
                  for run in (self.clustering, self.states, classes)
                  for values in ({}, {"selectBy": BY_RANGE}, {"selectBy": BY_RANGE, "rangeColumn": "z_1"})],
                self.filled(VaeganProtEvaluate, inputClusters=self.states, labelsFrom=NO_LABELS,
                            inputReferences=(self.states, "outputVolumes")),
                self.filled(VaeganProtConsensus, inputRuns=[self.states, self.clustering])]

    def said_by_forms(self):
        """Every form, and every run, says sentences."""
        for form in [*self.forms(), *[run for _, run in self.viewers]]:
            with self.subTest(form=type(form).__name__):
                said = "\n".join(map(str, [*form.validate(), *form.warnings(), *form.summary(), *form.methods()]))
                for bad in ("validation failed", "Traceback"):
                    self.assertNotIn(bad, said)

    def damaged(self, damage):
        """Press all buttons of all viewers while the files of a run are damaged, one run at a time."""
        for viewer_class, protocol in self.viewers:
            extra, kept = Path(protocol._getExtraPath()), Path(protocol._getPath("kept"))
            shutil.copytree(extra, kept)
            for path in sorted(extra.rglob("*")):
                if path.is_file() and path.suffix in RESULTS:
                    damage(path)
            try:
                self.assertGreater(self.press_all(viewer_class, protocol), 0, viewer_class.__name__)
                self.said_by_forms()
            finally:
                shutil.rmtree(extra)
                shutil.move(str(kept), str(extra))

    def test_files_that_are_gone(self):
        self.damaged(os.remove)

    def test_files_that_are_cut(self):
        self.damaged(lambda path: os.truncate(path, path.stat().st_size // 3))

    def test_empty_files(self):
        self.damaged(lambda path: os.truncate(path, 0))

    def test_tables_of_sets_that_are_gone(self):
        """Of the particles behind a run that a form takes."""
        for _, output in self.states.iterOutputAttributes():
            output.close()
        table = Path(self.states.outputParticles.getFileName())
        kept = table.with_suffix(".kept")
        table.rename(kept)
        try:
            form = self.filled(VaeganProtCluster, inputTraining=self.training, nNeighbors=5)
            said = " ".join(form._validate())
            self.assertIn("The table of a set that it takes is gone or cut", said)
            self.assertNotIn("another release", said)
        finally:
            self.states.outputParticles.close()
            kept.replace(table)
