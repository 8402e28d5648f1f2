"""The installer's commands: torch by nvidia-smi or VAEGAN_TORCH_SPEC, and all from a folder of wheels alone."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest.mock import patch

from vaegan_scipion import Plugin
from vaegan_scipion.engine.vaegan_engine.contract import torch_builds
from vaegan_scipion.engine.vaegan_engine.contract.torch_builds import Gpus

SMI = "vaegan_scipion.engine.vaegan_engine.contract.torch_builds.read_gpus"


def command_for(gpus, spec=""):
    """What the installer runs for torch on a machine with these GPUs."""
    with patch(SMI, return_value=gpus), patch.object(Plugin, "getVar", return_value=spec):
        return Plugin.torchCommand("python")


def write_wheel(folder, name, version):
    """A wheel of one module that says its version."""
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    with zipfile.ZipFile(Path(folder, f"{module}-{version}-py3-none-any.whl"), "w") as wheel:
        wheel.writestr(f"{module}.py", f"__version__ = '{version}'\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL",
                       "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


class TestTorch(unittest.TestCase):
    """Which torch is installed."""

    def test_a_gpu_s_build_and_why(self):
        command = command_for(Gpus(535, [8.0], ["NVIDIA A100"]))
        self.assertTrue(command.endswith(f"python -m pip install --index-url {torch_builds.PYTORCH_INDEX}/cu126 "
                                         f"{torch_builds.TORCH}"))
        self.assertIn("driver 535, NVIDIA A100: torch built with CUDA 12.6. About 7 GB of disk", command)
        self.assertTrue(command_for(Gpus(580, [9.0], ["NVIDIA H100"])).endswith(f"pip install {torch_builds.TORCH}"))

    def test_no_gpu_is_torch_for_cpus_and_else_pypi_s(self):
        command = command_for(None)
        self.assertIn(f"{torch_builds.PYTORCH_INDEX}/cpu {torch_builds.TORCH} || python -m pip install", command)

    def test_what_is_asked_for_wins(self):
        self.assertEqual(command_for(Gpus(535, [8.0], ["NVIDIA A100"]), "torch==2.11.0"),
                         "python -m pip install torch==2.11.0")

    def test_requirements_and_the_table_name_one_torch(self):
        lines = Path(Plugin.getEngineRoot(), "requirements.txt").read_text().splitlines()
        self.assertIn(torch_builds.TORCH, lines)

    def test_docs_have_the_table(self):
        root = Path(__file__).resolve().parents[2]
        if not (root / "docs").exists():
            self.skipTest("not a checkout")
        text = (root / "docs" / "start" / "install.rst").read_text()
        for build in (*torch_builds.BUILDS, torch_builds.CPU):
            row = next((line for line in text.splitlines() if line.startswith(f"``{build.tag}``")), "")
            self.assertIn(f"{build.disk_gb:g} GB", row, build.tag)
            self.assertIn(f"{build.least_driver} or newer" if build.least_driver else "none needed", row, build.tag)


class TestOffline(unittest.TestCase):
    """PIP_NO_INDEX and PIP_FIND_LINKS: nothing but the folder is looked at, whatever index a spec names."""

    def test_from_a_folder_of_wheels(self):
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        wheels = folder / "wheels"
        wheels.mkdir()
        names = [re.match(r"([\w-]+)==([\w.]+)", line) for line in
                 Path(Plugin.getEngineRoot(), "requirements.txt").read_text().splitlines()]
        for found in filter(None, names):
            write_wheel(wheels, found.group(1), found.group(2))
        subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
        python = str(folder / "env" / "bin" / "python")
        environ = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}
        environ.pop("PYTHONPATH", None)
        for gpus in (None, Gpus(535, [8.0], ["NVIDIA A100"])):
            with patch(SMI, return_value=gpus), patch.object(Plugin, "getVar", return_value=""):
                command = Plugin.pipCommand(python)
            done = subprocess.run(["/bin/sh", "-c", command], env=environ, cwd=str(folder), stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, universal_newlines=True)
            self.assertEqual(done.returncode, 0, done.stdout[-2000:])
        made = subprocess.run([python, "-c", "import torch, umap_learn; print(torch.__file__)"], check=True,
                              stdout=subprocess.PIPE, universal_newlines=True, env=environ)
        self.assertIn(str(folder), made.stdout)
