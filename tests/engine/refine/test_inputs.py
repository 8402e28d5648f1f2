"""What states is given: particles or a training, the circle in A, and what is refused."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import starfile
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.settings import ComputeConfig, DataConfig, EmbedRun, StatesRun, TrainRun
from vaegan_engine.refine.inputs import open_images, with_data
from vaegan_engine.simulation.simulate import SimulateOptions, run_simulate

COMPUTE = ComputeConfig(device="cpu", threads=1)


@pytest.fixture(scope="module")
def star(tmp_path_factory):
    """24 particles of 24 px."""
    folder = tmp_path_factory.mktemp("data")
    run_simulate(SimulateOptions(phantom=1, per_map=24, box_px=24, snr=1.0, device="cpu"), folder)
    return folder / "particles.star"


def of(star, **more) -> StatesRun:
    """A request for the particles of a star file."""
    return StatesRun(data=DataConfig(particles=str(star), box_px=16, **more), compute=COMPUTE)


def test_a_training_gives_its_data_settings(star, tmp_path):
    data = DataConfig(particles=str(star), box_px=16, crop_frac=0.8, particle_radius_frac=0.4)
    run_json.write_run(TrainRun(data=data), tmp_path / result_files.RUN_JSON)
    assert with_data(StatesRun(run_dir=str(tmp_path))).data == data
    assert with_data(of(star)).data == of(star).data


@pytest.mark.parametrize("crop_frac", [1.0, 2 / 3])
def test_the_circle_has_the_diameter_in_ang(star, tmp_path, crop_frac):
    run = of(star, crop_frac=crop_frac)
    cache = open_images(run, tmp_path, False)
    found = with_data(replace(run, particle_diameter_ang=50.0)).data.particle_radius_frac
    assert 2 * found * cache.box_px * cache.pixel_size_ang == pytest.approx(50.0)
    assert with_data(run).data.particle_radius_frac == 0.45


@pytest.mark.parametrize(("changes", "message"), [
    ({"data": DataConfig()}, "Neither particles nor run_dir"),
    ({"run_dir": "/training"}, "particles is given beside run_dir /training"),
    ({"run_dir": "/training", "data": DataConfig(phase_flipped=True)}, "phase_flipped is given beside run_dir"),
    ({"run_dir": "/training", "data": DataConfig(), "particle_diameter_ang": 80.0}, "particle_diameter_ang is given"),
    ({"particle_diameter_ang": 9000.0}, r"particle_diameter_ang is 9000; the kept part .*wide\. Use .*, or keep more"),
    ({"particle_diameter_ang": 2.0}, "particle_diameter_ang is 2; the kept part .*, or keep less of the box"),
    ({"data": DataConfig(particles="p.star", poses_dir="/states")}, r"poses_dir is /states\. Leave it empty"),
    ({"clusters_dir": "/c", "data": DataConfig(particles="p.star", input_poses=True)}, "there is no start from maps"),
    ({"mask": "/m.mrc"}, r"mask is /m\.mrc, but poses are searched .*Give particle_diameter_ang in its place, or"),
    ({"max_shift_frac": 0.7}, "max_shift_frac is 0.7")])
def test_what_does_not_go_together_is_refused(star, changes, message):
    with pytest.raises(ConfigError, match=message):
        with_data(replace(of(star), **changes))


def test_a_folder_without_images_is_refused(tmp_path):
    run_json.write_run(EmbedRun(), tmp_path / result_files.RUN_JSON)
    with pytest.raises(DataError, match="not a training"):
        with_data(StatesRun(run_dir=str(tmp_path)))


def test_a_run_that_goes_on_keeps_its_particles(star, tmp_path):
    """Ids are row numbers here: another star file has others. Begun anew, it may be another one."""
    blocks, plain = starfile.read(star), star.with_name("plain.star")
    rows = blocks["particles"].drop(columns="vaeParticleId")
    starfile.write({**blocks, "particles": rows}, plain)
    first = open_images(of(plain), tmp_path, False)
    np.testing.assert_array_equal(open_images(of(plain), tmp_path, True).images, first.images)
    starfile.write({**blocks, "particles": rows[1:]}, plain)
    with pytest.raises(DataError, match="not the one"):
        open_images(of(plain), tmp_path, True)
    assert len(open_images(of(plain), tmp_path, False)) == len(first) - 1
