"""``reproduce``: an experiment of the thesis, from data to its table and figure in ``reports/EXPERIMENT``.

Finished parts are kept and taken on the next call. A training may be done elsewhere: ``--plan`` prints the plain
commands, and a finished training in ``OUT/CONFIGURATION/run`` is taken as it is.
"""
from __future__ import annotations

import importlib
from pathlib import Path

from ..contract.presets import parse_setting
from ..contract.setting import check_settings
from .experiment_tables import EXPERIMENTS, ReproduceOptions

_LINES = "\n".join(f"  {name:20} {text}" for name, (_, text) in EXPERIMENTS.items())
DETAILS = f"""\
Experiments:

{_LINES}

A training on another machine (a GPU), here for ribosome-3d; every step may be stopped and called again:

  vaegan reproduce ribosome-3d --data DIR --scale full --stop-after data    simulate OUT/data (--per-map N: fewer)
  vaegan reproduce ribosome-3d --data DIR --scale full --plan               the plain training commands
  (run them where the GPU is; bring OUT/CONFIGURATION/run back)
  vaegan reproduce ribosome-3d --data DIR --scale full                      analyse, table, figure

or all of it there, one configuration after the other: --only thesis-3d --kimg 200 --device cuda.
"""


def run_reproduce(options: ReproduceOptions, out_dir: Path | None) -> str:
    """Run one experiment into ``out_dir``; returns the text of its table. Raises ConfigError or DataError."""
    check_settings(options)
    for text in options.settings:
        parse_setting(text)
    out_dir = Path("reports") / options.experiment if out_dir is None else out_dir
    return importlib.import_module(f".{EXPERIMENTS[options.experiment][0]}", __package__).run(options, Path(out_dir))
