"""Adversarial losses and penalties: tensors in, scalars out."""
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def relativistic_critic(real: Tensor, fake: Tensor) -> Tensor:
    """``mean softplus(-(C(real) - C(fake)))`` over pairs (RpGAN; R3GAN, Huang et al. 2024)."""
    return functional.softplus(fake - real).mean()


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """The critic's loss with the roles exchanged."""
    return functional.softplus(real - fake).mean()


def hinge_critic(real: Tensor, fake: Tensor) -> Tensor:
    """``mean max(0, 1 - C(real)) + mean max(0, 1 + C(fake))`` (Lim and Ye 2017).

    The generator's loss is ``-mean C(fake)``, as with WGAN-GP.
    """
    return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    """``mean C(fake) - mean C(real)`` (WGAN-GP, without its penalty)."""
    return fake.mean() - real.mean()


def squared_gradient(scores: Tensor, images: Tensor) -> Tensor:
    """``mean_i |d C(x_i) / d x_i|^2`` (R1 on real, R2 on generated images), differentiable."""
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.square().sum(dim=tuple(range(1, gradient.ndim))).mean()


def wasserstein_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """``mean_i (|d C(x_i) / d x_i| - 1)^2`` at interpolates (WGAN-GP), norm over the whole image."""
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    norm = gradient.square().sum(dim=tuple(range(1, gradient.ndim))).add(1e-12).sqrt()
    return (norm - 1).square().mean()


def interpolate(real: Tensor, fake: Tensor, t: Tensor) -> Tensor:
    """``t real + (1 - t) fake``, with one t ~ U(0, 1) per image ``(n, 1, 1)``."""
    return t * real + (1 - t) * fake


def feature_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute error of the critic's last feature maps (perceptual loss)."""
    return (a - b).abs().mean()
