"""Maps of nested assembly states, made of an atomic model: for boxes that maps at hand are too coarse for."""
from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...contract.errors import DataError
from ...data.mrc_files import write_map
from ...simulation import atomic_models

DROPPED_JSON = "states_dropped_chains.json"  # group -> chains ("file:chain") that it lacks
_FINEST_VOXELS = 2.2  # resolution of the maps


@dataclass(frozen=True)
class Assembly:
    """A molecule that loses chains in steps, and its states that make images; named twice, twice as many."""

    atoms: str  # folder below --data, with PDB files and DROPPED_JSON
    box_ang: float  # the atoms are centred in it
    n_states: int  # the first is whole, each next one lacks some chains more
    states: tuple[int, ...]

    def files(self, out: Path) -> tuple[Path, ...]:
        """The maps of ``states`` in a folder."""
        return tuple(out / "assembly" / f"state_{k:02d}.mrc" for k in self.states)


def lost_in_order(dropped: dict[str, list[str]]) -> list[str]:
    """Chains in the order of loss: first what most groups lack, then by name."""
    lacking = Counter(name for names in dropped.values() for name in names)
    return sorted(lacking, key=lambda name: (-lacking[name], name))


def only_chains(model: Any, names: set[str]) -> Any:
    """A copy of a model with some of its chains."""
    kept = model.clone()
    for name in {chain.name for chain in kept} - names:
        kept.remove_chain(name)
    return kept


def write_assembly(assembly: Assembly, data: Path, out: Path, box_px: int) -> None:
    """Write the maps of the states that are named. Raises DataError where a chain is not in the model.

    Densities add up: state ``k`` is the whole molecule less the first ``k`` of ``n_states - 1`` parts of the chains
    that are lost, of nearly the same number each.
    """
    folder, voxel_size_ang = data / assembly.atoms, assembly.box_ang / box_px
    models = {path.name.split(".")[0]: atomic_models.read_model(path) for path in sorted(folder.iterdir())
              if atomic_models.is_model(path)}
    order = lost_in_order(json.loads((folder / DROPPED_JSON).read_text()))
    chains = {f"{stem}:{chain.name}" for stem, model in models.items() for chain in model}
    absent = [name for name in order if name not in chains]
    if absent:
        raise DataError(f"{folder / DROPPED_JSON}: there is no chain {absent[0]!r} in the models.",
                        "Name chains as FILE:CHAIN.")

    def density(names: set[str]) -> np.ndarray:
        made = np.zeros((box_px,) * 3, np.float32)
        for stem, model in models.items():
            kept = only_chains(model, {name.partition(":")[2] for name in names if name.startswith(f"{stem}:")})
            if len(kept):
                made += atomic_models.density(kept, box_px, voxel_size_ang, _FINEST_VOXELS * voxel_size_ang,
                                              np.full(3, assembly.box_ang / 2))
        return made

    parts = [set(part) for part in np.array_split(np.array(order), assembly.n_states - 1)]
    whole, wanted = density(chains), dict(zip(assembly.states, assembly.files(out), strict=True))
    for state in range(max(wanted) + 1):
        whole = whole - density(parts[state - 1]) if state else whole
        if state in wanted:
            wanted[state].parent.mkdir(parents=True, exist_ok=True)
            write_map(wanted[state], whole, voxel_size_ang)
