"""What a run will take: counted from what is measured here, said by the command line, kept for large sets."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from states_folders import simulated_particles, true_poses, write_states
from vaegan_engine.cli.main import main
from vaegan_engine.contract import presets, result_files, wording
from vaegan_engine.contract.record import read_record
from vaegan_engine.contract.records import Forecast
from vaegan_engine.contract.run_json import write_run
from vaegan_engine.contract.settings import (
    Classes2dRun,
    ClusterRun,
    ComputeConfig,
    DataConfig,
    EmbedRun,
    FullresRun,
    StatesRun,
)
from vaegan_engine.data.star_files import read_star
from vaegan_engine.evaluation.forecast import cluster, embed, forecasts, fullres, measured, states, train
from vaegan_engine.evaluation.forecast.states import Costs
from vaegan_engine.fullres.fullres import memory_gb
from vaegan_engine.networks.posed_vae import PosedVaeGan
from vaegan_engine.networks.vae_gan import Frame, VaeGan
from vaegan_engine.runtime import place
from vaegan_engine.simulation.simulate import SimulateOptions, run_simulate
from vaegan_engine.training.posed_run import PosedRun
from vaegan_engine.training.trained_run import TrainedRun

pytestmark = pytest.mark.xdist_group("umap")  # which compiles for long, in each process

BOX = 16
COMPUTE = ComputeConfig(device="cpu", threads=1)


@pytest.fixture(scope="module")
def star(tmp_path_factory):
    """Forty simulated particles."""
    folder = tmp_path_factory.mktemp("particles")
    run_simulate(SimulateOptions(phantom=2, per_map=20, box_px=BOX, snr=1.0, device="cpu"), folder)
    return str(folder / "particles.star")


def data_of(star, **more):
    return DataConfig(particles=star, box_px=BOX, **more)


def test_particles_are_counted(star, tmp_path):
    assert measured.count_images(data_of(star)) == 40
    assert measured.count_images(data_of(star, max_images=30)) == 30
    assert measured.count_images(data_of(star, max_images=30, half_set=1)) == 15
    assert forecasts.images_of(StatesRun(data=data_of(star))) == 40
    assert forecasts.images_of(StatesRun(data=data_of(str(tmp_path / "none.star")))) == 0


def test_particles_in_files_of_their_own_are_counted(tmp_path):
    """Names without a number, after optics with as many rows, comments and blank lines."""
    star = tmp_path / "single.star"
    star.write_text("# version 30001\n\ndata_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnVoltage #2\n1 300\n2 200\n\n"
                    "data_particles\n\nloop_\n_rlnOpticsGroup #1\n_rlnImageName #2\n1 a/one.mrc\n\n# a comment\n"
                    "2 'b c/two.mrc'\n1 000003@three.mrcs\n\ndata_other\n\nloop_\n_rlnMicrographName #1\nx.mrc\n")
    assert measured.count_images(data_of(str(star))) == 3
    assert len(read_star(star)) == 3


def test_a_line_is_what_was_measured(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(measured.time, "perf_counter", lambda: now[0])

    def work(n):
        now[0] += 3 + 0.5 * n

    line = measured.line_of(work, 10, 30, torch.device("cpu"))
    assert (line.fixed, line.each) == pytest.approx((3, 0.5))
    assert line.of(100) == pytest.approx(53)


def costs(each):
    line = measured.Line(0.0, each)
    return Costs(1.0, 3.0, line, line, line, line, line, line, line)


def test_states_are_counted_by_their_images():
    run = StatesRun(n_maps=3, n_starts=4, start_steps=100, search_steps=50, batch_size=100)
    few, small, large = (states.counted(run, costs(1e-3), n) for n in (1_500, 6_000, 12_000))
    assert small["starts"] == large["starts"]
    assert small["starts"].usual < small["starts"].long
    for name in ("pose searches", "states and landscapes", "detail of halves", "variation"):
        assert large[name].usual == pytest.approx(2 * small[name].usual)
    landscapes = "states and landscapes"  # the first rounds of few images are of all of them
    assert 2 * few[landscapes].usual < small[landscapes].usual < 4 * few[landscapes].usual
    posed = states.counted(StatesRun(data=DataConfig(input_poses=True)), costs(1e-3), 10_000)
    assert "starts" not in posed and "pose searches" not in posed


def test_copies_of_poses_are_counted_where_a_symmetry_is_relaxed():
    small, large = (states.counted(StatesRun(data=DataConfig(input_poses=True), relax_symmetry=group),
                                            costs(1e-3), 10_000)["relaxed symmetry"] for group in ("D2", "O"))
    assert 0 < small.usual < small.long and large.usual > 2 * small.usual
    assert "relaxed symmetry" not in states.counted(StatesRun(), costs(1e-3), 10_000)


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), MemoryError()])
def test_a_forecast_that_cannot_be_made_ends_no_run(star, tmp_path, monkeypatch, capsys, error):
    def fails(run):
        raise error

    monkeypatch.setattr(forecasts, "forecast_for", fails)
    forecasts.say(runs(star)["states"], tmp_path, from_images=40)
    assert f"no forecast: {str(error) or 'MemoryError'}" in capsys.readouterr().out


def runs(star):
    tiny = {"data": {"particles": star, "box_px": BOX}, "compute": {"device": "cpu", "threads": 1}}
    narrow = {"model": {"critic_width": 4, "encoder_width": 4, "generator_width": 8, "n_basis": 2, "n_normal": 2},
              "training": {"batch_size": 8, "band_shells": 5.0, "start_rounds": 1}}
    return {
        "states": StatesRun(data=data_of(star), n_maps=2, start_shells=4.0, search_shells=4.0, state_shells=5.0,
                            compute=COMPUTE),
        "train3d": presets.build_run("train3d", "fast", {**tiny, "training": {"batch_size": 8}}),
        "posed": presets.build_run("train3d", "posed", {**narrow, **tiny, "data": {**tiny["data"],
                                                                                   "input_poses": True}}),
        "posed2d": presets.build_run("train2d", "posed", {**narrow, **tiny, "data": {**tiny["data"],
                                                                                     "poses_dir": "classes"}}),
        "classes2d": Classes2dRun(data=data_of(star), n_classes=3, n_steps=4, compute=COMPUTE)}


def test_stages_are_divided_among_the_processes_that_share_them(star, monkeypatch):
    stages = {"starts": measured.Span(6.0, 12.0), "others": measured.Span(1.0, 2.0)}
    found = measured.divided(stages, {"starts": 3})
    assert found == {"starts": measured.Span(2.0, 4.0), "others": stages["others"]}
    run, cpu = runs(star)["train3d"], torch.device("cpu")
    for batch, count, ways, of_encoder in ((32, 2, 2, 1), (64, 3, 2, 1), (64, 2, 2, 2), (32, 3, 1, 1), (32, 1, 1, 1)):
        of_batch = replace(run, training=replace(run.training, batch_size=batch))
        with place.as_first_of(count):
            assert place.place() == place.Place(0, count, 0, count)
            assert train.ways(of_batch, cpu) == {"networks": ways, "encoder": of_encoder}
            assert measured.forecast_of("train3d", 1, stages, 1.5, 1.0).memory_gb == 1.5 * count
        assert place.place().count == 1
    with place.as_first_of(4):
        assert train.ways(runs(star)["posed"], cpu)["principal maps"] == 4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stages"), [
    ("states", {"starts", "pose searches", "states and landscapes", "detail of halves", "variation"}),
    ("train3d", {"networks", "encoder"}), ("posed", {"principal maps", "networks", "steps of the maps"}),
    ("posed2d", {"in-plane frame", "principal maps", "networks", "steps of the maps"}),
    ("classes2d", {"steps", "all images", "near their poses"})])
def test_every_stage_takes_time(star, name, stages):
    expected = forecasts.forecast_for(runs(star)[name], n_made=64 if name == "posed" else 12)
    assert set(expected.stages) == stages and all(value > 0 for value in expected.stages.values())
    assert expected.n_images == 40 and 0 < expected.seconds <= expected.long_seconds
    assert 0.05 < expected.memory_gb < 8 and expected.disk_gb == pytest.approx(40 * (2 * BOX ** 2 + 64) / 2 ** 30)


def test_clusters_are_counted_to_the_limit_of_the_layout(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "embed_2d", lambda z, *_, **__: np.asarray(z[:, :2], np.float64))
    monkeypatch.setattr(cluster, "seconds_of", lambda work, device: 1.0)
    seconds = []
    for n in (2000, 20_000):
        folder = tmp_path / str(n)
        z = np.random.default_rng(0).standard_normal((n, 3)).astype(np.float32)
        result_files.write_npz(folder / result_files.LATENTS_NPZ, particle_id=np.arange(n), z=z,
                               half_set=np.ones(n, np.uint8))
        seconds.append(forecasts.forecast_for(ClusterRun(embedding_dir=str(folder))))
    assert seconds[1].stages["groups"] == pytest.approx(10 * seconds[0].stages["groups"])
    assert seconds[1].stages["layouts"] == pytest.approx(10 * seconds[0].stages["layouts"] * 200 / 500)
    assert seconds[1].n_images == 20_000


@pytest.mark.slow
def test_the_command_says_it_and_runs_nothing(star, tmp_path, capsys):
    words = ["states", "--particles", star, "--box-px", str(BOX), "--device", "cpu", "--threads", "1", "--start-shells",
             "4", "--search-shells", "4", "--state-shells", "5", "--n-maps", "1", "--out", str(tmp_path / "out")]
    assert main([*words, "--forecast"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("expected for 40 particles on this machine: about ") and "  starts: " in printed
    assert not (tmp_path / "out").exists()


def test_large_sets_are_told_before_the_run(star, tmp_path, monkeypatch, capsys):
    expected = Forecast("states", 40, 600.0, 1500.0, 1.25, 0.5, {"starts": 600.0}, 3.0)
    monkeypatch.setattr(forecasts, "forecast_for", lambda run: expected)
    forecasts.say(runs(star)["states"], tmp_path)
    assert not (tmp_path / result_files.FORECAST_JSON).exists()
    forecasts.say(runs(star)["states"], tmp_path, from_images=40)
    assert read_record(Forecast, tmp_path / result_files.FORECAST_JSON, "states") == expected
    assert capsys.readouterr().out == wording.forecast_text(expected) + "\n" == (
        "expected for 40 particles on this machine: about 10 min (25 min where the particles need more), 1.2 GB of "
        "memory, 0.5 GB on disk\n")


def test_rounds_of_states_are_counted_by_their_images_and_band():
    each, fixed = measured.Line(0.0, 1e-3), measured.Line(2.0, 0.0)
    flat = fullres.counted(10, [300, 700], (each, each), fixed)
    assert flat["rounds"] == measured.Span(pytest.approx(4.0), pytest.approx(10.0))
    assert flat["maps"] == measured.equal(4.0)  # of two states
    assert fullres.counted(3, [1000], (each, each), fixed)["rounds"].usual == pytest.approx(3.0)
    growth = fullres.Growth((10.0, measured.Line(1.0, 2e-3)), (20.0, measured.Line(4.0, 5e-3)),
                            lambda radius: 2 * radius)
    assert growth.at(20.0) == measured.Line(4.0, 5e-3)
    wider = growth.at(40.0)  # 1e-5 each squared shell, eight times the voxels
    assert (wider.fixed, wider.each) == (pytest.approx(32.0), pytest.approx(17e-3))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Two states, of 30 particles each, in their folder."""
    folder = tmp_path_factory.mktemp("found")
    star = simulated_particles(folder / "particles", phantom=2, per_map=30)
    rotations, shifts_px, _ = true_poses(folder / "particles")
    return write_states(folder / "states", star, rotations, shifts_px, 60.0)


