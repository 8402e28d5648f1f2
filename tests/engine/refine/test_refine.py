"""refine as a command: an easy mixture is parted and posed, noise is called noise, bad settings are refused."""
from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import starfile
import torch
from made_records import junk_numbers, state_row
from refine_particles import PIXEL_SIZE_ANG, blobs, problem_of, recorder_of
from sklearn.metrics import normalized_mutual_info_score
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.labels import UNASSIGNED
from vaegan_engine.contract.settings import ComputeConfig, DataConfig, EmbedRun, StatesRun, TrainRun
from vaegan_engine.contract.status import read_status
from vaegan_engine.data.mrc_files import read_map, write_map, write_stack
from vaegan_engine.data.particle_tables import read_clusters, read_truth, rows_of
from vaegan_engine.physics.fsc import fourier_shell_correlation, soft_sphere_mask
from vaegan_engine.physics.map_constraint import within
from vaegan_engine.reconstruction.images import Images
from vaegan_engine.reconstruction.map_mixture import MapMixture
from vaegan_engine.reconstruction.pose_search import Search
from vaegan_engine.refine.refine import run_states
from vaegan_engine.refine.rounds import rounds
from vaegan_engine.refine.rounds.evidence import Evidence, verdict
from vaegan_engine.refine.rounds.landscape import Leaf
from vaegan_engine.refine.start.ab_initio import CoarseMaps
from vaegan_engine.refine.states import Assignment, State
from vaegan_engine.simulation.simulate import SimulateOptions, run_simulate

N_EACH = 220
UNEVEN = {"contrast_spread": 0.3, "noise_ratio": 2.0}  # contrasts of the particles, coloured noise
COMPUTE = ComputeConfig(device="cpu", threads=1, seed=0)


def train_folder(folder: Path, star: Path) -> Path:
    """A folder as train3d leaves it, as far as refine needs it: the settings."""
    run = TrainRun(data=DataConfig(particles=str(star), box_px=24), compute=COMPUTE)
    run_json.write_run(run, folder / result_files.RUN_JSON)
    return folder


def simulated_training(folder: Path, states: tuple[str, ...]) -> Path:
    """A training's folder on uneven particles of one or two states, one with more mass; the truth lies in ``data``."""
    common = blobs(7, n=25, width_frac=0.04, reach_frac=0.2).numpy()
    extra = np.roll(blobs(8, n=8, width_frac=0.04, reach_frac=0.1).numpy(), 6, 2)
    for name, array in (("small", common), ("large", common + 1.5 * extra)):
        write_map(folder / f"{name}.mrc", array, PIXEL_SIZE_ANG)
    run_simulate(SimulateOptions(maps=tuple(str(folder / f"{state}.mrc") for state in states), per_map=N_EACH,
                                 box_px=24, snr=1.0, seed=1, device="cpu", **UNEVEN), folder / "data")
    return train_folder(folder / "train", folder / "data" / "particles.star")


def refined(folder: Path, states: tuple[str, ...]) -> tuple[Path, Path]:
    """Such particles, refined from two random maps: (refine folder, data folder)."""
    run = StatesRun(run_dir=str(simulated_training(folder, states)), n_maps=2, n_starts=2, start_steps=20,
                    search_steps=15, batch_size=110, search_shells=6.0, state_shells=8.0, compute=COMPUTE)
    run_states(run, folder / "out")
    return folder / "out", folder / "data"


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """Two states: (refine folder, data folder)."""
    return refined(tmp_path_factory.mktemp("mixture"), ("small", "large"))


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """What can be refined, and is not."""
    return simulated_training(tmp_path_factory.mktemp("training"), ("small", "large"))


@pytest.mark.science
def test_an_easy_mixture_is_parted(mixture):
    out, data = mixture
    clusters, truth = read_clusters(out), read_truth(data / "truth.csv")
    state = truth.label[rows_of(truth.particle_id, clusters.particle_id, "truth")]
    details = result_files.read_json(out / result_files.STATES_JSON)
    assert details["states"] == 2 and details["verdict"].startswith("2 states"), details
    assert details["unseen_log_evidence"] > 10
    assert normalized_mutual_info_score(state, clusters.label) > 0.7
    assert read_status(out).state == "finished"


