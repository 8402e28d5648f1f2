"""What the documents quote is there: commands and options, files, words of the forms, outputs."""
import argparse
import re
import shlex
from pathlib import Path

import pytest
from vaegan_engine.cli.commands import COMMANDS
from vaegan_engine.cli.main import build_parser
from vaegan_engine.contract import setting, settings

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
ENGINE = ROOT / "vaegan_scipion" / "engine" / "vaegan_engine"
PAGES = [ROOT / "README.rst", ROOT / "CONTRIBUTING.rst",
         *(page for page in sorted(DOCS.rglob("*.rst")) if "history" not in page.parts)]
SCIPION_WORDS = {"Edit", "Analyze results", "Continue", "Restart"}  # on Scipion's own windows


def quoted(pattern):
    """(page:line, match) of a pattern in the pages."""
    return [(f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 1}", found.group(1))
            for page in PAGES for text in [page.read_text()] for found in re.finditer(pattern, text, re.MULTILINE)]


def plugin_sources():
    return {path: path.read_text() for path in (ROOT / "vaegan_scipion").rglob("*.py")
            if not {"tests", "engine"} & set(path.relative_to(ROOT / "vaegan_scipion").parts)}


def test_command_lines_parse(capsys):
    lines = quoted(r"^ +(?:bin/)?vaegan (.*)$")
    assert len(lines) > 20
    for where, line in lines:
        words = [word for word in shlex.split(line, comments=True) if word not in ("...", "[...]")]
        try:
            build_parser(words[0]).parse_args(words)
        except SystemExit:
            pytest.fail(f"{where}: {line}\n{capsys.readouterr().err}")


def test_commands_and_options_in_the_text_are_there():
    found = quoted(r"``(?:bin/)?vaegan ([^`]+)``")
    assert len(found) > 5
    for where, text in found:
        name, *words = text.split()
        if name == "COMMAND":
            continue
        assert name in {*COMMANDS, "run"}, (where, text)
        commands = next(action for action in build_parser(name)._actions
                        if isinstance(action, argparse._SubParsersAction))
        known = commands.choices[name]._option_string_actions
        assert [word for word in words if word.startswith("--") and word not in known] == [], (where, text)


def test_files_that_developers_are_led_to_are_there():
    pages = ("docs/develop", "docs/method", "CONTRIBUTING")
    folders = (ROOT, ENGINE, ROOT / "tests" / "engine")
    found = [(where, path) for where, path in quoted(r"``([\w./*]+/[\w.*]*(?:\.py|\.rst|/))(?:: \w+)?``")
             if where.startswith(pages) and not path.startswith(".venv")]
    assert len(found) > 50
    assert [item for item in found if not any(list(folder.glob(item[1])) for folder in folders)] == []


def test_words_of_forms_and_viewers_are_there():
    """Italics with a capital name a protocol, field or button; those of a protocol's name are its label."""
    texts = plugin_sources()
    labels = {setting.field_of(kind, item.name).about.label for kind in vars(settings).values()
              if hasattr(kind, "__dataclass_fields__") for item in setting.described(kind)}
    found = [(where, " ".join(words.split())) for where, words in quoted(r"(?<![\w*])\*([A-Z][^*]+)\*(?![\w*])")
             if where.startswith(("docs/use", "docs/start", "README"))]
    assert len(found) > 20
    known = SCIPION_WORDS | labels
    assert [item for item in found
            if item[1] not in known and not any(f'"{item[1]}' in text for text in texts.values())] == []


def test_every_protocol_is_in_the_tables():
    labels = [label for text in plugin_sources().values() for label in re.findall(r'^    _label = "([^"]+)"', text,
                                                                              re.MULTILINE) if "viewer" not in label]
    assert len(labels) == 10
    for page in ("README.rst", "docs/start/install.rst"):
        table = (ROOT / page).read_text().split("\nProtocols\n")[1].replace("train 3D, 2D", "train 3D\ntrain 2D")
        assert [label for label in labels if not re.search(rf"^{label}\b", table, re.MULTILINE)] == [], page


def test_every_output_is_explained():
    page = (DOCS / "use" / "outputs.rst").read_text()
    names = {name for text in plugin_sources().values() for name in re.findall(r"^    (output\w+) = SetOf", text,
                                                                           re.MULTILINE)}
    assert len(names) >= 7
    assert [name for name in names if name not in page] == []
