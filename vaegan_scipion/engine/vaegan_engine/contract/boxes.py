"""Boxes of images: the part that is kept of one, and the training box that small images fill."""

STEP_PX = 8  # training boxes are multiples of it
LEAST_PX = 16  # the smallest that a setting may be


def cropped_box_px(box_px: int, crop_frac: float) -> int:
    """Side of the central part that is kept: all for 1, else the nearest even number of pixels.

    All too for what is no part, such as 2 or NaN: its check says what is wrong.
    """
    return 2 * round(crop_frac * box_px / 2) if 0 < crop_frac < 1 else box_px


def fitting_box_px(image_px: int, crop_frac: float, default_px: int) -> int:
    """The default training box; where the kept part of images is smaller, the largest box that it fills.

    Images too small for any box, or of unknown size (0), have the default: their check says what is wrong.
    """
    kept_px = cropped_box_px(image_px, crop_frac) // STEP_PX * STEP_PX
    return kept_px if LEAST_PX <= kept_px < default_px else default_px


def max_band_shells(box_px: int) -> float:
    """The most Fourier shells that a training with poses may use: half of the box less one."""
    return box_px / 2 - 1
