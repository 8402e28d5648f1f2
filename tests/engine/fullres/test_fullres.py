"""The command on disk: files, joined by id; going on after a stop; what it refuses; its hand-over to RELION."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from particle_files import loaded, noise_images, optics_columns, particle_columns, write_stack, write_star
from refine_particles import mask_of
from states_folders import perturbed, simulated_particles, true_poses, write_states
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.errors import ConfigError, DataError, StoppedError
from vaegan_engine.contract.fullres_records import FullresSummary
from vaegan_engine.contract.record import read_record, write_record
from vaegan_engine.contract.records import StatesSummary
from vaegan_engine.contract.settings import ComputeConfig, DataConfig, FullresRun
from vaegan_engine.contract.status import read_status, update_status
from vaegan_engine.data.given_mask import reach_px
from vaegan_engine.data.mrc_files import read_map, write_map
from vaegan_engine.data.particle_tables import read_cluster_rows
from vaegan_engine.data.pose_table import SYMMETRY, read_poses
from vaegan_engine.data.stacks import read_images
from vaegan_engine.data.star_files import read_star
from vaegan_engine.fullres import fullres
from vaegan_engine.fullres.inputs import open_inputs, with_circle_of
from vaegan_engine.fullres.relion import PROGRAM, HandOver, script, write_script
from vaegan_engine.fullres.tuning import TUNING
from vaegan_engine.physics.fsc import fourier_shell_correlation, soft_sphere_mask
from vaegan_engine.physics.rotations import euler_to_matrix, rotation_distance_deg

ONE_THREAD = ComputeConfig(device="cpu", threads=1)
ERROR_DEG = 4.0
TUNING_HERE = replace(TUNING, min_group_images=20)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two states of the phantom, poses turned by 4 degrees, refined: (folder, summary)."""
    folder = tmp_path_factory.mktemp("fullres")
    star = simulated_particles(folder / "particles", phantom=2, per_map=80, micrograph_noise_spread=0.3)
    rotations, shifts_px, _ = true_poses(folder / "particles")
    write_states(folder / "states", star, perturbed(rotations, ERROR_DEG), shifts_px, 60.0)
    run = FullresRun(states_dir=str(folder / "states"), compute=ONE_THREAD, max_rounds=3, b_factor_ang2=-150.0)
    return folder, fullres.run_fullres(run, folder / "out", tuning=TUNING_HERE)


@pytest.fixture
def few(tmp_path):
    """One state of 24 particles at their true poses, not refined: its folder, with the particles in ``particles``."""
    star = simulated_particles(tmp_path / "particles", per_map=24)
    rotations, shifts_px, _ = true_poses(tmp_path / "particles")
    return write_states(tmp_path / "states", star, rotations, shifts_px, 80.0)


def errors_deg(folder, out) -> torch.Tensor:
    """Pose errors of all particles, by id."""
    rows = {int(row["particle_id"]): row for row in result_files.read_csv(out / result_files.PARTICLES_CSV)}
    angles = torch.tensor([[float(rows[i][name]) for name in ("rot_deg", "tilt_deg", "psi_deg")]
                           for i in range(1, len(rows) + 1)])
    return rotation_distance_deg(euler_to_matrix(*angles.double().T), true_poses(folder / "particles")[0])


def test_poses_are_nearer_to_the_truth_and_every_file_is_there(made):
    folder, summary = made
    out = folder / "out"
    assert float(errors_deg(folder, out).median()) < 0.6 * ERROR_DEG  # by 40 images of a half, in 3 rounds
    assert read_record(FullresSummary, out / result_files.FULLRES_JSON, "fullres") == summary
    assert [state.n_particles for state in summary.states] == [80, 80] and summary.box_px == 32
    for state, row in zip(summary.states, read_cluster_rows(out), strict=True):
        assert row.label == state.label and row.file == state.map_file and row.of_state.files == state.half_files
        assert state.n_noise_groups == 2  # 160 images in two micrographs, of which either has some 30 in each state
        assert state.resolution_ang < state.resolution_before_ang and state.proven
        assert state.b_factor_ang2 == -150 and state.b_factor_from == "as given"
        assert state.local_resolution_ang == sorted(state.local_resolution_ang)
        for file in (state.map_file, *state.half_files, state.sharpened_file, state.local_resolution_file,
                     state.mask_file):
            array, voxel_ang = read_map(out / file)
            assert array.shape == (32,) * 3 and voxel_ang == pytest.approx(summary.voxel_size_ang)
        assert len(read_star(out / state.star_file)) == 80
    for name in (result_files.FSC_CSV, result_files.PARTICLES_STAR, "fsc.png", "sections.png"):
        assert (out / name).stat().st_size > 100
    assert read_status(out).finished


