"""Small seeded particle sets in a Scipion project, and the fake engine's environment."""
import json
import os
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import mrcfile
import numpy as np
from pwem.objects import Acquisition, CTFModel, Particle, Transform, VolumeMask
from pwem.protocols import EMProtocol, ProtImportMask, ProtImportParticles
from pyworkflow.object import Integer
from pyworkflow.protocol import STATUS_FINISHED
from pyworkflow.tests import BaseTest, setupTestProject

from vaegan_scipion import Plugin
from vaegan_scipion.constants import VAEGAN_ENV_ACTIVATION
from vaegan_scipion.protocols import VaeganProtTrain3D
from vaegan_scipion.protocols.protocol_train_3d import NO_POSES, OF_STATES
from vaegan_scipion.tests.forked_runs import forked_runs

BOX_PX = 32
SAMPLING_RATE_ANG = 3.5
ALL_IDS = [i for i in range(3, 83) if i % 7]  # not consecutive, not from 1
DISABLED_IDS = [5, 40, 80]
ENABLED_IDS = [i for i in ALL_IDS if i not in DISABLED_IDS]
OTHER_OPTICS_IDS = [i for i in ALL_IDS if i > 60]  # a second microscope

OPTICS = """data_optics

loop_
_rlnOpticsGroupName
_rlnOpticsGroup
_rlnVoltage
_rlnSphericalAberration
_rlnAmplitudeContrast
_rlnImagePixelSize
_rlnImageSize
_rlnImageDimensionality
a 1 300.0 2.7 0.1 3.5 32 2
b 2 200.0 2.7 0.07 3.5 32 2
"""


def label_of(particle_id):
    """The cluster that the fake engine puts a particle in."""
    return -1 if particle_id % 10 == 0 else particle_id % 3


def import_phantom(project, with_ctf=True, poses=False, defocus_offset_ang=0.0, shift_px=0.0):
    """A finished import in `project`: seeded noise with a blob, CTF values that tell the id.

    poses: with projection alignment (tilt = 10 + id degrees) and two optics groups, as an import from RELION leaves
    them, all shifted by shift_px in x; defocus_offset_ang is added to each defocus, as if the ids named other
    particles.

    The set is made in this process, in the folder of an import that is never launched, because only
    protocols of plugins can be launched and none of pwem's imports reads a CTF.
    """
    protocol = project.newProtocol(ProtImportParticles)
    project.saveProtocol(protocol)
    protocol.makePathsAndClean()
    stack = protocol._getExtraPath("phantom.mrcs")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:BOX_PX, :BOX_PX] - BOX_PX // 2
    images = rng.normal(size=(len(ALL_IDS), BOX_PX, BOX_PX)) + 3 * np.exp(-(x**2 + 2 * y**2) / 30)
    with mrcfile.new(stack) as mrc:
        mrc.set_data(images.astype(np.float32))
        mrc.set_image_stack()
    particles = protocol._createSetOfParticles()
    particles.setSamplingRate(SAMPLING_RATE_ANG)
    particles.setAcquisition(acquisition(300.0))
    particles.setHasCTF(with_ctf)
    if poses:
        particles.setAlignmentProj()
        particles.getAcquisition().opticsGroupInfo.set(OPTICS)
    for index, particle_id in enumerate(ALL_IDS, start=1):
        particle = make_particle(particle_id, index, stack, with_ctf)
        if with_ctf:
            particle.getCTF().setDefocusU(particle.getCTF().getDefocusU() + defocus_offset_ang)
        if poses:
            particle.setTransform(Transform(pose_matrix(10 + particle_id)))
            particle.getTransform().getMatrix()[0, 3] = shift_px
            particle._rlnOpticsGroup = Integer(2 if particle_id in OTHER_OPTICS_IDS else 1)
        particles.append(particle)
    protocol._defineOutputs(outputParticles=particles)
    protocol.setStatus(STATUS_FINISHED)
    project._storeProtocol(protocol)
    return protocol


def import_mask(project, array, sampling_rate_ang):
    """A finished import of a mask; its file says nothing of the sampling rate, as many programs' do."""
    protocol = project.newProtocol(ProtImportMask)
    project.saveProtocol(protocol)
    protocol.makePathsAndClean()
    mask = VolumeMask(location=protocol._getExtraPath("given.mrc"))
    with mrcfile.new(mask.getFileName()) as mrc:
        mrc.set_data(np.asarray(array, np.float32))
    mask.setSamplingRate(sampling_rate_ang)
    protocol._defineOutputs(outputMask=mask)
    protocol.setStatus(STATUS_FINISHED)
    project._storeProtocol(protocol)
    return protocol


def pose_matrix(tilt_deg):
    """Scipion's projection matrix (4, 4) of RELION's (rot, tilt, psi) = (0, tilt, 0): a turn about y."""
    c, s = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    return np.array([[c, 0, -s, 0], [0, 1, 0, 0], [s, 0, c, 0], [0, 0, 0, 1]])


def acquisition(voltage_kv):
    """A microscope."""
    return Acquisition(magnification=50000.0, voltage=voltage_kv, sphericalAberration=2.7,
                       amplitudeContrast=0.1 if voltage_kv == 300.0 else 0.07)


