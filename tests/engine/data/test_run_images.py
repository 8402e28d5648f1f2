"""Row numbers as ids: results are joined with the star file that they were made from, or not at all."""
from dataclasses import replace

import numpy as np
import pytest
from particle_files import noise_images, optics_columns, particle_columns, write_stack, write_star
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.errors import DataError
from vaegan_engine.contract.settings import DataConfig, TrainRun
from vaegan_engine.contract.status import update_status
from vaegan_engine.data import run_images
from vaegan_engine.data.run_images import check_row_ids, open_run_cache
from vaegan_engine.evaluation import consensus
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
