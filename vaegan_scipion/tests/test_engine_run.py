"""The command, what it resumes from, and each exit code's sentence."""
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from pyworkflow.utils.process import buildRunCommand

from vaegan_scipion import Plugin
from vaegan_scipion.constants import ENV_NAME, VAEGAN_ENV_ACTIVATION
from vaegan_scipion.engine.vaegan_engine.contract import prepared, result_files, run_json
from vaegan_scipion.engine.vaegan_engine.contract.settings import (
    Classes2dRun,
    ComputeConfig,
    DataConfig,
    EmbedRun,
    HalvesRun,
    StatesRun,
    TrainingConfig,
    TrainRun,
)
from vaegan_scipion.engine.vaegan_engine.contract.status import Failure, update_status
from vaegan_scipion.engine_run import EXIT_REMEDIES, EXIT_SENTENCES, EngineError, EngineRun, result_file
from vaegan_scipion.prepared_images import taken_note
from vaegan_scipion.tests.phantom import environment, make_fake_environment, said_by_fake

STAR = """data_optics

loop_
_rlnOpticsGroup
_rlnImagePixelSize
_rlnImageSize
1 2.0 32

data_particles

loop_
_rlnImageName
_vaeParticleId
1@a.mrcs 4
2@a.mrcs 9
"""


