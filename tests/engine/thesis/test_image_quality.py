"""FID and its feature network, PSNR: closed forms, SciPy, and the commands on a tiny training."""
import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from vaegan_engine.contract import presets, result_files
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.settings import ComputeConfig, EmbedRun
from vaegan_engine.latent.embed import run_embed
from vaegan_engine.simulation import simulate
from vaegan_engine.thesis import feature_network, fid, psnr
from vaegan_engine.thesis.feature_network import FeatureNetwork, Training
from vaegan_engine.thesis.fid import FidOptions
from vaegan_engine.thesis.psnr import PsnrOptions
from vaegan_engine.training.train import run_train

CPU = ComputeConfig(device="cpu", threads=1)


@pytest.fixture(scope="module", params=["train2d", "train3d"])
def tiny(tmp_path_factory, request):
    """A few steps on a few images of two states, embedded."""
    folder = tmp_path_factory.mktemp(request.param)
    simulate.run_simulate(simulate.SimulateOptions(phantom=2, per_map=30, box_px=16, snr=4.0), folder / "data")
    run = presets.build_run(request.param, "fast", {
        "data": {"particles": str(folder / "data/particles.star"), "box_px": 16},
        "model": {"n_categories": 2, "critic_width": 4, "encoder_width": 4, "generator_width": 16},
        "training": {"total_kimg": 0.032, "encoder_kimg": 0.032, "batch_size": 16},
        "compute": {"device": "cpu", "threads": 1}})
    run_train(run, folder / "run", resume=False)
    run_embed(EmbedRun(run_dir=str(folder / "run"), compute=CPU), folder / "emb")
    return folder