def check_contrasts(out, data, n_states):
    """As many states as there are, none of which varies, and the particles' own contrasts."""
    clusters, details = read_clusters(out), result_files.read_json(out / result_files.STATES_JSON)
    assert details["states"] == n_states and "varies" not in details["verdict"], details
    assert (clusters.label == UNASSIGNED).mean() < 0.03
    assert details["contrast_spread"] == pytest.approx(0.3, abs=0.07)
    given = {int(row["id"]): float(row["contrast"]) for row in result_files.read_csv(data / "truth.csv")}
    found = {
        int(row["particle_id"]): float(row["contrast"])
        for row in result_files.read_csv(out / result_files.PARTICLES_CSV)
    }
    assert np.corrcoef([[given[i], found[i]] for i in clusters.particle_id], rowvar=False)[0, 1] > 0.85


@pytest.mark.science
def test_contrast_hides_no_state(mixture):
    check_contrasts(*mixture, 2)


@pytest.mark.science
def test_contrast_makes_no_state(tmp_path):
    check_contrasts(*refined(tmp_path, ("large",)), 1)


@pytest.mark.science
def test_what_is_set_aside_is_in_no_state(mixture):
    out, _ = mixture
    clusters, details = read_clusters(out), result_files.read_json(out / result_files.STATES_JSON)
    aside = clusters.label == UNASSIGNED
    assert details["junk"]["n_junk"] == aside.sum() <= 0.01 * len(aside)  # there is no junk
    assert (f"{aside.sum()} image" in details["verdict"]) == bool(aside.any())
    assert sum(row["n_particles"] for row in result_files.read_json(out / result_files.CLUSTERS_JSON)) == (~aside).sum()
    rest = set(clusters.particle_id[aside])
    made = out / result_files.JUNK_STAR
    assert made.exists() == bool(rest)
    assert not rest or set(starfile.read(made)["particles"]["vaeParticleId"]) == rest
    assert not rest & set(starfile.read(out / result_files.PARTICLES_STAR)["particles"]["vaeParticleId"])


@pytest.mark.science
def test_star_file_keeps_particles_and_gives_poses(mixture):
    out, data = mixture
    made, given = starfile.read(out / result_files.PARTICLES_STAR), starfile.read(data / "particles.star")
    particles, source = made["particles"], given["particles"]
    rows = [row for row in result_files.read_csv(out / result_files.PARTICLES_CSV) if int(row["label"]) != UNASSIGNED]
    source = source[np.isin(source["vaeParticleId"], [int(row["particle_id"]) for row in rows])]
    assert len(rows) > 0.8 * len(given["particles"])
    assert list(particles["vaeParticleId"]) == list(source["vaeParticleId"])
    assert np.allclose(particles["rlnDefocusU"], source["rlnDefocusU"])
    assert np.allclose(particles["rlnAngleTilt"], [float(r["tilt_deg"]) for r in rows], atol=1e-4)
    assert np.allclose(particles["rlnOriginXAngst"], [-float(r["shift_x_ang"]) for r in rows], atol=1e-4)
    assert list(particles["rlnClassNumber"]) == [int(r["label"]) + 1 for r in rows]
    assert set(particles["rlnRandomSubset"]) == {1, 2}
    first = str(particles["rlnImageName"].iloc[0]).split("@")[1]
    assert (out / first).exists()


