"""The plugin and the engine meet in the contract only; sources stay short, relocatable and portable."""
import ast
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PLUGIN = ROOT / "vaegan_scipion"
ENGINE = PLUGIN / "engine"
# What Scipion may import from the engine, all of `contract` and nothing else: no torch behind any of it.
SHARED = sorted(path.stem for path in (ENGINE / "vaegan_engine" / "contract").glob("*.py") if path.stem != "__init__")
NEVER_IN_PLUGIN = {"torch", "umap", "hdbscan", "sklearn", "starfile", "numba"}
DRAWING = {"matplotlib", "mrcfile"}  # of both sides, but not in what both share
NEVER_IN_ENGINE = {"pyworkflow", "pwem", "vaegan_scipion", "relion", "scipion", "emtable"}
MAX_LINES, MAX_ARGUMENTS = 400, 5
# Folders of the engine by floor: a folder imports from floors below its own, and from itself.
FLOORS = (("contract",), ("physics",), ("networks", "reconstruction", "stats", "figures", "runtime"), ("data",),
          ("training", "refine", "classes2d", "simulation"), ("latent", "fullres"), ("evaluation",),
          ("report", "thesis"), ("cli",))
FLOOR_OF = {folder: floor for floor, folders in enumerate(FLOORS) for folder in folders}
# Folders inside one of them, by the order of the work: each imports from those before it and from the modules beside
# them, which import from none of these folders; but for the one that puts the parts together ("": there is none).
PARTS = {"refine": (("start", "rounds", "detail", "output"), "refine"),
         "evaluation": (("truth", "checks", "benchmark", "forecast", "device"), "")}
MOST_MODULES = 24  # of one folder: a stranger should see at once what is there

PLUGIN_FILES = sorted(path for path in PLUGIN.rglob("*.py") if ENGINE not in path.parents)
ENGINE_FILES = sorted((ENGINE / "vaegan_engine").rglob("*.py"))
ALL_FILES = sorted({*PLUGIN_FILES, *ENGINE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"),
                    *(ROOT / "scripts").glob("*.py"), ROOT / "setup.py"})


@cache
def nodes_of(path):
    """Every node of a file's code."""
    return tuple(ast.walk(ast.parse(path.read_text())))


@cache
def imported_modules(path):
    """Dotted names of everything that a file imports, at any depth of its code; relative ones start with dots."""
    names = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names |= {f"{base}.{alias.name}" if node.module else f"{base}{alias.name}" for alias in node.names} | {base}
    return names


def top_names(path):
    """First parts of the absolute imports of a file."""
    return {name.split(".")[0] for name in imported_modules(path)} - {""}


def engine_imports(path):
    """What a file of the engine imports from the engine, as names from the engine's top: ``refine.start.ab_initio``."""
    inside = path.relative_to(ENGINE / "vaegan_engine").parts[:-1]
    names = set()
    for name in imported_modules(path):
        dots = len(name) - len(name.lstrip("."))
        if dots:
            names.add(".".join((*inside[:len(inside) - dots + 1], name[dots:])))
    return names


def engine_folders(path):
    """Folders of the engine that a plugin file imports from."""
    found = set()
    for name in imported_modules(path):
        match = re.search(r"(?:^|\.)vaegan_engine\.(\w+)", name)
        if match:
            found.add(match.group(1))
    return found


def of(path):
    return str(path.relative_to(ROOT))


def offenders(paths, wrong):
    """What ``wrong`` finds in each file, for the files where it finds something."""
    return {of(path): found for path in paths if (found := wrong(path))}


def test_the_walk_sees_every_file():
    assert len(PLUGIN_FILES) > 10
    assert len(ENGINE_FILES) > 20


def test_plugin_imports_no_engine_library():
    assert offenders(PLUGIN_FILES, lambda path: top_names(path) & NEVER_IN_PLUGIN) == {}


def test_plugin_imports_only_the_contract_of_the_engine():
    assert offenders(PLUGIN_FILES, lambda path: engine_folders(path) - {"contract"}) == {}


def test_engine_imports_no_scipion():
    assert offenders(ENGINE_FILES, lambda path: top_names(path) & NEVER_IN_ENGINE) == {}


def test_engine_does_not_climb_out_of_its_package():
    def climbs(path):
        depth = len(path.relative_to(ENGINE).parts) - 1
        return [name for name in imported_modules(path) if name.startswith("." * (depth + 1))]

    assert offenders(ENGINE_FILES, climbs) == {}


def test_every_folder_has_a_floor_and_says_what_it_is_for():
    folders = {path.parent.relative_to(ENGINE / "vaegan_engine") for path in ENGINE_FILES} - {Path(".")}
    parts = {f"{room}/{part}" for room, (order, _) in PARTS.items() for part in order}
    assert {folder.as_posix() for folder in folders} == set(FLOOR_OF) | parts
    for folder in folders:
        text = (ENGINE / "vaegan_engine" / folder / "__init__.py").read_text()
        assert ast.get_docstring(ast.parse(text)) and len(text.splitlines()) == 1, folder


