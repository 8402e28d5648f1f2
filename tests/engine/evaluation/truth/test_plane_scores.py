"""Class averages against projections: members laid in their class as an image is turned and moved by hand."""
import numpy as np
import pytest
import torch
from vaegan_engine.contract import result_files
from vaegan_engine.data.mrc_files import write_stack
from vaegan_engine.evaluation.truth.plane_scores import Member, clean_members, plane_scores, weighted_median
from vaegan_engine.physics.image_alignment import correlation, move_image
from vaegan_engine.physics.projection import map_to_fourier, project
from vaegan_engine.physics.rotations import euler_to_matrix
from vaegan_engine.simulation.options import SimulateOptions
from vaegan_engine.simulation.phantom import phantom_states
from vaegan_engine.simulation.simulate import TRUTH_CSV, load_maps, run_simulate

ANGLES = (20.0, 60.0, -35.0)


def projection(maps, index, angles):
    rotation = euler_to_matrix(*torch.tensor([angles], dtype=torch.float64).T).float()
    return project(torch.from_numpy(maps), torch.tensor([index]), rotation)[0].numpy()


@pytest.mark.parametrize(("psi_deg", "apart"), [(0.0, (0.0, 0.0)), (40.0, (0.0, 0.0)), (-75.0, (1.5, -0.5))])
def test_a_member_lies_as_its_image_turned_and_moved(psi_deg, apart):
    maps = phantom_states(2, 32, 6.0)
    image = projection(maps, 1, ANGLES)
    c, s = np.cos(np.deg2rad(psi_deg)), np.sin(np.deg2rad(psi_deg))
    moved = (c * apart[0] - s * apart[1], s * apart[0] + c * apart[1])
    member = Member(1, ANGLES, np.array(apart) + 0.7, psi_deg, np.full(2, 0.7))
    found = clean_members(map_to_fourier(torch.from_numpy(maps)), [member], 32)[0]
    assert correlation(found, move_image(image, psi_deg, moved)) > 0.995


@pytest.fixture
def simulated(tmp_path):
    options = SimulateOptions(phantom=2, per_map=12, box_px=24, snr=1.0, junk_frac=0.2, device="cpu")
    run_simulate(options, tmp_path / "data")
    return tmp_path, load_maps(options)


def write_classes(out, maps, pixel_size_ang, shift_error_px=0.0):
    """One class per particle, at its true shift, its average the clean projection; junk is junk."""
    truth = result_files.read_csv(out / "data" / TRUTH_CSV)
    rows, averages = [], []
    for row in truth:
        junk = row["map_file"] == "junk"
        shift = (0.0, 0.0) if junk else (float(row["shift_x_px"]) + shift_error_px, float(row["shift_y_px"]))
        rows.append([row["id"], -1 if junk else len(averages), int(junk), 0.0, *(pixel_size_ang * x for x in shift)])
        if not junk:
            angles = [float(row[name]) for name in ("rot_deg", "tilt_deg", "psi_deg")]
            averages.append(projection(maps, int(row["map"]), angles))
    result_files.write_csv(out / "classes" / result_files.PARTICLES_CSV,
                           ["particle_id", "label", "junk", "psi_deg", "shift_x_ang", "shift_y_ang"], rows)
    write_stack(out / "classes" / result_files.MAPS / result_files.CLASSES_MRCS, np.stack(averages).astype(np.float32),
                pixel_size_ang)


def test_true_averages_are_perfect_and_moved_ones_are_not(simulated):
    out, (maps, pixel_size_ang, _) = simulated
    write_classes(out, maps, pixel_size_ang)
    perfect = plane_scores(out / "classes", out / "data")
    assert perfect.frc_auc > 0.99 and perfect.view_frc_auc > 0.99
    assert perfect.resolution_05_ang == pytest.approx(2 * pixel_size_ang)
    write_classes(out, maps, pixel_size_ang, shift_error_px=2.0)
    assert plane_scores(out / "classes", out / "data").frc_auc < 0.6


def test_weighted_median():
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([1, 1, 5])) == 2.0
