"""The whole road on the real engine: simulate, import, states and poses, train, cluster, traverse, and the science."""
import csv
import os
import subprocess
import unittest

import numpy as np
from pwem.protocols import ProtImportParticles
from pyworkflow.tests import BaseTest, setupTestProject

from vaegan_scipion import Plugin
from vaegan_scipion.convert.from_engine import Picture
from vaegan_scipion.protocols import VaeganProtCluster, VaeganProtStates, VaeganProtTrain3D, VaeganProtTraverse

N_STATES = 3
N_PER_STATE = 500
BOX_PX = 32
NMI_FLOOR = 0.9  # of the embedding's clusters
MOST_DEFOCUS_NMI = 0.02  # of any coordinate of z, five bins each; up to 0.008 was measured, 0.002 is chance
STATES_NMI_FLOOR = 0.9  # 0.96 to 0.99 was measured
TOTAL_KIMG = 60.0


def engine_is_missing():
    """Why the real engine cannot be run; empty when it can."""
    problems = Plugin.validateInstallation()
    if problems:
        return problems[0]
    tried = run_engine("--version")
    return "" if tried.returncode == 0 else f"The engine does not start: {tried.stderr.strip()[-200:]}"


def run_engine(arguments):
    """Run the engine's command line in its environment."""
    return subprocess.run(f"{Plugin.getEngineProgram(False)} {arguments}", shell=True, env=Plugin.getEnviron(),
                          capture_output=True, text=True)


def normalized_mutual_information(a, b):
    """I(a; b) / mean of H(a) and H(b), of two labellings (n,)."""
    joint = np.array([[np.mean((a == x) & (b == y)) for y in np.unique(b)] for x in np.unique(a)])
    p, q = joint.sum(1), joint.sum(0)
    used = joint > 0
    information = (joint[used] * np.log(joint[used] / np.outer(p, q)[used])).sum()
    entropy = -(p * np.log(p)).sum() - (q * np.log(q)).sum()
    return 2 * information / entropy if entropy > 0 else 0.0


class TestNmi(unittest.TestCase):
    """The yardstick itself."""

    def test_known_values(self):
        a = np.array([0, 0, 1, 1])
        self.assertAlmostEqual(normalized_mutual_information(a, 5 - a), 1)
        self.assertAlmostEqual(normalized_mutual_information(a, np.array([0, 1, 0, 1])), 0)
        self.assertEqual(normalized_mutual_information(a, np.zeros(4)), 0)