def test_star_files_have_the_poses_and_half_sets_of_the_table(made):
    folder, summary = made
    star = read_star(folder / "out" / summary.states[1].star_file)
    rows = {int(row["particle_id"]): row for row in result_files.read_csv(folder / "out" / result_files.PARTICLES_CSV)}
    ids = star.integers("vaeParticleId").tolist()
    assert {int(rows[i]["label"]) for i in ids} == {1}
    assert star.integers("rlnRandomSubset").tolist() == [int(rows[i]["half_set"]) for i in ids]
    np.testing.assert_allclose(star.numbers("rlnAngleTilt"), [float(rows[i]["tilt_deg"]) for i in ids], atol=1e-4)
    np.testing.assert_allclose(star.numbers("rlnOriginXAngst"), [-float(rows[i]["shift_x_ang"]) for i in ids],
                               atol=1e-4)
    assert star.has("rlnMicrographName") and star.has("rlnVoltage")


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(made, tmp_path, monkeypatch):
    folder, summary = made
    run = FullresRun(states_dir=str(folder / "states"), compute=ONE_THREAD, max_rounds=3, b_factor_ang2=-150.0)
    rounds, refine_round = [], fullres.refine_round

    def stopped(state, refinement):
        if len(rounds) == 4:
            raise KeyboardInterrupt
        rounds.append(1)
        return refine_round(state, refinement)

    monkeypatch.setattr(fullres, "refine_round", stopped)
    with pytest.raises(StoppedError):
        fullres.run_fullres(run, tmp_path, tuning=TUNING_HERE)
    monkeypatch.setattr(fullres, "refine_round", refine_round)
    again = fullres.run_fullres(run, tmp_path, resume=True, tuning=TUNING_HERE)
    assert [state.rounds for state in again.states] == [state.rounds for state in summary.states]
    for name in (result_files.PARTICLES_CSV, summary.states[1].sharpened_file):
        assert (tmp_path / name).read_bytes() == (folder / "out" / name).read_bytes()
    assert fullres.run_fullres(run, tmp_path, resume=True) == again
    log = result_files.read_jsonl(tmp_path / result_files.LOG_JSONL)
    logged = [(row["state"], row["round"]) for row in log if "round" in row]  # the others say what steps took
    assert len(logged) == len(set(logged)) == sum(len(state.rounds) for state in again.states)


def test_particles_that_are_missing_are_named(made, tmp_path):
    folder, _ = made
    text = (folder / "particles" / "particles.star").read_text().splitlines()
    star = folder / "particles" / "fewer.star"
    star.write_text("\n".join(line for line in text if not line.startswith("000007@")) + "\n")
    with pytest.raises(DataError, match=r"particle 7 of .* is not there \(1 of 160 are missing\)"):
        fullres.run_fullres(FullresRun(states_dir=str(folder / "states"), particles=str(star)), tmp_path)
    with pytest.raises(DataError, match="is a 'fullres', not states"):
        fullres.run_fullres(FullresRun(states_dir=str(folder / "out")), tmp_path)


def test_first_rows_that_states_was_held_to_are_not_those_of_another_star_file(few):
    before = run_json.read_run(few / result_files.RUN_JSON)
    for limits in ({"max_images": 23}, {"half_set": 1}):
        run_json.write_run(replace(before, data=replace(before.data, **limits)), few / result_files.RUN_JSON)
        run = FullresRun(states_dir=str(few), particles=str(few.parent / "particles" / "particles.star"))
        assert len(open_inputs(run, torch.device("cpu"), TUNING).particle_id) == 24


def test_a_finished_refinement_is_not_taken_for_one_with_another_b_factor(few, tmp_path):
    run, out = FullresRun(states_dir=str(few), compute=ONE_THREAD, b_factor_ang2=-150.0), tmp_path / "out"
    settings = fullres.settings_of(run, open_inputs(run, torch.device("cpu"), TUNING))
    result_files.write_json(out / result_files.CHECKPOINTS / "settings.json", settings)
    run_json.write_run(run, out / result_files.RUN_JSON)
    update_status(out, state="finished")
    with pytest.raises(ConfigError, match=r"finished, with b_factor_ang2 -150\.0, now it is -90\.0"):
        fullres.run_fullres(replace(run, b_factor_ang2=-90.0), out, resume=True)


