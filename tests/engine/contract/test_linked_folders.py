"""Paths of a ``run.json`` whose folder is reached by a link."""
import os

from vaegan_engine.contract import run_json
from vaegan_engine.contract.settings import DataConfig, TrainRun


def test_a_folder_that_was_moved_and_linked_back_still_names_its_files(tmp_path):
    """To another disk, at another depth: the paths go from where the folder is named."""
    project, disk = tmp_path / "project", tmp_path / "disk"
    for folder in (project / "runs" / "states", project / "runs" / "training", disk):
        folder.mkdir(parents=True)
    run = TrainRun(command="train3d", data=DataConfig(particles="particles.star", poses_dir="../states"))
    path = run_json.write_run(run, project / "runs" / "training" / "run.json")
    assert run_json.read_run(path).data.poses_dir == str(project / "runs" / "states")
    os.rename(project / "runs" / "training", disk / "training")
    os.symlink(disk / "training", project / "runs" / "training")
    assert run_json.read_run(path).data.poses_dir == str(project / "runs" / "states")


def test_what_was_written_through_a_link_is_found_from_where_it_leads(tmp_path):
    """The whole project lies on another disk, the images do not."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "particles.star").touch()
    real = tmp_path / "disk" / "deep" / "project"
    real.mkdir(parents=True)
    os.symlink(real, tmp_path / "project")
    star = str(tmp_path / "data" / "particles.star")
    path = run_json.write_run(TrainRun(command="train3d", data=DataConfig(particles=star)),
                              tmp_path / "project" / "run.json")
    for read in (path, real / "run.json"):
        assert run_json.read_run(read).data.particles == star
    assert run_json.read_run(run_json.write_run(
        TrainRun(command="train3d", data=DataConfig(particles="gone.star")), path)).data.particles == str(
            real / "gone.star")
