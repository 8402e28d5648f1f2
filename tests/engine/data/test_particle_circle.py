"""The circle from a diameter: the limits that are named are themselves taken."""
import re

import pytest
from particle_files import optics_columns, particle_columns, write_particles, write_star
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.settings import DataConfig
from vaegan_engine.data.particle_circle import radius_frac
from vaegan_engine.data.prepared_images import open_cache


@pytest.mark.parametrize("apix", [1.0, 1.237, 2.3456])
@pytest.mark.parametrize("diameter_ang", [0.1, 1e4])
def test_named_limits_are_taken(tmp_path, apix, diameter_ang):
    write_particles(tmp_path, 3, 25)
    data = DataConfig(particles=str(write_star(tmp_path / "p.star", particle_columns(3), optics_columns(apix))))
    with pytest.raises(ConfigError) as caught:
        radius_frac(data, diameter_ang)
    low, high = map(float, re.search(r"Use ([0-9.]+) to ([0-9.]+) A", caught.value.hint).groups())
    assert 0.05 <= radius_frac(data, low) < 0.055 and 0.495 < radius_frac(data, high) <= 0.5


def test_the_box_that_is_named_serves_every_command(tmp_path):
    star = write_particles(tmp_path, 3, 45)
    with pytest.raises(DataError, match="Use box_px 40 or less"):  # 44 is no multiple of 8, which trainings ask for
        open_cache(DataConfig(particles=str(star)), tmp_path / "cache", progress=False)