def test_states_that_changed_in_anything_are_other_ones(few):
    run = FullresRun(states_dir=str(few), compute=ONE_THREAD)
    inputs = open_inputs(run, torch.device("cpu"), TUNING)
    start = inputs.states[0]
    others = [replace(inputs, mask=0.5 * inputs.mask), replace(inputs, symmetry="D2"),
              replace(inputs, images=replace(inputs.images, contrast=np.full(24, 1.1, np.float32))),
              replace(inputs, states=[replace(start, shells=start.shells + 1)]),
              replace(inputs, states=[replace(start, shared_shell=start.shared_shell + 1)])]
    stack = next((few.parent / "particles").glob("*.mrcs"))
    os.utime(stack, ns=(0, stack.stat().st_mtime_ns + 10 ** 9))  # other images under the same names
    others.append(open_inputs(run, torch.device("cpu"), TUNING))
    star = few.parent / "particles" / "particles.star"
    star.write_text(star.read_text() + "# of other micrographs\n")
    others.append(open_inputs(run, torch.device("cpu"), TUNING))
    made = [fullres.settings_of(run, one) for one in (inputs, *others)]
    assert all(one != other for place, one in enumerate(made) for other in made[:place])


def test_poses_keep_the_symmetry_of_the_states(few, tmp_path):
    summary = read_record(StatesSummary, few / result_files.STATES_JSON, "states")
    write_record(few / result_files.STATES_JSON, replace(summary, symmetry="D2"))
    run, out = FullresRun(states_dir=str(few), compute=ONE_THREAD, max_rounds=1, b_factor_ang2=-150.0), tmp_path / "out"
    state = fullres.run_fullres(run, out, tuning=TUNING_HERE).states[0]
    for name in (result_files.PARTICLES_STAR, state.star_file):
        assert set(read_star(out / name).text(SYMMETRY)) == {"D2"}
    particles = str(few.parent / "particles" / "particles.star")
    assert read_poses(DataConfig(particles=particles, poses_dir=str(out))).symmetry == "D2"


@pytest.mark.parametrize("of_states", [False, True])
def test_a_mask_that_is_given_holds_maps_and_fsc(few, tmp_path, of_states):
    """Made in the box of the states, 16 px, or in the particles' own; without another one that of the states counts."""
    voxel_ang = read_cluster_rows(few)[0].of_state.voxel_size_ang
    asked, path = FullresRun(states_dir=str(few), compute=ONE_THREAD, max_rounds=1), tmp_path / "mask.mrc"
    sphere = open_inputs(asked, torch.device("cpu"), TUNING)
    assert not sphere.mask_given
    if of_states:
        write_map(path, soft_sphere_mask(16, 3.0, 3.0), voxel_ang)
        before = run_json.read_run(few / result_files.RUN_JSON)
        before = replace(before, mask=str(path), data=replace(before.data, input_poses=True))
        run_json.write_run(before, few / result_files.RUN_JSON)
    else:
        write_map(path, soft_sphere_mask(32, 6.0, 6.0), voxel_ang / 2)
        asked = replace(asked, mask=str(path))
    inputs = open_inputs(asked, torch.device("cpu"), TUNING)
    wanted = soft_sphere_mask(32, 6.0, 6.0)
    assert inputs.mask_given and float((inputs.mask - torch.from_numpy(wanted)).abs().max()) < 0.15
    assert fullres.settings_of(asked, inputs) != fullres.settings_of(asked, sphere)
    state = fullres.run_fullres(asked, tmp_path / "out", tuning=TUNING_HERE).states[0]
    for file in (state.map_file, state.sharpened_file):
        assert not read_map(tmp_path / "out" / file)[0][inputs.mask.numpy() == 0].any()
    np.testing.assert_array_equal(read_map(tmp_path / "out" / state.mask_file)[0], inputs.mask.numpy())
    row, = read_cluster_rows(tmp_path / "out")
    halves = np.stack([read_map(tmp_path / "out" / file)[0] for file in state.half_files])
    in_mask = fourier_shell_correlation(*(halves * inputs.mask.numpy()))
    np.testing.assert_allclose(row.of_state.proof.fsc_masked, in_mask, atol=1e-4)
    diameter_ang = 2 * reach_px(inputs.mask) * voxel_ang / 2
    text = (tmp_path / "out" / state.relion_file).read_text()
    assert f"--particle_diameter {diameter_ang:.0f} " in text
    assert f'--solvent_mask "$HERE/{state.mask_file}" --solvent_correct_fsc' in text


