"""Scipion plugin: states, poses and maps of uncurated cryo-EM particles, and a VAE-GAN's landscape of them."""
import os
import shlex
import shutil

import pwem
import pyworkflow.utils as pwutils
from pyworkflow import VarTypes

from .constants import (
    CHOSEN_TORCH_SPEC,
    CONDA_FLAG,
    CONDA_PYTHON,
    ENV_NAME,
    ENV_VERSION,
    PACKAGE,
    VAEGAN_ENV_ACTIVATION,
    VAEGAN_HOME,
    VAEGAN_PYTHON,
    VAEGAN_TORCH_SPEC,
    VENV_FLAG,
    VENV_PYTHONS,
)
from .engine.vaegan_engine.contract import torch_builds

__version__ = "0.1.0"
_logo = "icon.png"
_references = ["Larsen2016", "Gupta2021"]


class Plugin(pwem.Plugin):
    """Variables, the engine's environment and the command that runs the engine in it."""

    _homeVar = VAEGAN_HOME
    _supportedVersions = [ENV_VERSION]
    _url = "https://pypi.org/project/scipion-em-vaegan"
    _processingField = ["SPA", "FLEXIBILITY"]

    @classmethod
    def _defineVariables(cls):
        cls._defineEmVar(VAEGAN_HOME, ENV_NAME, var_type=VarTypes.FOLDER,
                         description="Folder of the engine's environment.")
        cls._defineVar(VAEGAN_ENV_ACTIVATION, cls.findActivation(), var_type=VarTypes.STRING,
                       description="Shell command that activates the engine's environment, "
                                   "such as '. /path/env/bin/activate' or 'conda activate NAME'.")
        cls._defineVar(VAEGAN_PYTHON, "", var_type=VarTypes.STRING,
                       description="Python (3.10 or newer) that a virtual environment of the engine is "
                                   "made with, where there is no conda; empty = the first one that works.")
        cls._defineVar(VAEGAN_TORCH_SPEC, CHOSEN_TORCH_SPEC, var_type=VarTypes.STRING,
                       description="What pip installs as torch; options such as --index-url may precede it. "
                                   "Empty = the build that fits this machine's driver and GPUs.")

    # ------------------------------- the engine's environment -------------------------------
    @staticmethod
    def getEngineRoot():
        """Folder that alone is the engine process's PYTHONPATH."""
        return os.path.join(os.path.dirname(os.path.abspath(__file__)), "engine")

    @classmethod
    def findActivation(cls):
        """Activation of the environment that `installb` made, by what is on disk; '' if none is."""
        activate = cls.getHome("env", "bin", "activate")
        if os.path.exists(cls.getHome(VENV_FLAG)) and os.path.exists(activate):
            return ". " + shlex.quote(activate)
        if os.path.exists(cls.getHome(CONDA_FLAG)):
            return "conda activate " + ENV_NAME
        return ""

    @classmethod
    def getActivation(cls):
        """Shell command that activates the engine's environment ('' when there is none)."""
        return (os.environ.get(VAEGAN_ENV_ACTIVATION) or cls.getVar(VAEGAN_ENV_ACTIVATION)
                or cls.findActivation()).strip()

    @classmethod
    def getEngineProgram(cls, gpu, queue=False):
        """Shell text that comes before the engine's arguments.

        gpu: put Scipion's `%(GPU)s` there. Scipion then %-formats the text, so a literal % is doubled.
        queue: the run is a job of a queue, whose own CUDA_VISIBLE_DEVICES, if it sets one, counts. (Scipion numbers the
        GPUs of a job from 0; the job's GPU may be another.)
        """
        activation = cls.getActivation()
        if "conda " in activation and not activation.startswith((".", "eval")):
            activation = f"{cls.getCondaHook()} {activation}"
        if gpu:
            visible = "${CUDA_VISIBLE_DEVICES:-%(GPU)s}" if queue else "%(GPU)s"
            return f"{activation.replace('%', '%%')} && CUDA_VISIBLE_DEVICES={visible} python -m vaegan_engine"
        return f"{activation} && CUDA_VISIBLE_DEVICES= python -m vaegan_engine"

    @classmethod
    def getEnviron(cls):
        """The process environment of the engine: its source root is the whole PYTHONPATH."""
        environ = pwutils.Environ(os.environ)
        environ.pop("PYTHONHOME", None)
        environ["PYTHONPATH"] = cls.getEngineRoot()
        environ["PYTHONNOUSERSITE"] = "1"
        return environ

    @classmethod
    def validateInstallation(cls):
        """Say what is missing and the command that mends it."""
        activation = cls.getActivation()
        mend = (f"Run 'scipion3 installb {PACKAGE}', or set {VAEGAN_ENV_ACTIVATION} in scipion.conf "
                f"to the command that activates an environment with engine/requirements.txt installed.")
        if not activation:
            return [f"The engine's environment is missing in {cls.getHome()}. {mend}"]
        try:
            words = shlex.split(activation)
        except ValueError as error:
            return [f"{VAEGAN_ENV_ACTIVATION} is '{activation}', which no shell can read ({error}). {mend}"]
        if words[0] == "source":
            return [f"{VAEGAN_ENV_ACTIVATION} is '{activation}', but Scipion's shell does not know "
                    f"'source'. Write '. {' '.join(words[1:])}'."]
        script = os.path.expandvars(os.path.expanduser(words[1])) if len(words) > 1 else ""
        if words[0] == "." and not os.path.exists(script):
            return [f"{VAEGAN_ENV_ACTIVATION} is '{activation}', but there is no such file. {mend}"]
        return []

    # ------------------------------- installation -------------------------------
    @classmethod
    def defineBinaries(cls, env):
        conda = cls.hasConda()
        commands = cls.condaCommands() if conda else cls.venvCommands()
        env.addPackage(PACKAGE, version=ENV_VERSION, tar="void.tgz", commands=commands,
                       neededProgs=[], default=True, vars={"PATH": os.environ.get("PATH", "")})

    @classmethod
    def hasConda(cls):
        """Whether conda can be used: Scipion's activation command or `conda` on PATH."""
        return bool(pwem.Config.CONDA_ACTIVATION_CMD) or bool(shutil.which("conda"))

    @classmethod
    def getCondaHook(cls):
        """Shell text that makes `conda activate` work: Scipion's own, or that of the `conda` on PATH."""
        return cls.getCondaActivationCmd() or 'eval "$(conda shell.posix hook)" &&'

    @classmethod
    def pipCommand(cls, python):
        """Install torch as asked for, then the other requirements.

        The requirements' own torch line is left out, so that it cannot contradict VAEGAN_TORCH_SPEC.
        """
        requirements = shlex.quote(os.path.join(cls.getEngineRoot(), "requirements.txt"))
        return (f"{cls.torchCommand(python)} && "
                f"grep -v '^torch[=<>~! ]' {requirements} > requirements.txt && "
                f"{python} -m pip install -r requirements.txt && {python} -c 'import torch'")

    @classmethod
    def torchCommand(cls, python):
        """Install torch: what VAEGAN_TORCH_SPEC says, else the build for this machine's driver and GPUs.

        Where PyTorch's index cannot be reached, a machine without a GPU takes PyPI's wheel: larger, and it runs on
        the CPU as well.
        """
        asked = (cls.getVar(VAEGAN_TORCH_SPEC) or "").strip()
        if asked:
            return f"{python} -m pip install {asked}"
        build, why = torch_builds.build_for(torch_builds.read_gpus())
        install = f"{python} -m pip install"
        command = f"{install} {build.pip_words}"
        if build is torch_builds.CPU:
            command = f"({command} || {install} {build.spec})"
        said = f"{why} About {build.disk_gb:g} GB of disk. Another build: {VAEGAN_TORCH_SPEC}."
        return f"echo {shlex.quote(said)} && {command}"

    @classmethod
    def condaCommands(cls):
        """(command, flag file) pairs that make a conda environment."""
        return [(f"{cls.getCondaHook()} conda create -y -n {ENV_NAME} python={CONDA_PYTHON} && "
                 f"conda activate {ENV_NAME} && {cls.pipCommand('python')} && touch {CONDA_FLAG}",
                 CONDA_FLAG)]

    @classmethod
    def venvCommands(cls):
        """(command, flag file) pairs that make a virtual environment.

        Each Python is tried by the command itself: a name on PATH may be a shim that does not run.
        """
        pythons = cls.getVar(VAEGAN_PYTHON) or ""
        candidates = shlex.quote(pythons) if pythons else " ".join(VENV_PYTHONS)
        probe = "import sys, ensurepip; sys.exit(sys.version_info < (3, 10))"
        choose = (f'found=; for python in {candidates}; do if "$python" -c {shlex.quote(probe)} 2>/dev/null; '
                  f'then found=$python; break; fi; done; '
                  f': "${{found:?No Python 3.10 or newer with venv here. Set {VAEGAN_PYTHON} to one}}"')
        return [(f"{choose} && rm -rf env && \"$found\" -m venv env && "
                 f"{cls.pipCommand('./env/bin/python')} && touch {VENV_FLAG}", VENV_FLAG)]
