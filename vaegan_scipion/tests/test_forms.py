"""Every form: small, explained, with the engine's defaults; every field is heard when a run is continued."""
import inspect
import json
import os
import re
import tempfile
import textwrap

import pyworkflow.protocol.params as params
from pyworkflow.protocol import LEVEL_ADVANCED, MODE_RESUME

from vaegan_scipion import protocols
from vaegan_scipion.engine.vaegan_engine.contract import run_json
from vaegan_scipion.engine.vaegan_engine.contract.labels import UNASSIGNED
from vaegan_scipion.engine.vaegan_engine.contract.setting import described
from vaegan_scipion.engine.vaegan_engine.contract.settings import (
    ClusterRun,
    ComputeConfig,
    DataConfig,
    StatesRun,
    TraverseRun,
)
from vaegan_scipion.protocols import (
    VaeganProtClasses2D,
    VaeganProtCluster,
    VaeganProtEvaluate,
    VaeganProtSelect,
    VaeganProtStates,
    VaeganProtTrain2D,
    VaeganProtTrain3D,
    VaeganProtTraverse,
    form_settings,
)
from vaegan_scipion.protocols.form_settings import values_of
from vaegan_scipion.protocols.protocol_cluster import METHODS
from vaegan_scipion.protocols.protocol_train_2d import OF_CLASSES
from vaegan_scipion.protocols.protocol_train_3d import NO_POSES, OF_STATES
from vaegan_scipion.tests.phantom import ProjectTest, import_phantom

N_VISIBLE_MAX = 12
HELP_LINES_MAX, HELP_LINE_CHARS = 3, 100
ALL = [getattr(protocols, name) for name in protocols.__all__]
SCIPIONS_OWN = {"runName", "runMode", "useQueue", "numberOfMpi", "hostName", "expertLevel", "gpuList", "useGpu",
                "binThreads", "_useQueue", "_prerequisites", "_queueParams"}


def fields(protocol):
    """(name, param) of the plugin's own fields of a form; a line with nothing but a wizard is none."""
    return [(name, param) for name, param in protocol._definition.iterParams()
            if name not in SCIPIONS_OWN and not isinstance(param, (params.Group, params.Line, params.LabelParam))]


def leaves(tree):
    """Entries of protocols in a tree of menus."""
    for node in tree:
        if node["tag"] == "protocol":
            yield node
        yield from leaves(node.get("children", []))


