"""Losses against closed forms."""
import math

import torch
from vaegan_engine.contract.settings import ModelConfig
from vaegan_engine.networks import latent_vector
from vaegan_engine.training import losses


def test_squared_gradient_of_a_linear_critic_is_its_squared_weight():
    w = torch.randn(5, 5, dtype=torch.float64)
    x = torch.randn(4, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(losses.squared_gradient((x * w).sum((1, 2)), x), w.square().sum())


def test_wasserstein_penalty_uses_the_norm_of_the_whole_image():
    w = torch.full((4, 4), 0.5, dtype=torch.float64)  # norm 2
    x = torch.randn(3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(losses.wasserstein_penalty((x * w).sum((1, 2)), x),
                          torch.tensor(1.0, dtype=torch.float64))


def test_relativistic_losses_mirror_each_other():
    a, b = torch.randn(7), torch.randn(7)
    assert torch.equal(losses.relativistic_critic(a, b), losses.relativistic_generator(b, a))
    assert math.isclose(float(losses.relativistic_critic(a, a)), math.log(2), rel_tol=1e-6)


def test_interpolates_lie_between():
    rng = torch.Generator().manual_seed(0)
    made = losses.interpolate(torch.ones(6, 3, 3), torch.zeros(6, 3, 3), torch.rand(6, 1, 1, generator=rng))
    assert (made >= 0).all() and (made <= 1).all()
    assert torch.allclose(made, made[:, :1, :1].expand_as(made))
    assert made[:, 0, 0].unique().numel() == 6


def test_kl_of_the_prior_is_zero_and_of_a_gaussian_is_its_closed_form():
    model = ModelConfig(n_categories=3, n_normal=2)
    assert abs(float(latent_vector.kl_divergence(torch.zeros(4, 7), model))) < 1e-6
    head = torch.zeros(1, 7)
    head[0, 3], head[0, 5] = 1.5, math.log(0.25)
    assert math.isclose(float(latent_vector.kl_divergence(head, model)),
                        0.5 * (1.5**2 + 0.25 - math.log(0.25) - 1), rel_tol=1e-5)
    head = torch.tensor([[40.0, 0, 0, 0, 0, 0, 0]])
    assert math.isclose(float(latent_vector.kl_divergence(head, model)), math.log(3), rel_tol=1e-5)


def test_prior_is_balanced_one_hot_and_standard_normal():
    model = ModelConfig(n_categories=4, n_normal=2)
    z = latent_vector.sample_prior(4000, model, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert torch.equal(z[:, :4].sum(0), torch.full((4,), 1000.0))
    assert z[:, 4:].mean().abs() < 0.05 and (z[:, 4:].std() - 1).abs() < 0.05


def test_regression_loss_is_the_negative_log_likelihood():
    model = ModelConfig(n_categories=2, n_normal=1)
    z = torch.tensor([[0.0, 1.0, 0.7]])
    head = torch.tensor([[0.2, -0.3, 0.1, math.log(0.5)]])
    log_p = -0.3 - math.log(math.exp(0.2) + math.exp(-0.3))
    expected = -log_p + 0.5 * ((0.6**2) / 0.5 + math.log(0.5))
    assert math.isclose(float(latent_vector.regression_loss(head, z, model)), expected, rel_tol=1e-5)


def test_posterior_mean_lies_on_the_simplex():
    model = ModelConfig(n_categories=3, n_normal=2)
    z = latent_vector.posterior_mean(torch.randn(5, 7), model)
    assert z.shape == (5, 5)
    assert torch.allclose(z[:, :3].sum(1), torch.ones(5))


def test_sharpening_undoes_the_temperature():
    model = ModelConfig(n_categories=3, n_normal=1, temperature=3.0)
    head = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    expected = torch.cat((head[:, :3].softmax(1), head[:, 3:4]), dim=1)
    assert torch.allclose(
        latent_vector.sharpened(latent_vector.posterior_mean(head, model), model), expected, atol=1e-6
    )
    one_hot = torch.eye(3, 4)
    assert torch.allclose(latent_vector.sharpened(one_hot, model), one_hot, atol=1e-6)
