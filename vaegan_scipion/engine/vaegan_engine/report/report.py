"""``report``: a whole analysis as one HTML file, or as one picture, by the suffix of ``--out``."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..contract import result_files, run_json
from ..contract.errors import ConfigError
from ..contract.settings import ReportRun
from ..figures import drawing
from ..runtime.options import add_folder, run_of
from . import page
from .summary_picture import ReportOptions, demo_report

SUFFIXES = (".html", ".png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``vaegan report``."""
    add_folder(parser, "--run", "run_dir", "--out folder of the training")
    add_folder(parser, "--clusters", "clusters_dir", "--out folder of cluster")
    for name, dest, text in (("--traverse", "traverse_dir", "--out folder of traverse"),
                             ("--halves", "halves_dir", "--out folder of halves"),
                             ("--refine", "refine_dir", "--out folder of refine (page only)"),
                             ("--evaluation", "evaluation_dir", "--out folder of evaluate"),
                             ("--truth", "truth_csv", "truth.csv of simulate (picture only)")):
        add_folder(parser, name, dest, text, required=False)
    parser.add_argument("--maps", nargs="+", default=[], metavar="MRC",
                        help="reference maps, picture only (with --truth, a simulated phantom needs none)")
    parser.add_argument("--title", default="", help="heading of the HTML file")
    parser.add_argument("--out", type=Path, default=Path(result_files.REPORT_HTML),
                        help="FILE.html: one self-contained page; FILE.png: one picture (default: report.html)")


def main(args: argparse.Namespace) -> None:
    """Run ``vaegan report``. Raises ConfigError for another suffix."""
    if args.out.suffix == ".png":
        if args.refine_dir:
            raise ConfigError(f"--refine is given for {args.out}.", "Only the page shows it; name a .html file.")
        figure = demo_report(ReportOptions(args.run_dir, args.clusters_dir, args.traverse_dir, args.halves_dir,
                                           args.evaluation_dir, args.truth_csv, tuple(args.maps)))
        print(drawing.save_png(figure, args.out))
        return
    if args.out.suffix != ".html":
        raise ConfigError(f"--out is {args.out}.", f"Name a file that ends in {' or '.join(SUFFIXES)}.")
    for option, value in (("--truth", args.truth_csv), ("--maps", args.maps)):
        if value:
            raise ConfigError(f"{option} is given for {args.out}.",
                              "The page shows the truth by --evaluation; the picture takes both.")
    print(page.write_report(run_of(ReportRun, args), args.out))


def run_report(run: ReportRun, out_dir: Path) -> dict[str, Any]:
    """Write ``report.html`` into ``out_dir``, for ``vaegan run``. Returns the status. Raises DataError."""
    out_dir = Path(out_dir)
    run_json.write_run(run, out_dir / result_files.RUN_JSON)
    page.write_report(run, out_dir / result_files.REPORT_HTML)
    return result_files.update_status(out_dir, state="finished", command=run.command, error=None)
