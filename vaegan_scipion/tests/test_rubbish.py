"""Rubbish in every field of every form: a sentence with the field's label, no traceback, nothing taken in silence."""
import unittest.mock

import pyworkflow.protocol.params as params
from pyworkflow.object import Pointer

from vaegan_scipion import protocols
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
from vaegan_scipion.protocols.form_settings import OptionalNumber
from vaegan_scipion.protocols.protocol_train_3d import OF_PARTICLES, OF_STATES
from vaegan_scipion.tests.phantom import ProjectTest, import_phantom

NUMBERS = ("", "abc", "-1", "0", "nan", "1e400", "1.5", "9" * 20, "%(GPU)s")
TEXTS = (*NUMBERS, " ", "3 4", "'; rm -rf x", "{}", "../..", "a=b", "data.box_px", "data.box_px=[1]", "data=1",
         "training.total_kimg=-1", "model.x.y=1", "compute.device=nowhere", "\u00e9\u4e2d", "x" * 500,
         "\u00b2", "1-999999999", "9" * 5000)
NEVER = ("Traceback", "Protocol validation failed", "Error:")
WORDS = (params.StringParam, params.FileParam, params.PathParam, params.FolderParam)


def typed(protocol, name, text):
    """What Scipion's form does with a text in an entry: a value, or None where it is none of the field's kind."""
    try:
        getattr(protocol, name).set(text)
    except ValueError:
        getattr(protocol, name).set(None)


