"""Particles of cryoSPARC, by the columns that pyem's csparc2star writes: import, states at their poses, a star file.

Optics groups without names, stacks that end in .mrc, half sets from 1, six decimals: as in pyem 0.5 and newer.
"""
import os
import unittest

import numpy as np
from emtable import Table
from pwem.protocols import ProtImportParticles

from vaegan_scipion.constants import SELECTED_STAR
from vaegan_scipion.protocols import VaeganProtSelect, VaeganProtStates
from vaegan_scipion.tests.phantom import ProjectTest
from vaegan_scipion.tests.test_chain import IDS, NEEDS_RELION, RATE_ANG, write_relion_particles

OPTICS = ["rlnOpticsGroup", "rlnVoltage", "rlnImagePixelSize", "rlnSphericalAberration", "rlnAmplitudeContrast",
          "rlnImageSize"]
PARTICLES = ["rlnImageName", "rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnAngleRot", "rlnAngleTilt",
             "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle",
             "rlnPhaseShift", "rlnCtfBfactor", "rlnOpticsGroup", "rlnRandomSubset", "rlnClassNumber"]
POSE = PARTICLES[4:9]
MICROSCOPE = {"voltage": 200.0, "sphericalAberration": 1.4, "amplitudeContrast": 0.07}


def write_pyem_star(folder):
    """The particles of `write_relion_particles` as pyem hands cryoSPARC's on; the path and its rows."""
    before = write_relion_particles(folder)
    os.rename(os.path.join(folder, "relion.mrcs"), os.path.join(folder, "J12_particles.mrc"))
    optics = [[row.rlnOpticsGroup, row.rlnVoltage, RATE_ANG, row.rlnSphericalAberration, row.rlnAmplitudeContrast,
               row.rlnImageSize] for row in Table(fileName=before, tableName="optics")]
    particles = []
    for number, row in enumerate(Table(fileName=before, tableName="particles")):
        known = {"rlnImageName": row.rlnImageName.replace("relion.mrcs", "J12_particles.mrc"),
                 "rlnMicrographName": f"J3/motioncorrected/mic_{number % 7}.mrc", "rlnCoordinateX": 10 * number,
                 "rlnCoordinateY": number, "rlnPhaseShift": 0.0, "rlnCtfBfactor": 0.0,
                 "rlnRandomSubset": number % 2 + 1}
        particles.append([known[name] if name in known else getattr(row, name) for name in PARTICLES])
    path = os.path.join(folder, "from_cryosparc.star")
    with open(path, "w") as stream:
        for table, names, rows in (("optics", OPTICS, optics), ("particles", PARTICLES, particles)):
            stream.write(f"\ndata_{table}\n\nloop_\n")
            stream.writelines(f"_{name} #{k} \n" for k, name in enumerate(names, start=1))
            for row in rows:
                words = [f"{value:.6f}" if isinstance(value, float) else str(value) for value in row]
                stream.write(" ".join(words) + "\n")
    return path, [dict(zip(PARTICLES, row)) for row in particles]


@unittest.skipIf(NEEDS_RELION, NEEDS_RELION)
class TestCryosparc(ProjectTest):
    """One import."""

    def test_from_the_import_to_a_star_file(self):
        star, given = write_pyem_star(os.getcwd())
        imported = self.run_protocol(
            ProtImportParticles, importFrom=ProtImportParticles.IMPORT_FROM_RELION, magnification=50000,
            starFile=star, samplingRate=RATE_ANG, haveDataBeenPhaseFlipped=False, **MICROSCOPE)
        self.assertEqual(imported.outputParticles.getSize(), len(IDS))
        states = self.run_protocol(VaeganProtStates, boxPx=16, useAlignment=True,
                                   inputParticles=(imported, "outputParticles"))
        for row in Table(fileName=states._getExtraPath("particles.star"), tableName="optics"):
            self.assertEqual((row.rlnVoltage, row.rlnSphericalAberration, row.rlnAmplitudeContrast),
                             tuple(MICROSCOPE.values()))  # the import's form wins over the file
        selected = self.run_protocol(VaeganProtSelect, inputClusters=states, clusterNumbers="1-2", exportStar=True)
        found = list(Table(fileName=selected._getExtraPath(SELECTED_STAR), tableName="particles"))
        self.assertEqual(len(found), states.outputParticles.getSize())
        by_image = {int(row["rlnImageName"].split("@")[0]): row for row in given}
        for row in found:
            was = by_image[int(row.rlnImageName.split("@")[0])]
            np.testing.assert_allclose([float(getattr(row, name)) for name in ("rlnDefocusU", "rlnDefocusV")],
                                       [was["rlnDefocusU"], was["rlnDefocusV"]])
            self.assertEqual(row.rlnMicrographName, os.path.basename(was["rlnMicrographName"]))  # as Scipion keeps it
            self.assertEqual((row.rlnCoordinateX, row.rlnCoordinateY), (was["rlnCoordinateX"], was["rlnCoordinateY"]))
            moved = np.array([float(getattr(row, name)) - was[name] for name in POSE])
            np.testing.assert_allclose((moved + 180) % 360 - 180, 0, atol=1e-2)  # degrees and A
