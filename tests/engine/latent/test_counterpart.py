"""The counterpart of a particle is the projection it was made from."""
import re
from types import SimpleNamespace

import mrcfile
import numpy as np
import pytest
import torch
from fake_run import FakeTrained, write_embedding
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.analysis_records import CounterpartNumbers
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.record import read_record, to_json
from vaegan_engine.contract.settings import CounterpartRun, DataConfig, EmbedRun, ModelConfig
from vaegan_engine.data.pose_table import PoseTable
from vaegan_engine.latent import counterpart
from vaegan_engine.networks import generators
from vaegan_engine.physics.ctf import ctf_2d
from vaegan_engine.physics.projection import (
    extract_slices,
    images_to_slices,
    map_to_fourier,
    shift_slices,
    slices_to_images,
)
from vaegan_engine.physics.rotations import euler_to_matrix, rotation_distance_deg, super_fibonacci_rotations

SHIFT_PX = (1.0, -1.0)
TRUE_DEG = (30.0, 65.0, -40.0)
CTF_ROW = (12000.0, 11000.0, 25.0, 300.0, 2.7, 0.1, 0.0)


class Trained(FakeTrained):
    """The fake, with the settings that a counterpart reads."""

    def __init__(self, is_3d=True):
        super().__init__(is_3d)
        self.run = SimpleNamespace(data=DataConfig(), model=ModelConfig(n_categories=3, max_shift_frac=0.1))


@pytest.fixture
def one_particle(tmp_path, monkeypatch, fake_model):
    """A particle (id 70) that is state 1 seen along TRUE_DEG, with CTF, shift and a little noise."""
    fake_model(Trained)
    trained = Trained()
    state = torch.tensor(trained.states[1])[None]
    rotation = euler_to_matrix(*(torch.tensor([angle]) for angle in TRUE_DEG))
    ctf = ctf_2d(torch.tensor([CTF_ROW]), trained.box_px, trained.pixel_size_ang)
    plane = extract_slices(map_to_fourier(state), torch.zeros(1, dtype=torch.long), rotation, trained.box_px) * ctf
    image = slices_to_images(shift_slices(plane, torch.tensor([SHIFT_PX])))[0].numpy()
    image = image + 0.1 * image.std() * np.random.default_rng(0).normal(size=image.shape)
    ids = np.array([50, 70, 60])
    write_embedding(tmp_path / "emb", np.eye(3)[[0, 1, 2]], particle_id=ids)
    run_json.write_run(EmbedRun(run_dir=str(tmp_path / "run")), tmp_path / "emb" / result_files.RUN_JSON)
    cache = SimpleNamespace(particle_id=np.array([70, 60, 50]), ctf=np.array([CTF_ROW] * 3, np.float32),
                            images=np.stack([image, 0 * image, 0 * image]).astype(np.float16))  # another order
    monkeypatch.setattr(counterpart, "particles_of", lambda *_: cache)
    return CounterpartRun(run_dir=str(tmp_path / "run"), embedding_dir=str(tmp_path / "emb"), particle_id=70), image


def test_pose_and_shift_are_found(tmp_path, one_particle, capsys):
    run, image = one_particle
    found = counterpart.run_counterpart(run, tmp_path / "out")
    assert found == read_record(CounterpartNumbers, tmp_path / "out" / result_files.COUNTERPART_JSON, "counterpart")
    assert found.shift_px == list(SHIFT_PX)
    assert found.correlation > 0.95
    x, y = SHIFT_PX
    said = capsys.readouterr().out
    assert re.search(rf"particle 70: correlation 0\.9\d+ .* shift {x:g}, {y:g} px, rot .* degrees", said)
    angles = [torch.tensor([getattr(found, name)]) for name in ("rot_deg", "tilt_deg", "psi_deg")]
    true = [torch.tensor([angle]) for angle in TRUE_DEG]
    # 2,000 orientations stand about 18 degrees apart
    assert float(rotation_distance_deg(euler_to_matrix(*angles), euler_to_matrix(*true))[0]) < 15
    with mrcfile.open(tmp_path / "out" / result_files.COUNTERPART_MRCS) as stored:
        np.testing.assert_allclose(stored.data[0], image, atol=2e-3 * np.abs(image).max())
        assert np.corrcoef(stored.data[0].ravel(), stored.data[1].ravel())[0, 1] > 0.9
        assert stored.voxel_size.x == pytest.approx(Trained().pixel_size_ang, rel=1e-5)


def test_the_wrong_state_fits_worse(one_particle):
    _, image = one_particle
    trained = Trained()
    ctf = ctf_2d(torch.tensor([CTF_ROW]), trained.box_px, trained.pixel_size_ang)[0]
    scores = [counterpart.best_match(torch.tensor(image, dtype=torch.float32),
                                     counterpart.projections(torch.tensor(state), 1000), ctf, 2.0).score
              for state in trained.states]
    assert int(np.argmax(scores)) == 1


