"""The hand-over to RELION: a shell script beside the star file of a state, which refines it around our poses.

RELION's halves both begin from the one map, low-passed at ``--ini_high``: what they claim beyond it is independent, and
nothing coarser is. So it is as coarse as it can be without losing the poses, for which a map needs some ten shells of
the box: an eighth of the particle's diameter, or finer where the half sets share finer detail anyway. RELION keeps the
half sets of the star file (``rlnRandomSubset``). Angles are sampled as finely as the resolution needs at the particle's
rim, and searched about our poses alone.

RELION takes images of an even box whose background has mean 0 and standard deviation 1, protein white. Where the stacks
hold others the script makes a copy, for which a star file is written here: that of ``relion_stack_create`` lacks the
size of images from files of before RELION 3.1, and states the odd box.
"""
from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..contract.symmetry import NO_SYMMETRY
from ..data.image_names import split_names
from ..data.star_files import IMAGE_NAME, read_star
from ..data.star_subset import write_rows
from ..data.star_text import encoded

PROGRAM = "relion_refine_mpi"
COPY_STAR, COPY_STACK = "normal.star", "normal.mrcs"  # of images that are made normal first
_SIZE = "rlnImageSize"
_STEP_DEG = 29.3  # of RELION's healpix order 0, oversampled once; every order halves it
_ORDERS = 3, 7  # that are used
_POSE_PARTS = 8.0  # of the diameter: a map of that resolution holds the poses
_NORMAL = 0.1  # that the background's mean and standard deviation may be off in RELION


@dataclass(frozen=True)
class HandOver:
    """What RELION is told of a state; file names are relative to the results folder."""

    name: str  # of the state, as "state_01"
    star_file: str
    map_file: str
    mask_file: str  # of the state, or the user's: RELION's maps end there too, and its FSC is corrected for it
    particle_diameter_ang: float
    resolution_ang: float
    shared_ang: float
    voxel_size_ang: float
    has_ctf: bool
    phase_flipped: bool
    inverted: bool  # the protein is dark in the stacks
    background: tuple[float, float]  # mean and standard deviation in the stacks
    symmetry: str = NO_SYMMETRY  # of the states' maps
    stack_box_px: int = 0  # side of the images in the stacks

    @property
    def is_normal(self) -> bool:
        """Whether the images in the stacks are as RELION wants them."""
        mean, deviation = self.background
        return not self.inverted and abs(mean) < _NORMAL and abs(deviation - 1) < _NORMAL

    @property
    def needs_copy(self) -> bool:
        """Whether RELION is given other images than those in the stacks."""
        return not self.is_normal or self.stack_box_px % 2 == 1

    @property
    def folder(self) -> str:
        """Of RELION's results, below the results folder."""
        return f"relion_{self.name}"

    def healpix_order(self) -> int:
        """Of the coarsest sampling whose step moves the particle's rim by at most half the resolution."""
        step_deg = math.degrees(self.resolution_ang / self.particle_diameter_ang)
        return int(np.clip(math.ceil(math.log2(_STEP_DEG / step_deg)), *_ORDERS))

    def ini_high_ang(self) -> float:
        """Low pass of the map that both halves begin with."""
        return max(min(self.shared_ang, self.particle_diameter_ang / _POSE_PARTS), self.resolution_ang)

    def sigma_ang_deg(self) -> float:
        """Standard deviation of the prior about our angles: two steps, as RELION's own local searches have."""
        return 2 * _STEP_DEG / 2 ** self.healpix_order()


