"""The engine's environment as a user gets it: `scipion3 installb` really runs, without conda.

The environment is kept between runs in $XDG_CACHE_HOME/scipion-em-vaegan (or ~/.cache/...), under a hash of what
it is made from; remove that folder to see it made again.
"""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from pyworkflow.tests import BaseTest

from vaegan_scipion import Plugin
from vaegan_scipion.constants import ENV_NAME, VAEGAN_ENV_ACTIVATION, VENV_FLAG

TIME_LIMIT_S = 1200
ASK_PLUGIN = """
import json
from pwem import Domain
Domain.getPlugins()
from vaegan_scipion import Plugin
print("PLUGIN", json.dumps([Plugin.getActivation(), Plugin.validateInstallation()]))
"""


def cache_folder():
    """Where this very environment is kept."""
    requirements = Path(Plugin.getEngineRoot(), "requirements.txt").read_text()
    commands = str(Plugin.venvCommands()).replace(Plugin.getEngineRoot(), "")
    key = hashlib.sha256((requirements + commands).encode()).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base, "scipion-em-vaegan", key)


class TestInstall(BaseTest):
    """From nothing to an engine that runs, by Scipion's installer alone."""

    @classmethod
    def setUpClass(cls):
        cls.em_root = cache_folder()
        cls.environ = dict(os.environ, EM_ROOT=str(cls.em_root), CONDA_ACTIVATION_CMD="")
        cls.environ[VAEGAN_ENV_ACTIVATION] = ""
        cls.environ["PATH"] = os.pathsep.join(
            folder for folder in os.environ["PATH"].split(os.pathsep)
            if not os.path.exists(os.path.join(folder, "conda")))

    def scipion(self, *words):
        """Run Scipion; (exit code, output)."""
        result = subprocess.run([sys.executable, "-m", "scipion", *words], env=self.environ, timeout=TIME_LIMIT_S,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        return result.returncode, result.stdout

    def test_installb_makes_an_environment_that_imports_torch(self):
        env = self.em_root / ENV_NAME / "env"
        python = env / "bin" / "python"
        if not python.exists() or subprocess.run([str(python), "-c", ""]).returncode != 0:
            shutil.rmtree(self.em_root, ignore_errors=True)  # unfinished, or its Python is gone
        self.em_root.mkdir(parents=True, exist_ok=True)
        flag = self.em_root / ENV_NAME / VENV_FLAG
        if flag.exists():
            print(f"made {(time.time() - flag.stat().st_mtime) / 3600:.1f} h ago: {self.em_root}")
        code, output = self.scipion("installb", ENV_NAME)
        self.assertEqual(code, 0, output[-3000:])
        self.assertTrue(flag.exists(), output[-3000:])

        question = self.em_root / "ask_plugin.py"
        question.write_text(ASK_PLUGIN)
        code, output = self.scipion("python", str(question))
        self.assertEqual(code, 0, output[-3000:])
        line = next(line for line in output.splitlines() if line.startswith("PLUGIN "))
        activation, problems = json.loads(line[len("PLUGIN "):])
        self.assertEqual(problems, [])
        self.assertIn(str(env), activation)

        # as a protocol does: the activation in /bin/sh, the engine's source root as PYTHONPATH
        for statement, expected in (("-c 'import torch, umap, hdbscan, starfile; print(torch.__version__)'", "2."),
                                    ("-m vaegan_engine --version", "vaegan ")):
            result = subprocess.run(f"{activation} && python {statement}", shell=True, env=Plugin.getEnviron(),
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
            self.assertEqual(result.returncode, 0, result.stdout)
            self.assertTrue(result.stdout.strip().startswith(expected), result.stdout)
