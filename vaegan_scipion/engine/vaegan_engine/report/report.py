"""``report``: a whole analysis as one HTML file, or as one picture, by the suffix of ``--out``."""
from __future__ import annotations

from pathlib import Path

from ..contract import result_files, run_json
from ..contract.errors import ConfigError
from ..contract.settings import ReportRun
from ..contract.status import update_status
from ..figures import drawing
from . import page, summary_picture

SUFFIXES = (".html", ".png")


def run_report(run: ReportRun, out: Path | None) -> None:
    """Write the page or the picture.

    ``out``: FILE.html, FILE.png, or a folder, which gets ``run.json``, ``report.html`` and a status. Raises ConfigError
    or DataError.
    """
    out = Path(result_files.REPORT_HTML) if out is None else Path(out)
    if out.suffix == ".png":
        if not (run.run_dir and run.clusters_dir):
            raise ConfigError(f"run_dir or clusters_dir is missing for {out}.",
                              "Name both, or a .html file for what stands alone: states, full resolution, classes, a "
                              "consensus or an evaluation.")
        for name in page.PAGE_ONLY:
            if getattr(run, name):
                raise ConfigError(f"{name} is given for {out}.", "Only the page shows it; name a .html file.")
        print(drawing.save_png(summary_picture.demo_report(run), out))
        return
    for name, value in (("truth_csv", run.truth_csv), ("maps", run.maps)):
        if value:
            raise ConfigError(f"{name} is given for {out}.",
                              "The page shows the truth by evaluation_dir; the picture takes both.")
    if out.suffix == ".html":
        print(page.write_report(run, out))
        return
    if out.suffix and not out.is_dir():
        raise ConfigError(f"--out is {out}.", f"Name a file that ends in {' or '.join(SUFFIXES)}.")
    run_json.write_run(run, out / result_files.RUN_JSON)
    page.write_report(run, out / result_files.REPORT_HTML)
    update_status(out, state="finished", command=run.command, error=None)
