"""What a run will take on this machine, asked of the engine from a form, before there is a run."""
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import replace
from typing import Any, List, Optional

from . import Plugin
from .engine.vaegan_engine.contract import run_json
from .engine.vaegan_engine.contract.wording import with_ring
from .engine_run import EXIT_REMEDIES, EXIT_SENTENCES
from .protocols.particle_notes import circle_radius_frac
from .protocols.protocol_base import count_enabled

NAMES_STAR = "particles.star"  # names as many images as the set has: all that a forecast asks of the particles
REQUEST_JSON = "request.json"


def request_of(protocol: Any, star: str) -> Any:
    """The settings of a form for as many particles as `star` names, with what only the particles tell filled in."""
    settings = protocol._getSettings()
    data = replace(settings.data, particles=star)
    if getattr(settings, "particle_diameter_ang", 0):
        radius_frac = circle_radius_frac(protocol, protocol.getParticlesPointer().get()) / data.crop_frac
        data = replace(data, particle_radius_frac=min(round(radius_frac, 6), 0.5))
        settings = replace(settings, particle_diameter_ang=0.0)
    return replace(settings, data=data)


def write_names(n: int, star: str) -> None:
    """A star file that names `n` images."""
    with open(star, "w") as stream:
        stream.write("data_particles\n\nloop_\n_rlnImageName #1\n")
        stream.writelines(f"{index}@counted.mrcs\n" for index in range(1, n + 1))


class ForecastProcess:
    """The engine measuring what the run of a form will take, as a process that is asked now and then.

    protocol: a form without problems. Nothing is written into its run.
    """

    def __init__(self, protocol: Any) -> None:
        self.n_particles = count_enabled(protocol.getParticlesPointer().get())
        self.on_queue = bool(protocol.useQueue())
        self._folder = tempfile.mkdtemp(prefix="vaegan_forecast_")
        star, request = (os.path.join(self._folder, name) for name in (NAMES_STAR, REQUEST_JSON))
        write_names(self.n_particles, star)
        run_json.write_run(request_of(protocol, star), request)
        gpu = bool(protocol.usesGpu())
        program = Plugin.getEngineProgram(gpu)
        if gpu:
            program %= {"GPU": ",".join(map(str, protocol.getGpuList()))}
        self._words = open(os.path.join(self._folder, "words.txt"), "w+", errors="replace")
        self._process = subprocess.Popen(f"{program} run {REQUEST_JSON} --forecast "
                                         f"--processes {protocol._countProcesses()}", shell=True, cwd=self._folder,
                                         env=Plugin.getEnviron(), stdout=self._words, stderr=subprocess.STDOUT,
                                         start_new_session=True)

    def answer(self) -> Optional[str]:
        """What is expected, stage by stage, or why it cannot be said; None while it is being measured."""
        code = self._process.poll()
        if code is None:
            return None
        self._words.seek(0)
        said = self._words.read().rstrip().splitlines()
        if code:
            return f"This cannot be forecast: {reason(code, said)}"
        found = said[next((i for i, line in enumerate(said) if line.startswith("expected")), 0):]
        found[0] = found[0][:1].upper() + found[0][1:] + "."
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        if load > cores + 1:
            found.append(f"This machine does much else now (load {load:.0f} on {cores} cores): that is in the times.")
        if self.on_queue:
            found.append("The run goes to a queue: another machine takes another time.")
        return "\n".join(found)

    def stop(self) -> None:
        """End it, if it still measures, and remove what it was given."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()
        self._words.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def reason(code: int, said: List[str]) -> str:
    """The engine's own sentence, else that of its exit code."""
    own = [line.split(": ", 1)[1] for line in said if line.startswith("vaegan ") and ": " in line]
    if own:
        return with_ring(own[-1])
    return f"{EXIT_SENTENCES.get(code, EXIT_SENTENCES[1])} {EXIT_REMEDIES.get(code, '')}".strip()
