"""Star files, old and new, against the values written."""
import numpy as np
import pytest
from particle_files import (
    ctf_columns,
    loaded,
    noise_images,
    optics_columns,
    particle_columns,
    write_particles,
    write_stack,
    write_star,
)
from vaegan_engine.contract.errors import DataError
from vaegan_engine.data.optics import CTF_RELION
from vaegan_engine.data.particles import half_sets
from vaegan_engine.data.star_files import read_star
from vaegan_engine.data.star_subset import write_subset


def test_ctf_columns_are_in_the_order_of_the_ctf_table():
    from vaegan_engine.physics import ctf
    short = {"rlnDefocusU": "defocus_u_ang", "rlnDefocusV": "defocus_v_ang",
             "rlnDefocusAngle": "defocus_angle_deg", "rlnVoltage": "voltage_kv",
             "rlnSphericalAberration": "cs_mm", "rlnAmplitudeContrast": "amplitude_contrast",
             "rlnPhaseShift": "phase_shift_deg", "rlnCtfDataArePhaseFlipped": "phase_flipped"}
    assert tuple(short[name] for name in CTF_RELION) == tuple(ctf.CTF_COLUMNS)


def test_relion31_joins_the_optics_group(tmp_path):
    table = loaded(write_particles(tmp_path, n=6, d=24))
    assert table.pixel_size_ang == 2.0
    assert table.box_px == 24
    assert table.ctf_present
    np.testing.assert_array_equal(table.particle_id, np.arange(1, 7))
    np.testing.assert_array_equal(table.slice_index, np.arange(6))
    np.testing.assert_allclose(table.ctf[2], [10020, 9020, 2, 300, 2.7, 0.1, 0, 0], rtol=1e-6)


@pytest.mark.parametrize("pixel_columns", [
    {"rlnDetectorPixelSize": [5.0] * 4, "rlnMagnification": [25000.0] * 4},
    {"rlnPixelSize": [2.0] * 4}, {"rlnImagePixelSize": [2.0] * 4}])
def test_relion30_has_everything_in_one_block(tmp_path, pixel_columns):
    write_stack(tmp_path / "particles.mrcs", noise_images(4, 9))
    columns = {"rlnVoltage": [200.0] * 4, **ctf_columns(4), **pixel_columns, "rlnPhaseShift": [90.0] * 4,
               "rlnSphericalAberration": [1.4] * 4, "rlnAmplitudeContrast": [0.07] * 4,
               "rlnImageName": [f"{i + 1}@particles.mrcs" for i in range(4)], "rlnGroupName": ["a"] * 4}
    table = loaded(write_star(tmp_path / "p.star", columns))
    assert table.pixel_size_ang == pytest.approx(2.0)
    assert table.box_px == 9
    np.testing.assert_allclose(table.ctf[3], [10030, 9030, 3, 200, 1.4, 0.07, 90, 0], rtol=1e-6)


def test_shuffled_rows_and_columns_and_groups_keep_ids_images_and_ctf(tmp_path):
    n = 40
    rng = np.random.default_rng(3)
    write_stack(tmp_path / "particles.mrcs", noise_images(n, 8))
    columns = particle_columns(n)
    columns["vaeParticleId"] = list(range(1000, 1000 + 3 * n, 3))
    columns["rlnOpticsGroup"] = list(rng.integers(1, 4, n))
    names = list(rng.permutation(list(columns)))
    order = rng.permutation(n)
    shuffled = {name: [columns[name][i] for i in order] for name in names}
    optics = {"rlnVoltage": [300.0, 200.0, 100.0], "rlnOpticsGroup": [3, 1, 2],
              "rlnSphericalAberration": [2.7, 1.4, 2.0], "rlnAmplitudeContrast": [0.1, 0.07, 0.2],
              "rlnImagePixelSize": [2.0, 2.005, 2.0]}
    table = loaded(write_star(tmp_path / "p.star", shuffled, optics))
    voltage = {3: 300, 1: 200, 2: 100}
    for row in range(n):
        original = (int(table.particle_id[row]) - 1000) // 3
        assert table.slice_index[row] == original
        assert table.ctf[row, 0] == 10000 + 10 * original
        assert table.ctf[row, 3] == voltage[int(columns["rlnOpticsGroup"][original])]


