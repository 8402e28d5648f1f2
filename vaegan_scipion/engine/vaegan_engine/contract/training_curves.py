"""Curves of a training, drawn the same in the report and in Scipion's viewer, on a figure of matplotlib. Python 3.8."""
from __future__ import annotations

from typing import Any, Dict, List, Sequence

NOT_A_CURVE = ("kimg", "images_per_second", "lr_factor", "peak_gb")
MIN_UNMARKED_TICKS = 5  # a line of one point cannot be seen: fewer are marked


def curve_names(rows: Sequence[Dict[str, float]]) -> List[str]:
    """The quantities of ``log.jsonl`` that are curves."""
    return sorted({name for row in rows for name in row} - set(NOT_A_CURVE))


def draw_training_curves(figure: Any, rows: Sequence[Dict[str, float]], n_columns: int) -> Any:
    """One panel per quantity of ``log.jsonl`` against thousands of images seen, on an empty figure; returns it."""
    names = curve_names(rows)
    n_rows = max(1, -(-len(names) // n_columns))
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(n_rows, n_columns, number)
        having = [row for row in rows if name in row]
        axes.plot([row["kimg"] for row in having], [row[name] for row in having], lw=1.2,
                  marker="o" if len(having) < MIN_UNMARKED_TICKS else None, ms=3)
        axes.set_title(name.replace("_", " "), fontsize=8)
        axes.tick_params(labelsize=7)
        axes.ticklabel_format(axis="y", useOffset=False)  # whole numbers at the ticks, none to add
        if number > len(names) - n_columns:
            axes.set_xlabel("thousand images", fontsize=7)
    return figure