class TestWorkflowOnTheRealEngine(BaseTest):
    """An easy mixture of three states must come apart."""

    @classmethod
    def setUpClass(cls):
        problem = engine_is_missing()
        if problem:
            raise unittest.SkipTest(problem)
        try:
            import relion  # noqa: F401
        except ImportError:
            raise unittest.SkipTest("scipion-em-relion is not installed; it imports the star file") from None
        setupTestProject(cls)
        cls.folder = os.path.abspath("simulated")
        made = run_engine(f"simulate --phantom {N_STATES} --per-map {N_PER_STATE} --box {BOX_PX} --snr 2 --seed 0 "
                          f"--device cpu --out {cls.folder}")
        assert made.returncode == 0, made.stderr
        with open(os.path.join(cls.folder, "truth.csv"), newline="") as stream:
            cls.truth = {int(row["id"]): int(row["map"]) for row in csv.DictReader(stream)}

    def launch(self, protocol):
        if protocol.hasAttribute("useGpu"):
            protocol.useGpu.set(False)
        self.proj.launchProtocol(protocol, wait=True)
        self.assertTrue(protocol.isFinished(), protocol.getErrorMessage())
        return protocol

    def test_states_come_apart(self):
        imported = self.launch(self.newProtocol(
            ProtImportParticles, importFrom=ProtImportParticles.IMPORT_FROM_RELION, magnification=50000,
            starFile=os.path.join(self.folder, "particles.star"), samplingRate=self.pixel_size_ang(),
            haveDataBeenPhaseFlipped=False))
        n = N_STATES * N_PER_STATE
        self.assertEqual(imported.outputParticles.getSize(), n)

        states = self.newProtocol(VaeganProtStates, numberOfMpi=2, numberOfThreads=1, boxPx=BOX_PX, maxShiftFrac=0.05)
        states.inputParticles.set(imported)
        states.inputParticles.setExtended("outputParticles")
        self.launch(states)
        self.check_states(imported.outputParticles, states)

        training = self.newProtocol(VaeganProtTrain3D, totalKimg=TOTAL_KIMG, numberOfThreads=2)
        training.inputStates.set(states)
        self.launch(training)
        clustering = self.newProtocol(VaeganProtCluster, numberOfThreads=2)
        clustering.inputTraining.set(training)
        self.launch(clustering)
        self.check_clusters(imported.outputParticles, clustering, states)
        self.check_no_defocus(clustering.outputParticles)

        traversal = self.newProtocol(VaeganProtTraverse, nPoints=3)
        traversal.inputClusters.set(clustering)
        self.launch(traversal)
        self.assertEqual(traversal.outputVolumes.getSize(), 3 * clustering.outputVolumes.getSize())
        for volume in traversal.outputVolumes:
            self.assertTrue(np.isfinite(Picture(0, volume.getFileName()).read()).all())
            self.assertGreater(volume._vaeganNear.get(), 0)

    def check_no_defocus(self, particles):
        """No coordinate of z carries the defocus: the encoder must see the particle, not the microscope."""
        def bins(values):
            return np.digitize(values, np.quantile(values, [0.2, 0.4, 0.6, 0.8]))

        z, defocus = zip(*((particle.getZFlex(), particle.getCTF().getDefocusU()) for particle in particles))
        of_defocus = bins(np.array(defocus))
        self.assertGreater(np.std(defocus), 1000)
        for column in np.array(z, float).T:
            self.assertLess(normalized_mutual_information(bins(column), of_defocus), MOST_DEFOCUS_NMI)

    def pixel_size_ang(self):
        """Pixel size in the star file's optics table."""
        from emtable import Table
        optics = Table(fileName=os.path.join(self.folder, "particles.star"), tableName="optics")
        return optics[0].rlnImagePixelSize

    def labels(self, particles, classes):
        """Group and true state of every particle in the classes."""
        index_of = {item.getObjId(): item.getIndex() for item in particles}
        found, truth = [], []
        for item in classes:
            for particle in item:
                found.append(item._vaeganLabel.get())
                truth.append(self.truth[index_of[particle.getObjId()]])  # truth ids are places in the stack
        return found, truth

    def check_states(self, particles, states):
        """Exactly the true states, nearly every particle in its own; little set aside, as there is no junk."""
        found, truth = self.labels(particles, states.outputClasses)
        nmi = normalized_mutual_information(np.array(found), np.array(truth))
        print(f"states {states.outputVolumes.getSize()}, NMI {nmi:.3f} of {len(found)} particles")
        self.assertEqual(states.outputVolumes.getSize(), N_STATES)
        self.assertGreaterEqual(nmi, STATES_NMI_FLOOR)
        self.assertGreaterEqual(len(found), 0.97 * N_STATES * N_PER_STATE)

    def check_clusters(self, particles, clustering, states):
        """The true number of clusters, of all particles in a state, and maps that are maps."""
        found, truth = self.labels(particles, clustering.outputClasses)
        self.assertEqual(len(found), states.outputParticles.getSize())
        nmi = normalized_mutual_information(np.array(found), np.array(truth))
        print(f"clusters {clustering.outputVolumes.getSize()}, NMI {nmi:.3f}")
        self.assertEqual(clustering.outputVolumes.getSize(), N_STATES)
        self.assertGreaterEqual(nmi, NMI_FLOOR)
        for volume in clustering.outputVolumes:
            array = Picture(0, volume.getFileName()).read()
            self.assertTrue(np.isfinite(array).all())
            self.assertGreater(array.std(), 0)
