"""The parts of the HTML report about ``classes2d``: the class averages, those of junk apart, and their numbers."""
from __future__ import annotations

import html
from pathlib import Path

from ..contract import result_files
from ..contract.analysis_records import Classes2dSummary
from ..contract.record import read_record
from ..contract.records import ClusterRow
from ..contract.result_files import read_picture
from ..data.particle_tables import read_cluster_rows
from . import pictures
from .html import Section, table


def read_details(folder: str) -> Classes2dSummary:
    """``classes2d.json`` of a folder. Raises DataError."""
    return read_record(Classes2dSummary, Path(folder) / result_files.CLASSES2D_JSON, "classes2d")


def classes_section(folder: str) -> Section:
    """Averages of the classes of particles, the largest first, then those of junk with the reason. Raises DataError."""
    rows = read_cluster_rows(folder)
    good, bad = ([row for row in rows if bool(row.of_class.junk) == junk] for junk in (False, True))
    width_ang = 0.0
    if rows:
        width_ang = read_picture(Path(folder) / rows[0].file, rows[0].index).shape[0] * rows[0].of_class.pixel_size_ang
    body = (f'<p class="note">Averages of all images of a class, masked to the particle and centred; each picture is '
            f"{width_ang:.0f} Å wide, white is dense. Below: particles, and the resolution to which the halves agree "
            "(FRC 0.143).</p>")
    body += f'<div class="strip">{"".join(figure_of(folder, row) for row in good)}</div>'
    if bad:
        shown = "".join(figure_of(folder, row) for row in bad)
        body += f'<h3>Classes of junk</h3><div class="strip small">{shown}</div>'
    body += "<details><summary>Numbers</summary>" + table(
        ["class", "particles", "of them junk", "FRC 0.143", "FRC 0.5", "gain per image", "junk"],
        [(f"class {row.label + 1}", row.n_particles, row.of_class.n_junk, ang(row.of_class.frc_0143_ang),
          ang(row.of_class.frc_05_ang), f"{row.of_class.median_gain:.1f}", row.of_class.junk) for row in rows])
    return Section("classes", "Class averages", body + "</details>")


def figure_of(folder: str, row: ClusterRow) -> str:
    """One average with its number, size and resolution, or why it is junk."""
    image = read_picture(Path(folder) / row.file, row.index)
    known = html.escape(row.of_class.junk) or ang(row.of_class.frc_0143_ang)
    caption = f"{row.label + 1}: {row.n_particles:,}; {known}"
    return pictures.figure_html(pictures.grey_uri(image, *pictures.limits(image)), caption)


def ang(value: float) -> str:
    """A resolution in words."""
    return f"{value:.1f} Å" if value else "unresolved"
