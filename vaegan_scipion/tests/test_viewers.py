"""Each plot draws the numbers it is given; each viewer finds its protocol and opens headless."""
import os
import re
import sys
import tempfile
from pathlib import Path
from unittest import TestCase
from unittest.mock import patch

import mrcfile
import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imsave
from pwem.viewers import Chimera, EmPlotter
from pyworkflow.config import Config
from pyworkflow.viewer import DESKTOP_TKINTER, MessageView

from vaegan_scipion.convert.from_engine import Picture
from vaegan_scipion.engine.vaegan_engine.contract import drawings, result_files
from vaegan_scipion.engine.vaegan_engine.contract.answer import crossing
from vaegan_scipion.engine.vaegan_engine.contract.labels import STATES
from vaegan_scipion.protocols import (
    VaeganProtCluster,
    VaeganProtEvaluate,
    VaeganProtTrain2D,
    VaeganProtTrain3D,
    VaeganProtTraverse,
)
from vaegan_scipion.protocols.protocol_evaluate import NO_LABELS
from vaegan_scipion.tests.phantom import ENABLED_IDS, ProjectTest, label_of
from vaegan_scipion.viewers import (
    VaeganClusterViewer,
    VaeganEvaluateViewer,
    VaeganTrainViewer,
    VaeganTraverseViewer,
    plots,
)
from vaegan_scipion.viewers.umap_colours import Values, draw_umap_values


