"""Limits of settings, and run.json there and back."""
import json
from dataclasses import dataclass, replace

import pytest
from vaegan_engine.contract import run_json
from vaegan_engine.contract.errors import ConfigError
from vaegan_engine.contract.setting import (
    Setting,
    check_settings,
    described,
    limit_problem,
    limits_text,
    section,
    setting,
)
from vaegan_engine.contract.settings import (
    RUN_TYPES,
    ClusterRun,
    ComputeConfig,
    EvaluateRun,
    ReportRun,
    TrainRun,
)


@pytest.mark.parametrize(("about", "text"), [
    (Setting(low=2, high=1000), "2 to 1,000"), (Setting(low=0.05, unit="px"), "at least 0.05 px"),
    (Setting(high=1), "at most 1"), (Setting(low=1, zero="as the run"), "at least 1; 0 = as the run"), (Setting(), "")])
def test_limits_in_words(about, text):
    assert limits_text(about) == text


@pytest.mark.parametrize(("value", "allowed"), [
    (1, True), (5.0, True), (0, True), (0.5, False), (-1, False), (5.1, False), (float("nan"), False),
    (float("inf"), False), ((1, 5), True), ((1, 6), False), ("text", True), (True, True)])
def test_limits(value, allowed):
    problem = limit_problem("n", value, Setting(low=1, high=5, zero="off"))
    assert (problem is None) == allowed
    if problem:
        assert problem[0].startswith("n is ") and problem[1] == "Use 1 to 5; 0 = off."


def test_a_number_must_be_finite():
    assert limit_problem("x", float("inf"), Setting()) == ("x is inf.", "Use a finite number.")


def test_sections_are_checked_by_their_names():
    @dataclass(frozen=True)
    class Whole:
        colours: tuple[str, ...] = setting(("red",), choices=("red", "blue"))
        compute: ComputeConfig = section(ComputeConfig)

    Whole.__annotations__.update(colours=tuple[str, ...], compute=ComputeConfig)
    check_settings(Whole())
    with pytest.raises(ConfigError, match=r"compute\.threads is -1\. Use 1 to 4,096; 0 = as many"):
        check_settings(Whole(compute=ComputeConfig(threads=-1)))
    with pytest.raises(ConfigError, match=r"colours is 'green'\. Choose one of 'red', 'blue'"):
        check_settings(Whole(colours=("blue", "green")))


def test_defaults_are_within_their_limits():
    for cls in RUN_TYPES.values():
        check_settings(cls())


@pytest.mark.parametrize("name", sorted(RUN_TYPES))
def test_a_request_comes_back_as_it_was_written(tmp_path, name):
    """Every setting changed; paths of all kinds move with the folder."""
    def changed(node):
        values = {}
        for item in described(type(node)):
            value = getattr(node, item.name)
            if hasattr(value, "__dataclass_fields__"):
                values[item.name] = changed(value)
            elif item.name in ("command", "contract_version"):
                continue
            elif item.choices:
                values[item.name] = item.choices[-1]
            elif isinstance(value, bool):
                values[item.name] = not value
            elif isinstance(value, tuple):
                values[item.name] = (str(tmp_path / "a" / "x.mrc"), "/elsewhere/y.mrc")
            elif isinstance(value, str):
                values[item.name] = str(tmp_path / "a" / item.name) if item.about.path else f"some {item.name}"
            else:
                values[item.name] = value + 1
        return replace(node, **values)

    run = changed(RUN_TYPES[name](command=name))
    path = run_json.write_run(run, tmp_path / "a" / "run.json")
    assert run_json.read_run(path) == run
    assert run_json.from_dict(type(run), json.loads(json.dumps(run_json.to_dict(run)))) == run
    (tmp_path / "a").rename(tmp_path / "b")
    moved = run_json.read_run(tmp_path / "b" / "run.json")
    for item in described(type(run)):
        if item.about.path and isinstance(getattr(run, item.name), str):
            assert getattr(moved, item.name) == str(tmp_path / "b" / item.name)


def test_lists_are_read_strictly():
    assert run_json.from_dict(EvaluateRun, {"maps": ["a", "b"]}).maps == ("a", "b")
    for wrong in ("a", [1], [["a"]]):
        with pytest.raises(ConfigError, match="maps is"):
            run_json.from_dict(ReportRun, {"maps": wrong})


def test_empty_paths_stay_empty(tmp_path):
    for run in (TrainRun(), ClusterRun(), EvaluateRun()):
        assert run_json.read_run(run_json.write_run(run, tmp_path / "run.json")) == run
