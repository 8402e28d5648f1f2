"""Poses of a folder and of a star file, joined by particle id."""
import numpy as np
import pytest
from vaegan_engine.contract import result_files
from vaegan_engine.contract.errors import DataError
from vaegan_engine.contract.record import write_record
from vaegan_engine.contract.records import Shells, StatesSummary
from vaegan_engine.contract.settings import DataConfig
from vaegan_engine.contract.status import update_status
from vaegan_engine.data.pose_table import read_poses

HEAD = ["particle_id", "label", "rot_deg", "tilt_deg", "psi_deg", "shift_x_ang", "shift_y_ang", "contrast"]


def write(folder, rows, head=HEAD):
    result_files.write_csv(folder / result_files.PARTICLES_CSV, head, rows)
    return DataConfig(particles="none.star", poses_dir=str(folder))


def test_rows_are_joined_by_particle_id_and_junk_is_left_out(tmp_path):
    table = read_poses(write(tmp_path, [[7, 0, 10, 20, 30, 1, 2, 1.5], [3, -1, 0, 0, 0, 0, 0, 1],
                                        [5, 2, 1, 2, 3, 4, 5, ""]]))
    rows, here = table.rows_of(np.array([3, 4, 5, 6, 7, 8]))
    assert rows.tolist() == [2, 4] and table.particle_id[here].tolist() == [5, 7]
    assert table.angles_deg[here].tolist() == [[1, 2, 3], [10, 20, 30]]
    assert table.shifts_ang[here].tolist() == [[4, 5], [1, 2]] and table.contrast[here].tolist() == [1, 1.5]


def test_poses_of_a_run_that_was_begun_again_are_refused(tmp_path):
    """Until it is finished, what lies there is of the run before, which may have had other settings."""
    data = write(tmp_path, [[1, 0, 1, 2, 3, 4, 5, 1]])
    for state in ("running", "stopped", "failed"):
        update_status(tmp_path, state=state)
        with pytest.raises(DataError, match=f"its run is {state}, so poses that lie there are of a run before it"):
            read_poses(data)
    update_status(tmp_path, state="finished")
    assert len(read_poses(data).particle_id) == 1


@pytest.mark.parametrize(("rows", "head", "word"), [
    ([[1, 0, 1, 2, 3, 4, 5, 1]], ["particle_id", "label", "rot", "tilt", "psi", "x", "y", "c"], "rot_deg"),
    ([[1, 0, "nan", 2, 3, 4, 5, 1]], HEAD, "particle 1 is not finite"),
    ([[1, 0, 1, 2, 3, 4, 5, 1], [1, 0, 1, 2, 3, 4, 5, 1]], HEAD, "particle 1 has 2 poses"),
    ([], HEAD, "cannot be read"), ([[1, 0, 1, 2]], HEAD, "line 2"), ([[1, 0, 1, 2, "", 4, 5, 1]], HEAD, "line 2"),
])
def test_tables_without_usable_poses_are_refused(tmp_path, rows, head, word):
    with pytest.raises(DataError, match=word):
        read_poses(write(tmp_path, rows, head))


