"""Simulated sets: the stated SNR, the stated truth, files that this engine and others read."""

import mrcfile
import numpy as np
import pytest
import torch
from particle_files import loaded
from vaegan_engine.contract import result_files
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.data import mrc_files
from vaegan_engine.physics import projection, rotations
from vaegan_engine.physics.ctf import CTF_COLUMNS, ctf_2d
from vaegan_engine.simulation import simulate
from vaegan_engine.simulation.phantom import PHANTOM_BOX_ANG, phantom_states


def options(**values):
    return simulate.SimulateOptions(**{"phantom": 2, "per_map": 40, "box_px": 32, "device": "cpu", **values})


def images(folder):
    with mrcfile.open(folder / simulate.STACK) as stack:
        return stack.data.copy()


def truth(folder):
    rows = result_files.read_csv(folder / simulate.TRUTH_CSV)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def clean(folder, maps):
    """Images made again from ``truth.csv`` and the star file alone."""
    rows, table = truth(folder), loaded(folder / simulate.STAR)
    angles = [torch.from_numpy(rows[name].astype(float)) for name in ("rot_deg", "tilt_deg", "psi_deg")]
    shifts = torch.from_numpy(np.stack((rows["shift_x_px"], rows["shift_y_px"]), 1).astype(float))
    map_ft = projection.map_to_fourier(torch.from_numpy(maps).double())
    planes = projection.extract_slices(map_ft, torch.from_numpy(rows["map"].astype(int)),
                                       rotations.euler_to_matrix(*angles), table.box_px)
    planes = planes * ctf_2d(torch.from_numpy(table.ctf).double(), table.box_px, table.pixel_size_ang)
    return projection.slices_to_images(projection.shift_slices(planes, shifts)).numpy()


def test_truth_explains_the_images(tmp_path):
    """What is left after subtracting the re-projected truth is the noise, at the stated SNR."""
    summary = simulate.run_simulate(options(snr=0.5), tmp_path)
    maps = phantom_states(2, 32, PHANTOM_BOX_ANG / 32)
    expected, made = clean(tmp_path, maps), images(tmp_path)
    noise = made - expected
    signal_variance = expected.var(axis=(1, 2)).mean()
    assert signal_variance == pytest.approx(summary.signal_variance, rel=1e-4)
    assert signal_variance / noise.var() == pytest.approx(0.5, rel=0.02)
    assert noise.var() == pytest.approx(summary.noise_variance, rel=0.02)
    assert abs(noise.mean()) < 4 * noise.std() / np.sqrt(noise.size)
    # white: neighbours are uncorrelated; independent of the signal
    assert abs(np.mean(noise[:, :, 1:] * noise[:, :, :-1])) < 5 * noise.var() / np.sqrt(noise.size)
    assert abs(np.corrcoef(noise.ravel(), expected.ravel())[0, 1]) < 0.02


def test_contrast_is_a_factor_of_the_clean_image(tmp_path):
    for name, spread in (("plain", 0.0), ("spread", 0.25)):
        simulate.run_simulate(options(snr=1e8, per_map=400, contrast_spread=spread), tmp_path / name)
    plain, made = images(tmp_path / "plain").astype(float), images(tmp_path / "spread").astype(float)
    contrast = truth(tmp_path / "spread")["contrast"].astype(float)
    np.testing.assert_allclose((plain * made).sum((1, 2)) / (plain ** 2).sum((1, 2)), contrast, rtol=1e-3)
    assert contrast.mean() == pytest.approx(1.0, abs=0.03) and contrast.std() == pytest.approx(0.25, abs=0.03)
    assert set(truth(tmp_path / "plain")["contrast"].astype(float)) == {1.0}
    for name in ("map", "rot_deg", "shift_x_px"):  # the rest of the truth does not change
        np.testing.assert_array_equal(truth(tmp_path / "plain")[name], truth(tmp_path / "spread")[name])


@pytest.mark.parametrize("ratio", [0.25, 3.0])
def test_spectrum_and_variance_of_coloured_noise(tmp_path, ratio):
    summary = simulate.run_simulate(options(snr=1e-3, noise_ratio=ratio, per_map=300), tmp_path)
    noise = images(tmp_path).astype(float)  # the signal is a thousandth of it
    assert noise.var() == pytest.approx(summary.noise_variance, rel=0.02)
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(0)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(32, 0.5), np.fft.fftfreq(32, 0.5)))
    low, high = power[f < 0.15].mean(), power[(f > 0.9) & (f < 1.05)].mean()
    f_low = f[f < 0.15]
    expected = (1 + (ratio - 1) * np.exp(-8 * f_low ** 2)).mean() / (1 + (ratio - 1) * np.exp(-8 * 0.95 ** 2))
    assert low / high == pytest.approx(expected, rel=0.06)


