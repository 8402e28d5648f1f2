"""The default training box for images that are smaller than it."""
from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

from ..contract.boxes import fitting_box_px
from ..contract.settings import DataConfig

_HEAD_BYTES = 2 ** 16  # of a star file, which hold its optics table
_LABEL = re.compile(rb"^_(\S+)")


def fitting_box(data: DataConfig) -> DataConfig:
    """Settings whose box fits images that are smaller than the default one, and a line on stderr that says so.

    Only for a box that nobody asked for. The size of the images is that of the optics table (``rlnImageSize``); where
    the star file has none, the settings stay, and the images' own check speaks.
    """
    image_px = optics_image_px(Path(data.particles)) if data.particles else 0
    box_px = fitting_box_px(image_px, data.crop_frac, data.box_px)
    if box_px == data.box_px:
        return data
    sys.stderr.write(f"box {box_px} px, the most that images of {image_px} px fill (default {data.box_px})\n")
    return replace(data, box_px=box_px)


def optics_image_px(star: Path, n_bytes: int = _HEAD_BYTES) -> int:
    """Smallest ``rlnImageSize`` of the optics table in the first ``n_bytes`` of a star file; 0 where none is there."""
    try:
        with open(star, "rb") as stream:
            head = stream.read(n_bytes)
    except OSError:
        return 0
    lines = head.split(b"\n")
    if len(head) == n_bytes:  # the last line may be cut
        lines = lines[:-1]
    labels: list[bytes] = []
    sizes: list[int] = []
    inside = False
    for line in lines:
        words = line.split()
        if not words or words[0].startswith(b"#"):
            continue
        if words[0].startswith(b"data_"):
            if inside:
                break
            inside = words[0] == b"data_optics"
        elif inside and (label := _LABEL.match(words[0])):
            labels.append(label.group(1))
        elif inside and b"rlnImageSize" in labels and len(words) == len(labels):
            value = words[labels.index(b"rlnImageSize")]
            sizes += [int(float(value))] if re.fullmatch(rb"\d+(\.0*)?", value) else []
    return min(sizes, default=0)
