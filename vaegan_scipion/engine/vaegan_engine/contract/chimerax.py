"""Commands that let ChimeraX show maps: a series to play, states side by side. Text alone."""
from __future__ import annotations

import os
from typing import Sequence, Tuple


def series_commands(paths: Sequence[str]) -> str:
    """ChimeraX commands that open maps as one volume series and play it."""
    names = " ".join(f'"{os.path.abspath(path)}"' for path in paths)
    return (f"open {names} vseries true\n"
            "volume #1 style surface\n"
            "vseries play #1 loop true direction oscillate maxFrameRate 4\n"
            "vseries slider #1\n"
            "view\n")


def maps_commands(maps: Sequence[Tuple[str, str, float]]) -> str:
    """ChimeraX commands that open maps (path, colour as #rrggbb, level) as surfaces in a row."""
    lines = []
    for number, (path, colour, level) in enumerate(maps, start=1):
        lines += [f'open "{os.path.abspath(path)}" id {number}',
                  f"volume #{number} style surface level {level:.6g} color {colour}"]
    return "\n".join([*lines, "tile", "view", ""])
