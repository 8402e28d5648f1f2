"""The tasks of the scoreboard."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .assembly import Assembly

_RIBOSOME = tuple(f"ribo50S_4states/maps/r50S_{name}_64.mrc" for name in (
    "B_like", "C_or_D_like_a", "C_or_D_like_b", "E_like"))
_EXOSOME = tuple(f"exosome_6FSZ/maps/{name}.mrc" for name in ("Exo9_core_only", "full", "no_Dis3", "no_Mtr4_Mpp6"))
_SWIVEL = tuple(f"r30S_4ADV/maps/head_swivel_{k:02d}_{angle:+.1f}deg.mrc" for k, angle in enumerate(
    np.linspace(-12, 12, 10)))
_ADK = tuple(f"adk_DIMS/maps/frame_{k:03d}.mrc" for k in (0, 11, 22, 33, 44, 56, 67, 78, 89, 101))
_RIBO20_FOLDER = "ribo50S_10076_real_vols/"
_RIBO20 = tuple(f"{_RIBO20_FOLDER}maps/vol_{k}.mrc" for k in (
    "018", 113, 115, 116, 194, 287, 288, 291, 293, 306, 383, 385, 386, 388, 390, 442, 455, 457, 458, 498))
_THIRTY = tuple(f"r30S_4ADV/maps/{name}.mrc" for name in ("full", "no_head", "no_late_proteins"))
_RIBO3 = (_RIBOSOME[0], _RIBOSOME[1], _RIBOSOME[3])


@dataclass(frozen=True)
class Task:
    """What is simulated. A map named several times gives as many times the images."""

    maps: tuple[str, ...]  # below --data; none = pure noise, or a ball
    per_map: int
    states: int  # clusters that are right
    snr: float = 1.0
    box_px: int = 48
    crop_frac: float = 0.75
    junk_frac: float = 0.0  # of all images
    junk_maps: tuple[str, ...] = ()  # other molecules among it, below --data
    ordered: bool = False  # the maps are the frames of one motion
    groups_csv: str = ""  # columns map, group, below --data: the groups are the true states, not the maps
    view_concentration: float = 0.0  # this and the next ones as simulate's
    contrast_spread: float = 0.0
    noise_ratio: float = 1.0
    ctf_table: str = ""  # below --data
    max_shift_frac: float = 0.05
    crowding: float = 0.0
    micrograph_noise_spread: float = 0.0
    phase_flipped: bool = False
    ball: bool = False  # the particle is a homogeneous ball, which has no orientation
    in_plane: bool = False  # class averages are made, not states
    symmetry: str = "C1"  # point group of the maps, with RELION's axes, which states is told
    assembly: Assembly | None = None  # the maps are made of atoms, none is named


_DIRTY = Task((), 2000, 4, snr=0.3, junk_frac=0.2, view_concentration=2.0, contrast_spread=0.25, noise_ratio=3.0,
              ctf_table="real_ctf/empiar10049_ctf.npz", max_shift_frac=0.1, crowding=0.15,
              micrograph_noise_spread=0.3)  # everything that real data have at once
_GROEL = tuple(f"groel_1MNF/maps/{name}.mrc" for name in ("full14", "ring7"))
_OTHERS = (_GROEL[0], "r30S_4ADV/maps/full.mrc")
_ATOMS = Assembly(_RIBO20_FOLDER + "atoms", 419.2, 16, ())
# Particles of the 16 states of CryoBench's Ribosembly in per cent (by largest remainders)
_SHARES = (3, 4, 7, 13, 9, 11, 1, 1, 4, 4, 5, 2, 11, 11, 12, 2)
_PLANE = Task(_RIBO3, 2250, 3, snr=0.2, junk_frac=0.25, contrast_spread=0.2, noise_ratio=2.0, in_plane=True)

TASKS = {
    "ribo3": Task(_RIBO3, 3000, 3),
    "ribo3-snr0.5": Task(_RIBO3, 3000, 3, snr=0.5),
    "ribo3-snr0.2": Task(_RIBO3, 3000, 3, snr=0.2),
    "ribo3-64px": Task(_RIBO3, 10000, 3, snr=0.2, box_px=64, crop_frac=1.0),
    "ribo3-130k": Task(_RIBO3, 43333, 3, snr=0.2, box_px=64, crop_frac=1.0),
    "assembly3-128px": Task((), 10000, 3, snr=0.1, box_px=128, assembly=replace(_ATOMS, states=(0, 7, 15))),
    "assembly16": Task((), 300, 16, snr=0.5, assembly=replace(_ATOMS, states=tuple(
        state for state, share in enumerate(_SHARES) for _ in range(share)))),
    "ribo3-real": Task(_RIBO3, 3000, 3, snr=0.5, contrast_spread=0.25, noise_ratio=3.0,
                       ctf_table="real_ctf/empiar10028_ctf.npz"),
    "ribo4": Task(_RIBOSOME, 3000, 4),
    "ribo20": Task(_RIBO20, 1000, 4, groups_csv=_RIBO20_FOLDER + "groups.csv"),
    "preferred": Task(_RIBO3, 3000, 3, view_concentration=4.0),
    "exosome": Task(_EXOSOME, 3000, 4),
    "morph": Task(_SWIVEL, 1000, 1, ordered=True),
    "morph-adk": Task(_ADK, 1000, 1, crop_frac=1.0, ordered=True),
    "junk": Task(_RIBO3, 3000, 3, junk_frac=0.25, junk_maps=(
        "groel_1MNF/maps/full14.mrc", "r30S_4ADV/maps/full.mrc", "exosome_6FSZ/maps/full.mrc")),
    "homogeneous": Task((_RIBOSOME[3],), 5000, 1),
    "unequal": Task((_RIBO3[0],) * 14 + (_RIBO3[1],) * 5 + (_RIBO3[2],), 450, 3),  # 70, 25 and 5 %
    "dirty-ribo4": replace(_DIRTY, maps=_RIBOSOME, junk_maps=(*_OTHERS, _EXOSOME[1])),
    "dirty-exosome": replace(_DIRTY, maps=_EXOSOME, junk_maps=(*_OTHERS, _RIBOSOME[3])),
    # No constant was set on these two: they are measured, never tuned on. Of what is at hand, GroEL alone (its rings
    # turn into themselves, so that poses cannot be scored) and atomic models (not maps yet) are in no such task.
    "dirty-30S": replace(_DIRTY, maps=_THIRTY, states=3, junk_maps=(_GROEL[0], _EXOSOME[1], _RIBOSOME[3])),
    "junk-other": Task(_THIRTY, 3000, 3, junk_frac=0.25, junk_maps=(*_GROEL, _EXOSOME[3])),
    "ribo3-hard": Task(_RIBO3, 6667, 3, snr=0.032, box_px=64, crop_frac=1.0),
    "flipped": Task(_RIBO3, 3000, 3, phase_flipped=True),
    "twohands": Task(_THIRTY, 3000, 3),  # their common body fits itself in the other hand too
    "octahedral": Task(("real_particles/apoferritin_10146/apoferritin_64.mrc",), 2500, 1, snr=0.5, box_px=64,
                       crop_frac=1.0, symmetry="O"),  # the real set's model: whether its poses can be found at all
    "homogeneous-0.1": Task((_RIBOSOME[3],), 5000, 1, snr=0.1),
    "homogeneous-0.05": Task((_RIBOSOME[3],), 5000, 1, snr=0.05),
    "null-0.02": Task((_RIBOSOME[3],), 5000, 1, snr=0.02),
    "null-blob": Task((), 5000, 1, snr=0.1, ball=True),
    "null-noise": Task((), 5000, 1),
    "classes2d-ribo3": _PLANE,
    "classes2d-others": replace(_PLANE, junk_maps=(*_OTHERS, _EXOSOME[1])),
}
SUITES: dict[str, tuple[float, tuple[int, ...]]] = {  # part of the images, seeds
    "quick": (0.2, (0,)), "standard": (1.0, (0, 1, 2)), "full": (3.0, (0, 1, 2))}