def test_full_resolution_is_measured_on_the_particles_of_its_states(found):
    run = FullresRun(states_dir=str(found), compute=COMPUTE)
    assert forecasts.images_of(run) == 60
    expected = forecasts.forecast_for(run, n_made=12)
    assert set(expected.stages) == {"rounds", "maps", "local resolution"}
    assert all(value > 0 for value in expected.stages.values())
    assert (expected.command, expected.n_images) == ("fullres", 60) and expected.seconds < expected.long_seconds
    assert expected.memory_gb == pytest.approx(memory_gb(32)) and expected.disk_gb > 0
    one = forecasts.forecast_for(FullresRun(states_dir=str(found), compute=COMPUTE, max_rounds=1), n_made=12)
    assert one.stages["rounds"] < expected.stages["rounds"]


def test_full_resolution_of_particles_in_a_larger_box_is_that_box(found, tmp_path):
    star = simulated_particles(tmp_path / "larger", phantom=2, per_map=30, box_px=48)
    run = FullresRun(states_dir=str(found), particles=str(star), compute=COMPUTE)
    expected = forecasts.forecast_for(run, n_made=12)
    assert expected.memory_gb == pytest.approx(memory_gb(48))


def test_the_command_of_full_resolution_says_it_and_runs_nothing(found, tmp_path, capsys):
    assert main(["fullres", "--states", str(found), "--device", "cpu", "--threads", "1", "--out",
                 str(tmp_path / "out"), "--forecast"]) == 0
    printed = capsys.readouterr().out
    assert "expected for 60 particles on this machine: about " in printed and "  local resolution: " in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "kind", "networks"), [
    ("train3d", TrainedRun, VaeGan), ("posed", PosedRun, PosedVaeGan), ("posed2d", PosedRun, PosedVaeGan)])
