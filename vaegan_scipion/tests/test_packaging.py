"""The wheel of this checkout, installed where the checkout is not: every file is there, Scipion finds the plugin, the
engine runs.

A folder that setup.py does not name is missed only after an installation. Dependencies are those of the two
environments; nothing is downloaded.
"""
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest
from pathlib import Path

from vaegan_scipion import Plugin, __version__, protocols

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "vaegan_scipion"
METADATA = ("setup.py", "pyproject.toml", "README.rst", "LICENSE", "MANIFEST.in")
TIME_LIMIT_S = 300
ASK_SCIPION = """
import importlib, json, pkgutil
from importlib.metadata import distribution
from pwem import Domain
from pyworkflow.gui.project.viewprotocols_extra import ProtocolTreeConfig

plugin = Domain.getPlugins()["vaegan_scipion"]
for module in pkgutil.walk_packages(plugin.__path__, "vaegan_scipion."):
    if not module.name.startswith(("vaegan_scipion.engine.", "vaegan_scipion.tests.")):
        importlib.import_module(module.name)

def leaves(node):
    return {name for child in node.childs for name in leaves(child)} if node.childs else {node.value}

trees = ProtocolTreeConfig.load(Domain, "")
of_plugin = {name for name, kind in Domain.getProtocols().items() if kind.__module__.startswith("vaegan_scipion.")}
metadata = distribution("scipion-em-vaegan").metadata
print("FOUND", json.dumps({
    "folder": plugin.__path__[0], "metadata": {
        name: metadata[name]
        for name in ("Author", "License", "Version", "Requires-Python", "Description-Content-Type")},
    "protocols": sorted(of_plugin),
    "trees": {name: sorted(leaves(tree) & of_plugin) for name, tree in trees.items()},
    "templates": sorted(template.name for template in plugin._pluginInstance.getTemplates())}))
"""
IMPORT_ENGINE = """
import importlib, pkgutil, vaegan_engine
for module in pkgutil.walk_packages(vaegan_engine.__path__, "vaegan_engine."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(vaegan_engine.__path__[0])
"""


def package_files(folder):
    """Files of the package below a folder, as relative paths; not what Python and numba compiled when it ran."""
    return sorted(str(path.relative_to(folder)) for path in (folder / PACKAGE).rglob("*")
                  if path.is_file() and "__pycache__" not in path.parts)


@unittest.skipUnless((ROOT / "setup.py").exists(), "not a checkout")
class TestPackaging(unittest.TestCase):
    """One wheel, built from a copy of the checkout and installed into a clean environment."""

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        source = cls.folder / "source"  # a build folder of the checkout could hold files that are long gone
        shutil.copytree(ROOT / PACKAGE, source / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
        for name in METADATA:
            shutil.copy(ROOT / name, source)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        cls.run_program([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", cls.folder, source])
        wheel, = cls.folder.glob("*.whl")
        cls.run_program([sys.executable, "-m", "venv", "--without-pip", cls.folder / "clean"])
        cls.python = cls.folder / "clean" / "bin" / "python"
        cls.site = Path(cls.run_program([cls.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
                                        ).strip())
        cls.run_program([*pip, "install", "--no-deps", "--no-compile", "--target", cls.site, wheel])
        # Scipion and its libraries, but not the .pth file there that leads to the checkout
        (cls.site / "dependencies.pth").write_text(f"import importlib.util\n{sysconfig.get_path('purelib')}\n")

    @classmethod
    def run_program(cls, command, **environment):
        """What a program prints; its message when it fails."""
        done = subprocess.run([str(word) for word in command], cwd=cls.folder, env={**os.environ, **environment},
                              timeout=TIME_LIMIT_S, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    def run_engine(self, arguments):
        """The engine's environment, the installed sources, as a protocol does it."""
        return self.run_program(["/bin/sh", "-c", f"{Plugin.getActivation()} && python {arguments}"],
                                PYTHONPATH=str(self.site / PACKAGE / "engine")).strip()

    def test_every_file_of_the_package_travels(self):
        self.assertEqual(package_files(self.site), package_files(self.folder / "source"))

    def test_scipion_finds_it(self):
        question = self.folder / "ask_scipion.py"
        question.write_text(ASK_SCIPION)
        printed = self.run_program([self.python, "-m", "scipion", "python", question], PYTHONPATH="",
                                   PATH=os.pathsep.join((str(self.python.parent), os.environ["PATH"])))
        found = json.loads(next(line for line in printed.splitlines() if line.startswith("FOUND "))[len("FOUND "):])
        self.assertEqual(found["folder"], str(self.site / PACKAGE))
        self.assertEqual(found["protocols"], sorted(protocols.__all__))
        with_all = [name for name, names in found["trees"].items() if names == found["protocols"]]
        self.assertGreaterEqual(len(with_all), 3, found["trees"])  # two of protocols.conf, and Scipion's own "All"
        self.assertEqual(found["templates"], ["vaegan_2d", "vaegan_3d"])
        self.assertEqual(found["metadata"], {
            "Author": "scipion-em-vaegan developers", "License": "GPL-3.0-or-later", "Version": __version__,
            "Requires-Python": ">=3.8", "Description-Content-Type": "text/x-rst"})

    @unittest.skipUnless(Plugin.getActivation(), "no environment of the engine is named")
    def test_engine_runs(self):
        sources = str(self.site / PACKAGE / "engine" / "vaegan_engine")
        self.assertEqual(self.run_engine(f"-c '{IMPORT_ENGINE}'"), sources)
        self.assertRegex(self.run_engine("-m vaegan_engine --version"), r"^vaegan \d")
        self.run_engine("-m vaegan_engine simulate --phantom 2 --per-map 3 --box 16 --device cpu --out made")
        self.assertTrue((self.folder / "made" / "particles.star").exists())
