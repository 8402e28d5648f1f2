"""Phase-flipped particles: the CTF without its sign in every command, whoever says that they are flipped."""
import re

import numpy as np
import pytest
import torch
from particle_files import loaded, noise_images, optics_columns, particle_columns, write_stack, write_star
from refine_particles import PIXEL_SIZE_ANG, blobs, simulated
from vaegan_engine.contract import run_json
from vaegan_engine.contract.errors import DataError
from vaegan_engine.contract.settings import ComputeConfig, DataConfig, TrainRun
from vaegan_engine.data.optics import PHASE_FLIPPED
from vaegan_engine.data.prepared_images import ParticleCache, open_cache
from vaegan_engine.data.stacks import read_images
from vaegan_engine.evaluation.benchmark import peers
from vaegan_engine.evaluation.checks import relion_class
from vaegan_engine.evaluation.truth import ceiling
from vaegan_engine.latent.counterpart import particle_of
from vaegan_engine.physics.ctf import ctf_2d
from vaegan_engine.physics.fourier_band import make_band
from vaegan_engine.physics.fsc import fourier_shell_correlation
from vaegan_engine.physics.map_constraint import within
from vaegan_engine.reconstruction.images import Images
from vaegan_engine.reconstruction.least_squares import weighted_map
from vaegan_engine.reconstruction.posed_images import posed
from vaegan_engine.simulation import simulate

N, D = 24, 16


def star_of(folder, flags=None, by_particle=False):
    """A set whose star file says what was flipped: nothing, by optics group, or particle by particle."""
    write_stack(folder / "particles.mrcs", noise_images(N, D))
    columns, optics = particle_columns(N), optics_columns(4.0)
    if flags is not None and by_particle:
        columns[PHASE_FLIPPED] = flags
    elif flags is not None:
        optics = {name: 2 * value for name, value in optics.items()} | {"rlnOpticsGroup": [1, 2], PHASE_FLIPPED: flags}
        columns["rlnOpticsGroup"] = [1 + i % 2 for i in range(N)]
    return write_star(folder / "p.star", columns, optics)


def cache_of(star, **settings):
    return open_cache(DataConfig(particles=str(star), box_px=D, **settings), star.parent / "cache", progress=False)


