"""The documentation of the contract says what the code does."""
import importlib.util
import re
from pathlib import Path

from vaegan_engine.contract import errors, result_files, settings
from vaegan_engine.contract.settings import RUN_TYPES, field_table

ROOT = Path(__file__).resolve().parents[3]
CONTRACT_RST = ROOT / "docs" / "contract.rst"


def contract_tables():
    spec = importlib.util.spec_from_file_location("contract_tables", ROOT / "scripts" / "contract_tables.py")
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
        rows = re.findall(r"\* - ``(\w+)``", section)
        assert rows == [field for field, _, _ in field_table(getattr(settings, name))]


def test_every_exit_code_is_explained():
    text = CONTRACT_RST.read_text().split("Exit codes")[1]
    codes = {int(code) for code in re.findall(r"^(\d+) ", text, re.MULTILINE)}
    assert codes == {1} | {value for name, value in vars(errors).items() if name.startswith("EXIT_")}


def test_every_results_file_is_named():
    text = CONTRACT_RST.read_text()
    names = [value for name, value in vars(result_files).items() if name.isupper() and isinstance(value, str)]
    assert len(names) > 10
    assert [name for name in names if name not in text] == []
