"""The refine protocol: classes and particles with RELION's poses, half maps, FSCs; what the form refuses."""
import os
import unittest
from importlib.util import find_spec

import mrcfile
import numpy as np
from emtable import Table
from pwem.constants import ALIGN_PROJ

from vaegan_scipion.poses import Pose, pose_matrix
from vaegan_scipion.protocols import VaeganProtCluster, VaeganProtRefine, VaeganProtTrain2D, VaeganProtTrain3D
from vaegan_scipion.tests.phantom import ENABLED_IDS, SAMPLING_RATE_ANG, ProjectTest

NEEDS_RELION = "scipion-em-relion is not installed; it writes the star file" if find_spec("relion") is None else ""


class TestRefine(ProjectTest):
    """On the fake engine: state = id % 2, angles and shifts that tell the id."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        particles = (cls.imported, "outputParticles")
        cls.training = cls.make(VaeganProtTrain3D, boxPx=16, nCategories=3, inputParticles=particles)
        cls.clustering = cls.make(VaeganProtCluster, inputTraining=cls.training, nNeighbors=5)
        # the phantom is smaller than the form allows
        cls.run_ = cls.make(VaeganProtRefine, inputTraining=cls.training, inputClusters=cls.clustering)

    def check_particle(self, item):
        """Class, alignment and values of one particle."""
        i = item.getObjId()
        self.assertEqual(item.getClassId(), i % 2 + 1)
        self.assertEqual(item._rlnRandomSubset.get(), i % 2 + 1)
        self.assertEqual(item.getCTF().getDefocusU(), 10000 + i)
        pose = Pose(i % 2, 0.75, i % 170, 10 + i % 160, -(i % 90), 0.5 * i, -0.25 * i, 1)
        np.testing.assert_allclose(item.getTransform().getMatrix(), pose_matrix(pose, SAMPLING_RATE_ANG), atol=1e-6)

    def test_classes_carry_projection_alignment(self):
        classes = self.run_.outputClasses
        self.assertEqual(classes.getSize(), 2)
        found = []
        for item in classes:
            self.assertEqual(item.getAlignment(), ALIGN_PROJ)
            self.assertAlmostEqual(item.getRepresentative().getSamplingRate(), 7.0, 4)
            for particle in item:
                self.check_particle(particle)
                found.append(particle.getObjId())
        self.assertEqual(sorted(found), ENABLED_IDS)

    def test_particles_maps_and_fscs(self):
        self.assertEqual([item.getObjId() for item in self.run_.outputParticles.iterItems(orderBy="id")], ENABLED_IDS)
        self.assertTrue(self.run_.outputParticles.hasAlignmentProj())
        for particle in self.run_.outputParticles:
            self.check_particle(particle)
        for volume in self.run_.outputVolumes:
            halves = volume.getHalfMaps().split(",")
            self.assertEqual(len(halves), 2)
            for path in (volume.getFileName(), *halves):
                with mrcfile.open(path, header_only=True) as mrc:
                    self.assertAlmostEqual(float(mrc.voxel_size.x), 7.0, 4)
        x, y = self.run_.outputFSCs.getFirstItem().getData()
        np.testing.assert_allclose(x, np.arange(1, 9) / 160)
        np.testing.assert_allclose(y, 1 - np.arange(1, 9) / 8)
        self.assertIn("Verdict: 2 states", self.run_._summary())
        self.assertIn("state 2: ", self.run_._summary()[2])
        self.assertIn("2 states", self.run_._methods()[0])

    @unittest.skipIf(NEEDS_RELION, NEEDS_RELION)
    def test_relion_reads_the_poses_as_they_were_written(self):
        from relion.convert import writeSetOfParticles

        writeSetOfParticles(self.run_.outputParticles, "refined.star", alignType=ALIGN_PROJ)
        for row in Table(fileName=os.path.abspath("refined.star"), tableName="particles"):
            i = row.rlnImageId
            np.testing.assert_allclose([row.rlnAngleRot, row.rlnAngleTilt, row.rlnAnglePsi],
                                       [i % 170, 10 + i % 160, -(i % 90)], atol=1e-3)
            np.testing.assert_allclose([row.rlnOriginXAngst, row.rlnOriginYAngst], [-0.5 * i, 0.25 * i], atol=1e-3)

    def test_form_refuses(self):
        other = self.make(VaeganProtTrain3D, boxPx=16, seed=1, inputParticles=(self.imported, "outputParticles"))
        for message, values in ((f"has {len(ENABLED_IDS)} particles; at least 200", {}),
                                ("use rising numbers", {"startShells": 9.0}), ("Batch size is 1", {"batchSize": 1}),
                                ("Smallest state / all is 0.7", {"smallestFrac": 0.7})):
            run = self.newProtocol(VaeganProtRefine, **values)
            run.inputTraining.set(self.training)
            self.assertIn(message, "\n".join(run._validate()))
        run.inputClusters.set(self.clustering)
        run.inputTraining.set(other)
        self.assertIn("were made with another training", "\n".join(run._validate()))
        self.assertNotIn(VaeganProtTrain2D.__name__, run.getParam("inputTraining").pointerClass.get())
