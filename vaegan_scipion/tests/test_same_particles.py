"""Sets are joined by id: whether the ids of two sets name the same particles, from their tables."""
import os
import tempfile
import unittest

import numpy as np
from pwem.objects import Coordinate, CTFModel, Particle, SetOfParticles

from vaegan_scipion.convert.same_particles import why_others

N, PER_MICROGRAPH = 60, 20


def positions():
    """Where the particles of the first set lie (n, 2), in px."""
    return np.random.default_rng(1).integers(100, 3900, size=(N, 2))


class TestSameParticles(unittest.TestCase):
    """Against sets whose ids are known to name the same, or others."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder, self.n_sets = folder.name, 0

    def particles(self, position=None, defocus=None, first=0, name="mic_{}.mrc"):
        """A set with ids from 1; row k is particle first + k of what is given."""
        self.n_sets += 1
        made = SetOfParticles(filename=os.path.join(self.folder, f"{self.n_sets}.sqlite"))
        made.setSamplingRate(1.0)
        for k in range(N - first):
            particle = Particle(location=(k + 1, "stack.mrcs"))
            particle.setObjId(k + 1)
            if position is not None:
                x, y = position[first + k]
                particle.setCoordinate(Coordinate(x=int(x), y=int(y)))
                particle.getCoordinate().setMicName(name.format((first + k) // PER_MICROGRAPH))
            if defocus is not None:
                particle.setCTF(CTFModel(defocusU=float(defocus[first + k]), defocusV=9000.0, defocusAngle=0.0))
            made.append(particle)
        made.write()
        self.addCleanup(made.close)
        return made

    def why(self, one, other, **values):
        """The sentence, for the ids that both have."""
        return why_others(one, other, sorted(one.getIdSet() & other.getIdSet()), **values)

    def test_binned_micrographs_of_another_name_hold_the_same_particles(self):
        one = self.particles(positions())
        self.assertEqual(self.why(one, one), "")
        for factor in (0.25, 0.5, 2.0):
            other = self.particles(np.round(factor * positions()), name="motion/{}_binned.mrc")
            self.assertEqual(self.why(one, other), "", factor)
            self.assertEqual(self.why(other, one), "", factor)

    def test_ids_that_were_shifted_by_a_row_left_out(self):
        one, other = self.particles(positions()), self.particles(positions(), first=1)
        said = self.why(one, other)
        self.assertIn(f"{N - 1} of {N - 1} compared particles", said)
        self.assertIn("Give particles with the same ids", said)
        self.assertIn("of micrograph mic_0.mrc in one set and of mic_1.mrc in the other", said)

    def test_particles_that_were_centred_again(self):
        moved = positions() + [[5, -4]]
        moved[7:] = positions()[7:]
        one, other = self.particles(positions()), self.particles(moved)
        said = self.why(one, other)
        x, y = positions()[0]
        self.assertIn(f"particle 1 lies at ({x}, {y}) px in one set and at ({x + 5}, {y - 4}) px in the other", said)
        self.assertIn("without centring them again", said)
        self.assertEqual(self.why(one, other, tolerance_px=8.0), "")

    def test_defocus_where_positions_are_not_known(self):
        of_each = np.repeat([10000.0, 14000.0, 22000.0], PER_MICROGRAPH)
        one = self.particles(defocus=of_each)
        said = self.why(one, self.particles(defocus=of_each, first=1))
        self.assertIn(f"The defocus of 2 of {N - 1} compared particles differs", said)
        self.assertIn("10000 and 14000 Å" if "10000" in said else "14000 and 22000 Å", said)
        fitted = of_each + np.random.default_rng(2).normal(scale=200, size=N)
        self.assertEqual(self.why(one, self.particles(defocus=fitted)), "")
        fitted[3] += 5000  # one of the new fits failed
        self.assertEqual(self.why(one, self.particles(defocus=fitted)), "")
        self.assertEqual(self.why(one, self.particles()), "")
        self.assertIn("the ids name other particles", self.why(one, self.particles(defocus=of_each + 5000.0)))
