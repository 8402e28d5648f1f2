"""Networks of a training with poses: at the start the closed form, and densities against torch's."""
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence
from vaegan_engine.contract import presets
from vaegan_engine.networks.posed_vae import PosedVaeGan, Posterior, critic_box_px, negative_log_likelihood
from vaegan_engine.networks.vae_gan import Frame
from vaegan_engine.reconstruction.principal_maps import linear_posterior

K, M, N = 3, 4, 50


@pytest.fixture
def vae_gan():
    run = presets.build_run("train3d", "posed", {
        "data": {"box_px": 16, "input_poses": True}, "model": {"n_normal": K, "n_basis": M},
        "training": {"band_shells": 5.0}})
    return PosedVaeGan(run, Frame(16, 4.0), torch.device("cpu"))


def statistics(seed=0):
    rng = torch.Generator().manual_seed(seed)
    Y = torch.randn(N, M, 20, generator=rng)
    return Y @ Y.mT, torch.randn(N, M, generator=rng) * 3


def test_the_encoder_starts_as_the_posterior_of_the_linear_model(vae_gan):
    gram, pull = statistics()
    mean, covariance = linear_posterior(gram, pull)
    q = vae_gan.posterior(gram, pull)
    assert torch.allclose(q.mean, mean[:, :K], rtol=1e-4, atol=1e-5)
    assert torch.allclose(q.covariance(), covariance[:, :K, :K], rtol=1e-4, atol=1e-5)


def test_the_bound_of_a_linear_decoder_is_the_evidence(vae_gan):
    """E log p(X | z) - KL(q, prior) = log p(X) where q is the posterior: b.(G+1)^-1 b / 2 - log det(G+1) / 2."""
    gram, pull = statistics()
    gram[:, K:], gram[:, :, K:], pull[:, K:] = 0, 0, 0  # maps beyond those of z
    q = vae_gan.posterior(gram, pull)
    c = vae_gan.generator.coefficients(q.sample(4000, torch.Generator().manual_seed(0)))
    bound = -negative_log_likelihood(gram, pull, c) - q.kl()
    whole = gram + torch.eye(M)
    evidence = 0.5 * (pull * torch.linalg.solve(whole, pull)).sum(1) - 0.5 * torch.linalg.slogdet(whole)[1]
    assert float((bound - evidence).abs().mean()) < 0.05


def test_likelihood_is_that_of_finite_differences():
    gram, pull = (x.double() for x in statistics())
    c = torch.randn(2, N, M, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: negative_log_likelihood(gram, pull, c), (c,))


def test_densities_are_those_of_a_multivariate_normal():
    rng = torch.Generator().manual_seed(0)
    factor = torch.randn(N, K, K, generator=rng).tril(-1) + torch.diag_embed(0.5 + torch.rand(N, K, generator=rng))
    q = Posterior(torch.randn(N, K, generator=rng), factor)
    same = MultivariateNormal(q.mean, scale_tril=factor)
    prior = MultivariateNormal(torch.zeros(K), torch.eye(K))
    assert torch.allclose(q.kl(), kl_divergence(same, prior), rtol=1e-4, atol=1e-4)
    z, other = torch.randn(N, K, generator=rng), torch.zeros(N, K)
    assert torch.allclose(q.log_density(z) - q.log_density(other), same.log_prob(z) - same.log_prob(other), rtol=1e-4,
                          atol=1e-4)
    samples = q.sample(20000, rng)
    assert torch.allclose(samples.mean(0), q.mean, atol=0.1)


def test_maps_are_mean_plus_coefficients_times_basis(vae_gan):
    g = vae_gan.generator
    rng = torch.Generator().manual_seed(0)
    d = vae_gan.working_px
    with torch.no_grad():
        g.mean.copy_(torch.randn(d, d, d, generator=rng))
        g.basis.copy_(torch.randn(M, d, d, d, generator=rng))
        g.scale.fill_(2.0)
    z = torch.randn(2, K, generator=rng)
    expected = g.mean + 2 * torch.einsum("nk,kxyz->nxyz", z, g.basis[:K])
    assert torch.allclose(g.decode(z, d), expected, rtol=1e-4, atol=1e-4)
    assert vae_gan.decode(z).shape == (2, 16, 16, 16)
    g.active[1:] = 0
    assert float(g.maps()[1:].abs().max()) == 0 and vae_gan.n_active == 1
    assert torch.equal(vae_gan.decode(z[:, :1]), vae_gan.decode(z))  # the others have no say
    gram, pull = statistics()
    gram[:, 1:], gram[:, :, 1:], pull[:, 1:] = 0, 0, 0
    with torch.no_grad():
        for part in vae_gan.encoder.parameters():
            part.add_(0.1)
    q = vae_gan.posterior(gram, pull)
    assert float(q.mean[:, 1:].abs().max()) == 0 and torch.allclose(q.covariance()[:, 1:, 1:], torch.eye(K - 1))


@pytest.mark.parametrize("radius", [3.0, 7.0, 12.0, 13.5])
def test_the_critics_box_holds_the_band(radius):
    assert critic_box_px(radius) % 8 == 0 and critic_box_px(radius) > 2 * radius + 1
