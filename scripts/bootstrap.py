#!/usr/bin/env python3
"""Make the two environments of a checkout: ``.venv/engine`` and ``.venv/scipion``.

Standard library only; any Python 3.8+ can start it, the environments get a Python >= 3.10.
An environment is made again when what it was made from has changed (its stamp says), else nothing
is done. Nothing outside the checkout is written.

Environment variables: ``VAEGAN_PYTHON`` (the Python to use), ``VAEGAN_TORCH_SPEC`` (what pip installs
as torch, options such as ``--index-url URL`` included).
"""
from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

ROOT = Path(__file__).resolve().parent.parent
VENVS = ROOT / ".venv"
REQUIREMENTS_ENGINE = ROOT / "vaegan_scipion" / "engine" / "requirements.txt"
REQUIREMENTS_DEV = ROOT / "requirements-dev.txt"
REQUIREMENTS_SCIPION = ROOT / "requirements-scipion.txt"
PLUGIN_METADATA = ROOT / "setup.py"

# Scipion 3.8 pins numpy 1.26.1, which has wheels up to Python 3.12.
PYTHON_NAMES = ("python3", "python3.11", "python3.12", "python3.10", "python3.13", "python3.14",
                "/usr/bin/python3")
ENGINE_PYTHONS = ((3, 10), (3, 14))
SCIPION_PYTHONS = ((3, 10), (3, 12))
PROBE = """
import importlib.util, json, sys
found = {name: True for name in ("venv", "ensurepip", "tkinter") if importlib.util.find_spec(name)}
try:
    import tkinter
except ImportError:
    found.pop("tkinter", None)
print(json.dumps([list(sys.version_info[:2]), sys.executable, sorted(found)]))
"""


class Python(NamedTuple):
    """An interpreter on this machine."""

    version: Tuple[int, int]
    executable: str
    modules: List[str]

    def lacks(self, versions: Tuple[Tuple[int, int], Tuple[int, int]], modules: Tuple[str, ...]) -> str:
        """Why it cannot be used ('' when it can)."""
        if not versions[0] <= self.version <= versions[1]:
            return "is {}.{}".format(*self.version)
        missing = [name for name in modules if name not in self.modules]
        return "lacks " + " and ".join(missing) if missing else ""


def probe(name: str) -> Optional[Python]:
    """What the interpreter ``name`` is and has; None if it does not run."""
    path = shutil.which(name)
    if path is None:
        return None
    result = subprocess.run([path, "-c", PROBE], capture_output=True, text=True)
    if result.returncode != 0:
        return None
    version, executable, modules = json.loads(result.stdout)
    return Python((version[0], version[1]), executable, modules)


def choose_python(purpose: str, versions: Tuple[Tuple[int, int], Tuple[int, int]],
                  modules: Tuple[str, ...]) -> Python:
    """First interpreter that serves ``purpose``; a stop with the remedy when there is none."""
    asked = os.environ.get("VAEGAN_PYTHON")
    tried = []
    for name in [asked] if asked else [sys.executable, *PYTHON_NAMES]:
        python = probe(name)
        if python is None:
            continue
        reason = python.lacks(versions, modules)
        if not reason:
            return python
        line = f"  {python.executable} {reason}"
        if line not in tried:
            tried.append(line)
    (low, high) = (".".join(map(str, version)) for version in versions)
    sys.exit(f"{purpose} needs a Python between {low} and {high} with {', '.join(modules)}. Tried:\n"
             + "\n".join(tried or [f"  {asked or 'python3'}: does not run"])
             + "\nOn Debian: apt-get install python3 python3-venv python3-tk. "
               "Any other one: VAEGAN_PYTHON=/path/python3.11 make envs")


