"""What every protocol of the plugin shares: the engine, GPU and CPU, digests of inputs."""
import os
from typing import Any, List

import pyworkflow.protocol.params as params
from pwem.protocols import EMProtocol
from pyworkflow import BETA

from .. import Plugin
from ..constants import PARTICLES_STAR
from ..convert import READABLE_STACKS, write_particles_star
from ..engine.vaegan_engine import contract
from ..engine_run import EngineRun


class VaeganProtBase(EMProtocol):
    """Runs commands of the engine; no form of its own beyond GPU, threads and seed."""

    _devStatus = BETA

    # --------------------------- DEFINE param functions ---------------------------
    def _defineComputeParams(self, form: Any) -> None:
        form.addParam("seed", params.IntParam, default=contract.ComputeConfig().seed,
                      expertLevel=params.LEVEL_ADVANCED, label="Seed",
                      help="Start of all random numbers. Another seed gives another result of the same worth.")
        form.addHidden(params.USE_GPU, params.BooleanParam, default=True, label="Use GPU?",
                       help="Yes: run on the GPU below. No: run on the CPU, about 30 times slower.")
        form.addHidden(params.GPU_LIST, params.StringParam, default="0", label="GPU ID",
                       help="Number of the GPU. The engine uses one.")
        form.addParallelSection(threads=2, mpi=0)

    # --------------------------- STEPS functions ---------------------------
    def _writeParticles(self, particles: Any) -> str:
        """Write the star file of a set, unless an equal one is there; returns its path."""
        star = self._getExtraPath(PARTICLES_STAR)
        part = star + ".new"
        ids = write_particles_star(particles, part)
        if os.path.exists(star) and open(star).read() == open(part).read():
            os.remove(part)
        else:
            os.replace(part, star)
        self.info(f"{len(ids)} particles in {star}")
        return star

    def _runEngine(self, settings: Any, name: str, folder: str) -> dict:
        """Run the engine into extra/`folder`; its request is extra/`name`.json."""
        run = EngineRun(settings, self._getExtraPath(name + ".json"), self._getExtraPath(folder))
        return run.run(self, self.usesGpu())

    # --------------------------- INFO functions ---------------------------
    def _validateCompute(self) -> List[str]:
        errors = []
        if self.usesGpu() and len(self.getGpuList()) != 1:
            errors.append(f"GPU ID is '{self.gpuList.get()}': the engine uses one GPU. Give one number.")
        if self.numberOfThreads.get() < 1:
            errors.append(f"Threads is {self.numberOfThreads.get()}: at least 1 is needed.")
        return errors

    # --------------------------- UTILS functions ---------------------------
    def _getCompute(self) -> contract.ComputeConfig:
        return contract.ComputeConfig(device="cuda" if self.usesGpu() else "cpu",
                                      threads=self.numberOfThreads.get(), seed=self.seed.get())

    def _getEnviron(self) -> Any:
        return Plugin.getEnviron()


def set_digest(items: Any) -> str:
    """Text that changes when a set or its rows do; an argument of every step that depends on it."""
    path = items.getFileName()
    changed = os.path.getmtime(path) if path and os.path.exists(path) else 0
    return f"{items.getObjId()} {items.getSize()} {changed:.3f}"


def file_digest(path: Any) -> str:
    """Text that changes when a file is written again; empty when it is not there."""
    if not os.path.exists(path):
        return ""
    found = os.stat(path)
    return f"{found.st_size} {found.st_mtime_ns}"


def validate_particles(particles: Any, ctf_needed: bool, n_min: int) -> List[str]:
    """What keeps a set of particles from being used, one sentence each."""
    errors = []
    if ctf_needed and not particles.hasCTF():
        errors.append("The input particles have no CTF. Assign one, or set 'Images without a CTF' to Yes.")
    size, rate = particles.getSize(), particles.getSamplingRate()
    if size < n_min:
        errors.append(f"The input set has {size} particles; at least {n_min} are needed.")
    if not rate or rate <= 0:
        errors.append(f"The input set's sampling rate is {rate} A/px; it must be above 0. "
                      "Import the particles with their sampling rate.")
    first = particles.getFirstItem()
    if first is not None and not first.getFileName().lower().endswith(READABLE_STACKS):
        errors.append(f"{first.getFileName()} is not an MRC stack. Convert the particles to .mrcs first.")
    return errors