def test_embedding_is_a_pass_of_the_encoder(star, tmp_path, monkeypatch, name, kind, networks):
    training = runs(star)[name]
    write_run(training, tmp_path / result_files.RUN_JSON)
    made = networks(training, Frame(BOX, 4.0), torch.device("cpu"))
    folder = (tmp_path,) if kind is PosedRun else ()
    monkeypatch.setattr(embed, "load_trained", lambda *_: kind(made, *folder))
    monkeypatch.setattr(embed, "seconds_of", lambda work, device: (work(), 6.0)[1])
    seconds = []
    for n, run in ((40, EmbedRun(run_dir=str(tmp_path), compute=COMPUTE)),
                   (80, EmbedRun(run_dir=str(tmp_path), compute=COMPUTE, particles=str(names_of(80, tmp_path))))):
        expected = forecasts.forecast_for(run, n_made=12)
        assert (expected.n_images, forecasts.images_of(run), set(expected.stages)) == (n, n, {"encoder"})
        seconds.append(expected.seconds)
    assert seconds == pytest.approx([20.0, 40.0])


def names_of(n, folder):
    """A star file that names so many images."""
    path = folder / "names.star"
    path.write_text("data_particles\n\nloop_\n_rlnImageName #1\n"
                    + "".join(f"{i + 1}@counted.mrcs\n" for i in range(n)))
    return path