def test_distance_of_normal_features_is_the_closed_form():
    """Independent coordinates: sum of (m1 - m2)^2 + (s1 - s2)^2."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(200000, 3)) * [1.0, 2.0, 0.5] + [0, 1, 2]
    second = rng.normal(size=(200000, 3)) * [1.5, 1.0, 0.5] + [1, 1, 0]
    assert fid.frechet_distance(first, second) == pytest.approx(1 + 4 + 0.25 + 1, rel=0.02)


@pytest.mark.parametrize("n", [200, 4])  # 4 rows: singular covariances
def test_distance_agrees_with_the_matrix_root_of_scipy(n):
    rng = np.random.default_rng(n)
    first, second = rng.normal(size=(n, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(n, 6)) + 0.3
    s1, s2 = np.cov(first.T), np.cov(second.T)
    if n > 6:
        expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)
        assert fid.frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
    assert fid.frechet_distance(first, first) == pytest.approx(0, abs=1e-6)
    assert fid.frechet_distance(first, second) == pytest.approx(fid.frechet_distance(second, first))


def test_the_network_has_the_shape_of_vgg_19():
    network = FeatureNetwork(64, 1000)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8
    assert all(m.kernel_size == (3, 3) for m in convolutions)
    assert sum(isinstance(m, torch.nn.Linear) for m in network.modules()) == 3
    assert FeatureNetwork(4, 3).features(torch.zeros(2, 1, 40, 40)).shape == (2, 32)


def test_squared_hinge():
    scores = torch.tensor([[2.0, 0.5, -3.0]])
    assert float(feature_network.squared_hinge(scores, torch.tensor([0]))) == pytest.approx(0 + 1.5 ** 2 + 0)


@pytest.mark.slow
def test_the_network_learns_two_classes_and_names_held_out_accuracy():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 300)
    images = rng.normal(size=(300, 16, 16)).astype(np.float32)
    images[label == 1, 4:12, 4:12] += 1.5
    network, accuracy = feature_network.train_network(images, label, Training(4, 120, 64, 5e-3), torch.device("cpu"))
    assert accuracy > 0.8
    made = feature_network.features(network, images, torch.device("cpu"))
    same = fid.frechet_distance(made[label == 0][::2], made[label == 0][1::2])
    assert fid.frechet_distance(made[label == 0], made[label == 1]) > 5 * same


def test_fid_of_a_training_names_its_network_and_reads_it_again(tiny, tmp_path, capsys):
    network = str(tmp_path / "shared.pt")
    options = FidOptions(str(tiny / "run"), str(tiny / "data/truth.csv"), network=network, n_images=50, width=2,
                         steps=4, compute=CPU)
    found = fid.run_fid(options, tmp_path / "a")
    assert "VGG-19 shape, width 2, 16 px, 2 classes of truth.csv" in found.feature_network
    assert found.feature_network in capsys.readouterr().out
    assert found.fid > 0
    again = fid.run_fid(FidOptions(str(tiny / "run"), network=network, n_images=50, compute=CPU), tmp_path / "b")
    assert again.fid == pytest.approx(found.fid, rel=1e-6)
    assert again.feature_network == found.feature_network


def test_fid_refuses_one_class(tiny, tmp_path):
    (tmp_path / "one.csv").write_text("id,map\n" + "\n".join(f"{i},0" for i in range(1, 61)) + "\n")
    with pytest.raises(DataError, match="60 particles in 1 classes"):
        fid.run_fid(FidOptions(str(tiny / "run"), str(tmp_path / "one.csv"), compute=CPU), tmp_path)
    with pytest.raises(ConfigError, match="n_images is 1"):
        fid.run_fid(FidOptions(str(tiny / "run"), n_images=1), tmp_path)


def test_psnr_is_its_definition_after_the_best_scale():
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(20, 20))
    noise = rng.normal(size=(20, 20))
    image = 3 * (clean + 0.3 * noise) - 5
    design = np.stack((image.ravel(), np.ones(400)), 1)
    fitted = design @ np.linalg.lstsq(design, clean.ravel(), rcond=None)[0]
    expected = 10 * np.log10(np.ptp(clean) ** 2 / np.mean((fitted - clean.ravel()) ** 2))
    assert psnr.psnr_db(image, clean) == pytest.approx(expected)
    assert psnr.psnr_db(2 * clean + 1, clean) == pytest.approx(120, abs=1)


def test_clean_projections_are_the_simulated_images_without_ctf(tmp_path):
    """Amplitude contrast 1 without defocus is a CTF of 1: the images themselves, at a high SNR."""
    made = simulate.run_simulate(simulate.SimulateOptions(
        phantom=2, per_map=4, box_px=32, snr=1e6, max_shift_frac=0.0, amplitude_contrast=1.0, cs_mm=0.0,
        defocus_range_ang=(1e-3, 1e-3), astigmatism_ang=0.0), tmp_path)
    import mrcfile

    with mrcfile.open(tmp_path / "particles.mrcs", permissive=True) as stored:
        images = np.array(stored.data)
    ids = np.array([3, 1, 8])
    found = psnr.clean_projections(PsnrOptions("", "", str(tmp_path / "truth.csv")), ids, 32, made.pixel_size_ang)
    assert np.abs(found - images[ids - 1]).max() < 0.01 * images.max()


def test_psnr_of_a_training(tiny, tmp_path):
    options = PsnrOptions(str(tiny / "run"), str(tiny / "emb"), str(tiny / "data/truth.csv"), n_images=4,
                          n_orientations=50, compute=CPU)
    found = psnr.run_psnr(options, tmp_path)
    rows = result_files.read_csv(tmp_path / psnr.PSNR_CSV)
    assert len(rows) == found.n_images == 4
    assert found.psnr_db == pytest.approx(np.mean([float(row["psnr_db"]) for row in rows]), abs=1e-3)
    assert 5 < found.psnr_db < 60


def test_a_perfect_decoder_has_the_higher_psnr(tiny, tmp_path):
    """In 2D: a decoder that returns one state's own projection beats one that returns a blur."""
    from fake_run import FakeTrained

    fake = FakeTrained(is_3d=False)
    clean = fake.states[0].astype(np.float64)
    blurred = clean.mean() + 0 * clean
    blurred[4:12, 4:12] += clean.max()
    values = [psnr.psnr_db(psnr.align_image(image, clean).image, clean) for image in (clean, blurred)]
    assert values[0] > values[1] + 10
