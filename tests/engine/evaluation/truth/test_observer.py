"""The ideal observer: right where the signal is strong, at chance where there is none, in the true frame."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from refine_particles import PIXEL_SIZE_ANG, blobs
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.record import read_record
from vaegan_engine.contract.settings import ComputeConfig, DataConfig, TrainRun
from vaegan_engine.data.mrc_files import write_map
from vaegan_engine.evaluation.truth.observer import OBSERVER_JSON, Observed, ObserverOptions, run_observer
from vaegan_engine.simulation.simulate import SimulateOptions, run_simulate

COMPUTE = ComputeConfig(device="cpu", threads=1, seed=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two states that differ by a third of their mass, with some junk, strong and weak."""
    folder = tmp_path_factory.mktemp("observer")
    common, extra = blobs(3).numpy(), np.roll(blobs(4, n=5).numpy(), 3, 2)
    for name, array in (("a", common), ("b", common + extra)):
        write_map(folder / f"{name}.mrc", array, PIXEL_SIZE_ANG)
    maps = tuple(str(folder / f"{name}.mrc") for name in "ab")
    for name, snr in (("strong", 2.0), ("weak", 1e-4)):
        run_simulate(SimulateOptions(maps=maps, per_map=120, box_px=24, snr=snr, seed=1, device="cpu", junk_frac=0.1),
                     folder / name)
        run = TrainRun(data=DataConfig(particles=str(folder / name / "particles.star"), box_px=24), compute=COMPUTE)
        run_json.write_run(run, folder / name / "run" / result_files.RUN_JSON)
    return folder


def options(folder, name, **values):
    return ObserverOptions(str(folder / name / "run"), str(folder / name / "truth.csv"),
                           (str(folder / "b.mrc"), str(folder / "a.mrc")), **{
                               "n_images": 100, "n_rotations": 1200, "shells": 7.0, "compute": COMPUTE, **values})


def test_strong_signal_is_told_apart_at_the_true_poses(data, tmp_path):
    made = run_observer(options(data, "strong"), tmp_path)
    assert made.n_images == 100  # no junk among them
    for name in ("grid", "refined"):
        assert getattr(made, name).accuracy > 0.95, made
    assert made.grid.pose_error_deg < 15  # half of a grid step, in the maps' own frame
    assert made.refined.pose_error_deg < 4
    assert read_record(Observed, tmp_path / OBSERVER_JSON, "observer") == made


@pytest.mark.slow
def test_no_signal_is_chance(data, tmp_path):
    made = run_observer(options(data, "weak"), tmp_path)
    assert abs(made.grid.ami) < 0.1
    assert made.grid.pose_error_deg > 60


def test_limits(data, tmp_path):
    with pytest.raises(ConfigError, match="shells is 40"):
        run_observer(options(data, "strong", shells=40.0), tmp_path)
    with pytest.raises(DataError, match=r"none\.mrc"):
        run_observer(replace(options(data, "strong"), maps=(str(data / "none.mrc"),)), tmp_path)