def test_without_noise_the_truth_is_the_image(tmp_path):
    simulate.run_simulate(options(snr=1e8, per_map=10), tmp_path)
    expected = clean(tmp_path, phantom_states(2, 32, PHANTOM_BOX_ANG / 32))
    for a, b in zip(expected, images(tmp_path), strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.9999


def test_star_file(tmp_path):
    simulate.run_simulate(options(crop_frac=0.9), tmp_path)
    table, rows = loaded(tmp_path / simulate.STAR), truth(tmp_path)
    np.testing.assert_array_equal(table.particle_id, np.arange(1, 81))
    np.testing.assert_array_equal(rows["id"].astype(int), table.particle_id)
    assert table.pixel_size_ang == pytest.approx(0.9 * PHANTOM_BOX_ANG / 32, rel=1e-6)
    ctf = dict(zip(CTF_COLUMNS, table.ctf.T, strict=True))
    mean = (ctf["defocus_u_ang"] + ctf["defocus_v_ang"]) / 2
    difference = ctf["defocus_u_ang"] - ctf["defocus_v_ang"]
    assert mean.min() >= 10000
    assert mean.max() <= 28000
    assert np.ptp(mean) > 12000
    assert difference.min() >= 0
    assert 300 < difference.max() <= 500.01
    text = (tmp_path / simulate.STAR).read_text()
    assert "Angle" in text  # the defocus angle
    assert "rlnAngleRot" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [simulate.STAR, simulate.STACK, simulate.TRUTH_CSV, simulate.SIMULATION_JSON])


def test_maps_are_balanced_shuffled_and_poses_uniform(tmp_path):
    simulate.run_simulate(options(per_map=300, box_px=8, max_shift_frac=0.1), tmp_path)
    rows = truth(tmp_path)
    index = rows["map"].astype(int)
    np.testing.assert_array_equal(np.bincount(index), [300, 300])
    assert 50 < index[:150].sum() < 100
    assert set(rows["map_file"]) == {"phantom_0", "phantom_1"}
    assert abs(np.cos(np.radians(rows["tilt_deg"].astype(float))).mean()) < 4 / np.sqrt(3 * 600)
    shift = np.stack((rows["shift_x_px"], rows["shift_y_px"])).astype(float)
    assert 0.75 < np.abs(shift).max() <= 0.8


def test_views_can_be_preferred(tmp_path):
    simulate.run_simulate(options(per_map=300, box_px=8, view_concentration=4.0), tmp_path)
    cosine = np.cos(np.radians(truth(tmp_path)["tilt_deg"].astype(float)))
    assert abs(np.abs(cosine).mean() - (1 / (1 - np.exp(-4.0)) - 0.25)) < 4 * 0.2 / np.sqrt(600)
    with pytest.raises(ConfigError, match="view_concentration is -1"):
        simulate.run_simulate(options(view_concentration=-1.0), tmp_path / "no")


