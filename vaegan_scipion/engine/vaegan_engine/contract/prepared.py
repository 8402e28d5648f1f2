"""Prepared images: the files of their folder, and to which particles and settings they belong.

Standard library only, Python 3.8 syntax: Scipion imports this file without torch.
"""
from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path
from typing import Any, Dict, List, Optional

from .boxes import cropped_box_px
from .errors import EngineError
from .record import from_json
from .result_files import read_json
from .settings import DataConfig

FORMAT = 4  # raise it when the same inputs give other images or another table
IMAGES_NPY = "images.npy"
TABLE_NPZ = "table.npz"
META_JSON = "meta.json"
ROUNDING = 1e-5  # relative, of settings that are fractions
# settings that shape the images (``particles`` and ``stack`` count by content)
IMAGE_FIELDS = ("max_images", "box_px", "crop_frac", "particle_radius_frac", "resize", "normalization",
                "invert_contrast", "ignore_ctf", "phase_flipped", "half_set", "micrograph_pixel_size_ang")


@dataclass(frozen=True)
class CacheMeta:
    """``meta.json``: what the images were made from, and what is known of them."""

    format: int
    star_sha256: str
    stacks: str  # digest of their sizes and times
    one_stack: bool
    data: Dict[str, Any]  # ``IMAGE_FIELDS`` and their values
    pixel_size_ang: float
    original_pixel_size_ang: float
    original_box_px: int
    ctf_present: bool
    ids_are_rows_of: str
    notes: List[str] = field(default_factory=list)
    pixels: str = ""  # digest of the images; "": made before it was kept

    def difference(self, data: DataConfig, star_sha256: str) -> str:
        """Why the images are not those of a star file with these settings; "" where they are."""
        if self.format != FORMAT:
            return "made by another version"
        if self.star_sha256 != star_sha256:
            return "the star file changed"
        if self.one_stack != bool(data.stack):
            return "the image stacks changed"
        return ", ".join(f"{name} was {self.data.get(name)}, is {getattr(data, name)}" for name in IMAGE_FIELDS
                         if not _same(self.data.get(name), getattr(data, name)))

    def kept_ang(self, crop_frac: float) -> float:
        """Width in A of the part of the particles' own images that is kept."""
        return cropped_box_px(self.original_box_px, crop_frac) * self.original_pixel_size_ang


def _same(one: Any, other: Any) -> bool:
    """Whether two values of a setting are one: of a fraction that was written with six digits too."""
    if isinstance(one, float) and isinstance(other, float):
        return isclose(one, other, rel_tol=ROUNDING)
    return bool(one == other)


def read_meta(folder: Path) -> Optional[CacheMeta]:
    """What the images of a folder were made from; None where nothing says so."""
    try:
        return from_json(CacheMeta, read_json(folder / META_JSON), META_JSON)
    except (OSError, ValueError, EngineError):
        return None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    total = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(2 ** 20), b""):
            total.update(block)
    return total.hexdigest()
