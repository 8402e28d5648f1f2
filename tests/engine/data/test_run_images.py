"""Row numbers as ids: results are joined with the star file that they were made from, or not at all."""
from dataclasses import replace

import numpy as np
import pytest
from particle_files import noise_images, optics_columns, particle_columns, write_stack, write_star
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.settings import DataConfig, TrainRun
from vaegan_engine.contract.status import update_status
from vaegan_engine.data import run_images
from vaegan_engine.data.prepare import PrepareOptions, run_prepare
from vaegan_engine.data.prepared_images import open_cache
from vaegan_engine.data.run_images import check_row_ids, open_run_cache
from vaegan_engine.evaluation.checks import consensus
from vaegan_engine.thesis import homogeneity

N = 8


@pytest.fixture
def run(tmp_path):
    """A prepared set; ``edit(True)`` gives it ids of its own, ``edit(reverse=True)`` turns its rows round."""
    write_stack(tmp_path / "particles.mrcs", noise_images(N, 8))

    def edit(with_ids=False, reverse=False):
        columns = particle_columns(N)
        if with_ids:
            columns["vaeParticleId"] = list(range(101, 101 + N))
        return write_star(tmp_path / "p.star", {k: v[::-1] if reverse else v for k, v in columns.items()},
                          optics_columns())

    return DataConfig(particles=str(edit()), box_px=8), tmp_path / "run", edit


def test_an_edited_star_file_is_refused_where_ids_are_its_rows(run):
    data, run_dir, edit = run
    first = open_run_cache(data, run_dir, progress=False)
    assert len(open_run_cache(data, run_dir, progress=False)) == N
    assert len(open_run_cache(replace(data, box_px=8, invert_contrast=True), run_dir, progress=False)) == N
    edit(reverse=True)
    with pytest.raises(DataError, match=r"p\.star: the star file is not the one that .*run was made from"):
        open_run_cache(data, run_dir, progress=False)
    edit()
    np.testing.assert_array_equal(open_run_cache(data, run_dir, progress=False).images, first.images)


def test_ids_of_their_own_are_joined_whatever_the_order(run):
    data, run_dir, edit = run
    edit(with_ids=True)
    first = open_run_cache(data, run_dir, progress=False)
    assert first.ids_are_rows_of == ""
    edit(with_ids=True, reverse=True)
    second = open_run_cache(data, run_dir, progress=False)
    assert second.particle_id.tolist() == first.particle_id.tolist()[::-1]
    np.testing.assert_array_equal(second.images[::-1], first.images)


def test_row_numbers_do_not_stand_for_the_ids_there_were(run, tmp_path):
    data, run_dir, edit = run
    edit(with_ids=True)
    cache = open_run_cache(data, run_dir, progress=False)
    update_status(tmp_path / "emb", ids_are_rows_of=cache.ids_are_rows_of)
    check_row_ids(tmp_path / "emb", data.particles)
    edit()
    for refused in (lambda: open_run_cache(data, run_dir, progress=False),
                    lambda: check_row_ids(tmp_path / "emb", data.particles)):
        with pytest.raises(DataError, match="row number"):
            refused()


def test_results_keep_the_star_file_they_belong_to(run, tmp_path):
    data, run_dir, edit = run
    cache = open_run_cache(data, run_dir, progress=False)
    update_status(tmp_path / "emb", ids_are_rows_of=cache.ids_are_rows_of)
    check_row_ids(tmp_path / "emb", data.particles)
    check_row_ids(tmp_path / "never", data.particles)
    edit(reverse=True)
    with pytest.raises(DataError, match="row number"):
        check_row_ids(tmp_path / "emb", data.particles)


