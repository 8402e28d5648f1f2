"""Sets as no example has them: empty, disabled, without a microscope or pixel size, cut, still growing."""
import os

import mrcfile
import numpy as np
from pwem.objects import Acquisition
from pwem.protocols import ProtImportParticles
from pyworkflow.object import Set
from pyworkflow.protocol import STATUS_FINISHED

from vaegan_scipion.convert.sample_images import sample_images
from vaegan_scipion.protocols import (
    VaeganProtClasses2D,
    VaeganProtCluster,
    VaeganProtFullres,
    VaeganProtSelect,
    VaeganProtStates,
    VaeganProtTrain2D,
    VaeganProtTrain3D,
)
from vaegan_scipion.protocols.protocol_base import validate_particles
from vaegan_scipion.protocols.protocol_train_3d import OF_PARTICLES
from vaegan_scipion.tests.phantom import (
    ALL_IDS,
    BOX_PX,
    ENABLED_IDS,
    SAMPLING_RATE_ANG,
    ProjectTest,
    acquisition,
    make_particle,
)


def import_set(project, ids=ALL_IDS, of_set=lambda particles: None, of_particle=lambda particle: None, like=None):
    """(import, output name) of a set of noise; `of_set` and `of_particle` change what it holds.

    like: an image of the shape and kind of its own; pixels of whole numbers are counts about 60, as of a detector.
    """
    like = np.zeros((BOX_PX, BOX_PX), np.float32) if like is None else like
    protocol = project.newProtocol(ProtImportParticles)
    project.saveProtocol(protocol)
    protocol.makePathsAndClean()
    stack = protocol._getExtraPath("noise.mrcs")
    with mrcfile.new(stack) as mrc:
        noise = np.random.default_rng(0).normal(size=(max(len(ids), 1), *like.shape))
        mrc.set_data((noise if like.dtype.kind == "f" else np.rint(60 + 10 * noise)).astype(like.dtype))
        mrc.set_image_stack()
    particles = protocol._createSetOfParticles()
    particles.setSamplingRate(SAMPLING_RATE_ANG)
    particles.setAcquisition(acquisition(300.0))
    particles.setHasCTF(True)
    of_set(particles)
    for index, particle_id in enumerate(ids, start=1):
        particle = make_particle(particle_id, index, stack, True)
        of_particle(particle)
        particles.append(particle)
    protocol._defineOutputs(outputParticles=particles)
    protocol.setStatus(STATUS_FINISHED)
    project._storeProtocol(protocol)
    return protocol, "outputParticles"


def of_import(imported):
    """The set of what `import_set` gives."""
    return getattr(*imported)


