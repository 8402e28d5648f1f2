"""What a run will take on this machine, asked of the engine from a form, before there is a run."""
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from dataclasses import replace
from typing import Any, List, Optional, Tuple

import numpy as np

from . import Plugin
from .convert.to_engine import write_particles_star
from .engine.vaegan_engine.contract import result_files, run_json
from .engine.vaegan_engine.contract.wording import with_ring
from .engine_run import EXIT_REMEDIES, EXIT_SENTENCES
from .protocols import VaeganProtCluster, VaeganProtFullres
from .protocols.particle_notes import kept_radius_frac
from .protocols.protocol_base import count_enabled

NAMES_STAR = "particles.star"  # names as many images as the set has: all that most forecasts ask of the particles
MADE_DIR = "made"  # points in place of an embedding that is not there yet
REQUEST_JSON, WORDS_TXT = "request_{}.json", "words_{}.txt"  # of each command, from 1
HALVES_LINE = "The two independent halves come to that: about as long as the training."


def requests_of(protocol: Any, n: int, folder: str) -> List[Any]:
    """What the engine is asked of a form with `n` particles, a run of each command; files are made in `folder`."""
    star = os.path.join(folder, NAMES_STAR)
    if isinstance(protocol, VaeganProtFullres):
        return [fullres_request(protocol, star)]
    write_names(n, star)
    if isinstance(protocol, VaeganProtCluster):
        return cluster_requests(protocol, n, star)
    return [request_of(protocol, star)]


def request_of(protocol: Any, star: str) -> Any:
    """The settings of a form for as many particles as `star` names, with what only the particles tell filled in."""
    settings = protocol._getSettings()
    data = replace(settings.data, particles=star)
    if getattr(settings, "particle_diameter_ang", 0):
        data = replace(data, particle_radius_frac=kept_radius_frac(protocol, protocol.getParticlesPointer().get()))
        settings = replace(settings, particle_diameter_ang=0.0)
    return replace(settings, data=data)


def fullres_request(protocol: Any, star: str) -> Any:
    """The settings of *refine states at full resolution*, which is measured on the particles themselves.

    Their own star file is that of the states where no others are given; that of others, ``star``, is written before the
    engine is asked. A mask makes no difference to the time.
    """
    return replace(protocol._getSettings(), states_dir=os.path.abspath(protocol.inputStates.get().getStatesDir()),
                   particles="" if others_of(protocol) is None else star, mask="")


def others_of(protocol: Any) -> Any:
    """The set whose star file a forecast asks for, as *refine states at full resolution* does of other particles."""
    return protocol.inputParticles.get() if isinstance(protocol, VaeganProtFullres) else None


def read_anew(particles: Any) -> Any:
    """The same set through a connection of its own: sqlite gives one to the thread alone that opened it."""
    own = type(particles)(filename=particles.getFileName(), prefix=particles.getPrefix() or "")
    own.copy(particles, copyId=False)
    return own


def cluster_requests(protocol: Any, n: int, star: str) -> List[Any]:
    """Embedding the `n` particles that `star` names, and clustering as many made points of as many numbers each."""
    run_dir, points = (os.path.abspath(path) for path in (
        protocol.inputTraining.get().getRunDir(), os.path.join(os.path.dirname(star), MADE_DIR)))
    model = run_json.read_run(os.path.join(run_dir, result_files.RUN_JSON)).model
    z = np.random.default_rng(0).standard_normal((n, model.n_categories + model.n_normal)).astype(np.float32)
    result_files.write_npz(os.path.join(points, result_files.LATENTS_NPZ), particle_id=np.arange(1, n + 1), z=z,
                           half_set=(1 + np.arange(n) % 2).astype(np.uint8))
    return [replace(protocol._getEmbedSettings(), run_dir=run_dir, particles=star),
            replace(protocol._getClusterSettings(), run_dir=run_dir, embedding_dir=points)]


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
        self.has_halves = bool(getattr(protocol, "doHalves", False))
        self._folder = tempfile.mkdtemp(prefix="vaegan_forecast_")
        gpu = bool(protocol.usesGpu())
        program = Plugin.getEngineProgram(gpu)
        if gpu:
            program %= {"GPU": ",".join(map(str, protocol.getGpuList()))}
        commands = []
        self._words: List[Tuple[str, str]] = []  # command and file of each
        for number, request in enumerate(requests_of(protocol, self.n_particles, self._folder), 1):
            asked, words = (os.path.join(self._folder, name.format(number)) for name in (REQUEST_JSON, WORDS_TXT))
            run_json.write_run(request, asked)
            self._words.append((request.command, words))
            commands.append(f"( {program} run {shlex.quote(asked)} --forecast "
                            f"--processes {protocol._countProcesses()} ) > {shlex.quote(words)} 2>&1")
        self._process: Optional[subprocess.Popen] = None
        self._lock, self._stopped, self._failure = threading.Lock(), False, ""
        others = others_of(protocol)
        if others is None:
            self._begin(" && ".join(commands))
        else:  # a large set takes long, and the window is to go on meanwhile
            threading.Thread(target=self._write_and_begin, args=(others, " && ".join(commands)), daemon=True).start()

    def _write_and_begin(self, particles: Any, command: str) -> None:
        try:
            own = read_anew(particles)
            write_particles_star(own, os.path.join(self._folder, NAMES_STAR))
            own.close()
            self._begin(command)
        except Exception as error:  # no thread of a window may end without a word
            self._failure = str(error) or type(error).__name__
        if self._stopped:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _begin(self, command: str) -> None:
        # where the engine is run too: image names of a set are relative to the project
        with self._lock:
            if not self._stopped:
                self._process = subprocess.Popen(command, shell=True, env=Plugin.getEnviron(), start_new_session=True)

    def answer(self) -> Optional[str]:
        """What is expected, stage by stage, or why it cannot be said; None while it is being measured."""
        if self._failure:
            return f"This cannot be forecast: {self._failure}"
        code = None if self._process is None else self._process.poll()
        if code is None:
            return None
        said = {command: said_in(path) for command, path in self._words}
        if code:
            return f"This cannot be forecast: {reason(code, [line for lines in said.values() for line in lines])}"
        found: List[str] = []
        for command, lines in said.items():
            own = lines[next((i for i, line in enumerate(lines) if line.startswith("expected")), 0):]
            first = own[0] if len(said) == 1 else f"{command}, {own[0]}"
            found += [first[:1].upper() + first[1:] + ".", *own[1:]]
        if self.has_halves:
            found.append(HALVES_LINE)
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        if load > cores + 1:
            found.append(f"This machine does much else now (load {load:.0f} on {cores} cores): that is in the times.")
        if self.on_queue:
            found.append("The run goes to a queue: another machine takes another time.")
        return "\n".join(found)

    def stop(self) -> None:
        """End it, if it still measures, and remove what it was given."""
        with self._lock:
            self._stopped = True
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def said_in(path: str) -> List[str]:
    """Lines of what a command has said so far; none where it has not begun."""
    if not os.path.exists(path):
        return []
    with open(path, errors="replace") as stream:
        return stream.read().rstrip().splitlines()


def reason(code: int, said: List[str]) -> str:
    """The engine's own sentence, else that of its exit code."""
    own = [line.split(": ", 1)[1] for line in said if line.startswith("vaegan ") and ": " in line]
    if own:
        return with_ring(own[-1])
    return f"{EXIT_SENTENCES.get(code, EXIT_SENTENCES[1])} {EXIT_REMEDIES.get(code, '')}".strip()
