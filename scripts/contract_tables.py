"""Write the tables of ``docs/reference/contract.rst`` from ``vaegan_engine/contract/settings.py``.

``python scripts/contract_tables.py`` rewrites what stands between ``.. fields: NAME`` and ``.. end`` comments;
a test fails while they differ. Standard library only.
"""
from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONTRACT_RST = ROOT / "docs" / "reference" / "contract.rst"
sys.path.insert(0, str(ROOT / "vaegan_scipion" / "engine"))

from vaegan_engine.contract import settings  # noqa: E402

SECTION = re.compile(r"(?<=\.\. fields: )(\w+)\n.*?(?=\n\.\. end\n)", re.DOTALL)


def meanings(name: str) -> dict[str, str]:
    """The comment behind each field of a dataclass, from the source."""
    source = Path(settings.__file__).read_text()
    match = re.search(rf"^class {name}:\n(.*?)(?=^\S)", source, re.DOTALL | re.MULTILINE)
    if match is None:
        raise ValueError(f"settings.py has no class {name}")
    lines = re.findall(r"^    (\w+): [^#\n]*?(?:  # (.*))?$", match.group(1), re.MULTILINE)
    return dict(lines)


def shown(value: Any) -> str:
    """A default as it stands in JSON; a section by its name."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    return f"{value:g}" if isinstance(value, float) else str(value)


def escaped(text: str) -> str:
    """Plain text for reStructuredText: asterisks mean themselves."""
    return text.replace("*", r"\*")


def table(name: str) -> str:
    """List table of one dataclass: field, type, default, meaning."""
    cls = getattr(settings, name)
    comments = meanings(name)
    lines = [".. list-table::", "   :header-rows: 1", "", "   * - field", "     - type", "     - default",
             "     - meaning"]
    for field, kind, default in settings.field_table(cls):
        section = type(default).__name__ if hasattr(default, "__dataclass_fields__") else ""
        kind = kind.replace("Literal[", "one of ").rstrip("]")
        lines += [f"   * - ``{field}``", f"     - {kind}",
                  f"     - {f'see {section}' if section else f'``{shown(default)}``'}",
                  f"     - {escaped(comments.get(field, ''))}".rstrip()]
    return "\n".join(lines)


def updated(text: str) -> str:
    """``text`` with every table written anew."""
    return SECTION.sub(lambda match: f"{match.group(1)}\n\n{table(match.group(1))}\n", text)


if __name__ == "__main__":
    CONTRACT_RST.write_text(updated(CONTRACT_RST.read_text()))
