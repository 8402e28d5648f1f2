"""One call of the engine: its request, its command line, and its end as one sentence."""
import csv
import shlex
import shutil
import sqlite3
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, Dict, Tuple
from zipfile import BadZipFile

from . import Plugin
from .constants import PARTICLES_STAR
from .engine.vaegan_engine.contract import errors, result_files, run_json
from .engine.vaegan_engine.contract.settings import Classes2dRun, FullresRun, HalvesRun, StatesRun, TrainRun
from .engine.vaegan_engine.contract.status import Status, read_status
from .engine.vaegan_engine.contract.wording import with_ring
from .prepared_images import take_prepared

EXIT_SENTENCES = {
    1: "The engine stopped with an error of its own; the last lines of the run's log show it.",
    errors.EXIT_CONFIG: "The engine refused the settings, or its environment could not be activated.",
    errors.EXIT_DATA: "The engine could not use the input files.",
    errors.EXIT_DIVERGED: "The training diverged: a loss is not finite.",
    errors.EXIT_OUT_OF_MEMORY: "The GPU ran out of memory.",
    errors.EXIT_PROCESS_LOST: "One of the engine's processes ended before the run did.",
    126: "The engine's program may not be executed.",
    127: "The engine's program was not found.",
    errors.EXIT_SIGINT: "The engine was interrupted.",
    137: "The engine was killed, most likely for want of memory.",
    errors.EXIT_SIGTERM: "The engine was stopped.",
}
EXIT_REMEDIES = {
    1: "Please report it with the log.",
    errors.EXIT_CONFIG: "Check VAEGAN_ENV_ACTIVATION and the form.",
    errors.EXIT_DATA: "Check the particles and their files.",
    errors.EXIT_DIVERGED: "Continue with smaller learning rates.",
    errors.EXIT_OUT_OF_MEMORY: "Use a smaller box or batch.",
    errors.EXIT_PROCESS_LOST: "Look at the machine's memory; Continue goes on, with any number of processes.",
    126: "Check VAEGAN_ENV_ACTIVATION.",
    127: "Check VAEGAN_ENV_ACTIVATION, or run 'scipion3 installb vaegan'.",
    errors.EXIT_SIGINT: "Continue the run when you like.",
    137: "Use a smaller box, or a machine with more memory.",
    errors.EXIT_SIGTERM: "Continue the run when you like.",
}


class EngineError(Exception):
    """The engine's end as one sentence, with a remedy."""


SAID = (EngineError, errors.EngineError, OSError)  # what is missing, in a sentence
# what reading tables, archives and maps that were cut ends in as well
UNREADABLE = (*SAID, ValueError, TypeError, LookupError, EOFError, BadZipFile, csv.Error, sqlite3.Error)


def reason_of(error: Exception) -> str:
    """Why results cannot be read."""
    if isinstance(error, SAID):
        return with_ring(str(error))
    if isinstance(error, sqlite3.Error):
        return f"The table of a set that it takes is gone or cut ({error})."
    return f"A file of its results is cut, or of another release ({type(error).__name__}: {error})."