@pytest.mark.science
@pytest.mark.skipif(shutil.which("relion_reconstruct") is None, reason="needs RELION's relion_reconstruct")
def test_relion_reconstructs_the_same_map_from_the_star_file(mixture, tmp_path):
    """The conventions of angles, origins and CTF are RELION's, or its map would be another one."""
    out, _ = mixture
    blocks = starfile.read(out / result_files.PARTICLES_STAR)
    one = blocks["particles"][blocks["particles"]["rlnClassNumber"] == 1]
    starfile.write({"optics": blocks["optics"], "particles": one}, out / "one.star")
    subprocess.run(["relion_reconstruct", "--i", "one.star", "--o", str(tmp_path / "relion.mrc"), "--ctf"],
                   cwd=out, check=True, capture_output=True)
    theirs, _ = read_map(tmp_path / "relion.mrc")
    ours, _ = read_map(out / result_files.MAPS / "cluster_00.mrc")
    mask = soft_sphere_mask(24, 8.0, 2.0)
    fsc = fourier_shell_correlation(theirs * mask, ours * mask)
    assert fsc[1:7].min() > 0.95, fsc


@pytest.mark.science
def test_noise_has_no_structure(tmp_path):
    run_simulate(SimulateOptions(phantom=1, per_map=260, box_px=24, snr=1.0, seed=2, device="cpu"), tmp_path)
    images = np.random.default_rng(3).standard_normal((260, 24, 24)).astype(np.float32)
    write_stack(tmp_path / "particles.mrcs", images, 9.0)
    train = train_folder(tmp_path / "train", tmp_path / "particles.star")
    run = StatesRun(run_dir=str(train), n_maps=2, start_steps=6, search_steps=2, batch_size=60, search_shells=4.0,
                    state_shells=5.0, compute=COMPUTE)
    details = run_states(run, tmp_path / "out")
    assert details.verdict.startswith("no structure found") and not details.has_states, details
    assert details.states == 1
    row, = result_files.read_json(tmp_path / "out" / result_files.CLUSTERS_JSON)
    assert row["shared_shell"] == 12 and not row["proven_0.143"]  # Nyquist: no shell is claimed


@pytest.mark.parametrize(("changes", "message"), [
    ({"start_shells": 7.0, "search_shells": 6.0}, "do not rise"), ({"state_shells": 40.0}, "state_shells is 40"),
    ({"n_maps": 0}, "n_maps is 0"), ({"smallest_frac": 0.9}, "smallest_frac is 0.9")])
