"""The documentation of the contract says what the code does."""
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from vaegan_engine.contract import errors, result_files, settings
from vaegan_engine.contract.setting import described
from vaegan_engine.contract.settings import RUN_TYPES

ROOT = Path(__file__).resolve().parents[3]
CONTRACT_RST = ROOT / "docs" / "reference" / "contract.rst"


def contract_tables():
    return script("contract_tables")


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_field_tables_are_in_step():
    text = CONTRACT_RST.read_text()
    assert contract_tables().updated(text) == text, "run: python scripts/contract_tables.py"


def test_every_field_has_a_row():
    text = CONTRACT_RST.read_text()
    sections = {"DataConfig", "ModelConfig", "TrainingConfig", "ComputeConfig"} | {
        kind.__name__ for kind in RUN_TYPES.values()}
    for name in sections:
        section = re.search(rf"\.\. fields: {name}\n(.*?)\n\.\. end", text, re.DOTALL).group(1)
        rows = re.findall(r'^   "``(\w+)``"', section, re.MULTILINE)
        assert rows == [item.name for item in described(getattr(settings, name))]


def test_every_exit_code_is_explained():
    text = CONTRACT_RST.read_text().split("Exit codes")[1]
    codes = {int(code) for code in re.findall(r"^(\d+) ", text, re.MULTILINE)}
    assert codes == {1} | {value for name, value in vars(errors).items() if name.startswith("EXIT_")}


def test_every_results_file_is_named():
    text = CONTRACT_RST.read_text()
    names = [value for name, value in vars(result_files).items() if name.isupper() and isinstance(value, str)]
    assert len(names) > 10
    assert [name for name in names if name not in text] == []


def test_states_of_two_hands_are_marked_as_missed():
    """Whatever is asked of the task; one hand, and rows that do not say, are not."""
    pages = script("results_pages")
    row = {"task": "t", "seed": 0, "commit": "a", "date": "2026", "note": ""}
    for hands, shown in ((2, "**2**"), (1, "1")):
        made = [{**row, "figures": {"states": 3, "hands": hands}}]
        assert f"hands {shown}" in pages.table(made, {})
        assert f"- {shown}\n" in pages.short_table(made, {}, (pages.Column("hands", ("hands",)),))
    assert "**" not in pages.table([{**row, "figures": {"states": 3}}], {})


def test_results_page_is_made_from_the_rows():
    pages = script("results_pages")
    for page in (pages.PAGE, pages.EVERY):
        assert pages.updated(page) == page.read_text(), "run: .venv/engine/bin/python scripts/results_pages.py"


def test_a_missed_figure_is_bold():
    rows = [{"task": "t", "seed": seed, "commit": "abc", "date": "2026-01-01", "note": "",
             "figures": {"nmi": nmi, "states": 3}} for seed, nmi in ((0, 0.97), (1, 0.5))]
    text = script("results_pages").table(rows, {"t": {"nmi": [">=", 0.9], "states": ["==", 3]}})
    assert "nmi **0.97, 0.5**" in text
    assert "states 3 (seeds 0, 1)" in text


def test_the_front_page_shows_the_newest_row_of_each_seed():
    def row(seed, commit, date, **figures):
        return {"task": "t", "seed": seed, "commit": commit, "date": date, "note": "", "figures": figures}

    rows = [row(0, "new", "2026-02-02", states=3, nmi=0.5, junk_recall=0.9, junk_precision=0.8),
            row(0, "old", "2026-01-01", states=1, nmi=0.0), row(1, "old", "2026-01-01", states=2, nmi=0.7)]
    text = script("results_pages").summary(rows, {"t": {"states": ["==", 3], "nmi": [">=", 0.4]}})
    assert "t (seed 0, 1)" in text and "**3, 2** (asked 3)" in text and "0.5, 0.7 (asked ≥ 0.4)" in text
    assert "0.9, - / 0.8, -" in text and "new, old" in text and "clusters" in text


def test_readme_is_short():
    assert len((ROOT / "README.rst").read_text().splitlines()) <= 90


@pytest.mark.slow
def test_site_builds_without_warnings(tmp_path):
    pytest.importorskip("sphinx", reason="the site needs sphinx, furo and myst-parser")
    made = subprocess.run([sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(ROOT / "docs"),
                           str(tmp_path)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert "E step" in (tmp_path / "method" / "index.html").read_text()


def test_every_setting_says_what_it_is():
    """Beside those that nobody sets, and sections, which their own table explains."""
    for kind in {settings.DataConfig, settings.ModelConfig, settings.TrainingConfig, settings.ComputeConfig,
                 *RUN_TYPES.values()}:
        for item in described(kind):
            fixed = item.about.option == "" or hasattr(item.default, "__dataclass_fields__")
            assert item.about.help or fixed, (kind.__name__, item.name)
            assert not item.about.help.endswith("."), (kind.__name__, item.name)


def named_files(text):
    """Files that a page of docs names, by engine folder (``refine/states.py``) or from the top of the checkout."""
    return set(re.findall(r"``((?:[\w-]+/)+[\w-]+\.(?:py|json|rst|md|toml))(?:: \w+)?``", text))


@pytest.mark.parametrize("page", ["develop/architecture.rst", "develop/decisions.rst", "develop/testing.rst",
                                  "develop/vocabulary.rst", "method/index.rst"])
def test_every_file_that_a_page_names_is_there(page):
    roots = (ROOT, ROOT / "vaegan_scipion", ROOT / "vaegan_scipion" / "engine" / "vaegan_engine", ROOT / "tests/engine")
    names = named_files((ROOT / "docs" / page).read_text())
    assert page != "develop/architecture.rst" or len(names) > 40
    assert sorted(name for name in names if not any((root / name).is_file() for root in roots)) == []


def test_a_file_that_is_gone_is_seen():
    assert named_files("the E step: ``reconstruction/gone.py``, by ``gone``") == {"reconstruction/gone.py"}
