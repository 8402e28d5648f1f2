"""The latent vector z = [one-hot of n_categories, n_normal Gaussian coordinates].

In a homogeneous model z is a constant vector of ones and there is no encoder.
"""
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..contract.settings import ModelConfig


def z_dim(model: ModelConfig) -> int:
    """Length of z."""
    return model.n_categories + model.n_normal


def encoder_outputs(model: ModelConfig) -> int:
    """Encoder head: a logit per category, mean and log-variance per Gaussian coordinate."""
    return model.n_categories + 2 * model.n_normal


def sample_prior(n: int, model: ModelConfig, rng: torch.Generator, device: torch.device) -> Tensor:
    """``(n, k)`` samples: a uniform category (balanced in the batch) and N(0, 1) coordinates."""
    if model.homogeneous:
        return torch.ones(n, z_dim(model), device=device)
    parts = []
    if model.n_categories:
        start = torch.randint(model.n_categories, (1,), generator=rng, device=device)
        category = (torch.arange(n, device=device) + start) % model.n_categories
        parts.append(functional.one_hot(category, model.n_categories).to(torch.get_default_dtype()))
    if model.n_normal:
        parts.append(torch.randn(n, model.n_normal, generator=rng, device=device))
    return torch.cat(parts, dim=1)


def split_head(head: Tensor, model: ModelConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Encoder head to (logits, mean, log-variance)."""
    c, k = model.n_categories, model.n_normal
    return head[:, :c], head[:, c:c + k], head[:, c + k:].clamp(-10, 10)


def posterior_mean(head: Tensor, model: ModelConfig) -> Tensor:
    """z of a particle ``(n, k)``: tempered probabilities of the categories, means of the coordinates.

    ``p_c ~ exp(logit_c / T)``: the encoder learns on generated images and is too sure of real ones;
    without T the embedding falls into the corners of the simplex, whatever the groups are.
    """
    logits, mean, _ = split_head(head, model)
    return torch.cat(((logits / model.temperature).softmax(1), mean), dim=1)


def sharpened(z: Tensor, model: ModelConfig) -> Tensor:
    """Undo the temperature of ``posterior_mean``: weights ``p_c^T``, normalised; for decoding."""
    c = model.n_categories
    if c == 0:
        return z
    weights = z[:, :c].clamp_min(1e-12) ** model.temperature
    return torch.cat((weights / weights.sum(1, keepdim=True), z[:, c:]), dim=1)


def regression_loss(head: Tensor, z: Tensor, model: ModelConfig) -> Tensor:
    """-log q(z | x) per image, mean: cross-entropy plus Gaussian negative log-likelihood."""
    logits, mean, log_var = split_head(head, model)
    loss = head.new_zeros(())
    if model.n_categories:
        target = z[:, :model.n_categories].argmax(1)
        loss = loss + functional.cross_entropy(logits, target)
    if model.n_normal:
        error = (z[:, model.n_categories:] - mean).square() * torch.exp(-log_var)
        loss = loss + 0.5 * (error + log_var).sum(1).mean()
    return loss


def kl_divergence(head: Tensor, model: ModelConfig) -> Tensor:
    """KL(q(z | x), prior), mean over images; closed forms for both parts."""
    logits, mean, log_var = split_head(head, model)
    loss = head.new_zeros(())
    if model.n_categories:
        log_p = logits.log_softmax(1)
        loss = loss + (log_p.exp() * (log_p + torch.tensor(float(model.n_categories)).log())
                       ).sum(1).mean()
    if model.n_normal:
        loss = loss + 0.5 * (mean.square() + log_var.exp() - log_var - 1).sum(1).mean()
    return loss


def of_posterior(head: Tensor, eps: Tensor, model: ModelConfig) -> Tensor:
    """z ~ q(z | x) by reparameterisation, of normal numbers ``eps (n, k)``; categories by their probabilities."""
    logits, mean, log_var = split_head(head, model)
    return torch.cat((logits.softmax(1), mean + (0.5 * log_var).exp() * eps), dim=1)