def test_settings_are_checked(training, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        run_states(StatesRun(run_dir=str(training), compute=COMPUTE, **changes), tmp_path)
    assert not (tmp_path / result_files.STATES_JSON).exists()


def test_other_folders_are_refused(tmp_path):
    run_json.write_run(EmbedRun(), tmp_path / result_files.RUN_JSON)
    with pytest.raises(DataError, match="not a training"):
        run_states(StatesRun(run_dir=str(tmp_path), compute=COMPUTE), tmp_path / "out")


def test_one_half_set_is_refused(training, tmp_path):
    whole = run_json.read_run(training / result_files.RUN_JSON)
    run_json.write_run(replace(whole, data=replace(whole.data, half_set=1)), tmp_path / "train" / result_files.RUN_JSON)
    with pytest.raises(DataError, match="half set 1"):
        run_states(StatesRun(run_dir=str(tmp_path / "train"), compute=COMPUTE), tmp_path / "out")


def test_verdict_names_what_speaks_for_it():
    still, moving = state_row(0, 9, 0.5), state_row(0, 9, 0.5, motion_files=["a.mrc"])
    some, most = junk_numbers(30, 0.1), junk_numbers(200, 0.6)
    assert verdict([moving], Evidence(50.0, 3.0)).text == "one state, which varies continuously"
    assert verdict([still] * 3, Evidence(50.0, 3.0)).text == "3 states"
    assert verdict([moving, still], Evidence(50.0, 3.0)).text == "2 states, 1 of which varies continuously"
    assert verdict([still], Evidence(50.0, 3.0, junk=some)).text == (
        "one state; 30 images (10.0 %) fit no state and are set aside")
    assert verdict([still], Evidence(50.0, 3.0, junk=most)).text.startswith("mostly junk: one state; 200 images")
    beside, few = replace(some, n_outliers=20), replace(some, n_outliers=2)
    assert verdict([moving], Evidence(50.0, 3.0, junk=beside)).text == (
        "one state, which varies continuously; 30 images (10.0 %) fit no state and are set aside; 20 of them lie "
        "beside what varies, and may be an end of the motion that few images show")
    for row, junk in ((still, beside), (moving, few)):  # nothing varies; too few to say
        assert "may be an end" not in verdict([row], Evidence(50.0, 3.0, junk=junk)).text
    assert verdict([still], Evidence(1.0, 3.0)).text.startswith("no structure found")


def test_of_many_even_maps_none_is_dropped_for_its_small_share(tmp_path, monkeypatch):
    """50 maps from the clusters have 2 % of the images each, below the smallest share of a few maps."""
    n, c = 100, 50
    monkeypatch.setattr(rounds, "search_all", lambda *args, **more: Search(
        np.eye(c)[np.arange(n) % c], torch.eye(3).expand(n, c, 3, 3), torch.zeros(n, c, 2)))
    data = Images(np.zeros((n, 8, 8), np.float16), np.zeros((n, 7), np.float32), 5.0, torch.device("cpu"))
    model = MapMixture(torch.zeros(c, 8, 8, 8), torch.ones(5), within(torch.ones(8, 8, 8)))
    run = StatesRun("run", search_shells=3.0)
    states = rounds.first_states(problem_of(data, run=run), model, False, recorder_of(tmp_path))
    assert [len(state.rows) for state in states] == [2] * c


@pytest.mark.parametrize(("counts", "n_rounds"), [([3, 3], 2), ([1, 2, 3, 3], 4), ([3, 2, 3, 2, 3, 2], 5)])
def test_rounds_go_on_while_the_number_of_states_changes(tmp_path, monkeypatch, counts, n_rounds):
    """The rounds are given: how many states each of them ends with."""
    n, taken, again = 60, [], []

    def assignment(n_states: int) -> Assignment:
        return Assignment(np.arange(n) % n_states, np.full((n, n_states), -np.log(n_states), np.float32),
                          torch.eye(3).expand(n, n_states, 3, 3), torch.zeros(n, n_states, 2),
                          torch.zeros(n_states, 8, 8, 8), torch.ones(5), np.zeros(n, bool))

    def settle(this, before, evidence, name):
        taken.append(name)
        return assignment(counts[len(taken) - 1]), evidence

    def search_finer(this, before, evidence):
        again.append(before.n_states)
        return before, evidence

    first = [State(np.arange(n), torch.eye(3).expand(n, 3, 3), torch.zeros(n, 2), torch.zeros(8, 8, 8))] * 3
    for name, fake in (("begin", lambda problem, coarse, evidence, recorder: (problem, first, evidence)),
                       ("choose_mask", lambda this, states, evidence: (this, evidence)),
                       ("split", lambda this, states, aside: ([Leaf(k, state) for k, state in enumerate(states)],
                                                              np.zeros(n, bool), [])),
                       ("taken_over", lambda this, before, found: before),
                       ("search", lambda this, states, known_px: assignment(len(states))),
                       ("settle", settle), ("search_finer", search_finer),
                       ("restart", lambda this, before, evidence: (before, evidence)),
                       ("set_junk_aside", lambda this, before, evidence, outside: (before, evidence)),
                       ("measure_contrasts", lambda this, states, evidence: (this.problem, evidence))):
        monkeypatch.setattr(rounds, name, fake)
    data = Images(np.zeros((n, 8, 8), np.float16), np.zeros((n, 7), np.float32), 5.0, torch.device("cpu"))
    problem = problem_of(data, run=StatesRun(run_dir="", state_shells=3.0))
    coarse = CoarseMaps(torch.zeros(3, 8, 8, 8), torch.ones(5), 50.0, [])
    _, last, _ = rounds.find_states(problem, coarse, recorder_of(tmp_path))
    assert taken == ["settle"] * n_rounds and last.n_states == counts[n_rounds - 1]
    assert again == counts[1:n_rounds]  # from the second round on
