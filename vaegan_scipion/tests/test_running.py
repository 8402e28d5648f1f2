"""While it runs: progress in log and summary, stop and continue as the GUI does it, a queue, the choice of GPU."""
import json
import os
import shutil
import subprocess
import textwrap
import time
from pathlib import Path

import psutil
from pyworkflow.config import Config
from pyworkflow.project import Project
from pyworkflow.protocol import MODE_RESUME, STATUS_ABORTED, HostConfig

from vaegan_scipion.engine.vaegan_engine.contract import result_files, run_json
from vaegan_scipion.engine.vaegan_engine.contract.status import read_status
from vaegan_scipion.protocols import VaeganProtStates, VaeganProtTrain3D
from vaegan_scipion.protocols.protocol_train import time_text
from vaegan_scipion.protocols.protocol_train_3d import NO_POSES
from vaegan_scipion.tests.phantom import ProjectTest, environment, said_by_fake

PATIENCE_S = 60
PROCESSES_RST = Path(__file__).resolve().parents[2] / "docs" / "use" / "processes.rst"
HOSTS = """[localhost]
PARALLEL_COMMAND = mpirun -np %_(JOB_NODES)d %_(COMMAND)s
NAME = TEST
MANDATORY = False
SUBMIT_COMMAND = sh %_(JOB_SCRIPT)s > %_(JOB_LOGS)s.queue 2>&1 & echo Submitted batch job 4242
CANCEL_COMMAND = true %_(JOB_ID)s
CHECK_COMMAND = echo RUNNING %_(JOB_ID)s
SUBMIT_TEMPLATE = #!/bin/sh
    ##SBATCH --job-name=%_(JOB_NAME)s --gres=gpu:%_(GPU_COUNT)d --cpus-per-task=%_(JOB_THREADS)d
    echo hours %_(JOB_HOURS)s
    export CUDA_VISIBLE_DEVICES=%_(GPU_OF_THE_JOB)s
    %_(JOB_COMMAND)s
QUEUES = { "default": [["JOB_HOURS", "24", "Time (hours)", "Longest time of the job", 0]] }
"""


