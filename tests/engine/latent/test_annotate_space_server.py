"""Points of the latent space decoded as Hax does it: the file loaded by its path, the class called by its interface."""
import importlib.util

import mrcfile
import numpy as np
import pytest
from fake_run import FakeTrained
from vaegan_engine.contract.errors import DataError
from vaegan_engine.latent import annotate_space_server


def loaded():
    """The module, loaded by path."""
    spec = importlib.util.spec_from_file_location("server", annotate_space_server.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("is_3d", [True, False])
def test_each_latent_becomes_a_file(tmp_path, fake_model, is_3d):
    fake_model(is_3d=is_3d)
    program = loaded().HeterogeneityProgramInterface(str(tmp_path / "map_{:03d}.mrc"), {"run_dir": "run"})
    z = np.array([[1, 0, 0], [0.25, 0.75, 0]])
    program.decode_state_from_latent(z)
    expected = FakeTrained(is_3d=is_3d).decode(z)
    for number in (1, 2):
        with mrcfile.open(tmp_path / f"map_{number:03d}.mrc") as mrc:
            np.testing.assert_allclose(np.squeeze(mrc.data), expected[number - 1], rtol=1e-6)
            assert float(mrc.voxel_size.x) == pytest.approx(FakeTrained().pixel_size_ang, rel=1e-5)


def test_one_latent_and_latents_of_another_model(tmp_path, fake_model):
    fake_model()
    program = loaded().HeterogeneityProgramInterface(str(tmp_path / "m{}.mrc"), {"run_dir": "run", "gpu_id": None})
    program.decode_state_from_latent(np.array([1.0, 0, 0]))
    assert (tmp_path / "m1.mrc").exists()
    with pytest.raises(DataError, match="z has 2 numbers per particle, the model 3"):
        program.decode_state_from_latent(np.zeros((1, 2)))


@pytest.mark.parametrize(("gpu_id", "shown", "device"), [
    (None, None, "cpu"), ("", "0", "cpu"), (1.0, None, "cuda:1"),  # hax makes a float of what looks like a number
    (1.0, "1", "cuda:0"), ("1,2", "0,1,2", "cuda:1"), ("0", "", "cuda:0"), (3.0, "3,1", "cuda:0")])
def test_the_gpu_is_the_one_that_hax_shows(monkeypatch, gpu_id, shown, device):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert loaded().device_of(gpu_id) == device


def test_all_arguments_of_hax_arrive(tmp_path, fake_model):
    """What its server hands over beside ours: names and kinds as in hax-em 1.0.4."""
    fake_model()
    given = {"z_space_reduced": None, "only_view": False, "chimerax_binary": None, "env_name": "vaegan",
             "server_functions_path": annotate_space_server.__file__, "volumes_path": None, "run_dir": "run",
             "outdir": str(tmp_path)}
    program = loaded().HeterogeneityProgramInterface(
        _path_template=str(tmp_path / "decoded_map_class_{:02d}.mrc"), _program_loading_params=given)
    program.decode_state_from_latent(latent=np.array([[1.0, 0, 0]]))
    assert (tmp_path / "decoded_map_class_01.mrc").exists()