def test_memory_is_told_beforehand():
    assert 4.0 < fullres.memory_gb(256) < 4.5 < 7.0 < fullres.memory_gb(320) < 7.5


HAND_OVER = HandOver("state_01", "state_01.star", "maps/a.mrc", "maps/mask.mrc", 200.0, 4.0, 12.0, 1.3, True, False,
                     False, (0.0, 1.0))


@pytest.mark.parametrize(("resolution_ang", "order"), [(60.0, 3), (8.0, 4), (4.0, 5), (2.0, 6), (0.2, 7)])
def test_angles_are_as_fine_as_the_resolution_asks(resolution_ang, order):
    asked = replace(HAND_OVER, resolution_ang=resolution_ang)
    assert asked.healpix_order() == order
    assert asked.sigma_ang_deg() == pytest.approx(58.6 / 2 ** order)


@pytest.mark.parametrize(("shared_ang", "resolution_ang", "ini_high_ang"), [
    (60.0, 4.0, 25.0), (12.0, 4.0, 12.0), (6.0, 7.0, 7.0), (60.0, 30.0, 30.0)])
def test_both_halves_begin_from_as_little_as_holds_the_poses(shared_ang, resolution_ang, ini_high_ang):
    assert replace(HAND_OVER, shared_ang=shared_ang, resolution_ang=resolution_ang).ini_high_ang() == ini_high_ang


def test_images_that_are_not_normal_are_made_so_first(made):
    out = made[0] / "out"
    shutil.copy(out / "state_01.star", out / "state_03.star")
    text = script(replace(HAND_OVER, star_file="state_03.star"), out)
    assert "--sym ${SYM:-C1}" in text and '--solvent_mask "$HERE/maps/mask.mrc" --solvent_correct_fsc' in text
    assert "--sym ${SYM:-D4}" in script(replace(HAND_OVER, star_file="state_03.star", symmetry="D4"), out)
    assert "--ini_high 12.00" in text and "relion_preprocess" not in text and '--i "$HERE/state_03.star"' in text
    text = script(replace(HAND_OVER, star_file="state_03.star", inverted=True, phase_flipped=True), out)
    assert "--invert_contrast" in text and "--bg_radius 77" in text and "--ctf_phase_flipped" in text


def test_the_script_names_folders_as_the_disk_has_them(tmp_path):
    """One whose name is of another encoding too: bytes that are no UTF-8."""
    out = tmp_path / os.fsdecode(b"donn\xe9es") / "out"
    out.mkdir(parents=True)
    write_stack(tmp_path / "a.mrcs", np.ones((2, 16, 16), np.float32))
    write_star(out / "state_01.star", {**particle_columns(2), "rlnImageName": ["1@a.mrcs", "2@a.mrcs"]},
               optics_columns())
    assert b'HERE="donn\xe9es/out"' in (out / write_script(HAND_OVER, out)).read_bytes()