def script(hand_over: HandOver, out_dir: Path) -> str:
    """Text of the script for a results folder that holds the star file."""
    project = project_folder(out_dir / hand_over.star_file, out_dir)
    here, up = os.path.relpath(out_dir.resolve(), project), os.path.relpath(project, out_dir.resolve())
    folder, order = hand_over.folder, hand_over.healpix_order()
    particles = f"$HERE/{hand_over.star_file}"
    lines = [
        "#!/bin/sh", f"# RELION's own refinement of {hand_over.name}: its half sets, local searches about its poses.",
        f"# MPI and THREADS may be set before, and SYM; the states have {hand_over.symmetry}.", "set -e",
        f'cd "$(dirname "$0")/{up}"', f'HERE="{here}"', f'mkdir -p "$HERE/{folder}"']
    if hand_over.needs_copy:
        radius_px = round(hand_over.particle_diameter_ang / 2 / hand_over.voxel_size_ang)
        window = f" --window {even_px(hand_over.stack_box_px)}" if hand_over.stack_box_px % 2 else ""
        lines += ["# a copy of the images: even box, background of mean 0 and standard deviation 1, protein white",
                  f'relion_stack_create --i "{particles}" --o "$HERE/{folder}/stack"',
                  f'(cd "$HERE/{folder}" && relion_preprocess --operate_on stack.mrcs --operate_out normal --norm '
                  f"--bg_radius {radius_px}{window}" + (" --invert_contrast)" if hand_over.inverted else ")"),
                  f'rm "$HERE/{folder}/stack.mrcs"']
        particles = f"$HERE/{folder}/{COPY_STAR}"
    options = [
        f'--o "$HERE/{folder}/run" --auto_refine --split_random_halves --i "{particles}"',
        f'--ref "$HERE/{hand_over.map_file}" --ini_high {hand_over.ini_high_ang():.2f}',
        f"--healpix_order {order} --auto_local_healpix_order {order} --sigma_ang {hand_over.sigma_ang_deg():.2f}",
        f"--oversampling 1 --offset_range 3 --offset_step 1 --sym ${{SYM:-{hand_over.symmetry}}} "
        "--low_resol_join_halves 40",
        f"--particle_diameter {hand_over.particle_diameter_ang:.0f} --flatten_solvent --zero_mask --norm --scale",
        # without a mask RELION's band stands where noise around the particle hides what the halves share
        f'--solvent_mask "$HERE/{hand_over.mask_file}" --solvent_correct_fsc',
        "--pad 2 --pool 10 --dont_combine_weights_via_disc --j ${THREADS:-2}"]
    if hand_over.has_ctf:
        options.append("--ctf" + (" --ctf_phase_flipped" if hand_over.phase_flipped else ""))
    lines += [" \\\n    ".join([f"mpirun -n ${{MPI:-3}} {PROGRAM}", *options, "$MORE"]),
              " \\\n    ".join([f'relion_postprocess --i "$HERE/{folder}/run_half1_class001_unfil.mrc"',
                               f'--o "$HERE/{folder}/post" --mask "$HERE/{hand_over.mask_file}"',
                               f"--angpix {hand_over.voxel_size_ang:.5f} --auto_bfac --autob_lowres 10"]), ""]
    return "\n".join(lines)


def project_folder(star: Path, out_dir: Path) -> Path:
    """The folder that RELION must run in: that from which all image names of the star file lead to a file.

    The results folder or one above it; the results folder where there is none.
    """
    names, folder = split_names(read_star(star)).stacks, out_dir.resolve()
    for place in (folder, *folder.parents):
        if all((place / name).is_file() for name in names):
            return place
    return folder


def even_px(box_px: int) -> int:
    """The even box in an odd one, whose centre is the same pixel."""
    return box_px - box_px % 2


def write_copy_star(hand_over: HandOver, out_dir: Path) -> None:
    """The star file of the images that the script makes: image i is row i of the state's."""
    table = read_star(out_dir / hand_over.star_file)
    here = os.path.relpath(out_dir.resolve(), project_folder(out_dir / hand_over.star_file, out_dir))
    stack = os.path.normpath(os.path.join(here, hand_over.folder, COPY_STACK))
    names = encoded([f"{i:06d}@{stack}" for i in range(1, len(table) + 1)])
    size = encoded([str(even_px(hand_over.stack_box_px))])
    blocks = {id(block): block.changed({_SIZE: np.repeat(size, len(block))}) if _SIZE in block else block
              for block in table.blocks}
    optics = None if table.optics is None else blocks[id(table.optics)]
    changed = replace(table, blocks=tuple(blocks.values()), particles=blocks[id(table.particles)], optics=optics)
    write_rows(changed, np.arange(len(table)), {IMAGE_NAME: names}, out_dir / hand_over.folder / COPY_STAR)


def write_script(hand_over: HandOver, out_dir: Path) -> str:
    """Write ``NAME_relion.sh``, and the star file of images that it makes; returns its name."""
    if hand_over.needs_copy:
        write_copy_star(hand_over, out_dir)
    name = f"{hand_over.name}_relion.sh"
    path = out_dir / name
    part = path.with_name(name + ".tmp")
    part.write_bytes(os.fsencode(script(hand_over, out_dir)))  # folders are named as the disk has them
    part.chmod(0o755)
    os.replace(part, path)
    return name
