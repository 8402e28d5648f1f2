"""The part of the HTML report that shows what was set aside, by reason, beside images that were kept."""
from __future__ import annotations

import html
from pathlib import Path

from ..contract import result_files
from ..contract.record import read_records
from ..contract.records import JunkGroup
from ..contract.result_files import read_picture
from ..contract.wording import JUNK_REASONS
from . import pictures
from .html import Section


def junk_section(folder: str, of: str) -> list[Section]:
    """A strip of examples per reason of a folder ``of`` states or classes; [] where nothing was set aside."""
    path = Path(folder) / result_files.JUNK_EXAMPLES_JSON
    if not path.exists():
        return []
    groups = read_records(JunkGroup, path, "states or classes2d")
    stack = f"{result_files.MAPS}/{result_files.JUNK_EXAMPLES_MRCS}"
    body = ('<p class="note">Some images of each reason, spread over the set and smoothed for the eye; the number is '
            "the particle's id. Where particles are among them, the search was too strict or their pose was not found; "
            "they are in junk.star, to go on with.</p>")
    for group in groups:
        shown = ""
        for particle_id, index in zip(group.particle_ids, group.indices, strict=True):
            image = read_picture(Path(folder) / stack, index)
            shown += pictures.figure_html(pictures.grey_uri(image, *pictures.limits(image)), str(particle_id))
        reason = JUNK_REASONS.get(group.reason, group.reason)
        body += (f"<h3>{html.escape(reason[0].upper() + reason[1:])}: {group.n_images:,} image"
                 f'{"s" * (group.n_images != 1)}</h3><div class="strip small">{shown}</div>')
    return [Section(f"junk-{of}", f"Set aside from the {of}", body)]
