"""Training of the VAE-GAN at known poses: rounds of networks on what the images say, and of maps on the images."""
from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..contract.settings import TrainRun
from ..networks.posed_vae import PosedVaeGan, build_critic, negative_log_likelihood
from ..networks.vae_gan import Frame
from ..physics.fsc import soft_sphere_mask
from ..physics.map_constraint import MapConstraint, within
from ..physics.shards import shared_parts, take_of_first
from ..physics.space import Space
from ..reconstruction.map_family import FAMILY_CHUNK_IMAGES, Family, Seen, Spreads, family, seen
from ..reconstruction.principal_maps import (
    PrincipalMaps,
    agreed,
    drawn_maps,
    first_maps,
    first_planes,
    improved,
    one_pass,
    stepped,
)
from . import losses
from .posed_images import PosedParticles
from .posed_pairs import Pairs
from .preview import PosedPreview
from .seeded_dropout import seed_of, seeded_dropout

N_SAMPLES = 4  # of each image's z in a step
N_MOMENT_SAMPLES = 8  # for the maps
N_HALF = 3000  # images of each half that principal maps are first looked for in
N_LAST = 2  # rounds of principal maps on all images
LEAST_AGREEMENT = 0.2  # cosine, from which a direction of two halves counts as the same
BEYOND_FRAC, EDGE_FRAC = 0.03, 0.08  # of the box: mask beyond the particle's circle, its soft edge


