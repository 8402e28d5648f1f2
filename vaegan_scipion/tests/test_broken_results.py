"""Viewers of runs whose files were deleted or cut: every button gives a picture or a message, and no traceback."""
import os
import shutil
from pathlib import Path
from unittest.mock import Mock, patch

from pwem.viewers import EmPlotter
from pyworkflow.viewer import MessageView

from vaegan_scipion.protocols import (
    VaeganProtClasses2D,
    VaeganProtCluster,
    VaeganProtEvaluate,
    VaeganProtStates,
    VaeganProtTrain3D,
    VaeganProtTraverse,
)
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
        states = cls.make(VaeganProtStates, boxPx=16, inputParticles=particles)
        training = cls.make(VaeganProtTrain3D, inputStates=states)
        clustering = cls.make(VaeganProtCluster, inputTraining=training, nNeighbors=5)
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
            finally:
                shutil.rmtree(extra)
                shutil.move(str(kept), str(extra))

    def test_files_that_are_gone(self):
        self.damaged(os.remove)

    def test_files_that_are_cut(self):
        self.damaged(lambda path: os.truncate(path, path.stat().st_size // 3))

    def test_empty_files(self):
        self.damaged(lambda path: os.truncate(path, 0))