def make_particle(particle_id, index, stack, with_ctf):
    """A particle whose values tell its id."""
    particle = Particle()
    particle.setObjId(particle_id)
    particle.setLocation(index, stack)
    particle.setSamplingRate(SAMPLING_RATE_ANG)
    particle.setAcquisition(acquisition(200.0 if particle_id in OTHER_OPTICS_IDS else 300.0))
    if with_ctf:
        ctf = CTFModel(defocusU=10000.0 + particle_id, defocusV=9000.0 + particle_id,
                       defocusAngle=particle_id % 180)
        ctf.setPhaseShift(particle_id / 2)
        particle.setCTF(ctf)
    particle._rlnRandomSubset = Integer(particle_id % 2 + 1)
    particle.setEnabled(particle_id not in DISABLED_IDS)
    return particle


def make_fake_environment(folder):
    """An 'environment' whose python is the fake engine; returns the command that activates it."""
    folder = Path(folder)
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    script = Path(__file__).with_name("fake_engine.py")
    python = folder / "bin" / "python"
    python.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(script))} \"$@\"\n")
    python.chmod(0o755)
    activate = folder / "bin" / "activate"
    activate.write_text(f"PATH={shlex.quote(str(folder / 'bin'))}:$PATH\nexport PATH\n")
    return ". " + shlex.quote(str(activate))


def said_by_fake(folder):
    """What the fake engine says beside its results: whether it was resumed, and the GPUs that it saw."""
    return json.loads((Path(folder) / "fake.json").read_text())


def write_again(table):
    """The table of a run that was run again: other words, as many."""
    text = Path(table).read_text()
    Path(table).write_text(text.replace(*("0.75", "0.76") if "0.75" in text else ("0.76", "0.75")))
    assert Path(table).read_text() != text


@contextmanager
def environment(**values):
    """Set environment variables of the test and of the runs it starts, for a while."""
    before = {name: os.environ.get(name) for name in values}
    try:
        for name, value in values.items():
            os.environ[name] = value
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def run_in_shell(program, arguments, env, numberOfMpi):
    """What Scipion's runJob does, without a log."""
    subprocess.run(f"{program} {arguments}", shell=True, env=env, check=True, stdout=subprocess.DEVNULL)


class ProjectTest(BaseTest):
    """A project with phantom particles and the fake engine."""

    FORKS_RUNS = True  # runs that are waited for are forks of this process, see forked_runs.py

    @classmethod
    def setUpClass(cls):
        if cls.FORKS_RUNS:
            forks = forked_runs()
            forks.start()
            cls.addClassCleanup(forks.stop)
        setupTestProject(cls)
        cls.activation = make_fake_environment(os.path.abspath("fake env"))
        cls.before = os.environ.get(VAEGAN_ENV_ACTIVATION)
        os.environ[VAEGAN_ENV_ACTIVATION] = cls.activation
        assert Plugin.getActivation() == cls.activation
        cls.imported = import_phantom(cls.proj)

    @classmethod
    def tearDownClass(cls):
        if cls.before is None:
            os.environ.pop(VAEGAN_ENV_ACTIVATION)
        else:
            os.environ[VAEGAN_ENV_ACTIVATION] = cls.before

    @classmethod
    def newProtocol(cls, protocol_class, **values):
        """A form; a 3D training has no poses unless they are asked for."""
        if protocol_class is VaeganProtTrain3D and not {"posesFrom", "inputStates"} & set(values):
            values["posesFrom"] = NO_POSES
        return super().newProtocol(protocol_class, **values)

    @classmethod
    def filled(cls, protocol_class, **values):
        """A form on the CPU; (protocol, output name), a protocol or a list of them becomes pointers."""
        if "inputStates" in values:
            values.setdefault("posesFrom", OF_STATES)
        protocol = cls.newProtocol(protocol_class, **{
            name: value for name, value in values.items() if not isinstance(value, (tuple, list, EMProtocol))})
        for name, value in values.items():
            if isinstance(value, EMProtocol):
                getattr(protocol, name).set(value)
            elif isinstance(value, list):
                for one in value:
                    getattr(protocol, name).append(one)
            elif isinstance(value, tuple):
                getattr(protocol, name).set(value[0])
                getattr(protocol, name).setExtended(value[1])
        if protocol.hasAttribute("useGpu") and "useGpu" not in values:
            protocol.useGpu.set(False)
        return protocol

    @classmethod
    def run_protocol(cls, protocol_class, wait_ok=True, **values):
        """Run a protocol to its end, as Scipion does."""
        return cls.launch(cls.filled(protocol_class, **values), wait_ok)

    @classmethod
    def make(cls, protocol_class, **values):
        """A finished run, its steps called in this process without validation: quick, for what comes before a test."""
        protocol = cls.filled(protocol_class, **values)
        cls.proj.saveProtocol(protocol)
        protocol.makePathsAndClean()
        protocol._steps = []
        protocol._insertAllSteps()
        with patch.object(protocol, "runJob", side_effect=run_in_shell):
            for step in protocol._steps:
                getattr(protocol, step.funcName.get())(*json.loads(step.argsStr.get()))
        protocol.setStatus(STATUS_FINISHED)
        cls.proj._storeProtocol(protocol)
        return protocol

    @classmethod
    def launch(cls, protocol, wait_ok=True):
        """Run (again) and check that it ended as expected."""
        for _, output in protocol.iterOutputAttributes():
            output.close()  # an open set would go on reading the file that the run replaces
        cls.proj.launchProtocol(protocol, wait=True)
        if wait_ok:
            assert protocol.isFinished(), protocol.getErrorMessage()
        else:
            assert protocol.isFailed(), protocol.getStatus()
        return protocol