def test_an_exact_candidate_scores_its_norm():
    """With x = h * f shifted, the score is |h * f| and nothing scores higher (Cauchy and Schwarz)."""
    trained = Trained()
    ctf = ctf_2d(torch.tensor([CTF_ROW]), trained.box_px, trained.pixel_size_ang)
    rotations = super_fibonacci_rotations(20)
    planes = extract_slices(map_to_fourier(torch.tensor(trained.states[:1])), torch.zeros(20, dtype=torch.long),
                            rotations, trained.box_px)
    image = slices_to_images(shift_slices(planes[7:8] * ctf, torch.tensor([[-1.0, 1.0]])))[0]
    match = counterpart.best_match(image, iter([(rotations, planes)]), ctf[0], 2.0)
    assert match.score == pytest.approx(float(image.norm()), rel=1e-4)
    assert match.shift_px.tolist() == [-1.0, 1.0]
    torch.testing.assert_close(match.rotation, rotations[7])
    torch.testing.assert_close(match.modulated, image, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("settings", "turned"), [({}, True), ({"pose_prior": "none"}, False),
                                                  ({"pose_prior": "none", "poses_dir": "classes"}, True)])
def test_an_image_is_turned_as_the_generator_was_trained_to(tmp_path, one_particle, fake_model, monkeypatch, settings,
                                                            turned):
    """A particle that is state 1 in the plane, turned by 70 degrees and moved: the default, and with poses.

    Its pose says that it lies further off centre than a generator without poses moves its images.
    """
    run, _ = one_particle
    shift_px = (4.0, -1.0) if "poses_dir" in settings else SHIFT_PX
    table = PoseTable(np.array([50, 70]), np.zeros((2, 3)), Trained().pixel_size_ang * np.array([[0, 0], shift_px]),
                      np.ones(2), np.zeros(2, np.int64))
    monkeypatch.setattr(counterpart, "read_plane_poses", lambda _: table)

    class InPlane(Trained):
        def __init__(self):
            super().__init__(is_3d=False)
            self.run.data = DataConfig(poses_dir=settings.get("poses_dir", ""))
            self.run.model = ModelConfig(n_categories=3, max_shift_frac=0.1,
                                         pose_prior=settings.get("pose_prior", ModelConfig().pose_prior))

    fake_model(InPlane)
    trained = InPlane()
    about = euler_to_matrix(torch.zeros(1), torch.zeros(1), torch.tensor([70.0]))
    ctf = ctf_2d(torch.tensor([CTF_ROW]), trained.box_px, trained.pixel_size_ang)
    plane = images_to_slices(generators.turned(torch.tensor(trained.states[1:2], dtype=torch.float32), about)) * ctf
    image = slices_to_images(shift_slices(plane, torch.tensor([shift_px])))[0].numpy()
    cache = SimpleNamespace(particle_id=np.array([70]), ctf=np.array([CTF_ROW], np.float32),
                            images=image[None].astype(np.float16))
    monkeypatch.setattr(counterpart, "particles_of", lambda *_: cache)
    numbers = counterpart.run_counterpart(run, tmp_path / "out")
    assert set(to_json(numbers)) == {"particle_id", "shift_px", "correlation"} | ({"psi_deg"} if turned else set())
    if turned:
        assert numbers.psi_deg == pytest.approx(70, abs=5) and numbers.shift_px == list(shift_px)
        assert numbers.correlation > 0.97
        assert "degrees" in counterpart.numbers_text(numbers)


def test_refusals(tmp_path, one_particle):
    run, _ = one_particle
    import dataclasses

    with pytest.raises(DataError, match="particle 71 is not there"):
        counterpart.run_counterpart(dataclasses.replace(run, particle_id=71), tmp_path)
    with pytest.raises(ConfigError, match="n_orientations is 0"):
        counterpart.run_counterpart(dataclasses.replace(run, n_orientations=0), tmp_path)


@pytest.mark.parametrize("box_px", [16, 17])
@pytest.mark.parametrize("shift", [(3.0, -2.0), (-4.0, 1.0), (0.0, 6.0)])
def test_shifts_up_to_half_of_the_box_are_tried(box_px, shift):
    picture = torch.zeros(1, box_px, box_px)
    picture[0, box_px // 2, box_px // 2 + 1] = picture[0, box_px // 2 + 2, box_px // 2] = 1
    planes = images_to_slices(picture)
    image = slices_to_images(shift_slices(planes, torch.tensor([shift])))[0]
    match = counterpart.best_match(image, iter([(None, planes)]), torch.ones_like(planes[0].real), 0.5 * box_px)
    assert match.shift_px.tolist() == list(shift)