def digest(parts: List[object]) -> str:
    """Hash of the files (by content) and values that an environment is made from."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.read_bytes() if isinstance(part, Path) else str(part).encode())
        total.update(b"\0")
    return total.hexdigest()


def is_current(venv: Path, stamp: str) -> bool:
    """Whether ``venv`` was made, whole, from what ``stamp`` stands for and its Python is still there."""
    stamp_file = venv / "vaegan-stamp"
    return ((venv / "bin" / "python").exists() and stamp_file.exists()
            and stamp_file.read_text().strip() == stamp)


def run(command: List[str], **options: object) -> None:
    """Run a command, shown first; a stop when it fails."""
    print("+", " ".join(map(shlex.quote, command)), flush=True)
    code = subprocess.run(command, **options).returncode  # type: ignore[call-overload]
    if code != 0:
        sys.exit(f"bootstrap: the command above failed with exit code {code}; nothing later was done.")


def make_venv(venv: Path, python: Python) -> str:
    """A fresh virtual environment; returns its interpreter."""
    print(f"Making {venv} with Python {python.version[0]}.{python.version[1]}", flush=True)
    run([python.executable, "-m", "venv", "--clear", str(venv)])
    return str(venv / "bin" / "python")


def requirement_arguments(torch_spec: str, folder: Path) -> List[str]:
    """pip arguments for the engine; ``torch_spec``, if any, stands in for the torch line."""
    if not torch_spec:
        return ["-r", str(REQUIREMENTS_ENGINE)]
    lines = [line for line in REQUIREMENTS_ENGINE.read_text().splitlines() if not line.startswith("torch=")]
    other = folder / "requirements.txt"
    other.write_text("\n".join(lines) + "\n")
    return [*shlex.split(torch_spec), "-r", str(other)]


def make_engine(venv: Path, stamp: str) -> None:
    """The engine's environment with the developer tools; the engine's own code is not installed."""
    interpreter = make_venv(venv, choose_python("The engine", ENGINE_PYTHONS, ("venv", "ensurepip")))
    torch_spec = os.environ.get("VAEGAN_TORCH_SPEC", "")
    run([interpreter, "-m", "pip", "install", "--disable-pip-version-check",
         *requirement_arguments(torch_spec, venv), "-r", str(REQUIREMENTS_DEV)])
    run([interpreter, "-c", "import torch; print('torch', torch.__version__)"])
    (venv / "vaegan-stamp").write_text(stamp + "\n")


def make_scipion(venv: Path, stamp: str) -> None:
    """Scipion from PyPI with this checkout as an editable plugin."""
    python = choose_python("Scipion", SCIPION_PYTHONS, ("venv", "ensurepip", "tkinter"))
    interpreter = make_venv(venv, python)
    pip = [interpreter, "-m", "pip", "install", "--disable-pip-version-check"]
    run([*pip, "-r", str(REQUIREMENTS_SCIPION)])
    run([*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT)])
    # Scipion 3.8 uses importlib.util without importing it and dies in a clean environment.
    site = venv / "lib" / "python{}.{}".format(*python.version) / "site-packages"
    (site / "aaa_scipion_importlib_util.pth").write_text("import importlib.util\n")
    run([str(ROOT / "bin" / "scipion3"), "python", "-c",
         "import vaegan_scipion.protocols, vaegan_scipion.viewers; print('Scipion finds the plugin')"],
        env={**os.environ, "VAEGAN_BOOTSTRAP": "1"})
    (venv / "vaegan-stamp").write_text(stamp + "\n")


def main() -> None:
    """Make what is missing or out of date."""
    started = time.monotonic()
    VENVS.mkdir(exist_ok=True)
    here = Path(__file__).resolve()
    chosen = os.environ.get("VAEGAN_PYTHON", "")
    engine, scipion = VENVS / "engine", VENVS / "scipion"
    stamps = {
        engine: digest([str(engine), here, REQUIREMENTS_ENGINE, REQUIREMENTS_DEV, chosen,
                        os.environ.get("VAEGAN_TORCH_SPEC", "")]),
        scipion: digest([str(scipion), here, REQUIREMENTS_SCIPION, PLUGIN_METADATA, chosen]),
    }
    for venv, make in ((engine, make_engine), (scipion, make_scipion)):
        if not is_current(venv, stamps[venv]):
            make(venv, stamps[venv])
    print(f"Environments in {VENVS} are ready ({time.monotonic() - started:.1f} s).", flush=True)


if __name__ == "__main__":
    main()