def circle_or_sphere(space: Space, box_px: int, radius_frac: float) -> Tensor:
    """Soft mask ``(d, ..)`` a little larger than the particle, whose radius is a fraction of the box."""
    sphere = torch.from_numpy(soft_sphere_mask(box_px, (radius_frac + BEYOND_FRAC) * box_px, EDGE_FRAC * box_px))
    return sphere if space.ndim == 3 else sphere[box_px // 2]


class PosedTrainer:
    """Networks and optimisers of one run with poses.

    A step is a batch of rows. With a likelihood, networks are trained on the images' sufficient statistics
    (``map_family``): all images' ``G`` and ``b``, made anew whenever the maps move, at the end of every round of
    ``round_kimg``. The adversarial part renders images at the poses of a batch; it trains the coefficients of z, and
    the basis maps where there is no likelihood that determines them.
    """

    def __init__(self, run: TrainRun, frame: Frame, images: PosedParticles, device: torch.device) -> None:
        self.run, self.model, self.config, self.device = run, run.model, run.training, device
        self.images = images
        self.vae_gan = PosedVaeGan(run, frame, device)
        self.critic = build_critic(run).to(device)
        self.pairs = Pairs(images, self.config.band_shells)
        self.gram, self.pull = torch.empty(0), torch.empty(0)
        self.read: Family | None = None  # the present maps, where they stand still between rounds
        self.optimizers = self._build_optimizers()
        self.images_seen = 0

    @property
    def likely(self) -> bool:
        """Whether the likelihood is part of the loss."""
        return self.config.likelihood_weight > 0

    def _build_optimizers(self) -> dict[str, torch.optim.Adam]:
        c, vae_gan = self.config, self.vae_gan
        groups = [{"params": list(vae_gan.generator.bend.parameters()), "lr": c.generator_lr}]
        if not self.likely:
            groups.append({"params": [vae_gan.generator.basis], "lr": c.voxel_lr})
        betas = (c.adam_beta1, c.adam_beta2)
        optimizers = {"generator": torch.optim.Adam(groups, betas=betas),
                      "encoder": torch.optim.Adam(vae_gan.encoder.parameters(), lr=c.encoder_lr, betas=(0.9, 0.99)),
                      "critic": torch.optim.Adam(self.critic.parameters(), lr=c.critic_lr, betas=betas)}
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]
        return optimizers

    def modules(self) -> dict[str, nn.Module]:
        """Everything a checkpoint holds."""
        return self.vae_gan.modules() | {"critic": self.critic}

    def lr_factor(self, images_seen: int) -> float:
        """Learning rate / its start: linear to ``lr_final_frac``."""
        left = max(0.0, 1 - images_seen / (1000 * self.config.total_kimg))
        return self.config.lr_final_frac + (1 - self.config.lr_final_frac) * left

    def watched(self) -> dict[str, float]:
        """What a line of the log says beside losses."""
        contrast, rotation, shift = self.vae_gan.generator.spreads.tolist()
        return {"contrast_spread": round(contrast, 4), "rotation_spread_deg": round(rotation * 57.29578, 3),
                "shift_spread_px": round(shift * self.vae_gan.box_px, 3)}

    def preview(self, rows: Tensor) -> PosedPreview:
        """Pictures of the maps while training."""
        del rows
        return PosedPreview(self.vae_gan)

    @property
    def mask(self) -> Tensor:
        """Soft sphere ``(d, d, d)`` that maps are kept in, or circle of images."""
        d = self.vae_gan.working_px
        return circle_or_sphere(self.vae_gan.space, d, self.run.data.particle_radius_frac).to(self.device)

    @property
    def constraint(self) -> MapConstraint:
        """What maps are held to: the mask, and no symmetry."""
        return within(self.mask)

    def maps(self) -> PrincipalMaps:
        """The generator's maps as the closed forms take them."""
        g = self.vae_gan.generator
        contrast, rotation, shift = g.spreads.tolist()
        return PrincipalMaps(g.mean, g.maps().detach(), g.noise, Spreads(contrast, rotation, shift), self.images.band)

    def _take(self, maps: PrincipalMaps) -> None:
        g = self.vae_gan.generator
        with torch.no_grad():
            g.mean.copy_(maps.mean)
            g.basis.copy_(g.of_active(maps.basis / g.scale))
            g.noise.copy_(maps.noise)
            g.spreads.copy_(torch.tensor(tuple(maps.spreads)))
            take_of_first((g.mean, g.basis, g.noise, g.spreads))

    def begin(self) -> None:
        """Mean map, noise and, in ``start_rounds``, the principal maps of the images."""
        first = first_maps if self.vae_gan.space.ndim == 3 else first_planes
        start = first(self.images, self.model.n_basis, self.constraint)
        self.vae_gan.generator.scale.copy_(start.mean.std())
        if self.config.start_rounds:
            self._take(self._supported(start))
            return
        self._take(start)
        rng = torch.Generator().manual_seed(self.run.compute.seed)
        with torch.no_grad():
            drawn = torch.randn(start.basis.shape, generator=rng).to(self.device)
            self.vae_gan.generator.basis.copy_(0.1 * self.mask * drawn)

    def _supported(self, start: PrincipalMaps) -> PrincipalMaps:
        """Principal maps of all images, as many as two halves agree on; the others are 0 and stay so."""
        generator, rounds, within_mask = self.vae_gan.generator, self.config.start_rounds, self.constraint
        seed, part, halves = self.run.compute.seed, self.images.part, []
        for k, rows in enumerate(self.images.halves(N_HALF)):
            maps = drawn_maps(start, part, rows, within_mask, seed + k)
            halves.append(improved(maps, part, rows, within_mask, rounds))
        shared = agreed(*halves)
        n_agreed = int((shared.cosines > LEAST_AGREEMENT).sum())
        n = max(1, n_agreed)
        generator.agreement.copy_(shared.cosines)
        generator.active.copy_(torch.arange(len(shared.basis)) < n)
        print(f"{n_agreed} of {len(shared.basis)} directions are found in both halves "
              f"(cosines {', '.join(f'{x:.2f}' for x in shared.cosines.tolist())})", flush=True)
        some, every = self.images.spread(2 * N_HALF), torch.arange(len(self.images), device=self.device)
        first = replace(halves[0], mean=start.mean, basis=shared.basis[:n])
        last = improved(improved(first, self.images.part, some, within_mask, -(-rounds // 3)), self.images.part, every,
                        within_mask, N_LAST)
        return replace(last, basis=torch.cat((last.basis, torch.zeros_like(start.basis[n:]))))

    @torch.no_grad()
    def refresh(self) -> None:
        """What every image says of the present maps."""
        if not self.likely:
            return
        self.read, maps = self._family(), self.maps()
        read, n = self.read, len(self.images)

        def said(first: int, end: int) -> tuple[Tensor, Tensor]:
            part = seen(read, self.images.rows(slice(first, end)), maps.precision, maps.spreads)
            return part.gram, part.pull

        parts = shared_parts(said, n, FAMILY_CHUNK_IMAGES)
        self.gram, self.pull = (torch.cat(column) for column in zip(*parts, strict=True))

    def _family(self) -> Family:
        g = self.vae_gan.generator
        return family(g.mean, g.maps(), self.images.band)

    def step(self, rows: Tensor) -> dict[str, Tensor]:
        """Train on the images ``rows (n,)``. Returns detached scalars on the device."""
        factor = self.lr_factor(self.images_seen)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
        with seeded_dropout(self.run, (self.images_seen,), self.device):
            stats = self._likelihood_step(rows) if self.likely else {}
            if self.config.adversarial_weight > 0:
                stats |= self._adversarial_step(rows[:self.config.adversarial_batch])
        before = self.images_seen
        self.images_seen += len(rows)
        length = 1000 * self.config.round_kimg
        if self.likely and before // length < self.images_seen // length and (
                self.images_seen < 1000 * self.config.total_kimg):
            self._move_maps()
        return stats

    def _likelihood_step(self, rows: Tensor) -> dict[str, Tensor]:
        """``beta KL(q, N(0, 1)) - E log p(X | c(z))``, mean over the batch."""
        gram, pull = self.gram[rows], self.pull[rows]
        q = self.vae_gan.posterior(gram, pull)
        c = self.vae_gan.generator.coefficients(q.sample(N_SAMPLES, self.vae_gan.rng))
        misfit, kl = negative_log_likelihood(gram, pull, c).mean(), q.kl().mean()
        self._descend(("generator", "encoder"), self.config.likelihood_weight * (misfit + self.config.kl_weight * kl))
        return {"negative_log_likelihood": misfit.detach(), "kl": kl.detach()}

    def _descend(self, names: tuple[str, ...], loss: Tensor) -> None:
        for name in names:
            self.optimizers[name].zero_grad(set_to_none=True)
        loss.backward()
        take_of_first([p.grad for name in names for group in self.optimizers[name].param_groups
                       for p in group["params"] if p.grad is not None])
        for name in names:
            self.optimizers[name].step()

    @torch.no_grad()
    def _move_maps(self) -> None:
        """One step of all maps towards the images, each at its present posterior; then what the images say anew.

        Random numbers are those of the images, whoever makes their part.
        """
        @torch.no_grad()
        def moments(rows: Tensor, seen_images: Seen) -> tuple[Tensor, Tensor]:
            rng = torch.Generator(self.device).manual_seed(
                seed_of(self.run.compute.seed, self.images_seen, int(rows[0])))
            q = self.vae_gan.posterior(seen_images.gram, seen_images.pull)
            c = self.vae_gan.generator.coefficients(q.sample(N_MOMENT_SAMPLES, rng))
            return c.mean(0), torch.einsum("snk,snl->nkl", c, c) / len(c)

        maps, every = self.maps(), torch.arange(len(self.images), device=self.device)
        self._take(stepped(maps, one_pass(maps, self.images.part, every, moments, shared=True), self.constraint))
        self.refresh()

    def _adversarial_step(self, rows: Tensor) -> dict[str, Tensor]:
        """Critic, then generator (and, without a likelihood, encoder) on pairs at the poses of ``rows``."""
        maps = self.maps()
        with torch.set_grad_enabled(not self.likely):
            read = self._family() if self.read is None else self.read
            seen_here = seen(read, self.images.part(rows), maps.precision, maps.spreads)
        z = torch.randn(len(rows), self.model.n_normal, generator=self.vae_gan.rng, device=self.device)
        residual = self.pairs.simulated(seen_here, self.vae_gan.generator.coefficients(z), self.vae_gan.rng)
        expected = self.pairs.expected(seen_here)
        real, fake = (self.pairs.images(r, expected, rows) for r in (seen_here.columns[:, -1].detach(), residual))
        stats = self._critic_step(real.detach(), fake.detach())
        self.critic.requires_grad_(False)
        with torch.no_grad():
            real_score, _ = self.critic(real)
        loss = losses.relativistic_generator(real_score, self.critic(fake)[0])
        self._descend(("generator",), self.config.adversarial_weight * loss)
        self.critic.requires_grad_(True)
        if not self.likely:
            stats |= self._regression_step(seen_here, residual.detach(), z)
        return stats | {"generator_loss": loss.detach()}

    def _critic_step(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        both = torch.cat((real, fake)).requires_grad_(True)
        scores, _ = self.critic(both)
        loss = losses.relativistic_critic(*scores.chunk(2))
        penalty = 2 * losses.squared_gradient(scores, both)
        self._descend(("critic",), loss + 0.5 * self.config.gradient_penalty * penalty)
        return {"critic_loss": loss.detach(), "gradient_penalty": penalty.detach()}

    def _regression_step(self, seen_images: Seen, residual: Tensor, z: Tensor) -> dict[str, Tensor]:
        """The encoder reads z back from simulated images: ``-log q(z)``."""
        simulated = self.pairs.replaced(seen_images, residual)
        loss = -self.vae_gan.posterior(simulated.gram.detach(), simulated.pull.detach()).log_density(z).mean()
        self._descend(("encoder",), loss)
        return {"encoder_loss": loss.detach()}
