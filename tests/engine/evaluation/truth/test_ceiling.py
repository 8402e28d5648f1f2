"""A classifier that is shown the labels finds what is there, and nothing where nothing is."""
import numpy as np
import pytest
import torch
from vaegan_engine.contract import run_json
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.record import read_record
from vaegan_engine.contract.settings import ComputeConfig, DataConfig, ModelConfig, TrainRun
from vaegan_engine.evaluation.truth import ceiling

BOX_PX = 16
MODEL = ModelConfig(encoder_width=8, ctf_channels=False)


def options(**changes):
    values = {"particles": "", "truth_csv": "", "epochs": 4, "folds": 3,
              "compute": ComputeConfig(device="cpu", threads=1)}
    return ceiling.CeilingOptions(**(values | changes))


def images_of(label, rng):
    """Blobs of width 1.5 or 3 px at random places, in weak noise."""
    x = np.arange(BOX_PX) - BOX_PX // 2
    centre = rng.uniform(-2, 2, (len(label), 2, 1, 1))
    radius2 = (x[:, None] - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2
    width = np.where(label == 0, 1.5, 3.0)[:, None, None]
    return (np.exp(-radius2 / (2 * width ** 2)) * 3 + 0.3 * rng.normal(size=radius2.shape)).astype(np.float32)


def predict(images, label, **changes):
    stored = torch.from_numpy(images)[:, None]
    return ceiling.cross_validate(
        ceiling.Labelled(lambda rows: stored[rows], label, BOX_PX, torch.device("cpu")), MODEL, options(**changes))


@pytest.mark.slow
def test_separable_images_are_told_apart_and_the_seed_repeats():
    rng = np.random.default_rng(0)
    label = rng.permutation(np.repeat([0, 1], 90))
    images = images_of(label, rng)
    predicted = predict(images, label, epochs=20)
    assert (predicted == label).mean() > 0.95
    np.testing.assert_array_equal(predict(images, label, epochs=20), predicted)


def test_labels_without_a_trace_in_the_images_are_not_found():
    """Cross-validation must not leak: a network that had seen its test images could learn them."""
    rng = np.random.default_rng(1)
    label = rng.permutation(np.repeat([0, 1], 90))
    predicted = predict(rng.normal(size=(180, BOX_PX, BOX_PX)).astype(np.float32), label, epochs=3)
    assert 0.3 < (predicted == label).mean() < 0.7


def test_folds_split_every_state_evenly():
    label = np.repeat([0, 1, 2], (50, 30, 20))
    fold = ceiling.folds_of(label, 5, 0)
    for state, count in enumerate((50, 30, 20)):
        np.testing.assert_array_equal(np.bincount(fold[label == state], minlength=5), count // 5)
    with pytest.raises(DataError, match="a state has 3 particles, the cross-validation 5 folds"):
        ceiling.folds_of(np.repeat([0, 1], (50, 3)), 5, 0)


def test_augmentation_only_moves_turns_and_mirrors_and_all_channels_alike():
    rng = np.random.default_rng(2)
    image = torch.from_numpy(rng.normal(size=(16, 1, 8, 8)).astype(np.float32))
    x = torch.cat((image, 2 * image), 1)
    before = x.clone()
    made = ceiling.augmented(x, 2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(x, before, rtol=0, atol=0)
    torch.testing.assert_close(made[:, 1], 2 * made[:, 0], rtol=0, atol=0)
    for old, new in zip(x[:, 0], made[:, 0], strict=True):
        variants = [torch.roll(old, (i, j), (0, 1)) for i in range(-2, 3) for j in range(-2, 3)]
        variants = [torch.rot90(v, k) for v in variants for k in range(4)]
        assert any(torch.equal(new, v) or torch.equal(new, v.flip(1)) for v in variants)
    assert not torch.equal(made, x)


def test_learning_rate_rises_then_falls_to_zero():
    rates = [ceiling.learning_rate(step, 200) for step in range(200)]
    assert max(rates) == pytest.approx(ceiling.LEARNING_RATE, rel=0.02)
    assert 5 < int(np.argmax(rates)) < 15
    assert rates[-1] < 1e-3 * ceiling.LEARNING_RATE


def test_run_ceiling_joins_by_id_and_writes_its_scores(tmp_path, capsys):
    from vaegan_engine.simulation.simulate import SimulateOptions, run_simulate

    data = tmp_path / "sim"
    run_simulate(SimulateOptions(phantom=2, per_map=20, box_px=16, snr=5.0, device="cpu"), data)
    values = ceiling.run_ceiling(options(particles=str(data / "particles.star"), truth_csv=str(data / "truth.csv"),
                                         data=DataConfig(box_px=16), epochs=1, folds=2), tmp_path / "cei")
    assert values == read_record(ceiling.Ceiling, tmp_path / "cei" / "ceiling.json", "ceiling")
    assert values.n_particles == 40
    assert values.states == ["phantom_0", "phantom_1"]
    assert 0 <= values.accuracy <= 1
    printed = capsys.readouterr().out
    assert f"ceiling accuracy {values.accuracy:.3f}\nceiling NMI {values.nmi:.3f}\n" in printed

    rows = (data / "truth.csv").read_text().splitlines()
    (data / "truth.csv").write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(DataError, match="particle 40 is not there"):
        ceiling.run_ceiling(options(particles=str(data / "particles.star"), truth_csv=str(data / "truth.csv"),
                                    data=DataConfig(box_px=16)), tmp_path / "cei")


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="epochs is 0"):
        ceiling.run_ceiling(options(epochs=0), tmp_path)


def test_other_particles_are_taken_whole_and_from_their_own_stacks(tmp_path):
    run = TrainRun(data=DataConfig(particles="a.star", stack="a.mrcs", max_images=500, half_set=1, crop_frac=0.8))
    run_json.write_run(run, tmp_path / "run.json")
    data, _, same = ceiling.settings(options(particles="other.star", run_dir=str(tmp_path)))
    assert not same and data == DataConfig(particles="other.star", crop_frac=0.8)
