"""Pose errors: zero for the same poses in another frame or hand, the right size for a known disturbance."""
import numpy as np
import pytest
import torch
from vaegan_engine.contract import result_files
from vaegan_engine.contract.errors import DataError
from vaegan_engine.evaluation.truth.observer import true_rotations
from vaegan_engine.evaluation.truth.pose_scores import median_pose_error_deg, pose_errors, true_angles_deg
from vaegan_engine.physics.rotations import matrix_to_euler, random_rotations
from vaegan_engine.physics.symmetry import group_of
from vaegan_engine.reconstruction.pose_refinement import small_rotations

MIRROR = torch.diag(torch.tensor([1.0, 1.0, -1.0]))


def disturbed(n, deg, rng):
    axis = torch.nn.functional.normalize(torch.randn(n, 3, generator=rng), dim=1)
    return small_rotations(axis * torch.deg2rad(torch.tensor(deg)))


@pytest.mark.parametrize("mirrored", [False, True])
def test_frame_and_hand_are_free(mirrored):
    rng = torch.Generator().manual_seed(0)
    true, frame = random_rotations(300, rng), random_rotations(1, rng)[0]
    found = true @ frame
    assert median_pose_error_deg(MIRROR @ found @ MIRROR if mirrored else found, true) < 0.2


def test_error_has_the_size_of_the_disturbance():
    rng = torch.Generator().manual_seed(1)
    true = random_rotations(400, rng)
    found = disturbed(400, 10.0, rng) @ true
    assert 7.0 < median_pose_error_deg(found, true) < 11.0


def test_random_poses_are_far_off():
    rng = torch.Generator().manual_seed(2)
    assert median_pose_error_deg(random_rotations(400, rng), random_rotations(400, rng)) > 60


@pytest.mark.slow
@pytest.mark.parametrize("name", ["C3", "D2", "O", "I1"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_any_pose_that_shows_the_same_is_right(name, mirrored):
    """Found at random copies, in another frame and hand, 2 degrees off; without the group they are far off."""
    rng, group = torch.Generator().manual_seed(3), group_of(name)
    true, frame = random_rotations(300, rng), random_rotations(1, rng)[0]
    copies = group[torch.randint(len(group), (300,), generator=rng)]
    found = disturbed(300, 2.0, rng) @ true @ copies @ frame
    found = MIRROR @ found @ MIRROR if mirrored else found
    assert 1.4 < median_pose_error_deg(found, true, group) < 2.4
    assert median_pose_error_deg(found, true) > 20


def test_random_poses_are_off_by_what_the_group_leaves():
    """In O no pose is further from a copy than 62.8 degrees; the median of random ones is some 40."""
    rng = torch.Generator().manual_seed(4)
    error = median_pose_error_deg(random_rotations(400, rng), random_rotations(400, rng), group_of("O"))
    assert 30 < error < 45


def test_tables_are_joined_by_id_and_those_without_angles_have_no_error(tmp_path):
    rng, group = torch.Generator().manual_seed(5), group_of("D2")
    true = random_rotations(40, rng)
    found = true @ group[torch.randint(4, (40,), generator=rng)]

    def rows(A):
        return np.stack([angle.numpy() for angle in matrix_to_euler(A)], 1).tolist()

    angles = ["rot_deg", "tilt_deg", "psi_deg"]
    result_files.write_csv(tmp_path / "truth.csv", ["id", "map", "map_file", *angles],
                           [[i, 0, "a.mrc", *row] for i, row in enumerate(rows(true))] + [[40, 0, "junk", "", "", ""]])
    table = [[i, 0, *row] for i, row in enumerate(rows(found))] + [[40, 0, 0, 0, 0]]
    result_files.write_csv(tmp_path / result_files.PARTICLES_CSV, ["particle_id", "label", *angles], table[::-1])
    assert pose_errors(tmp_path, tmp_path / "truth.csv", group)[0] < 0.3
    assert pose_errors(tmp_path, tmp_path / "truth.csv")[0] > 20
    result_files.write_csv(tmp_path / "labels.csv", ["id", "map"], [[i, 0] for i in range(41)])
    assert pose_errors(tmp_path, tmp_path / "labels.csv") == {}
    assert pose_errors(tmp_path / "none", tmp_path / "truth.csv") == {}


def test_particles_without_a_true_pose_are_left_out(tmp_path):
    """Empty or nan angles, junk by its state, ids under their other name."""
    (tmp_path / "truth.csv").write_text("particle_id,state,rot_deg,tilt_deg,psi_deg\n1,a,10,20,30\n2,a,,,\n"
                                        "3,a,nan,20,30\n4,junk,1,2,3\n5,b,40,50,60\n")
    assert true_angles_deg(tmp_path / "truth.csv") == {1: (10, 20, 30), 5: (40, 50, 60)}
    result_files.write_csv(tmp_path / result_files.PARTICLES_CSV,
                           ["particle_id", "label", "rot_deg", "tilt_deg", "psi_deg"],
                           [[i, 0, 10, 20, 30] for i in range(1, 5)])
    assert pose_errors(tmp_path, tmp_path / "truth.csv") == {0: pytest.approx(0, abs=0.1)}


def test_the_observer_needs_every_pose(tmp_path):
    (tmp_path / "truth.csv").write_text("particle_id,state\n1,a\n2,b\n")
    with pytest.raises(DataError, match="particle 1 has no rot_deg"):
        true_rotations(str(tmp_path / "truth.csv"), np.array([1, 2]))
