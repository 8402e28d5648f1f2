"""Columns of an import's optics groups that the search does not need travel to its star files: beam tilt, MTF ..."""
import os

from emtable import Table
from pyworkflow.object import Integer
from pyworkflow.tests import BaseTest, setupTestProject

from vaegan_scipion.convert.to_engine import relion_groups, write_particles_star
from vaegan_scipion.protocols.protocol_base import warn_particles
from vaegan_scipion.tests.phantom import OTHER_OPTICS_IDS, SAMPLING_RATE_ANG, acquisition, import_phantom
from vaegan_scipion.tests.test_hostile_sets import import_set, of_import

TEXT = """data_optics

loop_
_rlnOpticsGroupName
_rlnOpticsGroup
_rlnMtfFileName
_rlnVoltage
_rlnSphericalAberration
_rlnAmplitudeContrast
_rlnImagePixelSize
_rlnBeamTiltX
_rlnBeamTiltY
_rlnEvenZernike
first 1 mtf_k2.star 300.0 2.7 0.1 99.0 0.25 -0.125 [0.5,-2.25,0]
"""


class TestColumns(BaseTest):
    """Sets with the text of a RELION import."""

    @classmethod
    def setUpClass(cls):
        setupTestProject(cls)

    def written(self, text):
        """Rows of the optics groups in the star file of a set with this text, by the engine's columns."""
        particles = import_phantom(self.proj, poses=True).outputParticles
        particles.getAcquisition().opticsGroupInfo.set(text)
        write_particles_star(particles, os.path.abspath("columns.star"))
        return particles, Table(fileName=os.path.abspath("columns.star"), tableName="optics")

    def test_other_columns_follow_where_all_groups_have_them(self):
        both = TEXT + "second 2 mtf_k3.star 200.0 2.7 0.07 99.0 0.5 0 [1,0,0]\n"
        for text, rows in ((TEXT, 0), (both, 2)):
            particles, optics = self.written(text)
            self.assertEqual(len(optics), 2)  # the phantom has particles of another microscope
            self.assertEqual(optics.hasColumn("rlnBeamTiltX"), rows > 0)
            self.assertEqual({row.rlnImagePixelSize for row in optics}, {SAMPLING_RATE_ANG})
        self.assertTrue(set(OTHER_OPTICS_IDS) <= set(relion_groups(particles)[0]))

    def test_their_values_are_those_of_the_import(self):
        both = TEXT + "second 2 mtf_k3.star 200.0 2.7 0.07 99.0 0.5 0 [1,0,0]\n"
        _, optics = self.written(both)
        found = {row.rlnVoltage: (row.rlnMtfFileName, float(row.rlnBeamTiltX), float(row.rlnBeamTiltY),
                                  str(row.rlnEvenZernike)) for row in optics}
        self.assertEqual(found, {300.0: ("mtf_k2.star", 0.25, -0.125, "[0.5,-2.25,0]"),
                                 200.0: ("mtf_k3.star", 0.5, 0.0, "[1,0,0]")})

    def test_microscopes_that_particles_do_not_tell_apart_are_warned_of(self):
        """An import of a star file leaves all groups in the set's text, and no particle's own."""
        second = "second 2 mtf_k3.star {} 2.7 0.1 99.0 0.5 0 [1,0,0]\n"

        def notes(text, of_particle=lambda particle: None):
            def one_microscope(particle):
                particle.setAcquisition(acquisition(300.0))
                of_particle(particle)

            imported = import_set(self.proj, of_particle=one_microscope,
                                  of_set=lambda particles: particles.getAcquisition().opticsGroupInfo.set(text))
            return " ".join(warn_particles(of_import(imported), 1))

        def by_number(particle):
            particle._rlnOpticsGroup = Integer(1 + particle.getObjId() % 2)

        def by_own_values(particle):
            particle.setAcquisition(acquisition(300.0 if particle.getObjId() % 2 else 200.0))

        said = "do not say which of their optics groups they are of"
        self.assertIn(said, notes(TEXT + second.format(200.0)))
        self.assertIn("(300 kV, 2.7 mm, 0.1; 200 kV, 2.7 mm, 0.1): the first is",
                      notes(TEXT + second.format(200.0)))
        for told in (notes(TEXT), notes(TEXT + second.format(300.0)), notes(TEXT + second.format(200.0), by_number),
                     notes(TEXT + second.format(200.0), by_own_values)):
            self.assertNotIn(said, told)
