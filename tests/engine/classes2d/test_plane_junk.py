"""What is set aside: images that hold another particle or nothing, and hardly any plain particle at high signal."""
import csv
from dataclasses import replace

import numpy as np
import pytest
from flat_pictures import PICTURES, Quiet, make, problem_of
from vaegan_engine.classes2d.classify import run_classes2d
from vaegan_engine.classes2d.junk import feature_shells, judge
from vaegan_engine.classes2d.rounds import classify, last_shells
from vaegan_engine.classes2d.tuning import TUNING
from vaegan_engine.classes2d.unlike import compared, least_deviations
from vaegan_engine.contract.settings import Classes2dRun, ComputeConfig, DataConfig
from vaegan_engine.simulation.options import SimulateOptions
from vaegan_engine.simulation.simulate import STAR, run_simulate

SECOND = 30  # images with another particle beside theirs


@pytest.mark.slow
def test_few_plain_particles_are_set_aside_at_high_signal(tmp_path):
    """What a particle's view leaves over is seen through its CTF: images of high defocus were set aside, 1 of 10."""
    options = SimulateOptions(phantom=2, per_map=200, box_px=32, snr=2.0, device="cpu")
    run_simulate(options, tmp_path / "data")
    data = DataConfig(particles=str(tmp_path / "data" / STAR), box_px=32)
    run_classes2d(Classes2dRun(data=data, n_classes=12, n_steps=12, compute=ComputeConfig(threads=1)), tmp_path / "out")
    with open(tmp_path / "out" / "particles.csv", newline="") as stream:
        reasons = [row["junk_reason"] for row in csv.DictReader(stream)]
    assert sum(map(bool, reasons)) < 0.05 * len(reasons), reasons


def test_limit_of_particles_whose_signal_differs():
    """Misfit of noise and of views that differ, under CTFs and contrasts that differ: few lie above the limit, whatever
    their CTF."""
    rng = np.random.default_rng(0)
    n, plain = 4000, np.ones(4000, bool)
    power = 10 * rng.uniform(0.2, 1.0, n)[:, None] * np.ones(6)
    contrast = rng.lognormal(0, 0.2, n)
    views = np.exp(0.4 * rng.standard_normal((n, 1)))
    misfit = rng.gamma(10, 0.1, (n, 6)) + 0.5 * contrast[:, None] ** 2 * power * views
    ratio, limit = compared(misfit, power, contrast, plain, TUNING.misfit_widths)
    above = ratio > limit
    assert 0.001 < above.mean() < 0.06
    assert above[power[:, 0] > 6].mean() < 0.08
    doubled = misfit.copy()
    doubled[:400] *= 3
    ratio, limit = compared(doubled, power, contrast, plain, TUNING.misfit_widths)
    assert (ratio[:400] > limit).mean() > 0.8 and (ratio[400:] > limit).mean() < 0.06


def test_least_deviations_ignore_what_is_far_off():
    rng = np.random.default_rng(1)
    terms = np.stack((np.ones(1000), rng.uniform(1, 5, 1000)), 1)
    values = terms @ (2.0, 3.0) * rng.normal(1, 0.02, 1000)
    values[:150] *= 4
    np.testing.assert_allclose(least_deviations(terms, values), (2.0, 3.0), rtol=0.1)


def test_a_shell_without_power_is_no_end_of_features():
    frc = np.array([[1, 0.99, 0.96, 0.05, 0.85, 0.82, 0.83, 0.1, 0.3, 0.1],  # seen: a class of 79 particles
                    [1, 0.99, 0.96, 0.05, 0.3, 0.2, 0.0, 0.1, 0.0, 0.1],
                    [1, 0.99, 0.96, 0.05, 0.85, 0.1, 0.0, 0.1, 0.0, 0.1]])
    assert last_shells(frc).tolist() == [2, 2, 2]
    assert feature_shells(frc).tolist() == [6, 2, 2]


@pytest.fixture(scope="module")
def with_seconds():
    """Images of one picture, the first ones with another of it beside theirs, the last with nothing."""
    made, other = make(240, pictures=PICTURES[:1], snr=2.0), make(240, pictures=PICTURES[:1], snr=1e6, seed=1)
    images = made.images.copy()
    images[:SECOND] += np.roll(other.images[:SECOND], 9, 2)
    images[-10:] = np.random.default_rng(2).standard_normal(images[-10:].shape) / np.sqrt(2)
    problem = problem_of(replace(made, images=images), n_classes=2)
    return judge(problem, classify(problem, Quiet(), Quiet()))


@pytest.mark.slow
def test_images_of_two_particles_and_of_none(with_seconds):
    judged = with_seconds
    assert judged.image[:SECOND].mean() > 0.9
    assert (judged.own_reason[:SECOND] == "second particle").mean() > 0.5
    assert judged.image[-10:].mean() > 0.8
    assert judged.image[SECOND:-10].mean() < 0.05