def wait_until(condition, what):
    """Poll until `condition()` holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.3)


class TestRunning(ProjectTest):
    """Runs that are not waited for."""

    FORKS_RUNS = False  # whole processes, as the GUI starts them

    def start(self, **values):
        """A saved training of the fake engine."""
        protocol = self.newProtocol(VaeganProtTrain3D, boxPx=16, **values)
        protocol.inputParticles.set(self.imported)
        protocol.inputParticles.setExtended("outputParticles")
        return protocol

    def engines_of(self, protocol):
        """Processes of the engine that work for a run."""
        folder = protocol.getRunDir()
        return [process for process in psutil.process_iter(["cmdline"])
                if folder in (process.info["cmdline"] or []) and "vaegan_engine" in process.info["cmdline"]]

    def test_progress_stop_and_continue(self):
        protocol = self.start()
        protocol.useGpu.set(False)
        self.assertEqual(protocol._summary(), ["The training has not begun."])
        with environment(VAEGAN_FAKE_WAIT="train3d"):
            self.proj.launchProtocol(protocol, wait=False)
            wait_until(lambda: read_status(protocol.getRunDir()).images_seen, "the engine did not start")
        self.proj._updateProtocol(protocol)
        self.assertTrue(protocol.isActive())
        summary = "\n".join(protocol._summary())
        self.assertIn("3,200 of 9,600 images seen (33 % of the training)", summary)
        self.assertIn("80 images/s, 1 min left in this stage (train3d)", summary)
        logs = "".join(open(path).read() for path in protocol.getLogPaths() if os.path.exists(path))
        self.assertIn("33 %, 3200/9600 img, 80.0 img/s, 01:20 left", logs)

        self.assertEqual(len(self.engines_of(protocol)), 1)
        self.proj.stopProtocol(protocol)
        wait_until(lambda: not self.engines_of(protocol), "the engine goes on after Stop")
        self.assertEqual(protocol.getStatus(), STATUS_ABORTED)
        self.assertIn("stopped, Continue goes on from ckpt_000003200.pt", "\n".join(protocol._summary()))

        protocol.runMode.set(MODE_RESUME)
        self.launch(protocol)
        self.assertTrue(said_by_fake(protocol.getRunDir())["resumed"])
        self.assertTrue(read_status(protocol.getRunDir()).finished)
        self.assertIn("9,600 of 9,600 images seen (100 %", "\n".join(protocol._summary()))
        self.assertGreater(protocol.outputVolumes.getSize(), 0)

    def test_two_projects_at_once(self):
        """Each has its own results, though both write the same names at the same time."""
        other = self.proj.path + "_other"
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(self.proj.path, other, symlinks=True)
        runs = []
        try:
            second = Project(Config.getDomain(), other)
            second.load(chdir=True)
            for path, project, seed in ((other, second, 4), (self.proj.path, self.proj, 3)):
                os.chdir(path)
                run = project.newProtocol(VaeganProtTrain3D, boxPx=16, seed=seed, posesFrom=NO_POSES, useGpu=False)
                run.inputParticles.set(project.getProtocol(self.imported.getObjId()))
                run.inputParticles.setExtended("outputParticles")
                project.launchProtocol(run, wait=False)
                runs.append((path, project, run))
            for path, project, run in runs:
                os.chdir(path)
                wait_until(lambda p=project, r=run: (p._updateProtocol(r), not r.isActive())[1], "a run did not end")
                self.assertTrue(run.isFinished(), run.getErrorMessage())
                self.assertEqual(run_json.read_run(os.path.join(run.getRunDir(), result_files.RUN_JSON)).compute.seed,
                                 run.seed.get())
                self.assertTrue(os.path.abspath(run.outputVolumes.getFileName()).startswith(path + "/"))
        finally:
            os.chdir(self.proj.path)

    def test_queue_of_the_hosts_file(self):
        with open("hosts.conf", "w") as stream:
            stream.write(HOSTS)
        self.proj._loadHosts(os.path.abspath("hosts.conf"))  # as for a project of a cluster
        for given, seen in (("5", "5"), ("", "0")):  # the queue's own choice counts; else GPU 0 of the job
            self.check_job(given, seen)

    def check_job(self, given, seen):
        """One job whose queue sets CUDA_VISIBLE_DEVICES to `given`; the engine sees `seen`."""
        protocol = self.start(gpuList="3", numberOfThreads=1)
        protocol._useQueue.set(True)
        protocol._queueParams.set(json.dumps(["default", {"JOB_HOURS": "24", "GPU_OF_THE_JOB": given}]))
        self.proj.launchProtocol(protocol, wait=False)
        self.assertEqual(int(protocol.getJobIds()[0]), 4242)

        def ended():
            self.proj._updateProtocol(protocol)
            return protocol.isFinished() or protocol.isFailed()

        wait_until(ended, "the job did not end")
        self.assertTrue(protocol.isFinished(), protocol.getErrorMessage())
        self.assertEqual(said_by_fake(protocol.getRunDir())["visible_gpus"], seen)
        self.assertEqual(
            result_files.read_json(os.path.join(protocol.getRunDir(), result_files.RUN_JSON))["compute"]["device"],
            "cuda",
        )
        script, = [os.path.join(folder, name) for folder, _, names in os.walk(protocol._getLogsPath()) for name in names
                   if name.endswith(".job")]
        with open(script) as stream:
            text = stream.read()
        self.assertIn("--gres=gpu:1 --cpus-per-task=1", text)
        self.assertIn("hours 24", text)

    def test_slurm_entry_of_the_documentation(self):
        """Scipion reads it, and the job of a run on two GPUs asks for two; a shell takes it."""
        if not PROCESSES_RST.exists():
            self.skipTest("installed without its documentation")
        entry = PROCESSES_RST.read_text().split("are those that are used::\n\n")[1].split("\n\nThe processes are")[0]
        Path("slurm.conf").write_text(textwrap.dedent(entry) + "\n")
        host = HostConfig.load("slurm.conf")["localhost"]
        protocol = self.newProtocol(VaeganProtStates, gpuList="0 1", numberOfThreads=8)
        protocol.setHostConfig(host)
        protocol._queueParams.set(json.dumps(["gpu", {"JOB_MEMORY": "64", "JOB_HOURS": "24"}]))
        script = host.getSubmitTemplate() % {**protocol.getSubmitDict(), "JOB_COMMAND": "echo begun"}
        for line in ("#SBATCH --gres=gpu:2", "#SBATCH --cpus-per-task=8", "#SBATCH --ntasks=1", "#SBATCH --mem=64G",
                     "#SBATCH --partition=gpu", "#SBATCH --time=24:00:00"):
            self.assertIn(line, script)
        self.assertEqual(subprocess.run(["bash"], input=script, capture_output=True, text=True).stdout, "begun\n")

    def test_gpu_of_the_form_without_a_queue(self):
        protocol = self.launch(self.start(gpuList="3"))
        self.assertEqual(said_by_fake(protocol.getRunDir())["visible_gpus"], "3")

    def test_time_is_said_as_people_do(self):
        for seconds, text in ((0, "0 s"), (59.4, "59 s"), (60, "1 min"), (3540, "59 min"), (3600, "1 h 00 min"),
                              (9300, "2 h 35 min")):
            self.assertEqual(time_text(seconds), text)
