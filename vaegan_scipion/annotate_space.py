"""What Hax's *annotate space* asks the plugin of a set of flexible particles: how its points are decoded."""
import os
import shlex
from typing import Any, Optional

from . import Plugin
from .constants import ENV_NAME

SERVER = os.path.join(Plugin.getEngineRoot(), "vaegan_engine", "latent", "annotate_space_server.py")


def getAnnotateSpaceArguments(particles: Any, gpu_id: Optional[str] = None) -> str:
    """Arguments for Hax: the trained networks, the file that loads them, and the conda environment to do so in.

    An engine in a virtual environment has no name that conda knows: install it with conda to decode from Hax.
    """
    if not hasattr(particles.getFlexInfo(), "_vaeganRun"):
        raise ValueError("These particles carry their place along a motion, not a latent vector of a training: there "
                         "are no networks to decode it. Their maps are the run's outputMotions.")
    run_dir = os.path.abspath(particles.getFlexInfo().getAttr("_vaeganRun"))
    activation = shlex.split(Plugin.getActivation())
    name = activation[-1] if activation[:2] == ["conda", "activate"] else ENV_NAME
    arguments = f"--run_dir {shlex.quote(run_dir)} --server_functions_path {shlex.quote(SERVER)} --env_name {name}"
    return arguments if gpu_id is None else f"{arguments} --gpu_id {gpu_id}"
