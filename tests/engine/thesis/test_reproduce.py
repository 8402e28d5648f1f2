"""The experiments of ``reproduce``, each on tiny data; parts that are finished are kept."""
import json
import shlex
from dataclasses import replace

import gemmi
import numpy as np
import pytest
import torch
from atoms import structure
from vaegan_engine.cli import main
from vaegan_engine.contract import presets, result_files
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.data.mrc_files import write_map
from vaegan_engine.evaluation.truth.ceiling import CeilingOptions
from vaegan_engine.evaluation.truth.observer import ObserverOptions
from vaegan_engine.simulation import atomic_models, morph
from vaegan_engine.simulation.phantom import PHANTOM_BOX_ANG, phantom_states
from vaegan_engine.thesis import (
    experiment_tables,
    invariance,
    learning_curve,
    motion_morph,
    noise_gan,
    noise_generator,
    reproduce,
    ribosome,
    snr_ladder,
    trainings,
)
from vaegan_engine.thesis.experiment_tables import ReproduceOptions

pytestmark = pytest.mark.xdist_group("umap")  # which compiles for long, in each process

TINY = ("model.critic_width=4", "model.encoder_width=4", "model.generator_width=8", "data.box_px=16",
        "compute.threads=1", "training.batch_size=8")


@pytest.fixture(autouse=True)
def tiny_scale(monkeypatch):
    """Images of 16 px, an alignment that does nothing, a short classifier."""
    from fake_run import align_nothing

    monkeypatch.setattr(trainings, "SMALL_BOX_PX", 16)
    for module in ("evaluation.truth.evaluate", "thesis.ribosome", "thesis.homogeneous", "thesis.map_matching"):
        monkeypatch.setattr(f"vaegan_engine.{module}.align_map", align_nothing)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    paths = []
    for index, array in enumerate(phantom_states(3, 16, PHANTOM_BOX_ANG / 16)):
        write_map(folder / f"state_{index}.mrc", array, PHANTOM_BOX_ANG / 16)
        paths.append(str(folder / f"state_{index}.mrc"))
    return tuple(paths)


def options_of(name, maps=(), **changes):
    return ReproduceOptions(name, maps=maps, kimg=0.016, per_map=24, settings=TINY, **changes)


def test_table_is_text_and_csv_with_every_column(tmp_path):
    text = experiment_tables.write_table(
        tmp_path, "title", [{"a": 1, "b": [1.25, 0.5]}, {"a": "x", "c": None}], ["a note"]
    )
    assert text.splitlines()[:2] == ["title", "a note"]
    assert experiment_tables.read_table(tmp_path / "table.csv") == [{"a": "1", "b": "1.25 / 0.5", "c": "-"},
                                                             {"a": "x", "b": "-", "c": "-"}]
    assert (tmp_path / "table.txt").read_text() == text


