"""What viewers ask the engine for: the report and the counterpart of a particle. Runs outside of a protocol."""
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from pyworkflow.viewer import View

from .. import Plugin
from ..constants import CLUSTERS_DIR, EMBEDDING_DIR, EVALUATION_DIR, HALVES_DIR, TRAVERSAL_DIR
from ..engine.vaegan_engine.contract import result_files
from ..engine.vaegan_engine.contract.analysis_records import CounterpartNumbers
from ..engine.vaegan_engine.contract.record import read_record
from ..engine.vaegan_engine.contract.settings import ComputeConfig, CounterpartRun, ReportRun
from ..engine.vaegan_engine.contract.status import Status
from ..engine_run import EngineError, EngineRun, result_file
from .umap_explorer import Counterpart

REPORT_DIR = "report"
COUNTERPART_DIR = "counterpart"
GENERATED = 1  # image of counterpart.mrcs, from 0: with CTF and shift


def call_engine(settings: Any, request: str, out_dir: str) -> Status:
    """Run the engine on the CPU and wait; returns its status. Raises EngineError with one sentence."""
    problems = Plugin.validateInstallation()
    if problems:
        raise EngineError(problems[0])
    run = EngineRun(settings, request, out_dir)
    program, arguments = run.command(False, run.prepare())
    made = subprocess.run(f"{program} {arguments}", shell=True, env=Plugin.getEnviron(), capture_output=True, text=True)
    if made.returncode:
        raise EngineError(run.explain(made.returncode))
    return run.status()


def make_counterpart(clustering: Any, particle_id: int) -> Counterpart:
    """What the generator makes at a particle's z, for a finished run of embed and cluster."""
    folder = clustering._getTmpPath(COUNTERPART_DIR)
    settings = CounterpartRun(
        run_dir=str(Path(clustering.inputTraining.get().getRunDir()).absolute()),
        embedding_dir=str(Path(clustering._getExtraPath(EMBEDDING_DIR)).absolute()), particle_id=particle_id,
        compute=ComputeConfig(device="cpu", threads=clustering.numberOfThreads.get()))
    call_engine(settings, folder + ".json", folder)
    with mrcfile.open(result_file(folder, result_files.COUNTERPART_MRCS), permissive=True) as mrc:
        image = np.array(mrc.data[GENERATED], np.float32)
    numbers = read_record(CounterpartNumbers, result_file(folder, result_files.COUNTERPART_JSON), "counterpart")
    return Counterpart(image, numbers.correlation)


def make_report(clustering: Any, traversal: Any, evaluation: Any, states: Any, owner: Any) -> str:
    """Write the HTML report of a clustering, or of states alone, into `owner`; returns the path. Raises EngineError.

    traversal, evaluation, states: runs on this clustering, or None; clustering: None for states alone.
    """

    def absolute(path: Any) -> str:
        return str(Path(path).absolute())

    about = states if clustering is None else clustering
    title = f"{about.getProject().getShortName()}: {about.getRunName()}"
    settings = ReportRun(states_dir=absolute(states.getStatesDir()) if states else "", title=title)
    if clustering is not None:
        halves = Path(clustering._getExtraPath(HALVES_DIR))
        settings = replace(
            settings, run_dir=absolute(clustering.inputTraining.get().getRunDir()),
            clusters_dir=absolute(clustering._getExtraPath(CLUSTERS_DIR)),
            traverse_dir=absolute(traversal._getExtraPath(TRAVERSAL_DIR)) if traversal else "",
            halves_dir=absolute(halves) if (halves / result_files.HALVES_JSON).exists() else "",
            evaluation_dir=absolute(evaluation._getExtraPath(EVALUATION_DIR)) if evaluation else "")
    folder = owner._getExtraPath(REPORT_DIR)
    call_engine(settings, folder + ".json", folder)
    return str(result_file(folder, result_files.REPORT_HTML))


class BrowserView(View):
    """A file in the user's browser."""

    def __init__(self, path: str) -> None:
        self.path = path

    def show(self) -> None:
        import webbrowser

        webbrowser.open(Path(self.path).absolute().as_uri())