class TestEngineRun(unittest.TestCase):
    """Everything about one call of the engine that needs no project."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="100% $HOME 'q\" x "))
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "particles.star").write_text(STAR)
        self.settings = TrainRun(data=DataConfig(particles="particles.star", box_px=16))

    def engine_run(self, settings=None):
        return EngineRun(settings or self.settings, str(self.folder / "train3d.json"), str(self.folder / "run"))

    def run_in_shell(self, run, gpu):
        """Run as Scipion does, with a shell and its own replacement of the GPU list."""
        class Job:
            @staticmethod
            def useQueue():
                return False

            @staticmethod
            def runJob(program, arguments, env, numberOfMpi):
                command = buildRunCommand(program, arguments, numberOfMpi, env=env, gpuList=[3] if gpu else [])
                subprocess.check_call(command, shell=True, env=env, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL)

        with environment(**{VAEGAN_ENV_ACTIVATION: make_fake_environment(self.folder / "env"),
                            "PYTHONHOME": sys.prefix}):
            return run.run(Job, gpu)

    def test_command_survives_any_path(self):
        for gpu, seen in ((False, ""), (True, "3")):
            status = self.run_in_shell(self.engine_run(), gpu)
            self.assertTrue(status.finished)
            self.assertEqual(said_by_fake(self.folder / "run")["visible_gpus"], seen)
            self.assertEqual(status.n_particles, 2)

    def test_gpu_placeholder_only_with_a_gpu(self):
        run = self.engine_run()
        self.assertNotIn("%(GPU)s", "".join(run.command(False, False)))
        self.assertIn("CUDA_VISIBLE_DEVICES=%(GPU)s", run.command(True, False)[0])
        self.assertIn("CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-%(GPU)s}", run.command(True, False, queue=True)[0])
        words = shlex.split(run.command(False, True)[1])
        self.assertEqual(words, ["run", str(run.request), "--out", str(run.out_dir), "--resume"])
        words = shlex.split(run.command(False, False, processes=3)[1])
        self.assertEqual(words, ["run", str(run.request), "--out", str(run.out_dir), "--processes", "3"])

    def test_environment_is_the_engines_source_alone(self):
        with environment(PYTHONPATH="/somewhere", PYTHONHOME="/elsewhere"):
            environ = Plugin.getEnviron()
        self.assertEqual(environ["PYTHONPATH"], Plugin.getEngineRoot())
        self.assertNotIn("PYTHONHOME", environ)
        self.assertTrue(os.path.exists(os.path.join(environ["PYTHONPATH"], "vaegan_engine", "contract", "settings.py")))

    def test_request_is_the_settings(self):
        run = self.engine_run()
        run.prepare()
        read = run_json.read_run(run.request)
        self.assertEqual(read.data.particles, str(self.folder.resolve() / "particles.star"))
        self.assertEqual(replace(read, data=replace(read.data, particles="particles.star")), self.settings)

    def test_resumes_only_the_same_training(self):
        run = self.engine_run()
        self.assertFalse(run.prepare())
        self.run_in_shell(run, False)
        self.assertTrue(self.engine_run().prepare())
        elsewhere = replace(self.settings, compute=ComputeConfig(device="cpu", threads=7))
        self.assertTrue(self.engine_run(elsewhere).prepare())
        longer = replace(self.settings, training=TrainingConfig(total_kimg=1.0))
        self.assertFalse(self.engine_run(longer).prepare())
        self.assertEqual(list(run.out_dir.iterdir()), [])

    def test_a_training_goes_on_with_other_learning_rates(self):
        self.run_in_shell(self.engine_run(), False)
        slower = replace(self.settings, training=TrainingConfig(critic_lr=1e-6, batch_size=8))
        self.assertTrue(self.engine_run(slower).prepare())
        self.assertTrue(list((self.folder / "run").iterdir()))
        other = replace(slower, training=replace(slower.training, loss="hinge"))
        self.assertFalse(self.engine_run(other).prepare())

    def test_a_job_that_ends_without_an_exit_code_must_have_finished(self):
        """A queue that runs each command as a job raises nothing."""
        class Queue:
            @staticmethod
            def useQueue():
                return True

            @staticmethod
            def runJob(*args, **more):
                update_status(folder, **said)

        folder, said = self.folder / "run", {}
        no_memory = Failure(5, "No memory.", "Smaller.")
        for wrote, words in (({"state": "failed", "error": no_memory}, "No memory. Smaller."),
                             ({"state": "running", "error": None}, "its last word: running")):
            said.update(wrote)
            with self.assertRaises(EngineError) as caught:
                self.engine_run().run(Queue, False)
            self.assertIn(words, str(caught.exception))
        said.update(state="finished", error=None)
        self.assertTrue(self.engine_run().run(Queue, False).finished)

    def test_an_embedding_never_resumes(self):
        run = EngineRun(EmbedRun(run_dir="run"), str(self.folder / "embed.json"), str(self.folder / "e"))
        run.prepare()
        (run.out_dir / result_files.LATENTS_NPZ).write_text("old")
        self.assertFalse(run.prepare())
        self.assertFalse((run.out_dir / result_files.LATENTS_NPZ).exists())

    def test_halves_resume(self):
        def halves(kimg):
            settings = HalvesRun(run_dir="run", clusters_dir="clusters", total_kimg=kimg)
            return EngineRun(settings, str(self.folder / "halves.json"), str(self.folder / "halves"))

        self.assertFalse(halves(1.0).prepare())
        checkpoints = self.folder / "halves" / "half1" / result_files.CHECKPOINTS
        checkpoints.mkdir(parents=True)
        (checkpoints / "ckpt_000000100.pt").touch()
        self.assertTrue(halves(1.0).prepare())
        self.assertFalse(halves(2.0).prepare())
        self.assertFalse(checkpoints.exists())

    def test_states_resume(self):
        def states(n_maps):
            settings = StatesRun(run_dir="run", n_maps=n_maps)
            return EngineRun(settings, str(self.folder / "states.json"), str(self.folder / "states"))

        self.assertFalse(states(3).prepare())
        checkpoints = self.folder / "states" / result_files.CHECKPOINTS
        result_files.write_json(checkpoints / "settings.json", {})
        self.assertFalse(states(3).prepare())  # no step is finished, or all are
        result_files.write_npz(checkpoints / "ab_initio.npz", maps=np.zeros(1))
        self.assertTrue(states(3).prepare())
        self.assertFalse(states(4).prepare())
        self.assertFalse(checkpoints.exists())

    def test_classes_resume(self):
        def classes(n_classes):
            settings = Classes2dRun(n_classes=n_classes)
            return EngineRun(settings, str(self.folder / "classes2d.json"), str(self.folder / "classes"))

        self.assertFalse(classes(20).prepare())
        checkpoints = self.folder / "classes" / result_files.CHECKPOINTS
        result_files.write_npz(checkpoints / "search_together.npz", maps=np.zeros(1))
        self.assertTrue(classes(20).prepare())
        self.assertFalse(classes(30).prepare())
        self.assertFalse(checkpoints.exists())

    def test_every_exit_code_is_a_sentence_with_a_remedy(self):
        run = self.engine_run()
        run.prepare()
        self.assertEqual(set(EXIT_SENTENCES), set(EXIT_REMEDIES))
        for code, sentence in EXIT_SENTENCES.items():
            self.assertEqual(run.explain(code), f"{sentence} {EXIT_REMEDIES[code]}")
        self.assertIn("exit code 77", run.explain(77))
        self.assertIn("killed", run.explain(-9))
        update_status(run.out_dir, error=Failure(3, "a.mrcs is cut.", "Copy it again."))
        self.assertEqual(run.explain(3), "a.mrcs is cut. Copy it again.")
        self.assertEqual(run.explain(4), f"{EXIT_SENTENCES[4]} {EXIT_REMEDIES[4]}")  # not that error

    def test_failures_raise_the_sentence(self):
        for code in (1, 2, 3, 4, 5, 130, 137, 143):
            with environment(VAEGAN_FAKE_EXIT=f"train3d:{code}"):
                with self.assertRaisesRegex(EngineError, f"fake message {code}. Fake hint."):
                    self.run_in_shell(self.engine_run(), False)
            with environment(VAEGAN_FAKE_MUTE=f"train3d:{code}"):
                with self.assertRaisesRegex(EngineError, EXIT_SENTENCES[code]):
                    other = replace(self.settings, compute=ComputeConfig(seed=code))
                    self.run_in_shell(self.engine_run(other), False)

    def test_a_missing_result_is_named(self):
        with self.assertRaisesRegex(EngineError, "clusters.csv: the engine finished without"):
            result_file(self.folder, result_files.CLUSTERS_CSV)


class TestEnvironmentRecipes(unittest.TestCase):
    """Which environment is made and found, by what is there."""

    def setUp(self):
        self.home = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.home)
        self.variables = dict(Plugin.getVars())
        Plugin.getVars()["VAEGAN_HOME"] = str(self.home)

    def tearDown(self):
        Plugin.getVars().update(self.variables)

    def test_activation_is_what_is_on_disk(self):
        self.assertEqual(Plugin.findActivation(), "")
        (self.home / "conda-env-ready").touch()
        self.assertEqual(Plugin.findActivation(), f"conda activate {ENV_NAME}")
        (self.home / "env" / "bin").mkdir(parents=True)
        (self.home / "env" / "bin" / "activate").touch()
        (self.home / "venv-ready").touch()
        self.assertEqual(Plugin.findActivation(), f". {self.home}/env/bin/activate")

    def test_recipes_use_the_one_requirements_file_and_the_torch_asked_for(self):
        Plugin.getVars()["VAEGAN_TORCH_SPEC"] = "--index-url X torch==2.11.0"
        for commands in (Plugin.condaCommands(), Plugin.venvCommands()):
            (command, flag), = commands
            self.assertIn("pip install --index-url X torch==2.11.0 &&", command)
            self.assertIn(os.path.join(Plugin.getEngineRoot(), "requirements.txt"), command)
            self.assertTrue(command.endswith(f"touch {flag}"))
        self.assertIn(f"conda activate {ENV_NAME}", Plugin.condaCommands()[0][0])

    def test_conda_is_used_only_where_it_is(self):
        added = {}
        env = SimpleNamespace(addPackage=lambda name, **values: added.update(values, name=name))
        for present, word in ((True, "conda create"), (False, "-m venv")):
            original = Plugin.hasConda
            Plugin.hasConda = classmethod(lambda cls, present=present: present)
            try:
                Plugin.defineBinaries(env)
            finally:
                Plugin.hasConda = original
            self.assertIn(word, added["commands"][0][0])
            self.assertEqual(added["name"], "vaegan")

    def test_conda_on_path_alone_is_asked_for_its_hook(self):
        """As after `conda init`: the activation is a function of the user's shell, not of Scipion's."""
        bin_dir = self.home / "bin"
        bin_dir.mkdir()
        (bin_dir / "conda").write_text("#!/bin/sh\n[ \"$1\" = shell.posix ] && echo 'conda() { echo \"$@\"; }'\n")
        (bin_dir / "conda").chmod(0o755)
        original, Plugin._condaActivationCmd = Plugin._condaActivationCmd, ""
        try:
            with environment(**{VAEGAN_ENV_ACTIVATION: "conda activate x"}):
                text = Plugin.getEngineProgram(False).split("&& CUDA")[0]
            said = subprocess.run(text, shell=True, capture_output=True, text=True,
                                  env={"PATH": f"{bin_dir}:{os.environ['PATH']}"})
            self.assertEqual(said.stdout, "activate x\n")
            self.assertTrue(Plugin.condaCommands()[0][0].startswith('eval "$(conda shell.posix hook)" && conda create'))
        finally:
            Plugin._condaActivationCmd = original

    def test_activation_may_use_what_the_shell_expands(self):
        (self.home / "activate").write_text("")
        with environment(HOME=str(self.home)):
            for text in (". ~/activate", '. "$HOME/activate"'):
                with environment(**{VAEGAN_ENV_ACTIVATION: text}):
                    self.assertEqual(Plugin.validateInstallation(), [], text)

    def test_conda_activation_uses_scipions_command(self):
        with environment(**{VAEGAN_ENV_ACTIVATION: "conda activate x"}):
            original, Plugin._condaActivationCmd = Plugin._condaActivationCmd, "eval hook&&"
            try:
                self.assertEqual(Plugin.getEngineProgram(False),
                                 "eval hook&& conda activate x && CUDA_VISIBLE_DEVICES= python -m vaegan_engine")
            finally:
                Plugin._condaActivationCmd = original


class TestPreparedImages(unittest.TestCase):
    """Prepared images of an earlier run of the project are taken where particles and settings agree."""

    def setUp(self):
        self.runs = Path(tempfile.mkdtemp()) / "Runs"
        self.addCleanup(shutil.rmtree, self.runs.parent)
        self.extra = self.new_run("000009_VaeganProtTrain2D")
        self.settings = TrainRun(data=DataConfig(particles="particles.star", box_px=16, particle_radius_frac=0.3125))
        self.earlier = self.new_run("000004_VaeganProtStates") / "states"
        self.prepare(self.earlier, self.settings.data)

    def new_run(self, name):
        extra = self.runs / name / "extra"
        extra.mkdir(parents=True)
        (extra / "particles.star").write_text(STAR)
        return extra

    def prepare(self, folder, data, **changes):
        values = {"format": prepared.FORMAT, "star_sha256": prepared.file_sha256(self.extra / "particles.star"),
                  "stacks": "", "one_stack": False, "pixel_size_ang": 4.0, "original_pixel_size_ang": 2.0,
                  "original_box_px": 32, "ctf_present": True, "ids_are_rows_of": "", "notes": [],
                  "data": {name: getattr(data, name) for name in prepared.IMAGE_FIELDS}}
        for name in (prepared.IMAGES_NPY, prepared.TABLE_NPZ):
            (folder / result_files.CACHE).mkdir(parents=True, exist_ok=True)
            (folder / result_files.CACHE / name).write_text(str(folder))
        result_files.write_json(folder / result_files.CACHE / prepared.META_JSON, {**values, **changes})

    def taken(self, settings=None, name="run"):
        run = EngineRun(settings or self.settings, str(self.extra / f"{name}.json"), str(self.extra / name))
        run.prepare()
        return taken_note(run.out_dir)

    def test_images_are_linked_said_and_kept(self):
        self.assertEqual(self.taken(), ["Prepared images were taken from run 4 (VaeganProtStates)"])
        own = self.extra / "run" / result_files.CACHE
        self.assertTrue(os.path.samefile(own / prepared.IMAGES_NPY,
                                         self.earlier / result_files.CACHE / prepared.IMAGES_NPY))
        shutil.rmtree(self.runs / "000004_VaeganProtStates")
        self.assertEqual((own / prepared.IMAGES_NPY).read_text(), str(self.earlier))

    def test_images_that_the_engine_makes_anew_are_its_own(self):
        self.taken()
        images = self.extra / "run" / result_files.CACHE / prepared.IMAGES_NPY
        images.with_name("new").write_text("others")
        os.replace(images.with_name("new"), images)
        self.assertEqual(taken_note(self.extra / "run"), [])

    def test_the_newest_that_fits(self):
        self.prepare(self.new_run("000008_VaeganProtTrain3D") / "run", self.settings.data)
        self.prepare(self.new_run("000012_VaeganProtStates") / "states", self.settings.data, format=0)
        self.assertIn("run 8 (VaeganProtTrain3D)", self.taken()[0])

    def test_a_diameter_is_the_circle_that_it_stands_for(self):
        """20 A of 64 A kept: a radius of 0.15625 of the box; the training's fraction has six digits."""
        self.prepare(self.earlier, replace(self.settings.data, particle_radius_frac=0.15625))
        states = StatesRun(data=DataConfig(particles="particles.star", box_px=16), particle_diameter_ang=20.0)
        self.assertTrue(self.taken(states, "states"))
        rounded = replace(self.settings, data=replace(self.settings.data, particle_radius_frac=0.156251))
        self.assertTrue(self.taken(rounded))

    def test_other_particles_or_settings_are_not_taken(self):
        for values in ({"box_px": 24}, {"particle_radius_frac": 0.3126}, {"invert_contrast": True}, {"half_set": 1}):
            other = replace(self.settings, data=replace(self.settings.data, **values))
            self.assertEqual(self.taken(other), [], values)
            self.assertFalse((self.extra / "run" / result_files.CACHE).exists())
        (self.extra / "particles.star").write_text(STAR.replace(" 9", " 10"))
        self.assertEqual(self.taken(), [])
