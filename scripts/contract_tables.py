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
from vaegan_engine.contract.setting import Described, described, limits_text  # noqa: E402

SECTION = re.compile(r"(?<=\.\. fields: )(\w+)\n.*?(?=\n\.\. end\n)", re.DOTALL)


def shown(value: Any) -> str:
    """A default as it stands in JSON, apart from the quotation marks."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, str):
        return f"'{value}'"
    return f"{value:g}" if isinstance(value, float) else str(value)


def kind_text(item: Described) -> str:
    """The type of a setting: a section by its name, choices by their values."""
    if item.choices:
        return "one of " + ", ".join(map(str, item.choices))
    return item.kind.__name__ if isinstance(item.kind, type) else str(item.kind).replace("typing.", "")


def cell(text: str) -> str:
    """Plain text as one cell of a CSV table: asterisks mean themselves."""
    return '"' + text.replace("*", r"\*").replace('"', '""') + '"'


def table(name: str) -> str:
    """CSV table of one dataclass: setting, type, default, limits, meaning."""
    lines = [".. csv-table::", "   :header: setting, type, default, limits, meaning", ""]
    for item in described(getattr(settings, name)):
        section = hasattr(item.default, "__dataclass_fields__")
        cells = [f'"``{item.name}``"', cell(kind_text(item)),
                 cell(f"see {item.kind.__name__}") if section else f'"``{shown(item.default)}``"',
                 cell(limits_text(item.about)), cell(item.about.help)]
        lines.append("   " + ", ".join(cells))
    return "\n".join(lines)


def updated(text: str) -> str:
    """``text`` with every table written anew."""
    return SECTION.sub(lambda match: f"{match.group(1)}\n\n{table(match.group(1))}\n", text)


if __name__ == "__main__":
    CONTRACT_RST.write_text(updated(CONTRACT_RST.read_text()))
