"""Resolutions and frequencies of a curve belong to the box of its maps, odd or even."""
import numpy as np
import pytest
from vaegan_engine.contract.map_records import MapComparison, PlaneFigures
from vaegan_engine.contract.record import from_json, to_json
from vaegan_engine.figures.fsc_curves import HalvesFsc
from vaegan_engine.physics.map_comparison import compare, comparison_of

VOXEL_ANG = 2.5
BOXES = [16, 17]  # both have 9 shells


@pytest.mark.parametrize("d", BOXES)
def test_a_curve_that_falls_at_a_shell_is_resolved_to_box_over_shell(d):
    """Shell s is s cycles per box: d voxel / s A, and 2 s / d of Nyquist."""
    fsc = np.ones(d // 2 + 1)
    fsc[5], fsc[6:] = 0.5, 0.143  # crossed at 5 + epsilon and at 6
    made = comparison_of(fsc - 1e-9, d, VOXEL_ANG)
    assert made.resolution_05_ang == pytest.approx(d * VOXEL_ANG / 5)
    assert made.resolution_0143_ang == pytest.approx(d * VOXEL_ANG / 6)
    assert made.nyquist_frac_05 == pytest.approx(2 * 5 / d)


@pytest.mark.parametrize("d", BOXES)
def test_frequencies_that_are_drawn_and_written_are_those_of_the_box(d):
    map_ = np.random.default_rng(0).normal(size=(d, d, d))
    made = from_json(MapComparison, to_json(compare(map_, map_, VOXEL_ANG)), "a file")
    assert made.box_px == d
    row = HalvesFsc(0, VOXEL_ANG, made)
    expected = np.arange(9) / (d * VOXEL_ANG)
    np.testing.assert_allclose(row.curves()[0].frequency_per_ang, expected)
    np.testing.assert_allclose([float(line[2]) for line in row.lines()], expected, rtol=1e-6)


def test_an_older_file_has_no_box_and_is_read_as_an_even_one():
    values = to_json(MapComparison([1.0] * 9, 5.0, 1.0, False, 5.0, 1.0, False))
    assert "box_px" not in values
    assert from_json(MapComparison, values, "a file").map_box_px == 16
    assert PlaneFigures("", 0, VOXEL_ANG, [1.0] * 9, 1.0, 5.0, 5.0).image_box_px == 16
    assert PlaneFigures("", 0, VOXEL_ANG, [1.0] * 9, 1.0, 5.0, 5.0, 17).image_box_px == 17
