"""Write the tables of ``docs/results/index.rst`` from the rows in ``bench/results``.

``python scripts/results_pages.py`` rewrites what stands between ``.. rows`` and ``.. end`` comments; a test fails
while they differ. What is asked of a task stands in ``bench/asked.json``: figure -> [">=" or "<=" or "==", value].
A figure that misses what is asked is bold.
"""
from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE, ROWS, ASKED = ROOT / "docs" / "results" / "index.rst", ROOT / "bench" / "results", ROOT / "bench" / "asked.json"
SECTION = re.compile(r"(?<=\.\. rows\n)\n.*?(?=\n\.\. end\n)", re.DOTALL)
HOLDS = {">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, "==": lambda a, b: a == b}


def shown(value: object) -> str:
    """A figure as text."""
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def cell(name: str, values: list, asked: dict) -> str:
    """The figures of all seeds; bold where one misses what is asked."""
    text = ", ".join(shown(value) for value in values)
    sign, limit = asked.get(name, ("", None))
    missed = sign and any(value is None or not HOLDS[sign](value, limit) for value in values)
    return f"**{text}**" if missed else text


def table(rows: list, asked: dict) -> str:
    """One line for each task and code: what is asked, what was reached, seeds, commit."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["task"], row["commit"]].append(row)
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 16 24 44 16", "",
             "   * - task", "     - asked", "     - reached (seeds)", "     - code, date"]
    for (task, commit), members in sorted(groups.items()):
        members.sort(key=lambda row: row["seed"])
        want = asked.get(task, {})
        names = list(dict.fromkeys(name for row in members for name in row["figures"]))
        cells = {name: cell(name, [row["figures"].get(name) for row in members], want) for name in names}
        reached = "; ".join(f"{name.replace('_', ' ')} {text}" for name, text in cells.items())
        seeds = ", ".join(str(row["seed"]) for row in members)
        wanted = "; ".join(f"{name.replace('_', ' ')} {sign} {shown(value)}" for name, (sign, value) in want.items())
        note = "; ".join(dict.fromkeys(row["note"] for row in members if row["note"]))
        lines += [f"   * - {task}", f"     - {wanted or '-'}",
                  f"     - {reached} (seeds {seeds})" + (f". {note}" if note else ""),
                  f"     - {commit[:8] or '-'}, {members[-1]['date'][:10]}"]
    return "\n".join(lines) + "\n"


def updated(text: str) -> str:
    """The page's text with its table made anew."""
    rows = [json.loads(path.read_text()) for path in sorted(ROWS.glob("*.json"))]
    asked = json.loads(ASKED.read_text())
    made, n = SECTION.subn(lambda _: "\n" + table(rows, asked), text)
    if n != 1:
        raise ValueError(f"{PAGE}: {n} places for the table, one is expected")
    return made


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))
    sys.exit(0)
