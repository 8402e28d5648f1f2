"""Count what the shape of the code shows in numbers: folders, arguments, dictionaries, names, patched constants.

    python scripts/shape_numbers.py [CHECKOUT ...]

Prints one column for each checkout (default: this one). Standard library only. ``docs/develop/decisions.rst`` has the
table.
"""
from __future__ import annotations

import argparse
import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

MAX_ARGUMENTS = 5
ENGINE = Path("vaegan_scipion") / "engine" / "vaegan_engine"
PATCHED = re.compile(r"""setattr\([\w.]+,\s*"_?[A-Z][A-Z0-9_]*"|patch(?:\.object)?\(["'][\w.]+\.[A-Z][A-Z0-9_]*["']""")
UNKNOWN = re.compile(r"\b[dD]ict\[str, Any\]")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def engine_files(root: Path) -> list[Path]:
    """Modules of the engine."""
    return sorted((root / ENGINE).rglob("*.py"))


def plugin_files(root: Path) -> list[Path]:
    """Modules of the plugin, without its tests."""
    plugin = root / "vaegan_scipion"
    return [path for path in sorted(plugin.rglob("*.py"))
            if path.relative_to(plugin).parts[0] not in ("engine", "tests")]


def test_files(root: Path) -> list[Path]:
    """Tests of both."""
    return [*sorted((root / "tests").rglob("*.py")), *sorted((root / "vaegan_scipion" / "tests").rglob("*.py"))]


def functions(paths: list[Path]) -> Iterator[Function]:
    """Every function and method."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield node


def arguments_of(function: Function) -> list[ast.arg]:
    """All named ones but that of the instance."""
    given = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    return [item for item in given if item.arg not in ("self", "cls")]


def long_ones(root: Path, compiled: bool) -> int:
    """Functions of more than ``MAX_ARGUMENTS``: compiled kernels, or the others."""
    return sum(len(arguments_of(function)) > MAX_ARGUMENTS
               and compiled == ("compiled" in map(ast.unparse, function.decorator_list))
               for function in functions(engine_files(root) + ([] if compiled else plugin_files(root))))


def unknown_dictionaries(paths: list[Path]) -> int:
    """``dict[str, Any]`` in what functions take and return."""
    hints = [hint for function in functions(paths) for hint in (
        *(item.annotation for item in arguments_of(function)), function.returns) if hint is not None]
    return sum(len(UNKNOWN.findall(ast.unparse(hint))) for hint in hints)


def named_found(paths: list[Path]) -> int:
    """Places where a variable or an argument ``found`` gets its value."""
    nodes = (node for path in paths for node in ast.walk(ast.parse(path.read_text())))
    names = [node.arg if isinstance(node, ast.arg) else node.id for node in nodes if isinstance(node, ast.arg) or (
        isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))]
    return names.count("found")


def modules_by_folder(root: Path) -> Counter[Path]:
    """How many modules lie in each folder of the engine."""
    return Counter(path.parent for path in engine_files(root) if path.stem != "__init__")


COUNTS: dict[str, Callable[[Path], int]] = {
    "modules in the largest folder": lambda root: max(modules_by_folder(root).values()),
    "folders": lambda root: len(modules_by_folder(root)),
    "functions with more than 5 parameters, plugin too": lambda root: long_ones(root, compiled=False),
    "compiled kernels with more, exempt": lambda root: long_ones(root, compiled=True),
    "dict[str, Any] in signatures, engine": lambda root: unknown_dictionaries(engine_files(root)),
    "the same, plugin": lambda root: unknown_dictionaries(plugin_files(root)),
    "variables and arguments `found`, both": lambda root: named_found(engine_files(root) + plugin_files(root)),
    "module constants that a test patches": lambda root: sum(
        len(PATCHED.findall(path.read_text())) for path in test_files(root)),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).resolve().parents[1]])
    for name, count in COUNTS.items():
        print(f"{name:52}", *(f"{count(root):6}" for root in parser.parse_args().checkouts))


if __name__ == "__main__":
    main()
