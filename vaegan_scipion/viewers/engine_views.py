"""What viewers ask the engine for: the report and the counterpart of a particle. Runs outside of a protocol."""
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mrcfile
import numpy as np
from pyworkflow.viewer import View

from .. import Plugin
from ..constants import (
    CLASSES_DIR,
    CLUSTERS_DIR,
    CONSENSUS_DIR,
    EMBEDDING_DIR,
    EVALUATION_DIR,
    FULLRES_DIR,
    HALVES_DIR,
    STATES_DIR,
    TRAVERSAL_DIR,
)
from ..engine.vaegan_engine.contract import result_files
from ..engine.vaegan_engine.contract.analysis_records import CounterpartNumbers
from ..engine.vaegan_engine.contract.record import read_record
from ..engine.vaegan_engine.contract.settings import ComputeConfig, CounterpartRun, ReportRun
from ..engine.vaegan_engine.contract.status import Status
from ..engine_run import EngineError, EngineRun, result_file
from ..protocols import VaeganProtFullres
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
    """What the generator makes at a particle's z, for a finished run of embed and cluster.

    In a folder of its own: two windows of one run may ask at once, each for its particle.
    """
    settings = CounterpartRun(
        run_dir=str(Path(clustering.inputTraining.get().getRunDir()).absolute()),
        embedding_dir=str(Path(clustering._getExtraPath(EMBEDDING_DIR)).absolute()), particle_id=particle_id,
        compute=ComputeConfig(device="cpu", threads=clustering.numberOfThreads.get()))
    os.makedirs(clustering._getTmpPath(), exist_ok=True)
    with TemporaryDirectory(prefix=COUNTERPART_DIR, dir=clustering._getTmpPath()) as parent:
        folder = os.path.join(parent, COUNTERPART_DIR)
        call_engine(settings, folder + ".json", folder)
        with mrcfile.open(result_file(folder, result_files.COUNTERPART_MRCS), permissive=True) as mrc:
            image = np.array(mrc.data[GENERATED], np.float32)
        numbers = read_record(CounterpartNumbers, result_file(folder, result_files.COUNTERPART_JSON), "counterpart")
    return Counterpart(image, numbers.correlation)


def make_report(owner: Any, clustering: Any = None, **runs: Any) -> str:
    """Write the HTML report into `owner`, a run; returns the path. Raises EngineError.

    clustering: None for results that stand alone. runs: traversal, evaluation, states, fullres, classes, consensus,
    each a run or None; states at full resolution are shown with the search that they began with.
    """

    def folder_of(kind: str, name: str) -> str:
        run = runs.get(kind)
        return str(Path(run._getExtraPath(name)).absolute()) if run else ""

    about = next(filter(None, [clustering, *map(runs.get, ("states", "classes", "consensus", "evaluation"))]))
    if isinstance(runs.get("states"), VaeganProtFullres):
        runs.update(fullres=runs["states"], states=runs["states"].getSearch())
    settings = ReportRun(states_dir=folder_of("states", STATES_DIR), fullres_dir=folder_of("fullres", FULLRES_DIR),
                         classes_dir=folder_of("classes", CLASSES_DIR),
                         consensus_dir=folder_of("consensus", CONSENSUS_DIR),
                         evaluation_dir=folder_of("evaluation", EVALUATION_DIR),
                         title=f"{about.getProject().getShortName()}: {about.getRunName()}")
    if clustering is not None:
        halves = Path(clustering._getExtraPath(HALVES_DIR))
        settings = replace(
            settings, run_dir=str(Path(clustering.inputTraining.get().getRunDir()).absolute()),
            clusters_dir=str(Path(clustering._getExtraPath(CLUSTERS_DIR)).absolute()),
            traverse_dir=folder_of("traversal", TRAVERSAL_DIR),
            halves_dir=str(halves.absolute()) if (halves / result_files.HALVES_JSON).exists() else "")
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