class EngineRun:
    """Writes a request, builds the command that runs it, and explains how that ended.

    Parameters
    ----------
    settings : a run dataclass of the contract
    request : path of the JSON file to write the settings to
    out_dir : results folder; the engine writes nowhere else
    """

    def __init__(self, settings: Any, request: str, out_dir: str) -> None:
        self.settings = settings
        self.request = Path(request)
        self.out_dir = Path(out_dir)

    def prepare(self) -> bool:
        """Write the request and make the results folder; True when it can be resumed.

        A training (or the two of `halves`), a refinement and classes resume when a checkpoint is there and the earlier
        request asked for the same, apart from where to compute; a training with other learning rates or another batch
        size too.
        Everything else starts in an empty folder, so that no result of other settings is ever read.
        """
        keeps = isinstance(self.settings, (TrainRun, HalvesRun, StatesRun, FullresRun, Classes2dRun))
        resume = keeps and self._has_checkpoint() and self._asks_for_the_same()
        if not resume:
            shutil.rmtree(self.out_dir, ignore_errors=True)
        self.out_dir.mkdir(parents=True, exist_ok=True)
        run_json.write_run(self.settings, self.request)
        if not resume:
            take_prepared(self.settings, self.request.parent / PARTICLES_STAR, self.out_dir)
        return resume

    def loses(self) -> bool:
        """Whether there is a checkpoint that ``prepare`` would remove, as it was made with other settings."""
        return self._has_checkpoint() and not self._asks_for_the_same()

    def _has_checkpoint(self) -> bool:
        return any(path.suffix in (".pt", ".npz") for path in self.out_dir.glob(f"**/{result_files.CHECKPOINTS}/*"))

    def _asks_for_the_same(self) -> bool:
        try:
            before = run_json.read_run(self.request)
        except errors.ConfigError:
            return False
        absolute = self.request.with_name(self.request.name + ".new")
        try:
            now = run_json.read_run(run_json.write_run(self.settings, absolute))
        finally:
            absolute.unlink()
        return what_stays(before) == what_stays(now)

    def command(self, gpu: bool, resume: bool, queue: bool = False, processes: int = 1) -> Tuple[str, str]:
        """(program, arguments) for Scipion's `runJob`; with `gpu` both are %-formatted by it.

        queue: the run is a job of a queue; processes: so many share the work, which the engine starts itself.
        """
        words = ["run", str(self.request), "--out", str(self.out_dir)] + (["--resume"] if resume else [])
        words += ["--processes", str(processes)] if processes > 1 else []
        arguments = " ".join(shlex.quote(word) for word in words)
        return Plugin.getEngineProgram(gpu, queue), arguments.replace("%", "%%") if gpu else arguments

    def run(self, protocol: Any, gpu: bool, processes: int = 1) -> Status:
        """Run the engine as a job of `protocol`; returns its status. Raises EngineError."""
        program, arguments = self.command(gpu, self.prepare(), protocol.useQueue(), processes)
        try:
            protocol.runJob(program, arguments, env=Plugin.getEnviron(), numberOfMpi=1)
        except CalledProcessError as error:
            raise EngineError(self.explain(error.returncode)) from None
        return self.ended()

    def ended(self) -> Status:
        """The status of a run that ended without an exit code other than 0. Raises EngineError.

        A queue that runs each command as a job tells no exit code: what the engine wrote counts.
        """
        status = self.status()
        if status.finished and not status.error:
            return status
        if status.error:
            raise EngineError(with_ring(str(status.error)))
        raise EngineError(f"The engine ended without finishing (its last word: {status.state or 'none'}). The log "
                          "of the run, or of the queue's job, says why; a queue's time limit is a usual reason. "
                          "Continue goes on from the last checkpoint.")

    def status(self) -> Status:
        """What the engine last said about itself; empty when it said nothing."""
        return read_status(self.out_dir)

    def explain(self, code: int) -> str:
        """One sentence, what and remedy, for an exit code other than 0."""
        if code < 0:
            code = 128 - code
        told = self.status().error
        if told and told.code == code:
            return with_ring(str(told))
        what = EXIT_SENTENCES.get(code, f"The engine ended with exit code {code}.")
        return f"{what} {EXIT_REMEDIES.get(code, EXIT_REMEDIES[1])}"


def what_stays(run: Any) -> Dict[str, Any]:
    """What two requests must have in common for the second to go on with the results of the first."""
    if isinstance(run, TrainRun):
        lengths = {"total_kimg": run.training.total_kimg, "encoder_kimg": run.training.encoder_kimg}
        return {**run_json.kept_on_resume(run), **lengths, "particles": run.data.particles,
                "continue_from": run.training.continue_from}
    return {**run_json.to_dict(run), "compute": {"seed": run.compute.seed}}


def has_result(folder: Any, *names: str) -> bool:
    """Whether a result is there: a run that goes on may have outputs from before, and an empty folder."""
    return Path(folder).joinpath(*names).exists()


def result_file(folder: Any, *names: str) -> Path:
    """Path of a result that must be there. Raises EngineError."""
    path = Path(folder).joinpath(*names)
    if not path.exists():
        raise EngineError(f"{path}: the engine finished without writing this result. "
                          "Use a plugin and an engine of the same release, and run again with Restart.")
    return path