class TestReading(TestCase):
    """Images read from disk."""

    def test_a_stack_of_one_image(self):
        """It is an image for mrcfile: the first of it is not its first row."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path, image = os.path.join(folder.name, "one.mrcs"), np.arange(16, dtype=np.float32).reshape(1, 4, 4)
        with mrcfile.new(path) as mrc:
            mrc.set_data(image)
            mrc.set_image_stack()
        np.testing.assert_array_equal(Picture(1, path).read(), image[0])


class TestPlots(TestCase):
    """Pure drawings."""

    def test_umap_draws_every_particle_in_its_cluster(self):
        umap = np.arange(24.0).reshape(12, 2)
        labels = np.array([0, 1, -1, 0, 1, 2, 0, 1, -1, 0, 1, 11])
        axes, = plots.draw_umap(Figure(), umap, labels).axes
        self.assertEqual(len(axes.collections), 5)
        # the unassigned lowest, then from large to small
        for collection, label in zip(axes.collections, (-1, 0, 1, 2, 11)):
            np.testing.assert_array_equal(collection.get_offsets(), umap[labels == label])
            self.assertEqual(to_hex(collection.get_facecolor()[0]), plots.cluster_colour(label))
        legend = axes.get_legend()
        self.assertEqual([text.get_text() for text in legend.get_texts()],
                         ["cluster 1: 4", "cluster 2: 4", "cluster 3: 1", "cluster 12: 1", "unassigned: 2"])
        self.assertEqual([to_hex(handle.get_facecolor()[0]) for handle in legend.legend_handles],
                         [plots.cluster_colour(label) for label in (0, 1, 2, 11, -1)])

    def test_umap_of_many_is_a_density_of_all(self):
        n = drawings.MAX_POINTS + 10
        umap = np.random.default_rng(0).normal(size=(n, 2))
        axes, = plots.draw_umap(Figure(), umap, np.arange(n) % 2).axes
        self.assertEqual(len(axes.images), 1)
        texts = [text.get_text() for text in axes.get_legend().get_texts()]
        self.assertEqual(texts, [f"cluster 1: {n // 2}", f"cluster 2: {n // 2}"])

    def test_density_counts_and_mixes(self):
        umap = np.array([[0.0, 0.0]] * 7 + [[1.0, 1.0]] * 3)
        labels = np.array([0] * 7 + [1] * 2 + [2])
        picture, extent = drawings.density_image(umap, labels, n_bins=2)
        np.testing.assert_allclose(extent, [-0.02, 1.02, -0.02, 1.02])
        np.testing.assert_allclose(picture[0, 0], [*to_rgb(plots.cluster_colour(0)), 1.0])
        mixed = (2 * np.array(to_rgb(plots.cluster_colour(1))) + np.array(to_rgb(plots.cluster_colour(2)))) / 3
        np.testing.assert_allclose(picture[1, 1], [*mixed, 0.2 + 0.8 * np.log(4) / np.log(8)])
        np.testing.assert_array_equal(picture[[0, 1], [1, 0], 3], 0)

    def test_curves(self):
        rows = [{"kimg": 1.0, "a_loss": 3.0, "lr_factor": 1.0}, {"kimg": 2.0, "a_loss": 2.0, "b": 7.0}]
        first, second = plots.draw_curves(Figure(), rows).axes
        np.testing.assert_array_equal(first.lines[0].get_xydata(), [[1, 3], [2, 2]])
        np.testing.assert_array_equal(second.lines[0].get_xydata(), [[2, 7]])

    def test_resolution_of_a_straight_fsc(self):
        x = np.linspace(0.01, 0.1, 10)
        curve = drawings.Curve(0, x, 1 - 10 * x)  # fsc = t at frequency (1 - t) / 10
        for threshold in drawings.FSC_THRESHOLDS:
            self.assertAlmostEqual(curve.resolution_ang(threshold), 10 / (1 - threshold), 6)
        self.assertAlmostEqual(drawings.Curve(0, x, np.ones(10)).resolution_ang(0.5), 10)
        self.assertEqual(drawings.Curve(0, x, np.zeros(10)).resolution_ang(0.5), float("inf"))

    def test_fsc_draws_curves_and_thresholds(self):
        x = np.linspace(0.01, 0.1, 10)
        axes, = plots.draw_fsc(Figure(), [drawings.Curve(1, x, 1 - 10 * x)]).axes
        np.testing.assert_allclose(axes.lines[0].get_ydata(), 1 - 10 * x)
        self.assertEqual([line.get_ydata()[0] for line in axes.lines[1:]], [0.143, 0.5])
        self.assertEqual(axes.get_legend().get_texts()[0].get_text(), "cluster 2: 11.7, 20.0 Å")
        self.assertEqual(list(axes.patches), [])
        grey = plots.draw_fsc(Figure(), [drawings.Curve(1, x, 1 - 10 * x)], unproven_per_ang=0.03).axes[0]
        self.assertAlmostEqual(grey.patches[0].get_extents().transformed(grey.transData.inverted()).x1, 0.03)
        self.assertIn("not proven: shared by the halves", [text.get_text() for text in grey.get_legend().get_texts()])
        both = [drawings.Curve(label, x, 1 - 10 * x) for label in (0, 1)]
        grey = plots.draw_fsc(Figure(), both, unproven_per_ang=0.03).axes[0]  # that of the worse one
        self.assertEqual(grey.get_legend().get_texts()[0].get_text(),
                         "not proven of at least one: shared by the halves")

    def test_slices_are_the_central_sections(self):
        array = np.random.default_rng(0).normal(size=(5, 5, 5))
        figure = plots.draw_slices(Figure(), [array, array + 1], ["a", "b"])
        drawn = [axes.images[0].get_array() for axes in figure.axes]
        self.assertEqual(len(drawn), 6)
        for section, expected in zip(drawn, (array[2], array[:, 2], array[:, :, 2])):
            np.testing.assert_array_equal(section, expected)

    def test_montage(self):
        images = np.random.default_rng(0).normal(size=(3, 4, 4))
        figure = plots.draw_montage(Figure(), images, "abc")
        for axes, image, title in zip(figure.axes, images, "abc"):
            np.testing.assert_array_equal(axes.images[0].get_array(), image)
            self.assertEqual(axes.get_title(), title)

    def test_traversal_is_ordered_and_says_how_many_are_near(self):
        points = [plots.Point(0, 1, position, int(10 * position), np.full((2, 2), position))
                  for position in (3.0, 1.0, 2.0)] + [plots.Point(2, 1, 0.5, 4, np.zeros((2, 2)))]
        figure = plots.draw_traversal(Figure(), points)
        self.assertEqual([axes.get_title() for axes in figure.axes],
                         ["1.00: 10 near", "2.00: 20 near", "3.00: 30 near", "0.50: 4 near"])
        self.assertEqual(figure.axes[3].get_ylabel(), "cluster 3\ncomponent 1")


    def test_scale_bar_has_a_round_length(self):
        for width_px, pixel_size_ang, length_ang in ((48, 4.5, 50), (32, 9.0, 50), (128, 1.3, 50), (64, 1.0, 20)):
            axes = Figure().add_subplot()
            drawings.draw_scale_bar(axes, width_px, pixel_size_ang)
            x = axes.lines[0].get_xdata()
            self.assertAlmostEqual((x[1] - x[0]) * pixel_size_ang, length_ang)
            self.assertEqual(axes.texts[0].get_text(), f"{length_ang} Å")
        drawings.draw_scale_bar(axes, 64, 0.0)
        self.assertEqual(len(axes.lines), 1)

    def test_answer_says_it_in_a_sentence_and_shows_the_table(self):
        crossed = crossing({1: 0, 2: 0, 3: 1, 4: -1}, {1: 0, 2: 0, 3: 1, 4: 1})
        figure = plots.draw_answer(Figure(plots.answer_size_in(crossed)), crossed, "Trust the states.")
        self.assertEqual(figure.texts[0].get_text(), "Trust the states.")
        self.assertEqual([text.get_text() for text in figure.axes[0].texts], ["2", "0", "0", "1", "0", "1"])
        self.assertEqual([tick.get_text() for tick in figure.axes[0].get_xticklabels()], ["state 1", "state 2"])

    def test_umap_by_numbers_and_by_names(self):
        umap = np.arange(80.0).reshape(40, 2)
        figure = draw_umap_values(Figure(), umap, Values("defocus", [float(i) for i in range(39)] + [None]))
        self.assertEqual(len(figure.axes), 2)  # with a colour bar
        grey, dots = figure.axes[0].collections
        np.testing.assert_array_equal(dots.get_array(), np.arange(39.0))
        self.assertEqual(len(grey.get_offsets()), 1)
        names = ["a"] * 20 + ["b"] * 15 + [f"micrograph {i}" for i in range(5)]
        figure = draw_umap_values(Figure(), umap, Values("micrograph", names))
        axes, = figure.axes
        self.assertEqual(axes.get_legend().get_texts()[0].get_text(), "a: 20")
        figure = draw_umap_values(Figure(), umap, Values("state", [0, 1] * 20, STATES))
        self.assertEqual({to_hex(c.get_facecolor()[0]) for c in figure.axes[0].collections},
                         {STATES.colour(0), STATES.colour(1)})


class TestViewers(ProjectTest):
    """Forms of the viewers on runs of the fake engine."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.proj.port = 0
        cls.runs = {}
        for protocol_class in (VaeganProtTrain3D, VaeganProtTrain2D):
            training = cls.run_protocol(protocol_class, boxPx=16, inputParticles=(cls.imported, "outputParticles"))
            clustering = cls.run_protocol(VaeganProtCluster, inputTraining=training, nNeighbors=5,
                                          doHalves=protocol_class is VaeganProtTrain3D)
            traversal = cls.run_protocol(VaeganProtTraverse, inputClusters=clustering, nPoints=2)
            cls.runs[protocol_class] = (training, clustering, traversal)

    def open(self, viewer_class, protocol):
        """Views of every button of a viewer, by name."""
        viewer = viewer_class(project=self.proj, protocol=protocol)
        viewer.setProtocol(protocol)
        return viewer, {name: show(name) for name, show in viewer._getVisualizeDict().items()}

    def figure(self, views):
        """The one figure among views."""
        self.assertEqual(len(views), 1)
        self.assertIsInstance(views[0], EmPlotter)
        figure = views[0].getFigure()
        figure.canvas.draw()
        return figure

    def test_scipion_finds_the_viewers(self):
        domain = Config.getDomain()
        for protocol_class, viewer_class in ((VaeganProtTrain2D, VaeganTrainViewer),
                                             (VaeganProtTrain3D, VaeganTrainViewer),
                                             (VaeganProtCluster, VaeganClusterViewer),
                                             (VaeganProtEvaluate, VaeganEvaluateViewer),
                                             (VaeganProtTraverse, VaeganTraverseViewer)):
            found = domain.findViewers(protocol_class.__name__, DESKTOP_TKINTER)
            self.assertIn(viewer_class.__name__, [viewer.__name__ for viewer in found])

    def test_a_button_of_a_run_without_results_says_so(self):
        unfinished = self.newProtocol(VaeganProtTraverse)
        unfinished.inputClusters.set(self.runs[VaeganProtTrain3D][1])
        self.proj.saveProtocol(unfinished)
        viewer = VaeganTraverseViewer(project=self.proj, protocol=unfinished)
        viewer.setProtocol(unfinished)
        with patch.object(viewer, "showError", create=True) as said, patch.object(MessageView, "show"):
            for name in viewer._getVisualizeDict():
                viewer._visualizeParam(name)
        self.assertGreaterEqual(said.call_count, 3)
        for call in said.call_args_list:
            self.assertIn("nothing to show here. It is not finished.", call[0][0])

    def test_training(self):
        for protocol_class, n_pictures in ((VaeganProtTrain3D, 18), (VaeganProtTrain2D, 6)):
            training = self.runs[protocol_class][0]
            _, views = self.open(VaeganTrainViewer, training)
            curves = self.figure(views["showCurves"])
            np.testing.assert_allclose(curves.axes[0].lines[0].get_ydata(), [1, 1 / 2, 1 / 3])
            self.assertEqual(len(self.figure(views["showComponents"]).axes), n_pictures)
            self.assertEqual(len(views["showTable"]), 1)
            self.assertNotIsInstance(views["showTable"][0], MessageView)

    def test_newest_preview(self):
        training = self.runs[VaeganProtTrain3D][0]
        self.assertIn("first tick", self.open(VaeganTrainViewer, training)[1]["showPreview"][0].getMessage())
        folder = os.path.join(training.getRunDir(), result_files.PREVIEWS)
        os.makedirs(folder)
        for seen in (9000, 12000, 300):
            imsave(os.path.join(folder, f"tick_{seen:010d}.png"), np.full((3, 3), float(seen)), vmin=0, vmax=12000,
                   cmap="gray")
        _, views = self.open(VaeganTrainViewer, training)
        self.assertEqual(self.figure(views["showPreview"]).axes[0].images[0].get_array()[0, 0, 0], 1.0)

    def test_live_curves_of_a_run(self):
        training = self.runs[VaeganProtTrain3D][0]
        views = VaeganTrainViewer(project=self.proj, protocol=training)._curves()
        self.assertFalse(views[0].getFigure().content.update())  # it has finished
        self.assertIn("finished, 9.6 of 9.6 thousand images, 100 images/s", views[0].getFigure()._suptitle.get_text())

    def test_clusters(self):
        for protocol_class, n_pictures in ((VaeganProtTrain3D, 12), (VaeganProtTrain2D, 4)):
            training, clustering, _ = self.runs[protocol_class]
            with patch("webbrowser.open") as opened:
                _, views = self.open(VaeganClusterViewer, clustering)
                views["showReport"][0].show()
            self.check_umap(self.figure(views["showUmap"]).axes[0])
            self.assertEqual(len(self.figure(views["showDensity"]).axes[0].images), 1)
            self.assertEqual(len(self.figure(views["showPictures"]).axes), n_pictures)
            self.assertNotIsInstance(views["showClasses"][0], MessageView)
            page = Path(opened.call_args[0][0][len("file://"):].replace("%20", " "))
            self.assertIn(training.getRunDir(), page.read_text())
            sentence = " ".join(self.figure(views["showAnswer"]).texts[0].get_text().split())
            self.assertIn("The embedding was made without poses" if protocol_class is VaeganProtTrain3D
                          else "take these for groups of views", sentence)
            self.assertEqual(clustering._summary()[0], f"Answer: {sentence}")
            if protocol_class is VaeganProtTrain3D:
                self.assertEqual(len(self.figure(views["showSurfaces"]).axes), n_pictures)
                axes, = self.figure(views["showFsc"]).axes
                self.assertEqual(len(axes.lines), 3 + 2)
            else:
                self.assertIn("has no FSC", views["showFsc"][0].getMessage())

    def check_umap(self, axes):
        drawn = np.concatenate([collection.get_offsets() for collection in axes.collections])
        expected = sorted((0.25 * i, -0.5 * label_of(i)) for i in ENABLED_IDS)
        np.testing.assert_allclose(sorted(map(tuple, np.asarray(drawn))), expected)

    def test_cards(self):
        for protocol_class in self.runs:
            viewer = VaeganClusterViewer(project=self.proj, protocol=self.runs[protocol_class][1])
            cards = viewer.read_cards()
            self.assertEqual([card.label for card in cards], [0, 1, 2, -1])
            for card in cards:
                self.assertEqual(card.n_particles, sum(label_of(i) == card.label for i in ENABLED_IDS))
                self.assertEqual([point.n_near for point in card.strip], [10, 11] if card.label >= 0 else [])
                self.assertEqual(card.curve is not None, protocol_class is VaeganProtTrain3D and card.label >= 0)
            n_views = 3 if protocol_class is VaeganProtTrain3D else 1
            n_curves = 3 if protocol_class is VaeganProtTrain3D else 0
            figure = self.figure(viewer._cards())
            self.assertEqual(len(figure.axes), 4 + 4 * n_views + 3 * 2 + n_curves)

    def explorer(self, protocol_class=VaeganProtTrain3D):
        """The content of an explorer window on the fake run."""
        viewer = VaeganClusterViewer(project=self.proj, protocol=self.runs[protocol_class][1])
        return viewer, self.keep(viewer._umap())

    def keep(self, views):
        """The content of a window, which stays open until the end of the test."""
        self.windows = getattr(self, "windows", []) + views
        return views[0].getFigure().content

    def test_a_click_shows_the_particle_and_its_counterpart(self):
        _, explorer = self.explorer()
        row = ENABLED_IDS.index(8)
        explorer.on_lasso([(0.25 * 8, -0.5 * label_of(8))])
        self.assertEqual(explorer.shown, row)
        self.assertEqual(explorer.particle_axes.get_title(), "particle 8")
        explorer._pending.result(60)
        explorer.poll()
        self.assertIn("particle 8, r = 0.25", explorer.generated_axes.get_title())
        np.testing.assert_array_equal(explorer.generated_axes.images[0].get_array(), 9)  # the generated one: id + 1
        explorer.clusters.particle_id[0] = 10 ** 6
        explorer.show_particle(0)
        self.assertIn("cannot be read (it is not among the particles any more)", explorer.status.get_text())

    def test_a_lasso_is_a_finished_subset(self):
        """What a mouse does is in test_gui; here the polygon, the ids and the run."""
        viewer, explorer = self.explorer()
        explorer.on_create()
        self.assertIn("Nothing is selected", explorer.status.get_text())
        with patch.object(explorer, "selected_ids", [8]), patch(
                "vaegan_scipion.viewers.viewer_cluster.os.makedirs", side_effect=PermissionError("not yours")):
            explorer.on_create()
        self.assertIn("The subset cannot be made (not yours)", explorer.status.get_text())
        explorer.on_lasso([(4.9, 0.1), (10.1, 0.1), (10.1, -0.6), (4.9, -0.6)])
        expected = [i for i in ENABLED_IDS if 20 <= i <= 40 and label_of(i) in (0, 1)]
        self.assertEqual(explorer.selected_ids, expected)
        self.assertIn(f"{len(expected)} particles selected", explorer.status.get_text())
        with patch.object(self.proj, "launchProtocol", side_effect=self.proj.launchProtocol) as launched:
            launched.side_effect = lambda protocol: type(self.proj).launchProtocol(self.proj, protocol, wait=True)
            explorer.on_create()
        self.assertIn(f"subset of {len(expected)} particles is being made", explorer.status.get_text())
        selection = launched.call_args[0][0]
        self.assertTrue(selection.isFinished(), selection.getErrorMessage())
        self.assertEqual([particle.getObjId() for particle in selection.outputParticles], expected)
        explorer.on_clear()
        self.assertEqual(explorer.selected_ids, [])
        self.assertIn("not in the particles", viewer.create_subset([10 ** 6]))

    def test_evaluation(self):
        training, clustering, _ = self.runs[VaeganProtTrain3D]
        labels = self.run_protocol(VaeganProtEvaluate, inputClusters=clustering,
                                   inputClasses=(clustering, "outputClasses"))
        maps = self.run_protocol(VaeganProtEvaluate, inputClusters=clustering, labelsFrom=NO_LABELS,
                                 inputReferences=(training, "outputVolumes"))
        with patch("webbrowser.open") as opened:
            _, views = self.open(VaeganEvaluateViewer, labels)
            views["showReport"][0].show()
        page = Path(opened.call_args[0][0][len("file://"):].replace("%20", " "))
        self.assertIn(labels._getExtraPath("evaluation"), page.read_text())
        axes, = self.figure(views["showCounts"]).axes
        drawn = np.array([int(text.get_text()) for text in axes.texts]).reshape(4, 3)
        counts = [sum(label_of(i) == label for i in ENABLED_IDS) for label in range(3)]
        np.testing.assert_array_equal(drawn, [*np.diag(counts), [0] * 3])  # the classes are the clusters
        self.assertEqual([tick.get_text() for tick in axes.get_yticklabels()],
                         ["cluster 1", "cluster 2", "cluster 3", "unassigned"])
        self.assertIn("labels only", views["showFsc"][0].getMessage())
        _, views = self.open(VaeganEvaluateViewer, maps)
        self.assertIn("maps only", views["showCounts"][0].getMessage())
        self.assertEqual(len(self.figure(views["showFsc"]).axes[0].lines), len(maps.outputFSCs) + 2)
        self.assertEqual(len(self.figure(views["showMaps"]).axes), 2 * 3 * len(maps.outputFSCs))  # and references
        self.assertNotIsInstance(views["showTable"][0], MessageView)

    def test_traversal(self):
        for protocol_class in self.runs:
            with patch("webbrowser.open"):
                viewer, views = self.open(VaeganTraverseViewer, self.runs[protocol_class][2])
            self.assertEqual(len(self.figure(views["showStrips"]).axes), 6)
            self.assertIn(".gif", views["saveMovie"][0].getMessage())
            viewer.cluster.set(2)
            figure = self.figure(viewer._strips())
            self.assertEqual([axes.get_title() for axes in figure.axes], ["0.00: 10 near", "1.00: 11 near"])
            views = viewer._movie()
            movie = views[0].getFigure().content
            self.assertEqual([frame.text[:9] for frame in movie.frames], ["cluster 2", "cluster 2"])
            message = viewer._chimera()[0].getMessage()
            if protocol_class is VaeganProtTrain3D:
                self.assertIn("Set CHIMERA_HOME", message)
                script = Path(self.runs[protocol_class][2]._getExtraPath("chimerax", "cluster_02_component_1.cxc"))
                opened, = [line for line in script.read_text().splitlines() if line.startswith("open ")]
                names = re.findall('"([^"]+)"', opened)
                self.assertEqual([os.path.basename(name) for name in names],
                                 ["map_01_00_00.mrc", "map_01_00_01.mrc"])
                self.assertTrue(all(os.path.exists(name) for name in names))
                with patch.object(Chimera, "getProgram", return_value=sys.executable):  # as if it were there
                    command = viewer._chimera()[0]._cmd
                self.assertTrue(command.startswith(sys.executable), command)
                self.assertIn(str(script), command)
            else:
                self.assertIn("images, not maps", message)
            viewer.cluster.set(9)
            self.assertIn("no cluster 9", viewer._strips()[0].getMessage())
            self.assertIn("no cluster 9", viewer._movie()[0].getMessage())