def test_a_particles_own_value_comes_before_its_groups(tmp_path):
    write_stack(tmp_path / "particles.mrcs", noise_images(3, 8))
    columns = {**particle_columns(3), "rlnVoltage": [200.0] * 3}
    assert (loaded(write_star(tmp_path / "p.star", columns, optics_columns())).ctf[:, 3] == 200).all()


def test_optics_of_one_row_without_loop(tmp_path):
    star = write_particles(tmp_path)
    lines = "\n".join(f"_{name} {values[0]}" for name, values in optics_columns(3.0).items())
    text = star.read_text()
    star.write_text("data_optics\n\n" + lines + "\n\n" + text[text.index("data_particles"):])
    assert loaded(star).pixel_size_ang == 3.0


@pytest.mark.parametrize("place", ["beside", "project", "above", "absolute"])
def test_stacks_are_found_from_star_folder_project_and_absolute(tmp_path, monkeypatch, place):
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    star_folder = (elsewhere if place == "project" else project) / "Extract" / "job1"
    star_folder.mkdir(parents=True)
    elsewhere.mkdir(exist_ok=True)
    relative = "Extract/job2/stack.mrcs"
    stack = (star_folder if place == "beside" else project) / relative
    write_stack(stack, noise_images(2, 8))
    name = str(stack) if place == "absolute" else relative
    star = write_star(star_folder / "p.star", particle_columns(2, name), optics_columns())
    monkeypatch.chdir(project if place == "project" else elsewhere)
    assert loaded(star).headers[0].path.samefile(stack)


def test_a_name_without_number_is_a_single_image(tmp_path):
    for i in range(2):
        write_stack(tmp_path / f"{i}.mrc", noise_images(1, 8, i))
    columns = {**particle_columns(2), "rlnImageName": ["0.mrc", "1.mrc"]}
    table = loaded(write_star(tmp_path / "p.star", columns, optics_columns()))
    np.testing.assert_array_equal(table.slice_index, 0)
    np.testing.assert_array_equal(table.stack_index, [0, 1])


def test_one_given_stack_keeps_the_numbers_of_a_moved_stack(tmp_path):
    stack = write_stack(tmp_path / "moved.mrcs", noise_images(5, 8))
    columns = particle_columns(3, "gone/old.mrcs")
    columns["rlnImageName"] = [f"{i}@gone/old.mrcs" for i in (4, 1, 3)]
    star = write_star(tmp_path / "p.star", columns, optics_columns())
    np.testing.assert_array_equal(loaded(star, stack).slice_index, [3, 0, 2])


def test_one_given_stack_takes_the_row_order_of_several_stacks(tmp_path):
    stack = write_stack(tmp_path / "all.mrcs", noise_images(4, 8))
    columns = particle_columns(4)
    columns["rlnImageName"] = ["1@a.mrcs", "2@a.mrcs", "1@b.mrcs", "2@b.mrcs"]
    star = write_star(tmp_path / "p.star", columns, optics_columns())
    np.testing.assert_array_equal(loaded(star, stack).slice_index, [0, 1, 2, 3])
    np.testing.assert_array_equal(loaded(star, stack, max_images=3).slice_index, [0, 1, 2])
    short = write_stack(tmp_path / "short.mrcs", noise_images(3, 8))
    with pytest.raises(DataError, match=r"short\.mrcs: holds 3 images.* 4 rows from 2 stacks"):
        loaded(star, short)