class TestRubbish(ProjectTest):
    """Over all forms, each as complete as it can be but for one field."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        particles = cls.particles = (cls.imported, "outputParticles")
        cls.aligned = (import_phantom(cls.proj, poses=True), "outputParticles")
        cls.states = cls.make(VaeganProtStates, boxPx=16, inputParticles=particles)
        cls.training = cls.make(VaeganProtTrain3D, inputStates=cls.states)
        cls.flat = cls.make(VaeganProtTrain2D, boxPx=16, inputParticles=particles)
        cls.clustering = cls.make(VaeganProtCluster, inputTraining=cls.training, nNeighbors=5)
        cls.enough = unittest.mock.patch("vaegan_scipion.protocols.protocol_states.N_PARTICLES_MIN", 20)
        cls.enough.start()
        cls.addClassCleanup(cls.enough.stop)

    def forms(self):
        """Each form, filled in so that it may be run."""
        particles = {"inputParticles": self.particles}
        return [
            self.filled(VaeganProtStates, boxPx=16, **particles),
            self.filled(VaeganProtClasses2D, boxPx=16, **particles),
            self.filled(VaeganProtFullres, inputStates=self.states),
            self.filled(VaeganProtTrain2D, boxPx=16, **particles),
            self.filled(VaeganProtTrain3D, boxPx=16, **particles),
            self.filled(VaeganProtTrain3D, boxPx=16, posesFrom=OF_PARTICLES, inputParticles=self.aligned),
            self.filled(VaeganProtTrain3D, posesFrom=OF_STATES, inputStates=self.states),
            self.filled(VaeganProtCluster, inputTraining=self.training, nNeighbors=5),
            self.filled(VaeganProtCluster, inputTraining=self.training, nNeighbors=5, method=1, doHalves=True),
            self.filled(VaeganProtTraverse, inputClusters=self.clustering),
            self.filled(VaeganProtEvaluate, inputClusters=self.clustering, labelsFrom=2, labelsFile="none.csv"),
            self.filled(VaeganProtEvaluate, inputClusters=self.clustering,
                        inputClasses=(self.states, "outputClasses")),
            self.filled(VaeganProtConsensus, inputRuns=[self.states, self.clustering]),
            self.filled(VaeganProtSelect, inputClusters=self.clustering),
            self.filled(VaeganProtSelect, inputClusters=self.states, selectBy=1, selectionFile="none.txt")]

    def test_every_form_is_here(self):
        self.assertEqual({type(form).__name__ for form in self.forms()}, set(protocols.__all__))

    def answer(self, form):
        """What the form says: problems, and where there are none also warnings, summary and methods."""
        problems = form.validate()
        said = list(problems)
        if not problems:
            said += form.warnings() + form.summary() + form.methods()
        return problems, "\n".join(map(str, said))

    def test_texts_in_every_field(self):
        n_tried = 0
        for form in self.forms():
            where = type(form).__name__
            for name, param in list(form.getDefinition().iterParams()):
                attribute = getattr(form, name, None)
                is_label = isinstance(param, (params.LabelParam, params.Line, params.Group))
                if attribute is None or isinstance(attribute, Pointer) or is_label or not self.is_text(param):
                    continue
                kept = attribute.get()
                number = isinstance(param, (params.IntParam, params.FloatParam, OptionalNumber))
                for text in NUMBERS if number else TEXTS:
                    typed(form, name, text)
                    with self.subTest(field=f"{where}.{name}", text=text):
                        self.check(form, name, param, text)
                    n_tried += 1
                attribute.set(kept)
        self.assertGreater(n_tried, 600)

    def check(self, form, name, param, text):
        """A text in a field: no traceback, and where it is wrong the field's label."""
        problems, said = self.answer(form)
        for bad in NEVER:
            self.assertNotIn(bad, said)
        if text.strip() and self.is_wrong(form, name, param, text):
            self.assertTrue(problems, "taken in silence")
            self.assertIn(str(param.label.get()).split(" (")[0], said)

    @staticmethod
    def is_text(param):
        """Whether a user types into the field."""
        return (isinstance(param, (params.IntParam, params.FloatParam, *WORDS))
                and not isinstance(param, (params.EnumParam, params.BooleanParam)))

    @staticmethod
    def is_wrong(form, name, param, text):
        """Whether the text is no number, in a field for one that is seen."""
        if not form.evalParamCondition(name):
            return False
        if isinstance(param, OptionalNumber):
            kind = param.kind
        elif isinstance(param, params.IntParam):
            kind = int
        elif isinstance(param, params.FloatParam):
            kind = float
        else:
            return False
        try:
            kind(text)
        except ValueError:
            return True
        return False

    def test_what_is_left_in_a_hidden_field_does_not_count(self):
        """A user typed something wrong, then chose what hides the field: it cannot be seen any more."""
        hidden = [(self.filled(VaeganProtStates, boxPx=16, hideNeighbours=False, inputParticles=self.particles),
                   "micrographPixelSizeAng", "data"),
                  (self.filled(VaeganProtTrain3D, inputStates=self.states), "maxShiftFrac", "model")]
        for form, name, section in hidden:
            self.assertFalse(form.evalParamCondition(name))
            expected = getattr(form._getSettings(), section)
            for text in ("abc", "-1", "0.25", "nan"):
                typed(form, name, text)
                with self.subTest(field=name, text=text):
                    self.assertEqual(form.validate(), [])
                    self.assertEqual(getattr(form._getSettings(), section), expected)

    def test_empty_inputs(self):
        """No input: the field's label, nothing else that would be said of what is not there, no traceback."""
        for protocol_class in (getattr(protocols, name) for name in protocols.__all__):
            form = self.proj.newProtocol(protocol_class)  # as it opens
            problems, said = self.answer(form)
            self.assertTrue(problems, protocol_class.__name__)
            for bad in NEVER:
                self.assertNotIn(bad, said, protocol_class.__name__)
            self.assertEqual(len(problems), said.count("EMPTY") + said.count("Add runs with"), said)

    def test_values_out_of_limits_name_label_value_and_limit(self):
        for form in self.forms():
            for name, param in list(form.getDefinition().iterParams()):
                attribute = getattr(form, name, None)
                number = isinstance(param, (OptionalNumber, params.IntParam, params.FloatParam))
                if not number or isinstance(param, params.EnumParam) or not form.evalParamCondition(name):
                    continue
                if name in ("numberOfMpi", "numberOfThreads", "binThreads"):
                    continue
                kept = attribute.get()
                attribute.set(-7)
                said = "\n".join(form.validate())
                attribute.set(kept)
                label = str(param.label.get()).split(" (")[0]
                self.assertIn(label, said, f"{type(form).__name__}.{name}")
                self.assertIn("-7", said, f"{type(form).__name__}.{name}")
                self.assertRegex(said, r"Use |use |Give ", f"{type(form).__name__}.{name}")

    def test_gpu_that_is_no_number(self):
        form = self.filled(VaeganProtTraverse, inputClusters=self.clustering, useGpu=True)
        for text in ("a", "", "0,1", "-1", "0 1"):
            form.gpuList.set(text)
            self.assertIn(f"GPU ID is '{text}': the engine uses one GPU. Give one number", "\n".join(form.validate()))
        for kind in (VaeganProtStates, VaeganProtTrain2D, VaeganProtTrain3D):
            form = self.filled(kind, boxPx=16, useGpu=True, inputParticles=self.particles)
            for text in ("a", "", "-1", "0 0", "0-1"):
                form.gpuList.set(text)
                self.assertIn(f"GPU ID is '{text}': on every GPU of the list runs one process",
                              "\n".join(form.validate()))

    def test_processes_that_are_no_number_of_gpus(self):
        for kind in (VaeganProtStates, VaeganProtTrain3D):
            self.check_processes(self.filled(kind, boxPx=16, useGpu=True, inputParticles=self.particles))

    def check_processes(self, form):
        """As many as GPUs, or without these as the box MPI says."""
        for text, n_mpi in (("0 1", 1), ("0,1", 2), ("3", 1)):
            form.gpuList.set(text)
            form.numberOfMpi.set(n_mpi)
            self.assertEqual(form.validate(), [])
            self.assertEqual(form._countProcesses(), len(text.replace(",", " ").split()))
        form.numberOfMpi.set(2)
        self.assertIn("MPI is 2: on every GPU of the list (3) runs one process. Use 1", "\n".join(form.validate()))
        form.useGpu.set(False)
        self.assertEqual(form.validate(), [])
        self.assertEqual(form._countProcesses(), 2)
        form.numberOfMpi.set(0)
        self.assertIn("MPI is 0: at least 1 process is needed. Use 1.", "\n".join(form.validate()))