class TestForms(ProjectTest):
    """Over all protocols of the plugin."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.particles = (cls.imported, "outputParticles")
        cls.training = cls.make(VaeganProtTrain3D, boxPx=16, inputParticles=cls.particles)
        cls.clustering = cls.make(VaeganProtCluster, inputTraining=cls.training, nNeighbors=5)
        cls.other = import_phantom(cls.proj)

    def test_at_most_twelve_visible_fields(self):
        for protocol_class in ALL:
            protocol = self.newProtocol(protocol_class)
            shown = [name for name, param in fields(protocol) if param.expertLevel.get() < LEVEL_ADVANCED]
            self.assertLessEqual(len(shown), N_VISIBLE_MAX, f"{protocol_class.__name__}: {shown}")

    def test_help_is_three_lines_with_a_range_for_every_number(self):
        for protocol_class in ALL:
            self.assertTrue(inspect.getdoc(protocol_class))
            for name, param in fields(self.newProtocol(protocol_class)):
                if name == "numberOfThreads":
                    continue
                where = f"{protocol_class.__name__}.{name}"
                help_text = param.help.get()
                self.assertTrue(help_text, where)
                self.assertLessEqual(len(textwrap.wrap(help_text, HELP_LINE_CHARS)), HELP_LINES_MAX, where)
                if isinstance(param, (params.IntParam, params.FloatParam)) and not isinstance(param, params.EnumParam):
                    self.assertRegex(help_text, r"\d|[Oo]ne", where)
                if isinstance(param, params.EnumParam):
                    self.assertTrue(param.default.get() is not None, where)

    def test_defaults_are_the_engines(self):
        cluster, run = self.newProtocol(VaeganProtCluster), ClusterRun()
        self.assertEqual(
            (METHODS[cluster.method.get()], cluster.nClusters.get(), cluster.nNeighbors.get(), cluster.minDist.get(),
             cluster.minSamples.get(), *values_of(cluster, ClusterRun, ["min_cluster_size"]).values(),
             cluster.minClusterFrac.get(),
             cluster.joinValley.get(), cluster.stabilityRepeats.get(), cluster.seed.get()),
            (run.method, run.n_clusters, run.n_neighbors, run.min_dist, run.min_samples, run.min_cluster_size,
             run.min_cluster_frac, run.join_valley, run.stability_repeats, run.compute.seed))
        for protocol_class in (VaeganProtTrain2D, VaeganProtTrain3D):
            train = self.newProtocol(protocol_class, numberOfThreads=ComputeConfig().threads)
            train.inputParticles.set(self.imported)
            train.inputParticles.setExtended("outputParticles")
            train.useGpu.set(False)
            found, expected = train._getSettings(), protocol_class._defaults()
            self.assertEqual(run_json.to_dict(found.model), run_json.to_dict(expected.model))
            self.assertEqual(run_json.to_dict(found.training), run_json.to_dict(expected.training))
            changed = run_json.to_dict(expected.data)
            changed["particles"], changed["box_px"] = "particles.star", 32  # the images' own: smaller than the default
            self.assertEqual(run_json.to_dict(found.data), changed)

    def test_fields_of_settings_are_made_from_them(self):
        """Label with unit, help with limits, default and choices stand in the engine's settings alone."""
        found = 0
        for protocol_class, cls in ((VaeganProtCluster, ClusterRun), (VaeganProtTraverse, TraverseRun),
                                    (VaeganProtStates, StatesRun), (VaeganProtTrain3D, DataConfig)):
            params_of = dict(fields(self.newProtocol(protocol_class)))
            for item in described(cls):
                param = params_of.get(form_settings.param_name(item.name))
                if param is None or not item.about.label or item.name == "box_px":  # its default is the preset's
                    continue
                found += 1
                empty = item.about.zero if form_settings.may_be_empty(item) else ""
                self.assertEqual(param.label.get(), form_settings.label_text(item, empty))
                self.assertTrue(param.help.get().startswith(form_settings.help_text(item, empty=empty)), item.name)
                default = "" if empty else item.choices.index(item.default) if item.choices else item.default
                self.assertEqual(str(param.default.get()), str(default), item.name)
        self.assertGreaterEqual(found, 25)

    def test_every_protocol_is_in_both_trees(self):
        with open(os.path.join(os.path.dirname(os.path.dirname(__file__)), "protocols.conf")) as stream:
            _, spa, hub = re.split(r"^[\w ]+ = ", stream.read(), flags=re.MULTILINE)
        names = set(protocols.__all__)
        for tree in (spa, hub):
            self.assertEqual({entry["value"] for entry in leaves(json.loads(tree))}, names)

    def test_forms_are_called_by_the_plugin_s_short_name(self):
        for protocol_class in ALL:
            self.assertEqual(protocol_class.getClassLabel(), f"vaegan - {protocol_class._label}")
            self.assertEqual(protocol_class.getClassLabel(False), protocol_class._label)

    def test_citations_are_in_the_bibtex(self):
        for protocol_class in ALL:
            protocol = self.newProtocol(protocol_class)
            self.assertLessEqual(set(protocol._citations()), set(protocol._package._bibtex), protocol_class.__name__)

    # ------------------------------- continue -------------------------------
    def new(self, protocol_class, pointers, **values):
        """A saved run of this form."""
        protocol = self.newProtocol(protocol_class, **values)
        for name, value in pointers.items():
            run, extended = value if isinstance(value, tuple) else (value, "")
            getattr(protocol, name).set(run)
            getattr(protocol, name).setExtended(extended)
        if protocol.hasAttribute("useGpu"):
            protocol.useGpu.set(False)
        self.proj.saveProtocol(protocol)
        return protocol

    def steps(self, protocol):
        """What Scipion compares, place by place, when it decides which steps to do again: name -> arguments."""
        protocol._steps = []
        protocol._insertAllSteps()
        return {step.funcName.get(): step.argsStr.get() for step in protocol._steps}

    def check_heard(self, protocol, changes, first_steps, ignored=()):
        """Each field changes the arguments of its first step and of every later one.

        changes: field -> new value (or pointer); first_steps: field -> name of the first step it matters to.
        """
        names = {name for name, _ in fields(protocol)} - set(ignored)
        self.assertEqual(names, set(changes), "a field without its line in this test")
        for name, value in changes.items():
            before, attribute = self.steps(protocol), getattr(protocol, name)
            kept = (attribute.getObjValue(), attribute.getExtended()) if attribute.isPointer() else attribute.get()
            run, extended = value if isinstance(value, tuple) else (value, "")
            attribute.set(run)
            if attribute.isPointer():
                attribute.setExtended(extended)
            after = self.steps(protocol)
            order = list(after)
            self.assertIn(first_steps[name], order, name)
            for step in order[order.index(first_steps[name]):]:
                self.assertNotEqual(before.get(step), after[step], f"{name}: {step} would be left as it was")
            if attribute.isPointer():
                attribute.set(kept[0])
                attribute.setExtended(kept[1])
            else:
                attribute.set(kept)
            self.assertEqual(self.steps(protocol), before, name)

    def test_every_field_of_the_trainings(self):
        for protocol_class in (VaeganProtTrain2D, VaeganProtTrain3D):
            older = self.training
            if protocol_class is VaeganProtTrain2D:
                older = self.new(VaeganProtTrain2D, {"inputParticles": self.particles})
            protocol = self.new(protocol_class, {"inputParticles": self.particles})
            changes = {"inputParticles": (self.other, "outputParticles"), "preset": 1, "boxPx": 24, "cropFrac": 0.9,
                       "particleDiameterAng": "40", "invertContrast": True, "maxImages": 40, "nCategories": 3,
                       "totalKimg": 2.0, "continueFrom": older, "maxShiftFrac": 0.1, "ignoreCtf": True,
                       "batchSize": 8, "extraSettings": "training.critic_lr=1e-4", "seed": 3, "numberOfThreads": 1}
            with_poses = (("posesFrom", "inputStates", "resolutionAng") if protocol_class is VaeganProtTrain3D
                          else ("posesFrom", "inputClasses2D"))
            self.check_heard(protocol, changes, {**dict.fromkeys(changes, "trainStep"),
                                                 "inputParticles": "convertInputStep"}, ignored=with_poses)

    def test_every_field_of_a_training_with_poses(self):
        states, others = (self.make(VaeganProtStates, boxPx=16, seed=seed, inputParticles=self.particles)
                          for seed in (0, 1))
        protocol = self.new(VaeganProtTrain3D, {"inputStates": states, "inputParticles": self.particles},
                            posesFrom=OF_STATES)
        changes = {"posesFrom": NO_POSES, "inputStates": others, "resolutionAng": 30.0, "boxPx": 24, "maxImages": 40,
                   "totalKimg": 2.0, "continueFrom": self.training, "batchSize": 8, "seed": 3, "numberOfThreads": 1,
                   "extraSettings": "training.start_rounds=3"}
        hidden = ("inputParticles", "preset", "nCategories", "cropFrac", "particleDiameterAng", "invertContrast",
                  "maxShiftFrac", "ignoreCtf")
        self.check_heard(protocol, changes, {**dict.fromkeys(changes, "trainStep"), "inputStates": "convertInputStep",
                                             "posesFrom": "convertInputStep"}, ignored=hidden)

    def test_every_field_of_a_2d_training_with_classes(self):
        classes, others = (self.make(VaeganProtClasses2D, boxPx=16, seed=seed, inputParticles=self.particles)
                           for seed in (0, 1))
        protocol = self.new(VaeganProtTrain2D, {"inputClasses2D": classes, "inputParticles": self.particles},
                            posesFrom=OF_CLASSES)
        changes = {"posesFrom": 0, "inputClasses2D": others, "boxPx": 24, "maxImages": 40, "totalKimg": 2.0,
                   "batchSize": 8, "seed": 3, "numberOfThreads": 1, "extraSettings": "training.start_rounds=3"}
        hidden = ("inputParticles", "preset", "nCategories", "cropFrac", "particleDiameterAng", "invertContrast",
                  "maxShiftFrac", "ignoreCtf", "continueFrom")
        self.check_heard(protocol, changes, {**dict.fromkeys(changes, "trainStep"), "posesFrom": "convertInputStep",
                                             "inputClasses2D": "convertInputStep"}, ignored=hidden)

    def test_every_field_of_the_clustering(self):
        protocol = self.new(VaeganProtCluster, {"inputTraining": self.training}, doHalves=True)
        again = self.make(VaeganProtTrain3D, boxPx=16, seed=1, inputParticles=self.particles)
        changes = {"inputTraining": again, "inputParticles": (self.other, "outputParticles"), "method": 1,
                   "minClusterFrac": 0.1, "nNeighbors": 9, "minDist": 0.2, "minSamples": 5,
                   "minClusterSize": 20, "joinValley": 0.1, "stabilityRepeats": 2, "seed": 4, "numberOfThreads": 1,
                   "halvesKimg": 2.0}
        first = {**dict.fromkeys(changes, "clusterStep"), "inputTraining": "embedStep", "halvesKimg": "halvesStep",
                 "inputParticles": "convertInputStep", "seed": "embedStep", "numberOfThreads": "embedStep"}
        self.check_heard(protocol, {**changes, "doHalves": False}, {**first, "doHalves": "createOutputStep"},
                         ignored=("nClusters",))
        protocol.method.set(1)  # now the number counts, and what is of hdbscan is hidden
        before = self.steps(protocol)
        for name, value, is_heard in (("nClusters", 4, True), ("minClusterFrac", 0.1, False), ("minSamples", 5, False)):
            kept = getattr(protocol, name).get()
            getattr(protocol, name).set(value)
            self.assertEqual(self.steps(protocol)["clusterStep"] != before["clusterStep"], is_heard, name)
            getattr(protocol, name).set(kept)

    def test_every_field_of_the_traversal_and_of_evaluate(self):
        second = self.make(VaeganProtCluster, inputTraining=self.training, nNeighbors=6)
        changes = {"inputClusters": second, "nComponents": 2, "nPoints": 3, "lowPercentile": 10.0,
                   "highPercentile": 80.0, "seed": 2, "numberOfThreads": 1}
        self.check_heard(self.new(VaeganProtTraverse, {"inputClusters": self.clustering}), changes,
                         dict.fromkeys(changes, "traverseStep"))

        handle, path = tempfile.mkstemp(suffix=".csv")
        os.write(handle, b"id,label\n3,1\n")
        os.close(handle)
        first = "convertInputStep"
        protocol = self.new(VaeganProtEvaluate, {"inputClusters": self.clustering,
                                                 "inputClasses": (self.clustering, "outputClasses")}, labelsFile=path)
        changes = {"inputClusters": second, "labelsFrom": 0, "inputClasses": (second, "outputClasses"),
                   "inputReferences": (self.training, "outputVolumes"), "symmetry": "D2", "numberOfThreads": 1}
        self.check_heard(protocol, changes, {**dict.fromkeys(changes, first), "numberOfThreads": "evaluateStep"},
                         ignored=("labelsFile",))  # its contents count: tested where it is read

    def test_every_field_of_states(self):
        changes = {"inputParticles": (self.other, "outputParticles"), "useAlignment": True,
                   "inputClusters": self.clustering, "maxImages": 300, "boxPx": 24, "cropFrac": 0.9,
                   "particleDiameterAng": 70.0, "invertContrast": True, "ignoreCtf": True, "maxShiftFrac": 0.2,
                   "nMaps": 2, "smallestFrac": 0.1, "nStarts": 2, "startResolutionAng": 40.0,
                   "searchResolutionAng": 30.0, "stateResolutionAng": 25.0, "startSteps": 5,
                   "searchSteps": 6, "batchSize": 64, "seed": 2, "symmetry": "C4", "hideNeighbours": False,
                   "micrographPixelSizeAng": 1.5, "numberOfThreads": 1}
        first = {**dict.fromkeys(changes, "statesStep"), "inputParticles": "convertInputStep",
                 "useAlignment": "convertInputStep"}
        self.check_heard(self.new(VaeganProtStates, {"inputParticles": self.particles}), changes, first,
                         ignored=("relaxSymmetry", "inputMask"))  # of given poses alone
        given = self.new(VaeganProtStates, {"inputParticles": self.particles}, useAlignment=True)
        before = self.steps(given)
        given.relaxSymmetry.set("C4")  # of given poses alone
        self.assertNotEqual(self.steps(given)["statesStep"], before["statesStep"])

    def test_every_field_of_select(self):
        second = self.make(VaeganProtCluster, inputTraining=self.training, nNeighbors=7)
        handle, path = tempfile.mkstemp(suffix=".txt")
        os.write(handle, b"4 6 8")
        os.close(handle)
        changes = {"inputClusters": second, "selectBy": 1, "clusterNumbers": "2", "invertSelection": True,
                   "exportStar": True, "minProbability": 0.5, "rangeColumn": "umap_1", "rangeLow": "0.2",
                   "rangeHigh": "0.9", "inputParticles": (self.other, "outputParticles")}
        protocol = self.new(VaeganProtSelect, {"inputClusters": self.clustering}, selectionFile=path)
        self.check_heard(protocol, changes, dict.fromkeys(changes, "createOutputStep"), ignored=("selectionFile",))

    def test_a_whole_clustering_continued_with_another_field(self):
        """What the engine was asked, what it wrote and what the project shows belong together afterwards."""
        run = self.run_protocol(VaeganProtCluster, inputTraining=self.training, nNeighbors=5)
        maps = set()
        for name, value in (("joinValley", 0.25), ("minSamples", 4), ("minClusterSize", 16)):
            getattr(run, name).set(value)
            run.runMode.set(MODE_RESUME)
            self.launch(run)
            with open(run._getExtraPath("cluster.json")) as stream:
                asked = json.load(stream)
            key = {"joinValley": "join_valley", "minSamples": "min_samples", "minClusterSize": "min_cluster_size"}[name]
            self.assertEqual(asked[key], value)
            shown = [item for item in run.outputVolumes if item._vaeganLabel.get() != UNASSIGNED]
            with open(shown[0].getFileName(), "rb") as stream:
                maps.add(stream.read())  # the stand-in engine draws another map for other settings
        self.assertEqual(len(maps), 3)