def test_a_star_files_origins_are_the_opposite_of_shifts(tmp_path, capsys):
    star = tmp_path / "particles.star"
    columns = ["rlnImageName", "vaeParticleId", "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst",
               "rlnOriginYAngst"]
    star.write_text("data_particles\n\nloop_\n" + "".join(f"_{name}\n" for name in columns)
                    + "1@a.mrcs 9 10 20 30 1.5 -2\n2@a.mrcs 4 40 50 60 0 0\n")
    table = read_poses(DataConfig(particles=str(star), input_poses=True))
    assert table.particle_id.tolist() == [9, 4] and table.angles_deg[0].tolist() == [10, 20, 30]
    assert table.shifts_ang[0].tolist() == [-1.5, 2] and table.label.tolist() == [0, 0]
    assert table.symmetry == "C1"
    star.write_text(star.read_text().replace("_rlnOriginYAngst\n", "_rlnOriginYAngst\n_rlnSymmetryGroup\n")
                    .replace("-2\n", "-2 D4\n").replace("0 0\n", "0 0 D4\n"))
    assert read_poses(DataConfig(particles=str(star), input_poses=True)).symmetry == "D4"
    star.write_text(star.read_text().replace("0 0 D4", "0 0 C3"))
    assert read_poses(DataConfig(particles=str(star), input_poses=True)).symmetry == "C1"
    assert "rlnSymmetryGroup is D4 and C3: not used" in capsys.readouterr().out
    star.write_text(star.read_text().replace("rlnOriginXAngst", "rlnOriginX"))
    with pytest.raises(DataError, match="rlnOriginXAngst"):
        read_poses(DataConfig(particles=str(star), input_poses=True))


def test_origins_of_an_old_star_file_are_in_pixels(tmp_path):
    star = tmp_path / "particles.star"
    columns = ["rlnImageName", "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginX", "rlnOriginY",
               "rlnMagnification", "rlnDetectorPixelSize"]
    star.write_text("data_\n\nloop_\n" + "".join(f"_{name}\n" for name in columns)
                    + "1@a.mrcs 10 20 30 1.5 -2 20000 5\n2@a.mrcs 40 50 60 0 0 20000 5\n")
    table = read_poses(DataConfig(particles=str(star), input_poses=True))  # 5 um / 20000 = 2.5 A
    assert table.shifts_ang.tolist() == [[-3.75, 5.0], [0.0, 0.0]]
    columns[4:6] = ["rlnOriginXAngst", "rlnOriginYAngst"]
    star.write_text("data_\n\nloop_\n" + "".join(f"_{name}\n" for name in [*columns, "rlnOriginX", "rlnOriginY"])
                    + "1@a.mrcs 10 20 30 1.5 -2 20000 5 7 7\n")
    assert read_poses(DataConfig(particles=str(star), input_poses=True)).shifts_ang.tolist() == [[-1.5, 2.0]]


@pytest.mark.parametrize("name", ["I3", "C2v", "Oh", '""', "D1"])
def test_a_symmetry_that_is_another_programs_is_told_and_not_used(tmp_path, capsys, name):
    star = tmp_path / "particles.star"
    columns = ["rlnImageName", "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst",
               "rlnSymmetryGroup"]
    star.write_text("data_particles\n\nloop_\n" + "".join(f"_{name}\n" for name in columns)
                    + f"1@a.mrcs 10 20 30 1.5 -2 {name}\n")
    assert read_poses(DataConfig(particles=str(star), input_poses=True)).symmetry == "C1"
    assert "rlnSymmetryGroup is not used" in capsys.readouterr().out


def test_poses_of_a_folder_have_the_symmetry_of_its_states(tmp_path):
    data = write(tmp_path, [[1, 0, 1, 2, 3, 4, 5, 1]])
    assert read_poses(data).symmetry == "C1"
    summary = StatesSummary(1, "one state", Shells(10, 10, 12), [], 1.0, 1.0, 0.1, 0.1, [], [], [], None, symmetry="O")
    write_record(tmp_path / result_files.STATES_JSON, summary)
    assert read_poses(data).symmetry == "O"


def test_poses_that_states_does_not_trust_are_told(tmp_path, capsys):
    data = write(tmp_path, [[1, 0, 1, 2, 3, 4, 5, 1]])
    for verdict, has_states in (("one state", True), ("poses are not determined: so", False)):
        write_record(tmp_path / result_files.STATES_JSON, StatesSummary(
            1, verdict, Shells(10, 10, 12), [], 1.0, 1.0, 0.1, 0.1, [], [], [], None, has_states=has_states))
        read_poses(data)
        assert (f"{verdict}. What is made at these poses is worth no more" in capsys.readouterr().out) is not has_states
