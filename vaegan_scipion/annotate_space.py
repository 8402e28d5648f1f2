"""What Hax's *annotate space* asks the plugin of a set of flexible particles: how its points are decoded."""
import os
import shlex
from typing import Any, Optional

from . import Plugin
from .constants import ENV_NAME
from .engine.vaegan_engine.contract.status import read_status

SERVER = os.path.join(Plugin.getEngineRoot(), "vaegan_engine", "latent", "annotate_space_server.py")


def getAnnotateSpaceArguments(particles: Any, gpu_id: Optional[str] = None) -> str:
    """Arguments for Hax: the trained networks, the file that loads them, and the conda environment to do so in.

    An engine in a virtual environment has no name that conda knows: install it with conda to decode from Hax.
    Raises ValueError where there are no networks, or others than those that made the particles' latent vectors.
    """
    if not hasattr(particles.getFlexInfo(), "_vaeganRun"):
        raise ValueError("These particles carry their place along a motion, not a latent vector of a training: there "
                         "are no networks to decode it. Their maps are the run's outputMotions.")
    run_dir = os.path.abspath(particles.getFlexInfo().getAttr("_vaeganRun"))
    before = getattr(particles.getFlexInfo(), "_vaeganNetworks", None)
    if before is not None and str(before) != read_status(run_dir).networks:
        raise ValueError(f"The training in {run_dir} was trained on or anew since these latent vectors were made, or "
                         "is gone: its networks would decode them to other maps. Run embed and cluster again.")
    activation = shlex.split(Plugin.getActivation())
    name = activation[-1] if activation[:2] == ["conda", "activate"] else ENV_NAME
    arguments = f"--run_dir {shlex.quote(run_dir)} --server_functions_path {shlex.quote(SERVER)} --env_name {name}"
    return arguments if gpu_id is None else f"{arguments} --gpu_id {gpu_id}"