def test_digits_are_padded_and_all_shifts_are_rolls():
    images = invariance.digits(3)
    assert images.shape == (3, 64, 64)
    assert images[:, :18].max() == images[:, 46:].max() == 0 < images.max() <= 1
    image = torch.arange(36.0).reshape(6, 6)
    shifted = torch.cat(list(invariance.all_shifts(image)))
    assert len(shifted) == 36
    for index in (0, 1, 7, 35):
        assert torch.equal(shifted[index], image.roll((index // 6, index % 6), (0, 1)))


@pytest.mark.parametrize(("preset", "invariant"), [("thesis-2d", True), ("thesis-2d-variant", False)])
def test_shift_error_is_zero_only_without_max_pooling(preset, invariant):
    """float64: equal to rounding."""
    model = invariance.model_of("train2d", preset)
    features = invariance.features_of(model, 2, False, 0, torch.device("cpu"))
    network = features.__closure__
    for cell in network:
        if isinstance(cell.cell_contents, torch.nn.Module):
            cell.cell_contents.double()
    image = torch.from_numpy(invariance.digits(1)).double()[:, 16:48, 16:48]
    errors = invariance.shift_errors(features, image, lambda n: None)
    assert errors.shape == (1, 32, 32)
    assert (errors.max() < 1e-12) == invariant


@pytest.mark.slow
def test_shift_experiment_writes_both_critics(tmp_path, monkeypatch):
    monkeypatch.setattr(invariance, "WIDTHS", {"small": 1, "full": 1})
    text = reproduce.run_reproduce(ReproduceOptions("shift-invariance", per_map=1), tmp_path)
    assert "scikit-learn digits" in text
    rows = experiment_tables.read_table(tmp_path / "table.csv")
    assert float(rows[0]["largest error"]) < 1e-5 < float(rows[1]["mean error"])
    assert rows[0]["shifts"] == "4096"
    assert (tmp_path / "figure.png").exists()


def test_rotation_experiment_finds_the_polar_encoder_best(tmp_path):
    monkeypatch_angles = np.array([0.0, 45.0, 90.0])
    invariance.ANGLES_DEG, kept = monkeypatch_angles, invariance.ANGLES_DEG
    try:
        reproduce.run_reproduce(ReproduceOptions("rotation-invariance", per_map=4), tmp_path)
    finally:
        invariance.ANGLES_DEG = kept
    rows = {row["configuration"].split(" (")[0]: row for row in experiment_tables.read_table(tmp_path / "table.csv")}
    assert float(rows["polar encoder"]["at 90 deg"]) < 1e-5
    assert float(rows["polar encoder"]["mean error"]) < 0.5 * float(rows["variant critic"]["mean error"])


@pytest.mark.slow
def test_noise_experiment_runs_one_configuration_and_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setattr(noise_generator, "SCALES", {"small": noise_generator.Scale(16, 2, 4, 3, 1e-3)})
    for only in ("sigma-0.5", "noise-generator"):
        reproduce.run_reproduce(ReproduceOptions("noise-generator", only=only), tmp_path)
    rows = experiment_tables.read_table(tmp_path / "table.csv")
    assert [row["configuration"] for row in rows] == ["sigma-0.5", "noise-generator", "noise-generator (thesis)"]
    assert rows[0]["sigma"] == "0.5"
    assert float(rows[1]["sigma"]) > 0
    monkeypatch.setattr(noise_generator, "train", None)  # a second call trains nothing
    reproduce.run_reproduce(ReproduceOptions("noise-generator", only="sigma-0.5"), tmp_path)


def test_an_image_is_shifted_back_onto_the_clean_one():
    clean = np.random.default_rng(0).normal(size=(8, 8))
    moved = np.roll(clean, (3, -2), (0, 1)) + 0.01
    np.testing.assert_allclose(noise_gan.shifted_onto(moved, clean), clean + 0.01)


def test_psnr_of_known_error():
    clean = np.array([[0.0, 2.0], [1.0, 1.0]])
    assert noise_gan.psnr_db(clean + 0.1, clean) == pytest.approx(10 * np.log10(4 / 0.01))


@pytest.mark.slow
def test_ribosome_3d_compares_configurations_and_keeps_what_is_done(tmp_path, maps, monkeypatch):
    names = ("thesis-3d-camera", "thesis-3d-variant")  # two for the time it takes
    monkeypatch.setitem(ribosome.CONFIGURATIONS, "train3d", names)
    options = options_of("ribosome-3d", maps)
    reproduce.run_reproduce(options_of("ribosome-3d", maps, only="thesis-3d-variant"), tmp_path)
    assert (
        next(row["configuration"] for row in experiment_tables.read_table(tmp_path / "table.csv"))
        == "thesis-3d-variant"
    )
    stamp = (tmp_path / "thesis-3d-variant/run/status.json").stat().st_mtime_ns
    reproduce.run_reproduce(options, tmp_path)
    assert (tmp_path / "thesis-3d-variant/run/status.json").stat().st_mtime_ns == stamp
    rows = experiment_tables.read_table(tmp_path / "table.csv")
    assert [row["configuration"] for row in rows[:2]] == list(names)
    assert len({(row["images"], row["steps"], row["seed"]) for row in rows[:2]}) == 1
    assert rows[2]["nmi"] == "0.92"
    assert float(rows[0]["scf"]) > 0
    assert len(rows[0]["resolution_ang"].split(" / ")) == 3
    assert (tmp_path / "figure.png").exists()
    with pytest.raises(DataError, match="another set than asked for"):
        reproduce.run_reproduce(ReproduceOptions("ribosome-3d", maps=maps, per_map=7), tmp_path)


@pytest.mark.slow
def test_a_learning_curve_is_that_of_one_training_in_parts(tmp_path, maps, capsys):
    """Under other conditions than the usual ones, which are those of the data; and the end is that of one training."""
    asked = {"only": "thesis-3d-variant", "snr": 10.0, "defocus_range_ang": (1000.0, 5000.0)}
    options = options_of("ribosome-3d", maps, points=2, **asked)
    reproduce.run_reproduce(options, tmp_path / "parts")
    reproduce.run_reproduce(options_of("ribosome-3d", maps, **asked), tmp_path / "whole")
    curve = learning_curve.read_curve(tmp_path / "parts/thesis-3d-variant")
    assert [point.kimg for point in curve] == [0.008, 0.016]
    assert all(0 <= point.nmi_neighbours <= 1 and np.isfinite(point.noise_sigma) for point in curve)
    assert all(-1 <= point.correlation <= 1 for point in curve)
    one, other = (experiment_tables.read_table(tmp_path / name / "table.csv")[0] for name in ("parts", "whole"))
    assert abs(float(one.pop("noise_sigma")) - float(other.pop("noise_sigma"))) < 0.01  # means since the line before
    assert one == other and one["snr"] == "10" and one["kimg"] == "0.016"
    assert (tmp_path / "parts/curves.png").exists() and not (tmp_path / "whole/curves.png").exists()
    assert "SNR 10, defocus 1000 to 5000 A" in (tmp_path / "parts/table.txt").read_text()
    written = (tmp_path / "parts/thesis-3d-variant/curve.csv").read_text()
    reproduce.run_reproduce(options, tmp_path / "parts")  # nothing is made again
    assert (tmp_path / "parts/thesis-3d-variant/curve.csv").read_text() == written
    capsys.readouterr()
    (tmp_path / "parts/thesis-3d-variant/curve.csv").unlink()
    reproduce.run_reproduce(options, tmp_path / "parts")
    assert "no point at 0.008 kimg, which the training has passed" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"SNR 10, defocus 1000 to 5000 A\): another set"):
        reproduce.run_reproduce(options_of("ribosome-3d", maps, only="thesis-3d-variant"), tmp_path / "parts")


@pytest.mark.parametrize(("total_kimg", "points", "expected"), [(0.1, 3, [0.032, 0.064, 0.1]), (0.1, 1, [0.1]),
                                                        (0.02, 4, [0.016, 0.02])])
def test_points_are_whole_batches_and_the_last_is_the_whole_training(total_kimg, points, expected):
    options = ReproduceOptions("ribosome-3d", points=points)
    assert learning_curve.lengths_kimg(options, total_kimg, 16) == expected


def test_neighbours_with_labels_find_what_lies_apart_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    state = np.repeat(np.arange(3), 60)
    noise = rng.normal(size=(180, 4))
    assert learning_curve.neighbours_nmi(noise, state) < 0.1
    assert learning_curve.neighbours_nmi(noise + 9 * state[:, None], state) > 0.99
    assert np.isnan(learning_curve.neighbours_nmi(noise[:3], np.arange(3)))  # nobody is left to vote


@pytest.mark.slow
def test_a_training_done_elsewhere_by_the_planned_command_is_taken(tmp_path, maps, capsys):
    options = options_of("ribosome-3d", maps, only="thesis-3d-no-noise")
    reproduce.run_reproduce(ReproduceOptions(**{**vars(options), "stop_after": "data"}), tmp_path)
    plan = reproduce.run_reproduce(ReproduceOptions(**{**vars(options), "plan": True}), tmp_path)
    assert main.main(shlex.split(plan)[1:]) == 0
    capsys.readouterr()
    reproduce.run_reproduce(options, tmp_path)
    assert "trained already (0.016 kimg)" in capsys.readouterr().out
    run = json.loads((tmp_path / "thesis-3d-no-noise/run/run.json").read_text())
    run["preset"] = "fast"
    (tmp_path / "thesis-3d-no-noise/run/run.json").write_text(json.dumps(run))
    with pytest.raises(DataError, match="no training with the preset thesis-3d-no-noise"):
        reproduce.run_reproduce(options, tmp_path)


@pytest.mark.slow
def test_ribosome_2d_reports_fid_and_psnr(tmp_path, maps, monkeypatch):
    monkeypatch.setattr(ribosome, "FID", {"small": {"width": 1, "steps": 2, "n_images": 20}})
    reproduce.run_reproduce(options_of("ribosome-2d", maps, only="thesis-2d"), tmp_path)
    row = experiment_tables.read_table(tmp_path / "table.csv")[0]
    assert "VGG-19 shape, width 1" in row["feature_network"]
    assert float(row["fid"]) > 0 and float(row["psnr_db"]) > 0
    assert (tmp_path / "feature_network.pt").exists()  # one for all configurations
    assert (tmp_path / "thesis-2d/centroids/centroids.png").exists()


@pytest.mark.slow
def test_motion_is_matched_with_its_frames(tmp_path, maps):
    reproduce.run_reproduce(options_of("glu-morph", maps, only="maps"), tmp_path)
    row = experiment_tables.read_table(tmp_path / "table.csv")[0]
    assert row["configuration"] == "maps"
    assert len(row["best frames"].split(" / ")) == 4
    assert 0 <= float(row["score order"]) <= 1
    assert (tmp_path / "figure.png").exists()


def test_morph_moves_common_atoms_on_straight_lines(tmp_path):
    rng = np.random.default_rng(0)
    start = rng.uniform(-15, 15, (12, 3)).round(2)
    end = start.copy()
    end[6:] += [8.0, 0.0, 0.0]
    first = structure([*start, (40.0, 0, 0)], "C" * 13)  # one atom that the other lacks
    second = structure(end, "C" * 12)
    kept, a, b = morph.common_atoms(first[0], second[0])
    assert kept.count_atom_sites() == 12
    np.testing.assert_allclose(a, start, atol=1e-3)
    turned = gemmi.Transform()
    angle = 0.7
    matrix = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    turned.mat.fromlist(matrix.tolist())
    moved = morph.superposed(start @ matrix.T + 5, start)
    np.testing.assert_allclose(moved, start, atol=1e-9)
    for name, model in (("a.pdb", first), ("b.pdb", second)):
        (tmp_path / name).write_text(model.make_pdb_string())
    made, voxel = morph.morph_maps(str(tmp_path / "a.pdb"), str(tmp_path / "b.pdb"), 3, 24)
    middle = (a + morph.superposed(b, a)) / 2
    expected = atomic_models.density(kept, 24, voxel, 3 * voxel, (a.mean(0) + b.mean(0)) / 2)  # the last positions
    assert made.shape == (3, 24, 24, 24)
    assert expected.shape == made[0].shape
    assert np.linalg.norm(made[1] - made[0]) < np.linalg.norm(made[2] - made[0])
    assert middle.shape == (12, 3)
    with pytest.raises(DataError, match="0 atoms in common"):
        morph.common_atoms(first[0], structure(start, "N" * 12)[0])


def test_mglu3_frames_are_made_of_two_models(tmp_path):
    rng = np.random.default_rng(1)
    start = rng.uniform(-15, 15, (12, 3))
    for name, points in (("a.pdb", start), ("b.pdb", start + rng.uniform(-3, 3, (12, 3)))):
        (tmp_path / name).write_text(structure(points, "C" * 12).make_pdb_string())
    options = ReproduceOptions("glu-morph", models=(str(tmp_path / "a.pdb"), str(tmp_path / "b.pdb")))
    assert motion_morph.datasets(options) == ["mglu3"]
    frames = motion_morph.frames_of(options, "mglu3", tmp_path)
    assert len(frames) == motion_morph.N_FRAMES


def test_homogeneous_structure_is_compared_with_the_truth(tmp_path, maps):
    reproduce.run_reproduce(options_of("rag", maps[:1], only="homogeneous"), tmp_path)
    rows = experiment_tables.read_table(tmp_path / "table.csv")
    assert rows[0]["configuration"] == "homogeneous"
    assert float(rows[0]["resolution_ang"]) > 0
    assert rows[1]["resolution_ang"] == "18.7"
    # real particles: two halves
    star = str(tmp_path / "data/particles.star")
    reproduce.run_reproduce(ReproduceOptions("rag", particles=star, kimg=0.016, settings=TINY, only="homogeneous"),
                            tmp_path / "real")
    assert "of two halves" in (tmp_path / "real/table.txt").read_text()
    half = result_files.read_json(tmp_path / "real/homogeneous/half2/run/run.json")
    assert half["data"]["half_set"] == 2


@pytest.mark.slow
def test_ladder_of_the_preset_fast_sets_its_clusters_beside_those_who_are_told_more(tmp_path, maps, monkeypatch):
    monkeypatch.setitem(snr_ladder.CROP_FRAC, "small", 1.0)
    monkeypatch.setitem(snr_ladder.CEILING, "small", CeilingOptions(epochs=1, folds=2))
    monkeypatch.setitem(snr_ladder.OBSERVED, "small", ObserverOptions(n_images=12, n_rotations=72))
    asked = replace(options_of("fast-ladder", maps), settings=(*TINY, "training.encoder_kimg=0.016"))
    for only in ("snr-60", "snr-0.2"):
        reproduce.run_reproduce(replace(asked, only=only), tmp_path)
    rows = experiment_tables.read_table(tmp_path / "table.csv")
    assert [row["configuration"] for row in rows] == ["snr-60", "snr-0.2"]
    for row, snr in zip(rows, (60, 0.2), strict=True):
        assert float(row["snr"]) == snr
        assert all(0 <= float(row[name]) <= 1 for name in ("nmi", "nmi_neighbours", "ceiling_nmi", "observer_nmi"))
    assert float(rows[0]["snr_estimated"]) > 10 * float(rows[1]["snr_estimated"])
    assert (tmp_path / "figure.png").exists()
    run = result_files.read_json(tmp_path / "snr-60/run/run.json")
    assert run["preset"] == "fast" and run["training"]["critic_lr"] == 3e-4  # the preset's own


def test_unknown_configurations_and_missing_data_are_named(tmp_path, maps):
    with pytest.raises(ConfigError, match="--only is 'thesis-9'"):
        reproduce.run_reproduce(ReproduceOptions("ribosome-3d", maps=maps, only="thesis-9"), tmp_path)
    with pytest.raises(DataError, match="ribosome-3d needs maps"):
        reproduce.run_reproduce(ReproduceOptions("ribosome-3d"), tmp_path)
    with pytest.raises(DataError, match=r"3 of 3 maps are missing"):
        reproduce.run_reproduce(ReproduceOptions("ribosome-3d", data_dir=str(tmp_path)), tmp_path)
    with pytest.raises(DataError, match="glu-morph needs the frames"):
        reproduce.run_reproduce(ReproduceOptions("glu-morph"), tmp_path)


def test_every_preset_of_an_experiment_exists():
    for command, names in ribosome.CONFIGURATIONS.items():
        assert set(names) <= set(presets.PRESETS[command])


def test_noise_experiment_at_another_snr_shows_a_brighter_image():
    for snr in (1.0, 9.0):
        image, _ = noise_generator.clean_image(ReproduceOptions("noise-generator", snr=snr), 16)
        assert image.var() == pytest.approx(snr, rel=1e-5) and abs(image.mean()) < 1e-5


def tiny_gan(batch: int, *settings: str) -> noise_gan.NoiseGan:
    scale = noise_generator.Scale(16, 2, batch, 3, 1e-3)
    run = noise_generator.settings(ReproduceOptions("noise-generator", settings=settings), scale)
    clean = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    return noise_gan.NoiseGan(clean, None, replace(run, compute=replace(run.compute, device="cpu")), batch)


def test_noise_training_goes_on_from_its_checkpoint_with_the_same_bits(tmp_path):
    whole = tiny_gan(2)
    curve = noise_generator.train(whole, 4, tmp_path / "whole")
    assert [point.step for point in curve] == [0, 1, 2, 3, 4]
    noise_generator.train(tiny_gan(2), 2, tmp_path / "parts")
    again = noise_generator.train(tiny_gan(2), 4, tmp_path / "parts")
    assert again == curve == noise_generator.read_curve(tmp_path / "parts" / "curve.csv")


def test_noise_is_measured_in_batches_of_the_size_that_was_trained():
    """Batch normalisation ties the images of a batch: 64 at a time are not what a training of batch 1 makes."""
    gan = tiny_gan(1)
    z = torch.randn(3, noise_gan.Z_DIM, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        alone, together = torch.cat([gan.averaged(row[None]) for row in z]), gan.averaged(z)
    np.testing.assert_array_equal(gan.images(3, seed=1), alone.numpy())
    assert (alone - together).abs().max() > 0.1
    assert gan._generated()[1].detach() > 0  # diversity of a batch of one


def test_image_and_noise_start_at_the_power_of_the_data_and_one_image_has_no_spread():
    """Before, the generator's images had four times the clean one's variance and sigma was 1.5 to 4."""
    gan = tiny_gan(4)
    start = gan.measured(64)
    assert 0.8 < start.sigma < 1.2 and 0.4 < start.error**2 / 2 < 2 and start.spread > 0.3
    one = noise_gan.NoiseGan(gan.clean, None, gan.run, 4, one_image=True)
    one.step()
    assert one.measured(8).spread < 1e-4


def test_noise_experiment_reads_its_rates_and_refuses_what_it_does_not_read():
    gan = tiny_gan(2, "training.generator_lr=1e-5", "model.critic_width=3")
    assert gan.optimizers["makers"].param_groups[0]["lr"] == 1e-5
    assert gan.optimizers["critic"].param_groups[0]["lr"] == 1e-3
    assert gan.critic.trunk.n_features == 24
    with pytest.raises(ConfigError, match=r"training\.generator_lr"):
        tiny_gan(2, "training.total_kimg=3")
