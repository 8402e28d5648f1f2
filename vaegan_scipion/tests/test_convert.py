"""Per-row round trips of ids, CTF and optics; joins by id; classes and flexible particles."""
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from emtable import Table
from pwem.objects import Acquisition, Coordinate, CTFModel, ParticleFlex, SetOfParticles, SetOfParticlesFlex
from pyworkflow.object import Integer
from pyworkflow.tests import BaseTest, setupTestProject

from vaegan_scipion.annotate_space import getAnnotateSpaceArguments
from vaegan_scipion.constants import PROGRAM_NAME
from vaegan_scipion.convert.from_engine import (
    NO_OPTICS,
    Clusters,
    as_column,
    check_ids,
    class_ids,
    read_clusters,
    read_latents,
    share_attributes,
)
from vaegan_scipion.convert.motions import fill_motion
from vaegan_scipion.convert.optics_groups import Optics, optics_of, premultiplied_groups, unlike_groups
from vaegan_scipion.convert.poses import read_poses
from vaegan_scipion.convert.sample_images import sample_images
from vaegan_scipion.convert.to_engine import (
    ctf_values,
    image_name,
    micrograph_of,
    optics_table_of,
    place_of,
    quoted,
    whole_split,
    write_particles_star,
)
from vaegan_scipion.engine.vaegan_engine.contract import result_files
from vaegan_scipion.engine_run import EngineError
from vaegan_scipion.protocols.particle_notes import contrast_notes
from vaegan_scipion.protocols.protocol_base import missing_alignment, validate_particles
from vaegan_scipion.tests.phantom import (
    ALL_IDS,
    BOX_PX,
    DISABLED_IDS,
    ENABLED_IDS,
    OTHER_OPTICS_IDS,
    SAMPLING_RATE_ANG,
    acquisition,
    import_phantom,
    make_particle,
)
from vaegan_scipion.tests.phantom import OPTICS as PHANTOM_OPTICS

OPTICS = """data_optics

loop_
_rlnOpticsGroupName
_rlnOpticsGroup
_rlnVoltage
_rlnSphericalAberration
_rlnAmplitudeContrast
a 1 120.0 1.2 0.15
"""


def optics_text(voltage_kv, contrast, phase_flipped):
    """What an import of one optics group leaves."""
    head = OPTICS.rsplit("a 1", 1)[0]
    return f"{head}_rlnCtfDataArePhaseFlipped\na 1 {voltage_kv} 2.7 {contrast} {phase_flipped}\n"