def test_half_sets_come_from_the_star_file_or_from_the_id(tmp_path):
    n = 2000
    write_stack(tmp_path / "particles.mrcs", np.zeros((n, 8, 8), np.float32))
    columns = {**particle_columns(n), "rlnRandomSubset": [1 + (i // 3) % 2 for i in range(n)]}
    table = loaded(write_star(tmp_path / "a.star", columns, optics_columns()))
    np.testing.assert_array_equal(table.half_set, columns["rlnRandomSubset"])

    columns["rlnRandomSubset"] = [1] * n  # no split at all: drawn from the id
    drawn = loaded(write_star(tmp_path / "b.star", columns, optics_columns()))
    assert set(np.unique(drawn.half_set)) == {1, 2}
    assert abs((drawn.half_set == 1).mean() - 0.5) < 0.05
    backwards = read_star(write_star(tmp_path / "c.star", {k: v[::-1] for k, v in columns.items()},
                                     optics_columns()))
    halves, _ = half_sets(backwards, drawn.particle_id[::-1], np.arange(n))
    np.testing.assert_array_equal(halves, drawn.half_set[::-1])


def test_max_images_comes_before_the_half_set(tmp_path):
    star = write_particles(tmp_path, n=60)
    first = loaded(star, max_images=20)
    halves = [loaded(star, max_images=20, half_set=half) for half in (1, 2)]
    joined = np.sort(np.concatenate([half.particle_id for half in halves]))
    np.testing.assert_array_equal(joined, first.particle_id)
    assert all((half.half_set == i).all() for i, half in enumerate(halves, 1))


def test_without_ctf_only_when_asked(tmp_path):
    star = write_particles(tmp_path)
    columns = {"rlnImageName": particle_columns(6)["rlnImageName"]}
    star = write_star(star, columns, {"rlnOpticsGroup": [1], "rlnImagePixelSize": [2.0]})
    with pytest.raises(DataError, match="rlnDefocusU, rlnDefocusV, rlnDefocusAngle, rlnVoltage, "
                                        "rlnSphericalAberration, rlnAmplitudeContrast are missing"):
        loaded(star)
    table = loaded(star, ignore_ctf=True)
    assert not table.ctf_present


def test_the_ctf_that_stands_for_none_is_1_everywhere(tmp_path):
    import torch
    from vaegan_engine.physics import ctf
    table = loaded(write_particles(tmp_path), ignore_ctf=True)
    made = ctf.ctf_2d(torch.from_numpy(table.ctf), 16, 3.0)
    torch.testing.assert_close(made, torch.ones_like(made))


@pytest.mark.parametrize(("star", "n", "box_px", "pixel_size_ang", "defocus_u_ang"), [
    ("aspire_17/sample_relion_data.star", 17, 200, 5e4 / 37369.207031, 21186.804688),
    ("filament_5/relion31.star", 5, 256, 2.806, 13108.082418)])
def test_real_particles(shared_data, star, n, box_px, pixel_size_ang, defocus_u_ang):
    table = loaded(shared_data / "real_particles" / star)
    assert (len(table), table.box_px) == (n, box_px)
    assert table.pixel_size_ang == pytest.approx(pixel_size_ang, rel=1e-6)
    assert table.ctf[0, 0] == pytest.approx(defocus_u_ang, rel=1e-6)


def test_images_that_were_multiplied_by_their_ctf_are_refused(tmp_path):
    write_stack(tmp_path / "particles.mrcs", noise_images(3, 8))
    optics = {**optics_columns(), "rlnCtfDataAreCtfPremultiplied": [1]}
    star = write_star(tmp_path / "p.star", particle_columns(3), optics)
    with pytest.raises(DataError, match="rlnCtfDataAreCtfPremultiplied is 1"):
        loaded(star)
    write_star(star, particle_columns(3), {**optics, "rlnCtfDataAreCtfPremultiplied": [0]})
    assert loaded(star).ctf_present


@pytest.mark.parametrize("given", [False, True])
def test_a_subset_keeps_ids_and_names(tmp_path, given):
    write_stack(tmp_path / "particles.mrcs", noise_images(6, 8))
    columns = {**particle_columns(6), "rlnGroupName": [f"{i:03d}" for i in range(6)]}
    if given:
        columns["vaeParticleId"] = list(range(10, 16))
    star = write_star(tmp_path / "p.star", columns, optics_columns())
    wanted = [12, 14] if given else [3, 5]
    assert write_subset(read_star(star), np.array(wanted), tmp_path / "sub" / "s.star") == 2
    again = loaded(tmp_path / "sub" / "s.star")
    assert again.particle_id.tolist() == wanted and again.slice_index.tolist() == [2, 4]
    assert read_star(tmp_path / "sub" / "s.star").text("rlnGroupName") == ["002", "004"]
