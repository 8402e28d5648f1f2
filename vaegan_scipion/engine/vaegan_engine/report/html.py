"""Building blocks of the HTML report: sections and tables. Values in, text out."""
from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Section:
    """A part of the page: anchor, heading and HTML."""

    anchor: str
    heading: str
    body: str


def shown(value: Any) -> str:
    """A value as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def table(header: Sequence[str] | None, rows: Sequence[Sequence[Any]]) -> str:
    """An HTML table; columns of numbers stand right."""
    head = ""
    if header is not None:
        numeric = [bool(rows) and _is_number(cell) for cell in (rows[0] if rows else header)]
        head = "<tr>" + "".join(f"<th{' class=number' if right else ''}>{html.escape(name)}</th>"
                                for name, right in zip(header, numeric, strict=True)) + "</tr>"
    body = "".join("<tr>" + "".join(f"<td{' class=number' if _is_number(cell) else ''}>{html.escape(shown(cell))}</td>"
                                    for cell in row) + "</tr>" for row in rows)
    return f"<table>{head}{body}</table>"


def _is_number(cell: Any) -> bool:
    return isinstance(cell, (int, float)) and not isinstance(cell, bool)
