"""``states`` with room for nothing in memory ends in the same bits as with room for all."""
from dataclasses import replace

import numpy as np
import pytest
from vaegan_engine.contract import result_files
from vaegan_engine.contract.settings import ComputeConfig, DataConfig
from vaegan_engine.data.mrc_files import read_map
from vaegan_engine.evaluation.device.measures import TOY
from vaegan_engine.physics import memory_limit
from vaegan_engine.reconstruction import images
from vaegan_engine.refine.refine import run_states
from vaegan_engine.runtime import compute
from vaegan_engine.simulation.simulate import STAR, SimulateOptions, run_simulate


@pytest.mark.slow
def test_states_do_not_depend_on_the_memory(tmp_path, monkeypatch):
    run_simulate(SimulateOptions(phantom=2, per_map=60, box_px=24, snr=2.0, device="cpu"), tmp_path / "data")
    run = replace(TOY.states, data=DataConfig(particles=str(tmp_path / "data" / STAR), box_px=24),
                  compute=ComputeConfig(device="cpu", threads=1))
    monkeypatch.setattr(memory_limit, "_limit_bytes", float("inf"))
    on_disk, file_of = [], images.file_of
    monkeypatch.setattr(images, "file_of", lambda folder, shape: on_disk.append(shape) or file_of(folder, shape))
    for name, free_gb in (("much", 100.0), ("none", 1e-6)):
        monkeypatch.setattr(compute, "free_gb", lambda free_gb=free_gb: free_gb)
        run_states(run, tmp_path / name, tuning=TOY.tuning)
        assert len(on_disk) == (name == "none")
    for path in sorted((tmp_path / "much" / "maps").glob("*.mrc")):
        np.testing.assert_array_equal(read_map(path)[0], read_map(tmp_path / "none" / "maps" / path.name)[0])
    first, second = (np.genfromtxt(tmp_path / name / result_files.PARTICLES_CSV, delimiter=",")[1:]
                     for name in ("much", "none"))
    np.testing.assert_array_equal(first, second)
