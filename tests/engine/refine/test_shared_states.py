"""``states`` by two processes ends in the bits of one; one that is lost ends it, and any number goes on."""
import hashlib
import sys
from pathlib import Path

import pytest
import shared_states
from vaegan_engine.contract.errors import EXIT_PROCESS_LOST
from vaegan_engine.contract.status import read_status
from vaegan_engine.runtime import launch
from vaegan_engine.simulation.simulate import STAR, SimulateOptions, run_simulate

pytestmark = pytest.mark.slow

HEADER_BYTES = 1024  # of a map: it holds the time


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("particles")
    run_simulate(SimulateOptions(phantom=2, per_map=50, box_px=shared_states.BOX_PX, snr=2.0, device="cpu"), folder)
    return folder / STAR


@pytest.fixture(scope="module")
def alone(particles, tmp_path_factory):
    """What one process finds, by file name."""
    out = tmp_path_factory.mktemp("alone")
    shared_states.refined(particles, out)
    return found(out)


def found(out):
    """Digest of every table and map."""
    return {str(path.relative_to(out)): hashlib.sha256(
        path.read_bytes()[HEADER_BYTES if path.suffix == ".mrc" else 0:]).hexdigest()
        for path in sorted(out.rglob("*")) if path.suffix in (".mrc", ".csv", ".star", ".mrcs")}


def by_two(particles, out, how=""):
    helper = str(Path(shared_states.__file__))
    return launch.run_processes([sys.executable, helper, str(particles), str(out), *([how] if how else [])], 2)


def test_two_processes_find_what_one_finds(particles, alone, tmp_path):
    assert by_two(particles, tmp_path) == 0
    assert found(tmp_path) == alone
    assert any(name.endswith("_half1.mrc") for name in alone)
    assert read_status(tmp_path).finished


def test_a_lost_process_ends_it_and_one_goes_on(particles, alone, tmp_path, capfd):
    assert by_two(particles, tmp_path, "divide_0") == EXIT_PROCESS_LOST
    said = capfd.readouterr().err.strip().splitlines()
    assert said[-1].startswith("Another of the 2 processes of this run ended before it; the checkpoints are kept.")
    assert not read_status(tmp_path).finished
    assert (tmp_path / "checkpoints" / "divide_0.npz").exists()
    shared_states.refined(particles, tmp_path, resume=True)
    assert found(tmp_path) == alone
