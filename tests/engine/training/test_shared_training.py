"""Trainings by two processes end in the bits of one; a lost one ends it, a stop is for all, any number goes on."""
import pytest
from shared_training import assert_same_networks, by_two, trained
from vaegan_engine.contract import presets, result_files, run_json
from vaegan_engine.contract.errors import EXIT_PROCESS_LOST, EXIT_SIGTERM
from vaegan_engine.contract.status import read_status
from vaegan_engine.simulation.simulate import STAR, SimulateOptions, run_simulate

pytestmark = pytest.mark.slow  # processes start for seconds

BOX_PX, BATCH = 16, 8
SMALL = {"data": {"box_px": BOX_PX}, "compute": {"device": "cpu", "threads": 1},
         "model": {"critic_width": 4, "encoder_width": 4, "generator_width": 32},
         "training": {"batch_size": BATCH, "total_kimg": 0.032, "tick_kimg": 0.016, "checkpoint_kimg": 0.016}}


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("particles")
    run_simulate(SimulateOptions(phantom=2, per_map=20, box_px=BOX_PX, device="cpu"), folder)
    return folder


def request(particles, out, command, preset, changes):
    changes = run_json.merged(SMALL, run_json.merged({"data": {"particles": str(particles / STAR)}}, changes))
    return run_json.write_run(presets.build_run(command, preset, changes), out / "request.json")


def assert_same(one, other):
    """Networks, optimisers, random numbers, and what the log says beside the rate."""
    assert_same_networks(one, other)
    logs = [[{**row, "images_per_second": 0} for row in result_files.read_jsonl(out / result_files.LOG_JSONL)]
            for out in (one, other)]
    assert logs[0] == logs[1] and logs[0]
    assert read_status(one).finished and read_status(other).finished


@pytest.fixture(scope="module")
def fast(particles, tmp_path_factory):
    """A request, and the results of one process: networks, then the encoder alone; parts have maps of their own."""
    out = tmp_path_factory.mktemp("alone")
    made = request(particles, out, "train3d", "fast", {
        "model": {"n_categories": 4}, "training": {"encoder_kimg": 0.016}})
    trained(made, out / "run")
    return made, out / "run"


def test_a_lost_process_ends_it_and_two_go_on_to_the_bits_of_one(fast, tmp_path, capfd):
    assert by_two(fast[0], tmp_path, "SIGKILL") == EXIT_PROCESS_LOST
    said = capfd.readouterr().err.strip().splitlines()
    assert said[-1].startswith("Another of the 2 processes of this run ended before it; the checkpoints are kept.")
    assert read_status(tmp_path).error.code == EXIT_PROCESS_LOST
    assert read_status(tmp_path).checkpoint == "ckpt_0000000016.pt"
    assert by_two(fast[0], tmp_path, "--resume") == 0
    assert_same(tmp_path, fast[1])


def test_a_stop_of_one_is_for_all_and_one_goes_on(fast, tmp_path):
    assert by_two(fast[0], tmp_path, "SIGTERM") == EXIT_SIGTERM
    status = read_status(tmp_path)
    assert (status.state, status.images_seen, status.checkpoint) == ("stopped", 24, "ckpt_0000000024.pt")
    trained(fast[0], tmp_path, resume=True)
    assert_same_networks(tmp_path, fast[1])


@pytest.mark.parametrize(("command", "preset"), [("train2d", "thesis-2d"), ("train3d", "thesis-3d-camera")])
def test_what_is_normalised_over_a_batch_and_dropout_are_shared(particles, tmp_path, command, preset):
    made = request(particles, tmp_path, command, preset, {
        "training": {"total_kimg": 0.016, "tick_kimg": 0.008, "batch_size": BATCH}})
    trained(made, tmp_path / "one")
    assert by_two(made, tmp_path / "two") == 0
    assert_same(tmp_path / "one", tmp_path / "two")
