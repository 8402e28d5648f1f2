"""Some of the images that were set aside, by reason, beside some that were kept: to judge the judgement by."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from ..contract import result_files
from ..contract.record import write_records
from ..contract.records import JunkGroup
from .mrc_files import write_stack
from .prepared_images import ParticleCache

MAX_EXAMPLES = 10  # of each reason
DETAIL_PX = 32  # an image is smoothed to about this many pixels: its noise hides it otherwise


def write_junk_examples(cache: ParticleCache, reasons: Sequence[str], out_dir: Path) -> None:
    """Write ``junk_examples.json`` and ``maps/junk_examples.mrcs`` of images, in the cache's order, with their reasons.

    ``reasons`` (n,): "" = kept. The examples of a reason are spread evenly over its images. Where nothing was set
    aside there are no files.
    """
    paths = out_dir / result_files.JUNK_EXAMPLES_JSON, out_dir / result_files.MAPS / result_files.JUNK_EXAMPLES_MRCS
    for path in paths:
        path.unlink(missing_ok=True)
    if not any(reasons):
        return
    groups: list[JunkGroup] = []
    shown: list[np.ndarray] = []
    for reason, n_images in sorted(Counter(reasons).items(), key=lambda item: (not item[0], -item[1])):
        rows = example_rows(reasons, reason)
        indices = list(range(len(shown), len(shown) + len(rows)))
        groups.append(JunkGroup(reason, n_images, cache.particle_id[rows].tolist(), indices))
        shown += [gaussian_filter(cache.images[row].astype(np.float32), cache.box_px / DETAIL_PX) for row in rows]
    paths[1].parent.mkdir(parents=True, exist_ok=True)
    write_stack(paths[1], np.stack(shown), cache.pixel_size_ang)
    write_records(paths[0], groups)


def example_rows(reasons: Sequence[str], reason: str) -> np.ndarray:
    """Rows of up to ``MAX_EXAMPLES`` images of a reason, the first and the last of them too."""
    rows = np.flatnonzero([own == reason for own in reasons])
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_EXAMPLES)).round().astype(int)]