def test_arrows_between_folders_point_down():
    def climbs(path):
        own = path.relative_to(ENGINE / "vaegan_engine").parts[0]
        folders = {name.split(".")[0] for name in engine_imports(path)} - {own}
        return sorted(folder for folder in folders & set(FLOOR_OF) if FLOOR_OF[folder] >= FLOOR_OF[own])

    assert offenders([path for path in ENGINE_FILES if path.parent.name != "vaegan_engine"], climbs) == {}


@pytest.mark.parametrize("room", PARTS)
def test_arrows_between_parts_of_a_folder_point_back(room):
    order, whole = PARTS[room]
    folder = ENGINE / "vaegan_engine" / room

    def ahead(path):
        inside = path.relative_to(folder).parts
        later = order[order.index(inside[0]) + 1:] if len(inside) > 1 else () if path.stem == whole else order
        imported = {name.split(".")[1] for name in engine_imports(path) if name.startswith(f"{room}.")}
        return sorted(imported & {*later, *({whole} if len(inside) > 1 else ())})

    assert offenders(sorted(folder.rglob("*.py")), ahead) == {}


def test_the_walk_sees_imports_between_parts():
    assert "refine.start.ab_initio" in engine_imports(ENGINE / "vaegan_engine" / "refine" / "rounds" / "rounds.py")
    assert "evaluation.truth.plane_scores" in engine_imports(
        ENGINE / "vaegan_engine" / "evaluation" / "benchmark" / "benchmark.py")


def test_only_the_command_line_knows_argparse():
    def knows(path):
        text = path.read_text()
        return top_names(path) & {"argparse"} or re.findall(r"\bsys\.argv\b", text)

    found = offenders(ENGINE_FILES, knows)
    assert set(found) <= {of(ENGINE / "vaegan_engine" / name) for name in (
        "cli/main.py", "cli/options.py", "__main__.py")}, found
    assert found[of(ENGINE / "vaegan_engine" / "__main__.py")] == ["sys.argv"]


def test_the_walk_sees_a_crossing(tmp_path):
    crossing = tmp_path / "crossing.py"
    crossing.write_text("def f():\n    from torch.nn import Linear\n    import pwem.objects as o\n"
                        "    from ..engine.vaegan_engine import training\n"
                        "    from ..engine.vaegan_engine.train import run_train\n")
    assert {"torch", "pwem"} <= top_names(crossing)
    assert {"training", "train"} <= engine_folders(crossing)


@pytest.fixture(scope="module")
def import_errors():
    """What keeps each shared module from being imported where none of these libraries is, by name; one process."""
    program = ("import importlib, json, sys\n"
               "class Blocked:\n"
               "    def find_spec(self, name, path=None, target=None):\n"
               f"        if name.split('.')[0] in {sorted(NEVER_IN_PLUGIN | NEVER_IN_ENGINE | DRAWING)!r}:\n"
               "            raise ImportError(f'{name} is blocked')\n"
               "sys.meta_path.insert(0, Blocked())\n"
               "errors = {}\n"
               f"for module in {[*SHARED, 'gone']!r}:\n"
               "    try:\n"
               "        importlib.import_module(f'vaegan_engine.contract.{module}')\n"
               "    except ImportError as error:\n"
               "        errors[module] = str(error)\n"
               "print(json.dumps(errors))\n")
    environment = {"PYTHONPATH": str(ENGINE), "PATH": os.environ["PATH"]}
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("module", SHARED)
def test_shared_modules_import_without_torch(import_errors, module):
    assert module not in import_errors, import_errors[module]
    assert "gone" in import_errors  # the program tells


@pytest.mark.parametrize("module", SHARED)
def test_shared_modules_are_python_38(module):
    ast.parse((ENGINE / "vaegan_engine" / "contract" / f"{module}.py").read_text(), feature_version=(3, 8))


def test_plugin_is_python_38():
    for path in PLUGIN_FILES:
        ast.parse(path.read_text(), feature_version=(3, 8))


def test_files_are_short():
    def too_long(path):
        n_lines = len(path.read_text().splitlines())
        return n_lines if n_lines > MAX_LINES else 0

    assert offenders(ALL_FILES, too_long) == {}


def test_no_folder_is_a_long_list():
    folders = [path.parent for path in ENGINE_FILES if path.stem != "__init__"]
    assert {of(folder): n for folder in folders if (n := folders.count(folder)) > MOST_MODULES} == {}


def test_no_path_of_one_machine():
    # put together, so that this file passes its own test
    pattern = re.compile("[\"'`]/" + "(?:work|home|root|Users)/|/" + "work/(?:main|shared)")
    assert offenders(ALL_FILES, lambda path: pattern.findall(path.read_text())) == {}


def test_no_module_is_named_for_leftovers():
    assert not [of(path) for path in ALL_FILES if path.stem in ("utils", "misc", "helpers")]


def test_functions_take_at_most_five_arguments():
    """But for compiled kernels, which know no records."""
    def long_ones(path):
        for node in nodes_of(path):
            if isinstance(node, ast.FunctionDef) and "compiled" not in map(ast.unparse, node.decorator_list):
                given = [item.arg for item in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                if len(set(given) - {"self", "cls"}) > MAX_ARGUMENTS:
                    yield node.name

    assert offenders([*ENGINE_FILES, *PLUGIN_FILES], lambda path: list(long_ones(path))) == {}