def test_seed_decides(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        simulate.run_simulate(options(seed=seed, per_map=5), tmp_path / name)
    for file in (simulate.STACK, simulate.TRUTH_CSV):
        first, again, other = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert first == again
        assert first != other


def test_blocks_do_not_show(tmp_path):
    simulate.run_simulate(options(per_map=5), tmp_path / "one")
    simulate.run_simulate(options(per_map=5), tmp_path / "many", block_px=3 * 32 ** 2)
    one, many = images(tmp_path / "one"), images(tmp_path / "many")
    # noise is drawn block by block; the clean part must not differ
    maps = phantom_states(2, 32, PHANTOM_BOX_ANG / 32)
    np.testing.assert_array_equal(clean(tmp_path / "one", maps), clean(tmp_path / "many", maps))
    assert one.std() == pytest.approx(many.std(), rel=0.05)


def test_maps_from_files_are_cropped(tmp_path):
    """A crop of 2/3 of 48 voxels resized to 16: the voxel doubles, the particle stays centred."""
    map_ = phantom_states(1, 48, 6.0)[0]
    mrc_files.write_map(tmp_path / "a.mrc", map_, 6.0)
    made, voxel_size_ang, _ = simulate.load_maps(simulate.SimulateOptions(
        maps=(str(tmp_path / "a.mrc"),), box_px=16, crop_frac=2 / 3))
    assert made.shape == (1, 16, 16, 16)
    assert voxel_size_ang == pytest.approx(12.0)
    expected = phantom_states(1, 16, 12.0)[0]
    assert np.corrcoef(made.ravel(), expected.ravel())[0, 1] > 0.99
    assert made.mean() == pytest.approx(map_[8:40, 8:40, 8:40].mean(), rel=1e-4)


def test_real_ctf_table(tmp_path):
    """Rows are drawn whole, and microscopes become optics groups."""
    row = [256, 1.3, 15000, 14000, 20, 300, 2.0, 0.07, 0.0]
    other = [256, 1.3, 9000, 8500, 70, 200, 2.7, 0.1, 45.0]
    np.savez(tmp_path / "ctf.npz", ctf=np.array([row, other]))
    simulate.run_simulate(options(ctf_table=str(tmp_path / "ctf.npz")), tmp_path / "out")
    ctf = loaded(tmp_path / "out" / simulate.STAR).ctf
    assert {tuple(np.round(values, 4)) for values in ctf.astype(float)} == {(*row[2:], 0), (*other[2:], 0)}
    np.savez(tmp_path / "bad.npz", ctf=np.zeros((3, 4)))
    np.savez(tmp_path / "none.npz", other=np.zeros((3, 9)))
    np.savez(tmp_path / "micro.npz", ctf=np.array([row, [256, 1.3, 1.5, 1.4, *row[4:]]]))
    for name, words in (("bad.npz", r"shape \(3, 4\)"), ("micro.npz", r"defocus is 1\.45 in row 2"),
                        ("none.npz", "no array 'ctf'"), ("gone.npz", "gone.npz")):
        with pytest.raises(DataError, match=words):
            simulate.run_simulate(options(ctf_table=str(tmp_path / name)), tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(("values", "words"), [
    ({"per_map": 0}, "per_map is 0"), ({"box_px": 33}, "box_px is 33"), ({"snr": 0.0}, "snr is 0"),
    ({"crop_frac": 1.5}, "crop_frac is 1.5"), ({"defocus_range_ang": (3e4, 2e4)}, "LOW <= HIGH"),
    ({"defocus_range_ang": (1.0, 2.8)}, r"Use 100 to 200,000 A \(1 um is 10,000 A\)"),
    ({"astigmatism_ang": -1.0}, "astigmatism_ang is -1"), ({"max_shift_frac": 0.6}, "max_shift_frac is 0.6"),
    ({"voltage_kv": 3e5}, "10 to 2000 kV|10 to 2,000 kV"), ({"amplitude_contrast": 7.0}, "amplitude_contrast is 7"),
    ({"phantom": 9}, "1 to 6"), ({"maps": ("a.mrc",)}, "Exactly one"),
])
def test_refused_options(tmp_path, values, words):
    with pytest.raises(ConfigError, match=words):
        simulate.run_simulate(options(**values), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_refused_maps(tmp_path):
    for name, d, voxel in (("a.mrc", 16, 4.0), ("b.mrc", 16, 5.0)):
        mrc_files.write_map(tmp_path / name, phantom_states(1, d, voxel)[0], voxel)
    paths = tuple(str(tmp_path / name) for name in ("a.mrc", "b.mrc"))
    with pytest.raises(DataError, match="would be 5 and 4 A wide"):
        simulate.run_simulate(options(phantom=0, maps=paths, box_px=16), tmp_path / "out")
    with pytest.raises(DataError, match="larger than the map's 16"):
        simulate.run_simulate(options(phantom=0, maps=paths[:1]), tmp_path / "out")
    mrc_files.write_map(tmp_path / "empty.mrc", np.zeros((16, 16, 16)), 4.0)
    with pytest.raises(DataError, match="no signal"):
        simulate.run_simulate(options(phantom=0, maps=(str(tmp_path / "empty.mrc"),), box_px=16), tmp_path / "out")


def test_results_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="the results folder cannot be used"):
        simulate.run_simulate(options(per_map=2), tmp_path / "out")


def test_command_line():
    from vaegan_engine.cli.main import build_parser
    from vaegan_engine.cli.options import given
    from vaegan_engine.contract.run_json import from_dict

    def parsed(words):
        return from_dict(simulate.SimulateOptions, given(simulate.SimulateOptions,
                                                         build_parser("simulate").parse_args(["simulate", *words])))

    made = parsed(
        "--phantom 3 --per-map 7 --box 48 --snr 0.2 --defocus 9000 20000 --max-shift-frac 0.02 --seed 5 "
        "--contrast-spread 0.2 --noise-ratio 3 --out x".split())
    assert made == simulate.SimulateOptions(phantom=3, per_map=7, box_px=48, snr=0.2,
                                            defocus_range_ang=(9000, 20000), max_shift_frac=0.02, seed=5,
                                            contrast_spread=0.2, noise_ratio=3)
    assert parsed(["--phantom", "1", "--out", "x"]) == simulate.SimulateOptions(phantom=1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_gpu_makes_the_same_clean_images(tmp_path):
    for device in ("cpu", "cuda"):
        simulate.run_simulate(options(snr=1e12, per_map=50, box_px=48, device=device), tmp_path / device)
    assert (tmp_path / "cpu" / simulate.TRUTH_CSV).read_bytes() == (tmp_path / "cuda" / simulate.TRUTH_CSV).read_bytes()
    on_cpu, on_gpu = images(tmp_path / "cpu"), images(tmp_path / "cuda")
    assert np.abs(on_cpu - on_gpu).max() < 1e-4 * np.abs(on_cpu).max()