def test_groups_of_other_rows_are_not_written(run, tmp_path):
    """``homogeneity`` after the star file was edited."""
    from fake_run import write_clusters, write_embedding

    data, run_dir, edit = run
    run_json.write_run(TrainRun(data=data), run_dir / result_files.RUN_JSON)
    label = np.arange(N) % 2
    write_embedding(tmp_path / "emb", np.eye(2)[label])
    clusters = write_clusters(tmp_path / "clu", label, umap=np.eye(2)[label], embedding_dir=tmp_path / "emb",
                              with_maps=False)
    update_status(clusters, ids_are_rows_of=open_run_cache(data, run_dir, False).ids_are_rows_of)
    options = homogeneity.HomogeneityOptions(str(clusters), str(run_dir), groups=2, align=False)
    assert homogeneity.run_homogeneity(options, tmp_path / "out").sizes == [N // 2, N // 2]
    edit(reverse=True)
    with pytest.raises(DataError, match="row number"):
        homogeneity.run_homogeneity(options, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_runs_of_two_star_files_have_no_consensus(tmp_path):
    from fake_run import write_clusters

    folders = [str(write_clusters(tmp_path / name, np.arange(N) % 2, with_maps=False)) for name in "ab"]
    assert len(consensus.read_labels(folders)[0]) == N
    for folder, star in zip(folders, "xy", strict=True):
        update_status(folder, ids_are_rows_of=star)
    with pytest.raises(DataError, match="not those of one star file"):
        consensus.read_labels(folders)


def test_status_that_cannot_be_read_is_none(tmp_path):
    (tmp_path / "status.json").write_text("[]")
    assert run_images.row_ids_of(tmp_path) is None


def test_poses_of_other_rows_are_refused(run, tmp_path):
    """``train3d --poses`` after the star file was edited."""
    from vaegan_engine.data.pose_table import read_poses

    data, run_dir, edit = run
    names = ["particle_id", "label", "rot_deg", "tilt_deg", "psi_deg", "shift_x_ang", "shift_y_ang"]
    result_files.write_csv(tmp_path / "refined" / result_files.PARTICLES_CSV, names,
                           [[i + 1, 0, 0, 0, 0, 0, 0] for i in range(N)])
    update_status(tmp_path / "refined", ids_are_rows_of=open_run_cache(data, run_dir, False).ids_are_rows_of)
    posed = replace(data, poses_dir=str(tmp_path / "refined"))
    assert len(read_poses(posed).particle_id) == N
    edit(reverse=True)
    with pytest.raises(DataError, match="row number"):
        read_poses(posed)


@pytest.fixture
def wide_run(run, tmp_path):
    """The same in the least box of a user."""
    write_stack(tmp_path / "particles.mrcs", noise_images(N, 16))
    return replace(run[0], box_px=16), run[1], run[2]


def test_prepared_images_are_shared_and_never_made_again(wide_run, tmp_path, capsys):
    data, run_dir, _ = wide_run
    run_prepare(PrepareOptions(data=data), tmp_path / "P")
    stored = (tmp_path / "P" / "cache" / "images.npy").stat()
    shared = replace(data, prepared_dir=str(tmp_path / "P"))
    for cache in (open_cache(shared, run_dir / "cache"), open_run_cache(shared, run_dir)):
        assert len(cache) == N
    assert not run_dir.exists() and (tmp_path / "P" / "cache" / "images.npy").stat() == stored
    run_prepare(PrepareOptions(data=data), tmp_path / "P")  # nothing to do
    assert (tmp_path / "P" / "cache" / "images.npy").stat() == stored
    assert "take them with --prepared" in capsys.readouterr().out


@pytest.mark.parametrize(("changes", "word"), [
    ({"crop_frac": 0.5, "box_px": 8}, "box_px was 16, is 8, crop_frac was 1.0, is 0.5"),
    ({"invert_contrast": True}, "invert_contrast was False, is True"), ({"half_set": 1}, "half_set was 0, is 1")])
def test_prepared_images_of_other_settings_are_refused(wide_run, tmp_path, changes, word):
    data, run_dir, _ = wide_run
    run_prepare(PrepareOptions(data=data), tmp_path / "P")
    with pytest.raises(DataError, match=word):
        open_cache(replace(data, prepared_dir=str(tmp_path / "P"), **changes), run_dir / "cache")
    assert not run_dir.exists()


def test_prepared_images_that_are_not_there_or_of_another_star_file_are_refused(wide_run, tmp_path):
    data, run_dir, _ = wide_run
    with pytest.raises(DataError, match="there are none"):
        open_cache(replace(data, prepared_dir=str(tmp_path)), run_dir / "cache")
    run_prepare(PrepareOptions(data=data), tmp_path / "P")
    wide_run[2](with_ids=True)
    with pytest.raises(DataError, match="the star file changed"):
        open_cache(replace(data, prepared_dir=str(tmp_path / "P")), run_dir / "cache")
    with pytest.raises(ConfigError, match="prepare makes images"):
        run_prepare(PrepareOptions(data=replace(data, prepared_dir="x")), tmp_path / "Q")


def test_the_diameter_is_that_of_states(wide_run, tmp_path):
    """The circle in A is the radius as a fraction of the kept box, as states takes it."""
    data, run_dir, _ = wide_run
    wide = replace(data, particle_radius_frac=0.3)
    pixel_ang = open_cache(data, tmp_path / "c").pixel_size_ang
    run_prepare(PrepareOptions(data=data, particle_diameter_ang=0.6 * 16 * pixel_ang), tmp_path / "P")
    assert len(open_cache(replace(wide, prepared_dir=str(tmp_path / "P")), run_dir)) == N
