"""Images of particles at their own box, prepared as they are read: no copy on disk, a few in memory at a time.

They are what ``prepared_images`` keeps, not resized and not rounded to float16: hot pixels out, background mean 0 and
standard deviation 1, protein white. Of an odd box the last row and column are left out, so that it is even.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..contract.boxes import cropped_box_px
from ..contract.settings import DataConfig
from .image_preparation import ImagePreparation, crop_center, without_hot_pixels
from .particles import ParticleTable
from .prepared_images import check_images
from .stacks import read_images


class StreamedImages:
    """Images ``(n, d, d)`` float32 of the rows of a table, by row numbers or slices."""

    def __init__(self, table: ParticleTable, data: DataConfig) -> None:
        """``data``: how the images were prepared before, for its crop, circle and contrast."""
        box_px = table.box_px - table.box_px % 2
        kept_frac = cropped_box_px(table.box_px, data.crop_frac) / table.box_px
        self.table, self.shape = table, (len(table), box_px, box_px)
        self.data = replace(data, box_px=box_px, crop_frac=1.0, normalization="background",
                            particle_radius_frac=min(0.5, data.particle_radius_frac * kept_frac))
        self._prepare = ImagePreparation(self.data, box_px)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: np.ndarray | slice) -> np.ndarray:
        """Some images. Raises DataError where one cannot be read or normalised."""
        rows = np.arange(len(self))[at]
        source = read_images(self.table.headers, self.table.stack_index[rows], self.table.slice_index[rows])
        source, _ = without_hot_pixels(np.ascontiguousarray(crop_center(source, self.shape[-1])))
        images, divisor = self._prepare(source)
        check_images(self.table, rows, images, divisor, self.data)
        return images

    def background(self, rows: np.ndarray) -> tuple[float, float]:
        """Mean and standard deviation outside of the particle's circle, as some images are in their stacks."""
        source = read_images(self.table.headers, self.table.stack_index[rows], self.table.slice_index[rows])
        values = crop_center(source, self.shape[-1])[:, self._prepare.background]
        return float(values.mean(1).mean()), float(values.std(1).mean())
