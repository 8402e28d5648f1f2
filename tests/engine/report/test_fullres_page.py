"""Full resolution has its place in the report: beside the states, beside a clustering, and alone."""
from dataclasses import replace

import numpy as np
import pytest
from made_records import comparison, proof, state_row, states_summary
from test_page import read
from vaegan_engine.contract import answer, result_files, run_json
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.fullres_records import FullresState, FullresSummary
from vaegan_engine.contract.record import write_record, write_records
from vaegan_engine.contract.settings import FullresRun, ReportRun, StatesRun
from vaegan_engine.contract.status import update_status
from vaegan_engine.data.mrc_files import write_map
from vaegan_engine.report import page, report

BOX_PX, VOXEL_ANG = 16, 2.0
SUFFIXES = ("", "_half1", "_half2", "_sharpened", "_local_resolution", "_mask")


def state(label, **fields):
    """A state of ``fullres.json``: 5 or 6 A, of which Nyquist is 4."""
    files = [f"maps/cluster_{label:02d}{suffix}.mrc" for suffix in SUFFIXES]
    return replace(FullresState(
        label, 80 - 20 * label, 40, 2, 12.5, 5.0 + label, True, 15.0, -77.0, "Guinier fit from 10.0 to 5.0 A",
        [4.5, 5.5, 7.5], 30.0, 1.25, 0.75, [], files[0], files[1:3], *files[3:], f"state_{label + 1:02d}.star",
        f"state_{label + 1:02d}_relion.sh"), **fields)


@pytest.fixture
def folder(tmp_path):
    """Two states at full resolution, of which nothing is proven of the second, and the search before."""
    rng = np.random.default_rng(0)
    states = [state(0), state(1, proven=False, b_factor_ang2=None, b_factor_from="not sharpened: nothing is proven")]
    for one in states:
        for file in (one.map_file, *one.half_files, one.sharpened_file):
            write_map(tmp_path / "full" / file, rng.normal(size=(BOX_PX,) * 3).astype(np.float32), VOXEL_ANG)
        write_map(tmp_path / "full" / one.local_resolution_file, np.full((BOX_PX,) * 3, 5.0, np.float32), VOXEL_ANG)
        write_map(tmp_path / "full" / one.mask_file, np.ones((BOX_PX,) * 3, np.float32), VOXEL_ANG)
    write_record(tmp_path / "full" / result_files.FULLRES_JSON,
                 FullresSummary(BOX_PX, VOXEL_ANG, 1140, 1.0, 100.0, states))
    write_records(tmp_path / "full" / result_files.CLUSTERS_JSON, [
        state_row(one.label, one.n_particles, 0.5, comparison(
            resolution_0143_ang=one.resolution_ang, nyquist_frac_0143=4 / one.resolution_ang, resolution_05_ang=8.0),
            proof(2, proven_0143=one.proven)) for one in states])
    write_record(tmp_path / "search" / result_files.STATES_JSON, states_summary())
    run_json.write_run(StatesRun(mask="mask.mrc"), tmp_path / "search" / result_files.RUN_JSON)
    run_json.write_run(FullresRun(states_dir=str(tmp_path / "search")), tmp_path / "full" / result_files.RUN_JSON)
    update_status(tmp_path / "full", command="fullres", n_particles=1140, states=2, state="finished")
    return tmp_path / "full"


def test_it_stands_alone_with_the_answer_first(tmp_path, folder):
    reader, text = read(page.write_report(ReportRun(fullres_dir=str(folder)), tmp_path / "report.html"))
    order = [text.index(words) for words in (
        "Full resolution 1140 particles refined in their own box",
        "In the particles' own box (16 px of 2.00 Å) half maps agree, at FSC 0.143, to: state 1 5.0 Å (0.80 of "
        "Nyquist; before 12.5 Å). Of state 2 no resolution is proven",
        "state 1 80 12.5 Å 5.0 Å 8.0 Å 0.80 halves agree to 5.0 Å at FSC 0.143 (0.80 of Nyquist)",
        "-77 Å² (Guinier fit from 10.0 to 5.0 Å) 4.5, 5.5, 7.5 Å 1.2° 0.8 Å",
        "state 2 60 12.5 Å 6.0 Å", "no resolution is proven: the halves fall apart at 6.0 Å", "not sharpened",
        "state 1, 80 particles; box 32 Å wide", "sharpened, section across z",
        "state_01.star state_01_relion.sh", "The poses of 1,140 particles were refined locally",
        "inside a given mask. Resolution by FSC 0.143, corrected for the mask: state 1 5.0 Å. Of state 2 no resolution",
        "Full resolution setting value default")]
    assert order == sorted(order)
    assert len(reader.images) == 1 + 1 + 2 * 6 + 3  # FSC, local resolution; surfaces and sections; sharpened sections


def test_what_the_states_say_against_themselves_is_repeated(tmp_path, folder):
    write_record(tmp_path / "search" / result_files.STATES_JSON,
                 states_summary(verdict="no structure: -0.2 per image", has_states=False))
    _, text = read(page.write_report(ReportRun(fullres_dir=str(folder)), tmp_path / "report.html"))
    assert "These states say of themselves that there is nothing to trust yet: no structure: -0.2 per image. In" in text


def test_only_the_page_shows_it(tmp_path, folder):
    run = ReportRun(run_dir="x", clusters_dir="y", fullres_dir=str(folder))
    with pytest.raises(ConfigError, match="fullres_dir is given"):
        report.run_report(run, tmp_path / "picture.png")
    (folder / result_files.FULLRES_JSON).unlink()
    with pytest.raises(DataError, match="fullres"):
        page.write_report(ReportRun(fullres_dir=str(folder)), tmp_path / "report.html")


def test_methods_leave_out_what_is_not_proven():
    values = FullresSummary(16, 2.0, 100, 1.0, 1.0, [state(0, proven=False)])
    text = answer.fullres_methods(values, False, "[Scheres2012]")
    assert text == ("The poses of 100 particles were refined locally at full size (box 16 px of 2.00 Å), independent "
                    "half sets apart, with a prior on the signal [Scheres2012]. Of state 1 no resolution is proven.")
