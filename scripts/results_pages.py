"""Write the tables and the picture of ``docs/results`` from the rows in ``bench/results``.

``.venv/engine/bin/python scripts/results_pages.py`` rewrites what stands between ``.. rows`` and ``.. end`` comments in
``index.rst`` (the newest row of each task and seed, in few columns) and ``rows.rst`` (every row, all of its figures),
and draws ``docs/images/results.png``; a test fails while the tables differ. What is asked of a task stands in
``bench/asked.json``: figure -> [">=" or "<=" or "==", value]; what is asked of every task, in ``OF_ALL``. A figure that
misses what is asked is bold.
"""
from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGE, EVERY = (ROOT / "docs" / "results" / name for name in ("index.rst", "rows.rst"))
ROWS, ASKED = ROOT / "bench" / "results", ROOT / "bench" / "asked.json"
PICTURE = ROOT / "docs" / "images" / "results.png"
SECTION = re.compile(r"(?<=\.\. rows\n)\n.*?(?=\n\.\. end\n)", re.DOTALL)
HOLDS = {">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, "==": lambda a, b: a == b}
SIGNS = {">=": "≥ ", "<=": "≤ ", "==": ""}

OF_ALL = {"hands": ("==", 1)}  # states of two hands say nothing of how they differ

Row = dict[str, Any]
Asked = dict[str, tuple[str, float]]  # figure -> how it is compared, and with what


class Column(NamedTuple):
    """A column of a short table: its title, and the figures that stand in it, joined by a stroke."""

    title: str
    figures: tuple[str, ...]


STATES = (Column("images", ("images",)), Column("SNR", ("snr",)), Column("states", ("states",)),
          Column("hands, asked 1", ("hands",)), Column("NMI", ("nmi",)), Column("poses, deg", ("pose_error_deg",)),
          Column("of Nyquist", ("of_nyquist",)), Column("FSC excess", ("claimed_fsc_excess",)),
          Column("junk found / right", ("junk_recall", "junk_precision")), Column("min", ("minutes",)))
REAL = (Column("images", ("images",)), Column("states", ("states",)), Column("A at 0.143", ("resolution_0.143_ang",)),
        Column("A at 0.5", ("resolution_at_fsc_0.5_ang",)), Column("like the model", ("model_correlation",)),
        Column("like itself / by chance", ("self_correlation", "control_correlation")), Column("min", ("minutes",)))
LANDSCAPE = (Column("images", ("images",)), Column("SNR", ("snr",)), Column("clusters", ("landscape_clusters",)),
             Column("NMI", ("landscape_nmi",)), Column("least stability", ("landscape_least_stability",)),
             Column("min", ("landscape_minutes",)))
CLASSES = (Column("images", ("images",)), Column("SNR", ("snr",)), Column("classes", ("classes",)),
           Column("FRC area", ("frc_auc",)), Column("junk found / right", ("junk_recall", "junk_precision")),
           Column("min", ("minutes",)))


def shown(value: object) -> str:
    """A figure as text."""
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def words(name: str) -> str:
    """A figure's name without its underscores."""
    return name.replace("_", " ")


def cell(name: str, values: Sequence[Any], asked: Asked) -> str:
    """The figures of all seeds; bold where one misses what is asked of its task or of every one."""
    texts = [shown(value) for value in values]
    text = texts[0] if len(set(texts)) == 1 else ", ".join(texts)
    sign, limit = asked.get(name) or OF_ALL.get(name, ("", None))
    if not sign or (name not in asked and all(value is None for value in values)):
        return text
    return f"**{text}**" if any(value is None or not HOLDS[sign](value, limit) for value in values) else text


def wanted(asked: Asked, named: Callable[[str], str] = words) -> str:
    """What is asked, as text."""
    return "; ".join(f"{named(name)} {SIGNS[sign]}{shown(value)}" for name, (sign, value) in asked.items()) or "-"


def list_table(titles: Iterable[str], widths: Sequence[int], lines: Iterable[Sequence[str]]) -> str:
    """A table in reStructuredText."""
    made = [".. list-table::", "   :header-rows: 1", f"   :widths: {' '.join(map(str, widths))}", ""]
    for cells in (list(titles), *lines):
        made += [("   * - " if place == 0 else "     - ") + text for place, text in enumerate(cells)]
    return "\n".join(made) + "\n"


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> list[tuple[Any, list[Row]]]:
    """Rows by a key, each group by seed."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return [(name, sorted(groups[name], key=lambda row: row["seed"])) for name in sorted(groups)]


def table(rows: Iterable[Row], asked: dict[str, Asked]) -> str:
    """One line for each task and code: what is asked, all that was reached, seeds, commit."""
    lines = []
    for (task, commit), members in grouped(rows, lambda row: (row["task"], row["commit"])):
        want = asked.get(task, {})
        names = list(dict.fromkeys(name for row in members for name in row["figures"]))
        reached = "; ".join(f"{words(name)} {cell(name, [row['figures'].get(name) for row in members], want)}"
                            for name in names)
        seeds = ", ".join(str(row["seed"]) for row in members)
        note = "; ".join(dict.fromkeys(row["note"] for row in members if row["note"]))
        lines.append((task, wanted(want), f"{reached} (seeds {seeds})" + (f". {note}" if note else ""),
                      f"{commit[:8] or '-'}, {members[-1]['date'][:10]}"))
    return list_table(("task", "asked", "reached (seeds)", "code, date"), (16, 24, 44, 16), lines)


def newest(rows: Iterable[Row]) -> list[Row]:
    """The newest row of each task and seed."""
    last: dict[tuple[str, int], Row] = {}
    for row in sorted(rows, key=lambda row: row["date"]):
        last[row["task"], row["seed"]] = row
    return list(last.values())


def short_table(rows: Iterable[Row], asked: dict[str, Asked], columns: Sequence[Column]) -> str:
    """One line for each task, the figures of its seeds in columns; what is asked of a figure stands below it."""
    lines = []
    for task, members in grouped(rows, lambda row: row["task"]):
        want, cells = asked.get(task, {}), []
        for column in columns:
            parts = [cell(name, [row["figures"].get(name) for row in members], want) for name in column.figures]
            limits = [SIGNS[want[name][0]] + shown(want[name][1]) for name in column.figures if name in want]
            text = " / ".join(parts) if set("".join(parts)) - set("-, ") else "-"
            cells.append(text + (f" (asked {' / '.join(limits)})" if limits else ""))
        seeds = ", ".join(str(row["seed"]) for row in members)
        codes = ", ".join(dict.fromkeys(row["commit"][:7] for row in members))
        lines.append((f"{task} (seed {seeds})", *cells, codes))
    titles = ("task", *(column.title for column in columns), "code")
    return list_table(titles, (18, *(9 for _ in columns), 9), lines)


def summary(rows: Iterable[Row], asked: dict[str, Asked]) -> str:
    """The tables of the front page."""
    last = newest(rows)
    real = [row for row in last if "model_correlation" in row["figures"]]
    states = [row for row in last if "states" in row["figures"] and "states_minutes" not in row["figures"]
              and row not in real]
    landscape = [row for row in states if "landscape_clusters" in row["figures"]]
    classes = [row for row in last if "classes" in row["figures"]]
    others = [row for row in last if row not in [*real, *states, *classes]]
    parts = (("**States and poses**: `states`", short_table(states, asked, STATES)),
             ("**Real particles**: the FSC with a model of the molecule", short_table(real, asked, REAL)),
             ("**The landscape**: a VAE-GAN at these poses, its clusters", short_table(landscape, asked, LANDSCAPE)),
             ("**In the plane**: `classes2d`", short_table(classes, asked, CLASSES)),
             ("**Others**", table(others, asked)))
    tables = "\n".join(f"{title.replace('`', '``')}\n\n{made}" for title, made in parts)
    left = sorted(set(asked) - {row["task"] for row in last})
    on_gpu = any(gpu in row.get("machine", "") for row in last for gpu in ("H100", "H200", "NVIDIA"))
    return (tables + (f"\n**Asked and not run**: {', '.join(left)}.\n" if left else "")
            + ("" if on_gpu else "\nNo row is from a GPU.\n"))


def read_rows() -> list[Row]:
    """All rows; agreement with the truth is left out where the truth is one state, as it is 1 or says nothing."""
    rows = [json.loads(path.read_text()) for path in sorted(ROWS.glob("*.json"))]
    for row in rows:
        if row.get("settings", {}).get("states") == 1:
            row["figures"] = {name: value for name, value in row["figures"].items() if name not in ("nmi", "ami")}
    return rows


def updated(path: Path) -> str:
    """A page's text with its tables made anew."""
    asked = json.loads(ASKED.read_text())
    made = (summary if path == PAGE else table)(read_rows(), asked)
    text, n = SECTION.subn(lambda _: "\n" + made, path.read_text())
    if n != 1:
        raise ValueError(f"{path}: {n} places for the tables, one is expected")
    return text


def draw(rows: Iterable[Row], asked: dict[str, Asked]) -> None:
    """NMI, junk found and junk that is right of the newest rows, with what is asked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = [(task, members) for task, members in grouped(newest(rows), lambda row: row["task"])
              if any(row["figures"].get("nmi") for row in members)][::-1]
    figure, axes = pyplot.subplots(figsize=(8, 0.32 * len(groups) + 1.2), layout="constrained")
    styles = (("nmi", "NMI", "o", "#0072B2"), ("junk_recall", "junk found", "s", "#D55E00"),
              ("junk_precision", "of it right", "^", "#E69F00"))
    for name, title, marker, colour in styles:
        points = [(row["figures"][name], place) for place, (_, members) in enumerate(groups) for row in members
                  if row["figures"].get(name) is not None]
        axes.scatter(*zip(*points, strict=True), marker=marker, color=colour, s=34, label=title, zorder=3)
        limits = [(asked[task][name][1], place) for place, (task, _) in enumerate(groups)
                  if name in asked.get(task, {})]
        if limits:
            axes.scatter(*zip(*limits, strict=True), marker="|", color=colour, s=160, label=f"{title}, asked")
    axes.set_yticks(range(len(groups)), [task for task, _ in groups])
    axes.set(xlim=(-0.02, 1.02), xlabel="newest row of each task and seed; poses never given")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    for page in (PAGE, EVERY):
        page.write_text(updated(page))
    draw(read_rows(), json.loads(ASKED.read_text()))
    sys.exit(0)
