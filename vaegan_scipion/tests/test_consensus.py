"""Compare runs: the particles that all agree on, with their group and alignment; what the form refuses; its viewer."""
import os

import numpy as np
from matplotlib.figure import Figure

from vaegan_scipion.engine.vaegan_engine.contract import result_files
from vaegan_scipion.protocols import (
    VaeganProtCluster,
    VaeganProtConsensus,
    VaeganProtStates,
    VaeganProtTrain2D,
    VaeganProtTrain3D,
)
from vaegan_scipion.tests.phantom import ENABLED_IDS, ProjectTest, import_phantom
from vaegan_scipion.viewers import VaeganConsensusViewer
from vaegan_scipion.viewers.viewer_consensus import draw_groups, draw_pairs

MOVED_IDS = [3, 9, 11]  # that the second run puts elsewhere


class TestConsensus(ProjectTest):
    """On the fake engine: both runs have state = id % 2, every tenth set aside; then three ids are put elsewhere."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.particles = (cls.imported, "outputParticles")
        cls.states = [cls.make(VaeganProtStates, boxPx=16, seed=seed, inputParticles=cls.particles) for seed in (0, 1)]
        table = os.path.join(cls.states[1].getClustersDir(), result_files.CLUSTERS_CSV)
        rows = result_files.read_csv(table)
        result_files.write_csv(table, list(rows[0]), [
            [row["particle_id"], 1 - int(row["label"]) if int(row["particle_id"]) in MOVED_IDS else row["label"],
             row["probability"]] for row in rows])
        cls.run_ = cls.make(VaeganProtConsensus, inputRuns=cls.states)

    def form(self, runs):
        """A form with these runs."""
        return self.filled(VaeganProtConsensus, inputRuns=runs)

    def test_particles_that_all_runs_agree_on_have_group_and_alignment(self):
        agreed = self.run_.outputParticles
        kept = [i for i in ENABLED_IDS if i % 10 and i not in MOVED_IDS]
        self.assertEqual([item.getObjId() for item in agreed.iterItems(orderBy="id")], kept)
        self.assertTrue(agreed.hasAlignmentProj())
        ours = {item.getObjId(): item.getTransform().getMatrix() for item in self.states[0].outputParticles}
        for item in agreed:
            i = item.getObjId()
            self.assertEqual((item.getClassId(), item._vaeganLabel.get(), item._vaeganAgreement.get()),
                             (i % 2 + 1, i % 2, 1.0))
            self.assertEqual(item.getCTF().getDefocusU(), 10000 + i)
            np.testing.assert_allclose(item.getTransform().getMatrix(), ours[i], atol=1e-9)
        undecided = self.run_.outputUndecided
        self.assertEqual([item.getObjId() for item in undecided.iterItems(orderBy="id")],
                         sorted(set(ENABLED_IDS) - set(kept)))  # what all runs set aside too
        for item in undecided:
            self.assertEqual(item.getClassId(), 0)
            self.assertEqual(item._vaeganAgreement.get(), 0.5 if item.getObjId() in MOVED_IDS else 1.0)

    def test_membership_is_of_the_groups_that_are_compared(self):
        """Of clusters 0.5, of the states at whose poses they were trained 0.75."""
        training = self.make(VaeganProtTrain3D, inputStates=self.states[0])
        run = self.make(VaeganProtConsensus, inputRuns=[
            self.make(VaeganProtCluster, inputTraining=training, nNeighbors=5, seed=seed) for seed in (0, 1)])
        for compared, membership in ((run, 0.5), (self.run_, 0.75)):
            self.assertEqual({item._vaeganProbability.get() for item in compared.outputParticles}, {membership})

    def test_what_is_said(self):
        summary = self.run_._summary()
        self.assertEqual(summary[0], "Verdict: 2 groups, stable")
        names = [f"{run.getRunName()} (id {run.getObjId()})" for run in self.states]  # both have the form's name
        self.assertIn(f"'{names[0]}' and '{names[1]}': ARI 0.50, NMI 0.40", summary)
        self.assertIn("found in 2 of 2 runs", summary[2])
        self.assertIn("2 runs on the same particles were compared", self.run_._methods()[0])
        self.assertEqual(self.form(self.states)._summary(), ["Nothing is compared yet."])

    def test_runs_that_do_not_fit_are_refused(self):
        other = import_phantom(self.proj, defocus_offset_ang=5000.0)
        strangers = self.make(VaeganProtStates, boxPx=16, inputParticles=(other, "outputParticles"))
        unfinished = self.filled(VaeganProtStates, boxPx=16, inputParticles=self.particles)
        self.proj.saveProtocol(unfinished)
        flat = self.make(VaeganProtCluster, nNeighbors=5, inputTraining=self.make(
            VaeganProtTrain2D, boxPx=16, inputParticles=self.particles))
        one = self.states[0]
        for message, runs in (("1 given, at least 2 are needed", [one]), ("is given twice", [one, one]),
                              ("has no classes. Finish it first", [one, unfinished]),
                              ("is of a 2D training, others are 3D", [one, flat]),
                              ("the ids name other particles", [one, strangers])):
            self.assertIn(message, " ".join(self.form(runs)._validateForm()))
        self.assertEqual(self.form(self.states).validate(), [])

    def test_states_and_clusters_can_be_compared(self):
        clusters = self.make(VaeganProtCluster, nNeighbors=5, inputTraining=self.make(
            VaeganProtTrain3D, inputStates=self.states[0]))
        self.assertEqual(self.form([self.states[0], clusters]).validate(), [])
        run = self.make(VaeganProtConsensus, inputRuns=[self.states[0], clusters])
        self.assertGreater(run.outputUndecided.getSize(), 0)

    def test_another_run_or_table_is_heard(self):
        """Continue compares the arguments of the steps."""
        run = self.form(self.states)
        self.proj.saveProtocol(run)

        def arguments():
            run._steps = []
            run._insertAllSteps()
            return {step.argsStr.get() for step in run._steps}

        before = arguments()
        run.inputRuns.append(self.make(VaeganProtStates, boxPx=16, seed=7, inputParticles=self.particles))
        self.assertFalse(before & arguments())

    def test_the_viewer_draws_everything(self):
        viewer = VaeganConsensusViewer(project=self.proj, protocol=self.run_)
        for name, view in viewer._getVisualizeDict().items():
            if name in viewer.DRAWINGS:
                self.assertTrue(view(), name)
        made = self.run_.readConsensus()
        figure = draw_pairs(Figure(), made, ["a", "b"])
        self.assertIn("0.50", [text.get_text() for text in figure.axes[0].texts])
        figure = draw_groups(Figure(), made, ["a", "b"], viewer._naming())
        self.assertEqual(len(figure.axes[0].patches), 4)  # two groups in two runs
        self.assertTrue(figure.axes[0].get_yticklabels()[0].get_text().startswith("state 1,"))

    def test_the_report_is_of_the_comparison(self):
        view, = VaeganConsensusViewer(project=self.proj, protocol=self.run_)._getVisualizeDict()["showReport"]()
        with open(view.path) as stream:
            self.assertIn(os.path.abspath(self.run_.getConsensusDir()), stream.read())