@pytest.mark.parametrize(("flags", "by_particle", "setting", "expected", "said"), [
    (None, False, False, [0, 0], ""), (None, False, True, [1, 1], ""), ([0, 0], False, False, [0, 0], ""),
    ([1, 1], False, True, [1, 1], ""), ([1, 1], False, False, [1, 1], "all particles are phase-flipped"),
    ([0, 1], False, False, [0, 1], "12 of 24 particles are phase-flipped"),
    ([1, 0] * (N // 2), True, False, [1, 0], "12 of 24 particles are phase-flipped")])
def test_the_table_says_which_images_are_flipped(tmp_path, capsys, flags, by_particle, setting, expected, said):
    cache = cache_of(star_of(tmp_path, flags, by_particle), phase_flipped=setting)
    np.testing.assert_array_equal(cache.ctf[:2, -1], expected)
    assert (said in capsys.readouterr().err) if said else not cache.notes


@pytest.mark.parametrize(("flags", "setting", "words"), [
    ([0, 1], True, "rlnCtfDataArePhaseFlipped is 0 in particle row 1, the setting data.phase_flipped is true"),
    ([1, 2], False, "rlnCtfDataArePhaseFlipped is 2 in particle row 2, it must be 0 or 1")])
def test_a_contradiction_is_refused(tmp_path, flags, setting, words):
    with pytest.raises(DataError, match=re.escape(words)):
        cache_of(star_of(tmp_path, flags), phase_flipped=setting)


def test_the_setting_makes_the_table_again(tmp_path):
    star = star_of(tmp_path)
    before = cache_of(star)
    after = cache_of(star, phase_flipped=True)
    assert before.ctf[:, -1].max() == 0 and after.ctf[:, -1].min() == 1 and before.digest() != after.digest()


def test_a_set_without_flips_has_the_digest_of_a_table_without_the_column(tmp_path):
    cache = cache_of(star_of(tmp_path))
    older = ParticleCache(cache.images, cache.particle_id, cache.ctf[:, :7], cache.half_set, 4.0, D, 4.0, D, True,
                          pixels=cache.pixels)
    assert cache.digest() == older.digest()


def flipped(data: Images) -> Images:
    """The same images after phase flipping, with a table that says so."""
    ctf = torch.from_numpy(data.ctf)
    planes = torch.fft.rfft2(torch.from_numpy(data.images)) * ctf_2d(ctf, data.box_px, PIXEL_SIZE_ANG).sign()
    images = torch.fft.irfft2(planes, s=(data.box_px,) * 2).numpy()
    table = np.concatenate((data.ctf, np.ones((len(data), 1), np.float32)), 1)
    return Images(images, table, data.pixel_size_ang, data.device)


def test_a_reconstruction_from_flipped_images_is_that_from_the_others():
    """``states``: at true poses, against the truth, beyond the first zero of the CTF."""
    map_ = blobs(0, width_frac=0.03)
    data, _, rotations, shifts = simulated([map_], 300, 0.2)
    band = make_band(24, 11.0)
    maps = []
    for particles in (data, flipped(data)):
        transforms, ctf = particles.coefficients(np.arange(300), band)
        assert (ctf >= 0).all() if particles is not data else ctf.min() < -0.5
        images = posed(transforms, ctf, rotations, shifts, band)
        maps.append(weighted_map(images, torch.ones(300), torch.ones_like(band.weight), within(torch.ones_like(map_))))
    curves = [fourier_shell_correlation(made.numpy(), map_.numpy()) for made in maps]
    assert curves[0][6:11].min() > 0.9
    np.testing.assert_allclose(curves[1][:11], curves[0][:11], atol=0.02)


def test_peers_do_not_flip_again(tmp_path):
    star = star_of(tmp_path)
    plain, marked = cache_of(star), None
    assert not np.allclose(peers.phase_flipped(plain), np.asarray(plain.images, np.float32).reshape(N, -1), atol=1e-2)
    marked = cache_of(star, phase_flipped=True)
    np.testing.assert_allclose(peers.phase_flipped(marked), np.asarray(marked.images, np.float32).reshape(N, -1),
                               atol=1e-4)


def test_relion_is_told(tmp_path):
    cache = cache_of(star_of(tmp_path, [0, 1]))
    assert relion_class.ctf_flags(None) == ()
    assert relion_class.ctf_flags(cache.ctf[::2]) == ("--ctf",)
    assert relion_class.ctf_flags(cache.ctf[1::2]) == ("--ctf", "--ctf_phase_flipped")
    with pytest.raises(DataError, match="12 of 24 particles are phase-flipped"):
        relion_class.ctf_flags(cache.ctf)
    star = relion_class.write_images(tmp_path / "r", np.asarray(cache.images, np.float32), cache.ctf, cache.particle_id,
                                     4.0)
    np.testing.assert_array_equal(loaded(star).ctf, cache.ctf)


def test_the_ceiling_sees_what_the_training_saw(tmp_path, monkeypatch):
    seen = []

    def first_batch(images, *rest):
        seen.append(images.channels(np.arange(N)))
        return images.label

    star = star_of(tmp_path)
    (tmp_path / "truth.csv").write_text("id,map\n" + "".join(f"{i + 1},{i % 2}\n" for i in range(N)))
    monkeypatch.setattr(ceiling, "cross_validate", first_batch)
    for setting in (False, True):
        run = TrainRun(data=DataConfig(particles=str(star), box_px=D, phase_flipped=setting))
        run_json.write_run(run, tmp_path / f"run{setting}" / "run.json")
        options = ceiling.CeilingOptions(str(star), str(tmp_path / "truth.csv"), str(tmp_path / f"run{setting}"),
                                         compute=ComputeConfig(device="cpu", threads=1))
        ceiling.run_ceiling(options, tmp_path / "out")
    images = seen[0][:, 0]
    ctf = ctf_2d(torch.from_numpy(loaded(star).ctf), D, 4.0).abs()
    wiener = torch.fft.irfft2(torch.fft.rfft2(images) * ctf / (ctf ** 2 + 0.5), s=(D, D))
    torch.testing.assert_close(seen[1][:, 1], wiener, atol=2e-2, rtol=0)
    assert (seen[0][:, 1] - wiener).abs().max() > 0.1


def test_counterpart_and_embedding_use_the_table(tmp_path, monkeypatch):
    from vaegan_engine.contract.settings import CounterpartRun, EmbedRun

    star = star_of(tmp_path)
    data = DataConfig(particles=str(star), box_px=D, phase_flipped=True)
    embedded = EmbedRun(run_dir=str(tmp_path / "run"))
    run_json.write_run(embedded, tmp_path / "emb" / "run.json")

    class Trained:
        run, box_px, pixel_size_ang = TrainRun(data=data), D, 4.0

    run = CounterpartRun(run_dir=str(tmp_path / "run"), embedding_dir=str(tmp_path / "emb"), particle_id=3)
    _, ctf = particle_of(run, embedded, Trained())
    assert ctf.min() >= 0


def test_simulated_images_after_flipping_are_those_flipped_after(tmp_path):
    """And their star file says so."""
    options = {"phantom": 1, "per_map": 6, "box_px": 32, "crop_frac": 0.4, "snr": 1e9, "device": "cpu"}
    for flag in (False, True):
        simulate.run_simulate(simulate.SimulateOptions(**options, phase_flipped=flag), tmp_path / str(flag))
    plain, marked = (loaded(tmp_path / str(flag) / simulate.STAR) for flag in (False, True))
    np.testing.assert_array_equal(plain.ctf[:, :7], marked.ctf[:, :7])
    assert plain.ctf[:, 7].max() == 0 and marked.ctf[:, 7].min() == 1
    planes = [torch.fft.rfft2(torch.from_numpy(read_images(table.headers, table.stack_index, table.slice_index)))
              for table in (plain, marked)]
    sign = ctf_2d(torch.from_numpy(plain.ctf), 32, plain.pixel_size_ang).sign()
    assert (sign < 0).float().mean() > 0.1
    inside = torch.fft.rfftfreq(32) < 0.5  # a Nyquist column is real, whatever its phase was
    error = ((planes[1] - planes[0] * sign).abs().square() * inside).sum() / planes[0].abs().square().sum()
    assert error < 1e-4