class TestHostileSets(ProjectTest):
    """What every form that takes particles says."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        particles = (cls.imported, "outputParticles")
        cls.states = cls.make(VaeganProtStates, boxPx=16, inputParticles=particles)
        cls.training = cls.make(VaeganProtTrain3D, boxPx=16, inputParticles=particles)
        cls.clustering = cls.make(VaeganProtCluster, inputTraining=cls.training, nNeighbors=5)

    def forms(self, particles):
        """Every form that takes particles, with these, and with an empty field for the box."""
        given = {"inputParticles": particles}
        return [self.filled(VaeganProtStates, **given), self.filled(VaeganProtStates, useAlignment=True, **given),
                self.filled(VaeganProtStates, particleDiameterAng="60", boxPx="16", maxImages="50",
                            stateResolutionAng="20", **given),
                self.filled(VaeganProtClasses2D, particleDiameterAng="60", **given),
                self.filled(VaeganProtTrain2D, particleDiameterAng="60", **given),
                self.filled(VaeganProtTrain3D, **given),
                self.filled(VaeganProtTrain3D, posesFrom=OF_PARTICLES, **given),
                self.filled(VaeganProtFullres, inputStates=self.states, **given),
                self.filled(VaeganProtCluster, inputTraining=self.training, nNeighbors=5, **given),
                self.filled(VaeganProtSelect, inputClusters=self.clustering, clusterNumbers="1-3 unassigned", **given)]

    def check(self, particles, words, but=()):
        """Every form but those of some kinds says the words, and none fails or says a sentence about broken files."""
        for form in self.forms(particles):
            with self.subTest(form=type(form).__name__):
                problems = form.validate()
                said = "\n".join(map(str, [*problems, *form.warnings(), *form.summary(), *form.methods()]))
                for bad in ("validation failed", "Traceback", "of another release", "ERROR"):
                    self.assertNotIn(bad, said)
                if type(form) not in but:
                    self.assertIn(words, "\n".join(problems))

    def test_stacks_of_every_mode(self):
        """Bytes (0), 16-bit numbers (1), floats (2), counts (6) and half floats (12): one set to every form."""
        said, means = {}, {}
        for dtype, mode in ((np.int8, 0), (np.int16, 1), (np.float32, 2), (np.uint16, 6), (np.float16, 12)):
            particles = import_set(self.proj, like=np.zeros((BOX_PX, BOX_PX), dtype))
            stack = of_import(particles).getFirstItem().getFileName()
            with mrcfile.open(stack, header_only=True) as mrc:
                self.assertEqual(int(mrc.header.mode), mode)
            self.assertEqual(validate_particles(of_import(particles), True, 1), [])
            said[mode] = [form.validate() for form in self.forms(particles)]
            sample = sample_images(of_import(particles), 20)
            self.assertEqual((sample.images.dtype, sample.images.shape), (np.float32, (20, BOX_PX, BOX_PX)))
            means[mode] = sample.images[:, 0, 0] if np.dtype(dtype).kind == "f" else (sample.images[:, 0, 0] - 60) / 10
        for mode in said:
            self.assertEqual(said[mode], said[2])
            np.testing.assert_allclose(means[mode], means[2], atol=0.051)

    def test_a_set_without_particles(self):
        self.check(import_set(self.proj, ids=[]), "The input set has no particles. Give another set.")

    def test_a_set_of_disabled_particles(self):
        particles = import_set(self.proj, of_particle=lambda particle: particle.setEnabled(False))
        self.check(particles, "The input set has 0 enabled particles", but=(VaeganProtSelect,))
        form = self.forms(particles)[-1]
        self.assertIn("no enabled particle is left in the selection", "\n".join(form.validate()))

    def test_a_set_of_one_particle(self):
        self.check(import_set(self.proj, ids=[7]), "The input set has 1 enabled particles", but=(VaeganProtSelect,))

    def test_sets_without_a_pixel_size(self):
        for rate in (None, 0.0, -3.5, float("nan"), float("inf")):
            self.check(import_set(self.proj, of_set=lambda particles, rate=rate: particles._samplingRate.set(rate)),
                       f"sampling rate is {rate} Å/px; it must be above 0")

    def test_a_set_that_does_not_know_the_size_of_its_images(self):
        particles = import_set(self.proj)
        of_import(particles)._firstDim.clear()
        self.check(particles, "does not know the size of its images")

    def test_a_set_without_a_microscope(self):
        """At the set or at some particles: what the set says counts for those."""
        def forget(thing):
            thing.setAcquisition(Acquisition())

        words = f"amplitude contrast is known of particle {ENABLED_IDS[0]} ({len(ENABLED_IDS)} such particles)"
        self.check(import_set(self.proj, of_set=forget, of_particle=forget), words, but=(VaeganProtSelect,))
        for kept in ({"of_set": forget}, {"of_particle": forget}):
            self.assertEqual(validate_particles(of_import(import_set(self.proj, **kept)), True, 16), [])

    def test_particles_without_a_ctf_in_a_set_with_one(self):
        def forget(particle):
            if particle.getObjId() in ENABLED_IDS[:2]:
                particle.getCTF()._defocusU.set(None)

        self.check(import_set(self.proj, of_particle=forget),
                   f"Particle {ENABLED_IDS[0]} has no CTF (2 such particles)", but=(VaeganProtSelect,))
        self.assertEqual(validate_particles(of_import(import_set(self.proj, of_particle=forget)), False, 16), [])

    def test_a_set_whose_table_is_gone(self):
        """It is not made anew, empty, by being asked for; where another program did so it is gone all the same."""
        particles = import_set(self.proj)
        table = of_import(particles).getFileName()
        of_import(particles).close()
        os.rename(table, table + ".kept")
        said = f"{table}: the table of the input set is not there. Bring it back, or give another set."
        self.check(particles, said)
        self.assertFalse(os.path.exists(table))
        open(table, "w").close()
        self.check(particles, said)

    def test_images_that_are_not_square(self):
        self.check(import_set(self.proj, like=np.zeros((32, 30), np.float32)),
                   "The images are 30 x 32 px; the engine needs square ones",
                   but=(VaeganProtSelect,))

    def test_images_of_four_pixels(self):
        self.check(import_set(self.proj, like=np.zeros((4, 4), np.float32)), "", but=())

    def test_images_beyond_the_end_of_their_stack(self):
        def beyond(particle):
            particle.setLocation(10**6, particle.getFileName())

        particles = import_set(self.proj, of_particle=beyond)
        self.check(particles, "", but=())
        self.assertIn("is image 1000000 of", "\n".join(self.forms(particles)[3].warnings()))

    def test_a_set_that_is_still_growing(self):
        particles = import_set(self.proj, of_set=lambda particles: particles.setStreamState(Set.STREAM_OPEN))
        self.check(particles, "", but=())
        for form in self.forms(particles)[:4]:  # searches: words that are not of a training
            said = "\n".join(form.warnings())
            self.assertIn("The input set is still growing", said)
            self.assertIn("species are seldom told apart", said)
            self.assertNotIn("training", said)


class TestFlexibleSets(ProjectTest):
    """The particles of embed and cluster, with latent vectors, as input of everything else."""

    def test_every_search_takes_them(self):
        particles = (self.imported, "outputParticles")
        clustering = self.make(VaeganProtCluster, nNeighbors=5, inputTraining=self.make(
            VaeganProtTrain3D, boxPx=16, inputParticles=particles))
        flexible = (clustering, "outputParticles")
        states = self.make(VaeganProtStates, boxPx=16, inputParticles=flexible)
        runs = [states, self.make(VaeganProtClasses2D, boxPx=16, inputParticles=flexible),
                self.make(VaeganProtFullres, inputStates=states),
                self.make(VaeganProtSelect, inputClusters=states, clusterNumbers="1-2"),
                self.make(VaeganProtTrain3D, inputStates=states)]
        for run in runs:
            again = self.proj.getProtocol(run.getObjId(), fromRuns=False)
            for name, output in again.iterOutputAttributes():
                with self.subTest(run=type(run).__name__, output=name):
                    self.assertGreater(output.getSize(), 0)
                    for item in output:  # every row can be read again
                        self.assertIsNotNone(item.getObjId())
                    self.assertEqual(str(output.getName()), f"{run.strId()}.{name}")
        moved = states.outputMotionParticles.getFirstItem()
        self.assertEqual(len(moved._zFlex), 1)  # the place along the motion, no latent vector
        self.assertTrue(runs[3].outputParticles.hasAlignmentProj())
        kept = runs[3].outputParticles
        before = {item.getObjId(): list(item._zFlex) for item in clustering.outputParticles}
        self.assertEqual({item.getObjId(): list(item._zFlex) for item in kept},
                         {i: before[i] for i in kept.getIdSet()})