class TestConvert(BaseTest):
    """Sets to star files and results to sets."""

    @classmethod
    def setUpClass(cls):
        setupTestProject(cls)
        cls.particles = import_phantom(cls.proj).outputParticles
        cls.aligned = import_phantom(cls.proj, poses=True).outputParticles
        cls.star = os.path.abspath("particles.star")
        cls.ids = write_particles_star(cls.particles, cls.star)

    def test_rows_are_enabled_particles_by_id(self):
        self.assertEqual(self.ids, ENABLED_IDS)
        table = Table(fileName=self.star, tableName="particles")
        self.assertEqual([row.vaeParticleId for row in table], ENABLED_IDS)
        self.assertFalse(set(DISABLED_IDS) & {row.vaeParticleId for row in table})

    def test_every_row_has_its_own_values(self):
        locations = {item.getObjId(): item.getLocation() for item in self.particles}
        for row in Table(fileName=self.star, tableName="particles"):
            particle_id = row.vaeParticleId
            self.assertEqual(row.rlnDefocusU, 10000 + particle_id)
            self.assertEqual(row.rlnDefocusV, 9000 + particle_id)
            self.assertEqual(row.rlnDefocusAngle, particle_id % 180)
            self.assertEqual(row.rlnPhaseShift, particle_id / 2)
            self.assertEqual(row.rlnRandomSubset, particle_id % 2 + 1)
            self.assertEqual(row.rlnOpticsGroup, 2 if particle_id in OTHER_OPTICS_IDS else 1)
            index, path = row.rlnImageName.split("@")
            self.assertEqual((int(index), path), locations[particle_id])
            self.assertTrue(os.path.exists(path))  # the project is the working folder

    def test_optics_groups(self):
        first, second = Table(fileName=self.star, tableName="optics")
        self.assertEqual((first.rlnVoltage, first.rlnSphericalAberration, first.rlnAmplitudeContrast),
                         (300, 2.7, 0.1))
        self.assertEqual((second.rlnVoltage, second.rlnAmplitudeContrast), (200, 0.07))
        for group in (first, second):
            self.assertEqual((group.rlnImagePixelSize, group.rlnImageSize), (SAMPLING_RATE_ANG, BOX_PX))

    def test_optics_of_a_relion_import_count_first(self):
        """But for particles of another microscope than their set's: those came from another import."""
        particles = import_phantom(self.proj).outputParticles
        particles.getAcquisition().opticsGroupInfo.set(OPTICS)
        star = os.path.abspath("relion.star")
        write_particles_star(particles, star)
        first, second = Table(fileName=star, tableName="optics")
        self.assertEqual((first.rlnVoltage, first.rlnSphericalAberration, first.rlnAmplitudeContrast),
                         (120, 1.2, 0.15))
        self.assertEqual((second.rlnVoltage, second.rlnAmplitudeContrast), (200, 0.07))
        for row in Table(fileName=star, tableName="particles"):
            self.assertEqual(row.rlnOpticsGroup, 2 if row.vaeParticleId in OTHER_OPTICS_IDS else 1)

    def test_joined_imports_keep_what_each_says_of_its_images(self):
        """The set has the text of the first; the second's particles have their own, with the same number."""
        particles = SetOfParticles(filename=":memory:")
        particles.setSamplingRate(SAMPLING_RATE_ANG)
        particles.setHasCTF(True)
        particles.setAcquisition(acquisition(300.0))
        particles.getAcquisition().opticsGroupInfo.set(optics_text(300.0, 0.1, phase_flipped=1))
        for particle_id in (7, 9):
            particle = make_particle(particle_id, 1, "stack.mrcs", True)
            own = acquisition(300.0 if particle_id == 7 else 200.0)
            own.opticsGroupInfo.set(optics_text(own.getVoltage(), own.getAmplitudeContrast(),
                                                phase_flipped=int(particle_id == 7)))
            particle.setAcquisition(own)
            particle._rlnOpticsGroup = Integer(1)
            particles.append(particle)
        first, second = (optics_of(item, particles, False) for item in particles)
        self.assertEqual([first, second], [optics_of(item, particles, True) for item in particles])
        self.assertEqual(first, Optics(1, (300, 2.7, 0.1), False, True))
        self.assertEqual(second, Optics(1, (200, 2.7, 0.07), False, False))
        particles.getXDim = lambda: BOX_PX
        first, second = optics_table_of([first, second], particles)
        self.assertEqual((first.rlnCtfDataArePhaseFlipped, second.rlnCtfDataArePhaseFlipped), (1, 0))
        self.assertFalse(hasattr(first, "rlnCtfDataAreCtfPremultiplied"))

    def of_texts(self, name, texts, number=None):
        """Two particles of one microscope with their own texts (None: without), in a set with the first's."""
        some = self.empty_set(name)
        some.setHasCTF(True)
        some.setAcquisition(acquisition(300.0))
        some.getAcquisition().opticsGroupInfo.set(texts[0])
        for particle_id, text in zip((7, 9), texts):
            particle = make_particle(particle_id, 1, "stack.mrcs", True)
            own = acquisition(300.0)
            own.opticsGroupInfo.set(text)
            particle.setAcquisition(own)
            particle._rlnOpticsGroup = Integer(number)
            some.append(particle)
        some.write()
        return some

    def flips_written(self, some):
        """Of each particle, as the engine reads them."""
        some.getXDim = lambda: BOX_PX
        write_particles_star(some, "flips.star")
        groups = {row.rlnOpticsGroup: getattr(row, "rlnCtfDataArePhaseFlipped", 0)
                  for row in Table(fileName="flips.star", tableName="optics")}
        return [groups[row.rlnOpticsGroup] for row in Table(fileName="flips.star", tableName="particles")]

    def test_flips_of_one_import_are_not_those_of_another_of_the_same_microscope(self):
        flipped, not_flipped = (optics_text(300.0, 0.1, flips) for flips in (1, 0))
        for k, other in enumerate((not_flipped, None)):
            self.assertEqual(self.flips_written(self.of_texts(f"two{k}.sqlite", (flipped, other), 1)), [1, 0])

    def test_particles_without_a_number_are_of_the_only_group(self):
        """As scipion-em-relion's import of a star file leaves them; of several groups none is guessed."""
        text = optics_text(300.0, 0.1, 1).replace("a 1 ", "a 3 ")
        self.assertEqual(self.flips_written(self.of_texts("third.sqlite", (text, text))), [1, 1])
        both = optics_text(300.0, 0.1, 0).rstrip() + "\nb 2 300.0 2.7 0.1 1\n"
        some = self.of_texts("both.sqlite", (both, both))
        self.assertEqual(unlike_groups(some), [1, 2])
        self.assertIn("do not say which of their 2 optics groups", " ".join(validate_particles(some, True, 1)))
        self.assertNotIn("optics groups", " ".join(validate_particles(some, False, 1)))
        self.assertEqual(unlike_groups(self.of_texts("told.sqlite", (both, both), 2)), [])
        multiplied = both.replace("PhaseFlipped", "CtfPremultiplied")
        self.assertEqual(premultiplied_groups(self.of_texts("multiplied.sqlite", (multiplied, multiplied))), [2])

    def test_images_that_were_multiplied_by_their_ctf_are_refused_and_written_so(self):
        particles = import_phantom(self.proj, poses=True).outputParticles
        self.assertEqual(premultiplied_groups(particles), [])
        text = PHANTOM_OPTICS.replace("Dimensionality\n", "Dimensionality\n_rlnCtfDataAreCtfPremultiplied\n")
        particles.getAcquisition().opticsGroupInfo.set(text.replace("3.5 32 2\nb", "3.5 32 2 0\nb").rstrip() + " 1\n")
        self.assertEqual(premultiplied_groups(particles), [2])
        self.assertIn("optics group 2 were multiplied by their CTF", " ".join(validate_particles(particles, True, 1)))
        self.assertEqual(validate_particles(particles, False, 1), [])
        star = os.path.abspath("premultiplied.star")
        write_particles_star(particles, star)
        self.assertEqual([row.rlnCtfDataAreCtfPremultiplied for row in Table(fileName=star, tableName="optics")],
                         [0, 1])

    def test_micrographs_are_written_where_all_particles_have_one(self):
        """For a noise spectrum of each."""
        self.assertFalse(Table(fileName=self.star, tableName="particles").hasColumn("rlnMicrographName"))
        particle, coordinate = self.particles.getFirstItem().clone(), Coordinate(x=3, y=4)
        self.assertEqual(micrograph_of(particle), "")
        particle.setMicId(12)
        self.assertEqual(micrograph_of(particle), "micrograph_12")
        coordinate.setMicName("mic 7.mrc")
        particle.setCoordinate(coordinate)
        self.assertEqual(micrograph_of(particle), '"mic 7.mrc"')
        some = SetOfParticles(filename=":memory:")
        some.copyInfo(self.particles)
        for item in self.particles:
            item.setMicId(item.getObjId() % 2)
            some.append(item.clone())
        star = os.path.abspath("micrographs.star")
        write_particles_star(some, star)
        for row in Table(fileName=star, tableName="particles"):
            self.assertEqual(row.rlnMicrographName, f"micrograph_{row.vaeParticleId % 2}")

    def test_places_in_the_micrograph_are_written_where_all_particles_have_one(self):
        """With the pixel size that an import tells of: the engine then knows where neighbours stand."""
        self.assertFalse(Table(fileName=self.star, tableName="particles").hasColumn("rlnCoordinateX"))
        Path("places.sqlite").unlink(missing_ok=True)
        some = SetOfParticles(filename=os.path.abspath("places.sqlite"))
        some.copyInfo(self.particles)
        text = "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnVoltage\n_rlnSphericalAberration\n" \
               "_rlnAmplitudeContrast\n_rlnMicrographOriginalPixelSize\n1 300 2.7 0.1 1.25\n"
        some.getAcquisition().opticsGroupInfo.set(text)
        for item in (item for item in self.particles if item.getObjId() not in OTHER_OPTICS_IDS):
            item.setCoordinate(Coordinate(x=10 * item.getObjId(), y=7))
            some.append(item.clone())
        some.write()
        write_particles_star(some, star := os.path.abspath("places.star"))
        for row in Table(fileName=star, tableName="particles"):
            self.assertEqual((float(row.rlnCoordinateX), float(row.rlnCoordinateY)), (10 * row.vaeParticleId, 7))
        optics = Table(fileName=star, tableName="optics")
        self.assertEqual([float(row.rlnMicrographOriginalPixelSize) for row in optics], [1.25])
        particle = self.particles.getFirstItem().clone()
        particle.setCoordinate(Coordinate())
        self.assertIsNone(place_of(particle))

    def test_without_ctf_there_are_no_ctf_columns(self):
        star = os.path.abspath("no_ctf.star")
        write_particles_star(import_phantom(self.proj, with_ctf=False).outputParticles, star)
        self.assertFalse(Table(fileName=star, tableName="particles").hasColumn("rlnDefocusU"))

    def test_images_without_acquisition_values_are_written_where_no_ctf_needs_them(self):
        classes = self.particles.getFirstItem().clone()
        classes.setAcquisition(None)

        def of(has_ctf):
            return SimpleNamespace(hasCTF=lambda: has_ctf, getAcquisition=Acquisition)

        self.assertEqual(optics_of(classes, of(False), False), Optics(1, NO_OPTICS))
        with self.assertRaisesRegex(ValueError, "no voltage, spherical aberration"):
            optics_of(classes, of(True), False)

    def test_a_particle_without_ctf_values_is_named(self):
        particle = self.particles.getFirstItem().clone()
        for ctf in (CTFModel(), None):
            particle.setCTF(ctf)
            with self.assertRaisesRegex(ValueError, f"Particle {particle.getObjId()} has no CTF values"):
                ctf_values(particle)

    def test_flexible_particles_of_another_program_become_ours(self):
        source = self.particles.getFirstItem()
        other = ParticleFlex(progName="CryoDRGN")
        other.setZFlex([1.0, 2.0])
        other.setObjId(source.getObjId())
        item = ParticleFlex(progName=PROGRAM_NAME)
        item.setZFlex([7.0])
        share_attributes(item, other)
        self.assertEqual(item.getFlexInfo().getProgName(), PROGRAM_NAME)
        self.assertEqual(list(item.getZFlex()), [7.0])
        self.assertEqual(list(other.getZFlex()), [1.0, 2.0])

    def test_each_latent_comes_with_its_standard_deviation(self):
        """Of a covariance with a tilt: the root of its diagonal, not one over that of its inverse."""
        rng = np.random.default_rng(0)
        roots = rng.normal(size=(5, 3, 3))
        covariance = roots @ roots.transpose(0, 2, 1)
        stored = {"particle_id": np.array([9, 3, 7, 1, 5]), "z": rng.normal(size=(5, 3)),
                  "precision": np.linalg.inv(covariance)}
        result_files.write_npz("latents.npz", **stored)
        found = read_latents(".")
        self.assertEqual(found.particle_id.tolist(), [1, 3, 5, 7, 9])
        order = np.argsort(stored["particle_id"])
        np.testing.assert_allclose(found.std, np.sqrt(np.einsum("nkk->nk", covariance))[order])
        del stored["precision"]
        result_files.write_npz("latents.npz", **stored)
        self.assertIsNone(read_latents(".").std)

    def test_poses_of_another_release_are_told(self):
        with open("particles.csv", "w") as stream:
            stream.write("particle_id,label\n3,0\n")
        with self.assertRaisesRegex(EngineError, "no column 'probability'; an engine of another release"):
            read_poses(".")

    def test_places_along_a_motion_have_no_network_to_decode_them(self):
        """Of flexible particles that were given: theirs are not those of the motion."""
        given, flexible = SetOfParticlesFlex(filename=":memory:"), SetOfParticlesFlex(filename=":memory:")
        given.getFlexInfo().setAttr("_vaeganRun", "/a/training")
        fill_motion(flexible, given, {}, {}, "/some/states")
        self.assertEqual(flexible.getFlexInfo().getAttr("_vaeganStates"), "/some/states")
        with self.assertRaisesRegex(ValueError, "there are no networks to decode it"):
            getAnnotateSpaceArguments(flexible)

    def empty_set(self, name):
        """A set of aligned particles in a new file."""
        Path(name).unlink(missing_ok=True)
        some = SetOfParticles(filename=os.path.abspath(name))
        some.copyInfo(self.aligned)
        return some

    def joined(self, change, name):
        """Particles of which every second one was changed, as a set that was joined of two may have them."""
        some = self.empty_set(name)
        for k, item in enumerate(self.aligned.iterItems(orderBy="id")):
            particle = item.clone()
            if k % 2:
                change(particle)
            some.append(particle)
        some.write()
        return some

    def test_particles_without_a_half_set_get_one_and_the_others_keep_theirs(self):
        for value, name in ((None, "none.sqlite"), (0, "zero.sqlite")):
            some = self.joined(lambda item, value=value: item._rlnRandomSubset.set(value), name)
            kept = {item.getObjId(): item._rlnRandomSubset.get() for item in some}
            star = os.path.abspath("halves.star")
            write_particles_star(some, star)
            for row in Table(fileName=star, tableName="particles"):
                self.assertEqual(row.rlnRandomSubset, kept[row.vaeParticleId] or 1 + row.vaeParticleId % 2)
        self.assertEqual(whole_split([3, 4, 5], [0, 1, None]), [0, 1, 0])  # cryoSPARC's
        self.assertEqual(whole_split([3, 4], [1, None]), [1, 0])  # no split: the engine says so and draws one

    def test_particles_without_a_pose_are_named_where_poses_are_asked_for(self):
        """A set that was joined of particles with and without says that it has them, and all have lost them."""
        some = self.empty_set("joined.sqlite")
        for item in self.particles:
            some.append(item.clone())
        some.write()
        self.assertTrue(some.hasAlignmentProj())
        self.assertEqual(missing_alignment(self.aligned, "none has"), [])
        self.assertEqual(missing_alignment(self.particles, "none has"), ["none has"])
        said, = missing_alignment(some, "none has")
        self.assertIn(f"Particle 3 has no projection alignment ({len(ALL_IDS)} such particles)", said)
        with self.assertRaisesRegex(ValueError, "Particle 3 has no projection alignment"):
            write_particles_star(some, os.path.abspath("unaligned.star"), aligned=True)
        write_particles_star(some, os.path.abspath("unaligned.star"))

    def test_an_image_past_the_end_of_its_stack_is_named(self):
        some = self.joined(lambda item: item.setIndex(item.getIndex() + 100), "past.sqlite")
        with self.assertRaisesRegex(ValueError, "particle 4 is image 102 of .*, which holds 69"):
            sample_images(some)
        self.assertIn("cannot be looked at (particle 4 is image 102", contrast_notes(some, 0.3, False)[0])

    def test_values_of_star_files_are_in_quotes_where_they_must_be(self):
        for text, expected in (("a#b.mrc", "a#b.mrc"), ("a b", '"a b"'), ("a\tb", '"a\tb"'), ('a "b" c', "'a \"b\" c'"),
                               ('"a.mrc', "'\"a.mrc'"), ('a"b', 'a"b')):
            self.assertEqual(quoted(text), expected)

    def test_image_names(self):
        particle = self.particles.getFirstItem().clone()
        particle.setLocation(7, "a folder/x.mrcs")
        self.assertEqual(image_name(particle), '"000007@a folder/x.mrcs"')
        particle.setLocation(7, "x.spi")
        with self.assertRaisesRegex(ValueError, "x.spi: particle 3 is in a file that is not MRC"):
            image_name(particle)

    def test_ids_must_agree(self):
        check_ids([3, 1, 2], [1, 2, 3], "x")
        for found, words in (([1, 2], "holds 2 particles, the input set 3; .* is 3"),
                             ([1, 2, 4], "is 3"), ([1, 2, 3, 3], "holds 4 particles")):
            with self.assertRaisesRegex(EngineError, words):
                check_ids([1, 2, 3], found, "x")

    def test_class_ids_put_the_unassigned_last(self):
        self.assertEqual(class_ids([2, 0, -1, 0, 1]), {0: 1, 1: 2, 2: 3, -1: 4})
        self.assertEqual(class_ids([0, 2]), {0: 1, 2: 3})
        self.assertEqual(class_ids([-1, -1]), {-1: 1})

    def test_clusters_are_sorted_by_id(self):
        result_files.write_csv("clusters.csv", ["particle_id", "label", "probability", "umap_1", "umap_2"],
                          [[9, 1, 0.5, 9.0, -9.0], [4, -1, 0.0, 4.0, -4.0]])
        clusters = read_clusters(".")
        self.assertIsInstance(clusters, Clusters)
        np.testing.assert_array_equal(clusters.particle_id, [4, 9])
        np.testing.assert_array_equal(clusters.label, [-1, 1])
        np.testing.assert_array_equal(clusters.umap, [[4, -4], [9, -9]])

    def test_columns(self):
        self.assertEqual(as_column(3).get(), 3)
        self.assertEqual(as_column(0.5).get(), 0.5)
        self.assertEqual(list(as_column(np.array([1, 2.5]))), [1.0, 2.5])
