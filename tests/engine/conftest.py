"""Engine tests: the engine's own source root on the path, one thread, shared fixtures."""
import os
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ENGINE = str(REPOSITORY / "vaegan_scipion" / "engine")
sys.path.insert(0, ENGINE)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (ENGINE, os.environ.get("PYTHONPATH"))))  # of processes started


def pytest_configure(config):
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return  # this process only hands out tests
    import torch

    torch.set_num_threads(1)


def shares_a_fixture(item: pytest.Item) -> bool:
    """Whether something is made once for the module of a test."""
    found = item._fixtureinfo.name2fixturedefs.values()
    return any(definitions[-1].scope in ("module", "class") for definitions in found if definitions)


def is_long(item: pytest.Item) -> bool:
    """Whether ``--fast`` leaves a test out."""
    return any(item.get_closest_marker(name) for name in ("science", "slow"))


def group_of(item: pytest.Item) -> str:
    """Tests of a group run in one worker: those of a mark ``xdist_group``, and those that share what is made once."""
    mark = item.get_closest_marker("xdist_group")
    return mark.args[0] if mark else f"shared.{item.module.__name__}" if shares_a_fixture(item) else ""


def put_in_group(item: pytest.Item, group: str) -> None:
    """Mark the test's id with a group, as pytest-xdist 3.8 does by an attribute that pytest 9.2 no longer has."""
    from _pytest.nodeid import coerce_node_id

    item._id = coerce_node_id(f"{item.nodeid}@{group}")
    assert item.nodeid.endswith(group), "what the tests of a module share would be made by every worker"


@pytest.hookimpl(hookwrapper=True)
def pytest_collection_modifyitems(config, items):
    """For workers: tests that share what their module makes go to one of them, and the longest start first."""
    yield  # to pytest-randomly, which shuffles
    if getattr(config.option, "loadgroup", False):
        for item in items:
            group = group_of(item)
            if group and not item.nodeid.endswith(f"@{group}"):
                put_in_group(item, group)
    items.sort(key=lambda item: (not is_long(item), not shares_a_fixture(item)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Maps and real particles for development, beside the repository; not part of it."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the development data in {folder}")
    return folder


@pytest.fixture
def fake_model(monkeypatch):
    """Every command that loads a trained model gets one by formula; call it for one with other properties."""
    import torch
    from fake_run import FakeTrained
    from vaegan_engine.contract.settings import TrainRun
    from vaegan_engine.runtime import compute
    from vaegan_engine.training import decoded
    from vaegan_engine.training.trained_run import TrainedRun

    def use(make=FakeTrained, **kwargs):
        monkeypatch.setattr(TrainedRun, "load", lambda run_dir, device: make(**kwargs))

    monkeypatch.setattr(decoded, "read_training", lambda run_dir: TrainRun())
    monkeypatch.setattr(compute, "prepare_device", lambda settings: torch.device("cpu"))
    use()
    return use


@pytest.fixture
def as_ordinary_user():
    """Give up root's right to read everything, for the length of a test."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
