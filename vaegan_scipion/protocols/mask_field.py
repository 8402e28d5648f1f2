"""The field of a form that holds a mask of the user's: what is wrong with it, and the copy that the engine reads."""
import os
import shutil
from typing import Any, Iterable, List

import mrcfile
import numpy as np
import pyworkflow.protocol.params as params
from pwem.emlib.image import ImageHandler

from ..constants import MASK_MRC
from .protocol_base import content_digest

WIDTH_TOLERANCE = 0.01
VALUE_TOLERANCE = 1e-3


def add_field(form: Any, frame: str, **changes: Any) -> None:
    """The field; `frame`: which poses or maps the mask belongs to."""
    form.addParam("inputMask", params.PointerParam, pointerClass="VolumeMask", allowsNull=True, label="Mask (optional)",
                  help=f"In the frame of {frame}: soft mask about the whole particle, values 0 to 1. Maps end there, "
                       "and their FSC is taken in it. Empty = how far the particle reaches is found from the images.",
                  **changes)


def write_volume(volume: Any, path: str) -> None:
    """A Scipion volume as MRC file whose header has the volume's sampling rate."""
    array = np.squeeze(np.asarray(ImageHandler().read(volume).getData(), np.float32))
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(array)
        mrc.voxel_size = volume.getSamplingRate()


def digest_of(volume: Any) -> str:
    """Text that changes when a mask does; empty without one."""
    return "" if volume is None else f"{volume.getSamplingRate():g} {content_digest(volume.getFileName())}"


def write_mask(volume: Any, extra: str, results_dir: str) -> None:
    """The copy that the engine reads, or none; what was made with another one is removed."""
    path = os.path.join(extra, MASK_MRC)
    before = stored(path)
    if volume is None:
        if os.path.exists(path):
            os.remove(path)
    else:
        write_volume(volume, path)
    now = stored(path)
    if before is not None and (now is None or not np.array_equal(before, now)):
        shutil.rmtree(results_dir, ignore_errors=True)


def stored(path: str) -> Any:
    """Voxel size and values of a copy in one row; None where there is none."""
    if not os.path.exists(path):
        return None
    with mrcfile.open(path) as mrc:
        return np.append(np.float32(mrc.voxel_size.x), mrc.data.ravel())


def problems(volume: Any, widths_ang: Iterable[float]) -> List[str]:
    """What is wrong with a mask for maps in boxes of one of these widths in A; nothing without one."""
    if volume is None:
        return []
    name, rate = volume.getFileName(), volume.getSamplingRate()
    if not os.path.exists(name):
        return [f"Mask: {name} is not there. Bring it back, or give another mask."]
    try:
        array = mrcfile.read(name)  # Scipion's own reader ends the process where a file is broken
    except ValueError as error:
        return [f"Mask: {name} cannot be read ({error}). Give a mask in MRC format."]
    if array.ndim != 3 or len(set(array.shape)) != 1:
        return [f"Mask: {name} has {' x '.join(map(str, array.shape[::-1]))} voxels, it must be a cube."]
    width_ang, widths = len(array) * (rate or 0), list(widths_ang)
    if min(abs(width_ang / width - 1) for width in widths) > WIDTH_TOLERANCE:
        wanted = " or ".join(dict.fromkeys(f"{width:.0f} Å" for width in widths))
        return [f"Mask: {len(array)} voxels of {rate or 0:.3f} Å are {width_ang:.0f} Å; the box is {wanted} wide. Give "
                "a mask that was made from a map in this box, with its sampling rate."]
    low, high = float(array.min()), float(array.max())
    if low < -VALUE_TOLERANCE or high > 1 + VALUE_TOLERANCE or high < 0.5:
        return [f"Mask: its values go from {low:.3g} to {high:.3g}; a mask is 0 outside of the particle and 1 inside. "
                "Make one from the map, for example with RELION's mask creation."]
    return []