@pytest.mark.parametrize(("is_old", "box_px"), [(False, 33), (True, 33), (True, 32)])
def test_the_copy_of_images_that_relion_does_not_take(tmp_path, is_old, box_px):
    """Of an odd box, or dark: an even one, by a star file of its own; RELION's programs make what it names."""
    rng = np.random.default_rng(0)
    images = 7 - 3 * rng.standard_normal((6, box_px, box_px)).astype(np.float32)
    images[:, box_px // 2, box_px // 2] -= 60
    write_stack(tmp_path / "Extract" / "a.mrcs", images)
    columns = {**particle_columns(6), "rlnImageName": [f"{k + 1}@Extract/a.mrcs" for k in range(6)],
               "rlnRandomSubset": [1, 2] * 3}
    optics = {**optics_columns(), "rlnImageSize": [box_px]}
    if is_old:
        columns = {**columns, **{name: values * 6 for name, values in optics.items() if name != "rlnImageSize"},
                   "rlnMagnification": [10000.0] * 6, "rlnDetectorPixelSize": optics["rlnImagePixelSize"] * 6}
        for name in ("rlnOpticsGroup", "rlnImagePixelSize"):
            del columns[name]
    out = tmp_path / "out"
    out.mkdir()
    write_star(out / "state_01.star", columns, None if is_old else optics)
    hand_over = replace(HAND_OVER, inverted=True, stack_box_px=box_px, voxel_size_ang=2.0, particle_diameter_ang=40.0)
    text = (out / write_script(hand_over, out)).read_text()
    assert ("--window 32" in text) == (box_px == 33) and "sed" not in text
    star = read_star(out / "relion_state_01" / "normal.star")
    assert star.text("rlnImageName")[5] == "000006@out/relion_state_01/normal.mrcs"
    assert star.text("rlnRandomSubset") == ["1", "2"] * 3
    assert is_old or star.numbers("rlnImageSize").tolist() == [32] * 6
    assert not replace(HAND_OVER, stack_box_px=32).needs_copy and replace(HAND_OVER, stack_box_px=33).needs_copy
    if shutil.which("relion_preprocess") is None:
        pytest.skip("RELION is not installed")
    made = (out / "made.sh")
    made.write_text(text[:text.index("mpirun")])
    subprocess.run(["sh", str(made)], check=True, capture_output=True)
    table = loaded(out / "relion_state_01" / "normal.star")
    made_images = read_images(table.headers, table.stack_index, table.slice_index)
    assert table.box_px == 32 and abs(float(np.median(made_images))) < 0.1
    assert (made_images.reshape(6, -1).argmax(1) == 16 * 32 + 16).all()  # white, and in the middle as it was


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(PROGRAM) is None or shutil.which("mpirun") is None,
                    reason=f"{PROGRAM} is not installed")
def test_relion_goes_on_from_the_script(made):
    """Three processes, one iteration: RELION takes star file, half sets, map and options, and keeps our poses near."""
    folder, summary = made
    out, state = folder / "out", summary.states[0]
    star = out / "relion_state_01" / "run_it001_data.star"
    said = run_until(out / state.relion_file, star)
    assert star.exists(), said[-3000:]
    theirs, ours = read_star(star), read_star(out / state.star_file)
    by_id = dict(zip(ours.integers("vaeParticleId").tolist(), range(len(ours)), strict=True))
    rows = [by_id[i] for i in theirs.integers("vaeParticleId").tolist()]
    assert (theirs.integers("rlnRandomSubset") == ours.integers("rlnRandomSubset")[rows]).all()
    names = [f"rlnAngle{name}" for name in ("Rot", "Tilt", "Psi")]
    matrices = [euler_to_matrix(*(torch.from_numpy(table.numbers(name)) for name in names)) for table in (theirs, ours)]
    turned_deg = rotation_distance_deg(matrices[0], matrices[1][rows])
    assert float(turned_deg.median()) < 3 * 7.33  # of its local search; 40 small images let poses drift, not be lost
    mask = mask_of(32).numpy()
    maps = [read_map(path)[0] * mask for path in (star.with_name("run_it001_half1_class001.mrc"), out / state.map_file)]
    assert fourier_shell_correlation(*maps)[1:6].min() > 0.6


def run_until(script_path, file, seconds=400) -> str:
    """Run it, as root too, from another folder, until a file is whole; then end it. What it said.

    MPI may put several processes on one core.
    """
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "THREADS": "1",
                   "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}
    log = script_path.with_suffix(".log")
    with open(log, "wb") as stream:
        process = subprocess.Popen(["sh", str(script_path)], env=environment, stdout=stream, stderr=stream,
                                   start_new_session=True)
        until = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < until and not file.with_name(
                file.name.replace("data", "optimiser")).exists():
            time.sleep(0.2)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
    return log.read_text(errors="replace")


@pytest.mark.parametrize(("box_px", "apix", "expected"), [
    (64, 4.0, 0.31), (100, 2.0, 0.31 * 256 / 200), (128, 3.0, 0.31 * 256 / 384)])
def test_the_circle_is_as_wide_in_another_field_of_view(tmp_path, box_px, apix, expected):
    """States saw 256 A; a particle's circle of 79 A stays 79 A, no matter how large the new boxes are."""
    write_stack(tmp_path / "particles.mrcs", noise_images(3, box_px))
    table = loaded(write_star(tmp_path / "p.star", particle_columns(3), optics_columns(apix)))
    data = with_circle_of(DataConfig(particle_radius_frac=0.31), 256.0, table)
    assert data.particle_radius_frac == pytest.approx(expected)
