"""Alignments that particles carry, as poses in the star file of the engine."""
import os
from pathlib import Path

import numpy as np
from pwem.objects import SetOfParticles, Transform
from pyworkflow.tests import BaseTest, setupTestProject

from vaegan_scipion.convert.to_engine import write_particles_star
from vaegan_scipion.tests.phantom import ENABLED_IDS, import_phantom


class TestAlignment(BaseTest):
    """Of a set as an import of refined particles leaves it."""

    @classmethod
    def setUpClass(cls):
        setupTestProject(cls)
        cls.aligned = import_phantom(cls.proj, poses=True).outputParticles

    def test_what_is_no_rotation_is_refused(self):
        """Mirrored, scaled and broken matrices would become other angles without a word."""
        for number, change in enumerate((np.diag([1, 1, -1, 1]), np.diag([2, 2, 2, 1]), np.full((4, 4), np.nan))):
            path = Path(f"turned_{number}.sqlite").absolute()
            path.unlink(missing_ok=True)
            some = SetOfParticles(filename=str(path))
            some.copyInfo(self.aligned)
            for item in self.aligned:
                particle = item.clone()
                if particle.getObjId() == ENABLED_IDS[3]:
                    particle.setTransform(Transform(particle.getTransform().getMatrix() @ change))
                some.append(particle)
            some.write()
            with self.assertRaisesRegex(ValueError, f"alignment of particle {ENABLED_IDS[3]} is no rotation and shift"):
                write_particles_star(some, os.path.abspath("turned.star"), aligned=True)
