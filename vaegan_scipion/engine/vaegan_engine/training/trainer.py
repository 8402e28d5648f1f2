"""One training step of the VAE-GAN. No files, no prints, no host synchronisation here."""
from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..contract.settings import TrainRun
from ..networks import latent_vector
from ..networks.critic_encoder import input_channels
from ..networks.vae_gan import Frame, Given, build_with_critic
from ..physics.shards import take_of_first
from . import losses
from .batch_parts import Part, Rows, Whole, Work, gradients, rows_of_parts
from .fakes import Fakes, MapGroups, Shared, fakes_of_posterior, fakes_of_prior, fixed, groups_of_maps
from .pose_watch import N_TRACKED, camera_completeness
from .preview import Preview
from .seeded_dropout import seeded_dropout

CRITIC_LOSSES = {"rpgan": losses.relativistic_critic, "hinge": losses.hinge_critic,
                 "wgan_gp": losses.wasserstein_critic}


class Trainer:
    """Networks, optimisers and averages of one run.

    ``step`` runs a critic step and a generator + encoder step; schedules are pure functions
    of the number of images seen. Three Adam optimisers: encoder; generator, noise generator
    and camera; critic.
    """

    def __init__(self, run: TrainRun, box_px: int, pixel_size_ang: float,
                 device: torch.device) -> None:
        self.run, self.model, self.config = run, run.model, run.training
        self.vae_gan, self.critic = build_with_critic(run, Frame(box_px, pixel_size_ang), device)
        self.device = device
        self.optimizers = self._build_optimizers()
        self.images_seen = 0
        self._descents = 0  # of this step
        self._averaged_source: Tensor | None = None  # of the encoder's own stage, in which the generator is fixed

    def _build_optimizers(self) -> dict[str, torch.optim.Adam]:
        c = self.config
        betas = (c.adam_beta1, c.adam_beta2)
        generator_lr = c.voxel_lr if self.model.generator == "voxel" else c.generator_lr
        groups = [{"params": list(self.vae_gan.generator.parameters()), "lr": generator_lr}]
        noise = list(self.vae_gan.noise.parameters())
        if noise:
            groups.append({"params": noise, "lr": c.generator_lr})
        if self.vae_gan.camera is not None:
            groups.append({"params": list(self.vae_gan.camera.parameters()), "lr": c.generator_lr})
        optimizers = {
            "generator": torch.optim.Adam(groups, betas=betas, eps=1e-8),
            "critic": torch.optim.Adam(self.critic.parameters(), lr=c.critic_lr, betas=betas),
        }
        if self.vae_gan.encoder is not None:
            optimizers["encoder"] = torch.optim.Adam(
                self.vae_gan.encoder.parameters(), lr=c.encoder_lr,
                betas=(0.9, 0.99) if c.encoder_objective == "regression" else betas)
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]
        return optimizers

    def lr_factor(self, images_seen: int) -> float:
        """Learning rate / its start: linear to ``lr_final_frac``, or ``lr_decay^(kimg / lr_decay_kimg)``."""
        c, kimg = self.config, images_seen / 1000
        if c.lr_schedule == "exponential":
            return c.lr_decay ** (kimg / c.lr_decay_kimg)
        if kimg >= c.total_kimg:  # the encoder alone begins again at half speed
            left = 0.5 * max(0.0, 1 - (kimg - c.total_kimg) / max(c.encoder_kimg, 1e-9))
        else:
            left = 1 - kimg / c.total_kimg
        return c.lr_final_frac + (1 - c.lr_final_frac) * left

    def step(self, real: Tensor, ctf_table: Tensor) -> dict[str, Tensor]:
        """Train on a batch ``real (n, d, d)`` with its CTF rows ``(n, 8)``.

        Returns detached scalars on the device; reading them is the caller's synchronisation.
        """
        factor = self.lr_factor(self.images_seen)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
        ctf = self.vae_gan.ctf(ctf_table)
        averages: list[tuple[nn.Module, nn.Module]] = []
        if self.vae_gan.encoder is not None and self.vae_gan.encoder_ema is not None:
            averages.append((self.vae_gan.encoder_ema, self.vae_gan.encoder))
        self._descents = 0
        if self.images_seen >= self.config.total_kimg * 1000:
            stats = self._encoder_step_averaged(ctf)
        else:
            stats = self._adversarial_step(real, ctf)
            averages += [(self.vae_gan.noise_ema, self.vae_gan.noise),
                         (self.vae_gan.generator_ema, self.vae_gan.generator)]
        self.images_seen += len(real)
        self._update_averages(averages, len(real))
        return stats

    def _adversarial_step(self, real: Tensor, ctf: Tensor) -> dict[str, Tensor]:
        """Critic, encoder and generator in turn; the generator changes last, so its maps are transformed once."""
        shared, still = self._sources(len(real))
        stats = self._critic_step(real, ctf, still)
        if self.vae_gan.encoder is None:
            return stats | self._generator_step(real, ctf, shared)
        if self.config.encoder_objective == "regression":
            return stats | self._generator_step_regression(real, ctf, shared)
        stats |= self._encoder_step_perceptual(real, ctf, still)
        return stats | self._generator_step(real, ctf, shared)

    def _sources(self, n: int) -> tuple[Shared, Shared]:
        """The generator's source for a batch of n images, and the same without gradients."""
        generator, c = self.vae_gan.generator, self.config
        if generator.by_image:
            return None, None
        if c.encoder_objective == "regression" and not c.critic_reconstructions:  # every z is one of the prior
            groups = groups_of_maps(generator, n, self.device)
            if groups is not None:
                return groups, replace(groups, still=True)
        maps = generator.source()  # type: ignore[call-arg]
        return (None, None) if maps is None else (Whole(maps, False), Whole(maps.detach(), False))

    def _score(self, images: Tensor, ctf: Tensor) -> tuple[Tensor, Tensor]:
        return self.critic(input_channels(images, ctf, self.model))

    def _encode(self, images: Tensor, ctf: Tensor) -> Tensor:
        assert self.vae_gan.encoder is not None
        return self.vae_gan.encoder(input_channels(images, ctf, self.model))

    def _descend(self, names: Sequence[str], work: Work, parameters: Sequence[nn.Parameter], rows: list[Rows],
                 alone: Tensor | None = None) -> dict[str, Tensor]:
        """One step of some optimisers on a batch; see ``batch_parts.gradients``."""
        for name in names:
            self.optimizers[name].zero_grad(set_to_none=True)

        def seeded(part: Part) -> tuple[Tensor, dict[str, Tensor]]:
            with self._dropout(part.number):
                return work(part)

        stats = gradients(seeded, rows, parameters, alone)
        inside = set(parameters)
        take_of_first([p.grad for name in names for group in self.optimizers[name].param_groups
                       for p in group["params"] if p not in inside and p.grad is not None])
        for name in names:
            self.optimizers[name].step()
        self._descents += 1
        return stats

    def _dropout(self, part: int) -> AbstractContextManager[None]:
        return seeded_dropout(self.run, (self.images_seen, self._descents, part), self.device)

    def _inside(self, shared: Shared) -> list[nn.Parameter]:
        """Weights of generator, noise and camera that parts of a batch use, not the whole batch (``Whole``)."""
        vae_gan, found = self.vae_gan, []
        if self.model.generator == "siren" or isinstance(shared, MapGroups):
            found += list(vae_gan.generator.parameters())
        if not vae_gan.noise.has_sigma_map:
            found += list(vae_gan.noise.parameters())
        if vae_gan.camera is not None:
            found += list(vae_gan.camera.parameters())
        return found

    def _prior(self, n: int, shared: Shared) -> Fakes:
        """Images of the prior."""
        return fakes_of_prior(self.vae_gan, n, shared)

    def _rebuilt(self, real: Tensor, ctf: Tensor, shared: Shared) -> Fakes:
        """Images of what the encoder says of ``real``; where the generator normalises a batch it says it of all."""
        head = None
        if self.vae_gan.generator.by_image:
            with self._dropout(len(real)):  # as no part
                head = self._encode(real, ctf)
        return fakes_of_posterior(self.vae_gan, len(real), shared, head)

    def _head(self, fakes: Fakes, part: Part, real: Tensor, ctf: Tensor) -> Tensor:
        head = part.take(fakes.head)
        return self._encode(real[part.rows], ctf[part.rows]) if head is None else head

    def _critic_step(self, real: Tensor, ctf: Tensor, shared: Shared) -> dict[str, Tensor]:
        """Real images against those of the prior, and reconstructions behind them if the critic is to see those too."""
        c, n = self.config, len(real)
        with_penalty = self.images_seen // n % c.penalty_every == 0
        weight = c.gradient_penalty * c.penalty_every if with_penalty else 0.0
        with torch.no_grad():
            fakes = self._prior(n, shared)
            rebuilt = self._rebuilt(real, ctf, shared) if c.critic_reconstructions else None
        mixing = torch.rand(n, 1, 1, generator=self.vae_gan.rng, device=self.device,
                            dtype=real.dtype) if c.loss == "wgan_gp" and with_penalty else None

        def work(part: Part) -> tuple[Tensor, dict[str, Tensor]]:
            own, own_ctf, penalties = real[part.rows], ctf[part.rows], {}
            with torch.no_grad():
                made = [fakes.images(self.vae_gan, part, own_ctf)]
                if rebuilt is not None:
                    made.append(rebuilt.images(self.vae_gan, part, own_ctf, self._head(rebuilt, part, real, ctf)))
            both, both_ctf = torch.cat((own, *made)), torch.cat([own_ctf] * (1 + len(made)))
            if c.loss != "wgan_gp":
                both.requires_grad_(with_penalty)
            scores, _ = self._score(both, both_ctf)
            real_score, fake_score = scores[:len(own)], scores[len(own):]
            loss = adversarial = CRITIC_LOSSES[c.loss](real_score, fake_score)
            if mixing is not None:
                between = losses.interpolate(own, made[0], mixing[part.rows]).requires_grad_(True)
                penalties["gradient_penalty"] = losses.wasserstein_penalty(self._score(between, own_ctf)[0], between)
                loss = loss + weight * penalties["gradient_penalty"]
            elif with_penalty:
                penalties["gradient_penalty"] = 2 * losses.squared_gradient(scores, both)  # R1 + R2: means over halves
                loss = loss + 0.5 * weight * penalties["gradient_penalty"]
            return loss, {"critic_loss": adversarial, "score_real": real_score.mean(),
                          "score_fake": fake_score.mean(), **penalties}

        return self._descend(("critic",), work, list(self.critic.parameters()), fakes.rows)

    def _adversarial(self, real: Tensor, fake_score: Tensor, ctf: Tensor) -> Tensor:
        if self.config.loss == "rpgan":
            with torch.no_grad():
                real_score, _ = self._score(real, ctf)
            return losses.relativistic_generator(real_score, fake_score)
        return -fake_score.mean()

    def _generator_step_regression(self, real: Tensor, ctf: Tensor, shared: Shared) -> dict[str, Tensor]:
        """Generator and encoder together: the encoder reads z back from generated images.

        The generator shares the loss with weight ``info_weight`` (InfoGAN, Chen et al. 2016).
        """
        assert self.vae_gan.encoder is not None
        fakes = self._prior(len(real), shared)

        def work(part: Part) -> tuple[Tensor, dict[str, Tensor]]:
            own_ctf = ctf[part.rows]
            images = fakes.images(self.vae_gan, part, own_ctf)
            score, _ = self._score(images, own_ctf)
            adversarial = self._adversarial(real[part.rows], score, own_ctf)
            regression = latent_vector.regression_loss(self._encode(images, own_ctf), fakes.z[part.rows], self.model)
            return (adversarial + self.config.info_weight * regression,
                    {"generator_loss": adversarial, "encoder_loss": regression})

        with fixed(self.critic):
            return self._descend(("generator", "encoder"), work,
                                 self._inside(shared) + list(self.vae_gan.encoder.parameters()), fakes.rows,
                                 None if fakes.diversity is None else -self.config.diversity_weight * fakes.diversity)

    def _encoder_step_averaged(self, ctf: Tensor) -> dict[str, Tensor]:
        """The encoder alone reads z back from images of the averaged, now fixed, generator."""
        assert self.vae_gan.encoder is not None
        generator = self.vae_gan.generator_ema
        if self._averaged_source is None and not generator.by_image:
            with torch.no_grad():
                self._averaged_source = generator.source()  # type: ignore[call-arg]
        z, numbers = self.vae_gan.sample_prior(len(ctf)), self.vae_gan.draw(len(ctf))

        def work(part: Part) -> tuple[Tensor, dict[str, Tensor]]:
            own, own_ctf = z[part.rows], ctf[part.rows]
            with torch.no_grad():
                images = self.vae_gan.images(own, own_ctf, numbers.of(part.rows), Given(self._averaged_source), True)
            regression = latent_vector.regression_loss(self._encode(images, own_ctf), own, self.model)
            return regression, {"encoder_loss": regression}

        return self._descend(("encoder",), work, list(self.vae_gan.encoder.parameters()),
                             rows_of_parts(len(ctf), self.device, encoder_alone=True))

    def _encoder_step_perceptual(self, real: Tensor, ctf: Tensor, shared: Shared) -> dict[str, Tensor]:
        """Thesis: ``KL(q(z|x), prior) + |F(x) - F(G(z))|``, F = the critic's last feature maps."""
        assert self.vae_gan.encoder is not None
        with fixed(self.critic, self.vae_gan.generator, self.vae_gan.noise, self.vae_gan.camera):
            rebuilt = self._rebuilt(real, ctf, shared)

            def work(part: Part) -> tuple[Tensor, dict[str, Tensor]]:
                own_ctf, head = ctf[part.rows], self._head(rebuilt, part, real, ctf)
                kl = latent_vector.kl_divergence(head, self.model)
                images = rebuilt.images(self.vae_gan, part, own_ctf, head)
                with torch.no_grad():
                    _, target = self._score(real[part.rows], own_ctf)
                _, features = self._score(images, own_ctf)
                perceptual = losses.feature_distance(features, target)
                return self.config.kl_weight * kl + perceptual, {"kl": kl, "encoder_loss": perceptual}

            return self._descend(("encoder",), work,
                                 [] if rebuilt.head else list(self.vae_gan.encoder.parameters()), rebuilt.rows)

    def _generator_step(self, real: Tensor, ctf: Tensor, shared: Shared) -> dict[str, Tensor]:
        """Thesis: ``-C(fake) - C(rec) - 0.02 diversity + 0.2 perceptual``; no rec in a homogeneous run."""
        c = self.config
        fakes, rebuilt = self._prior(len(real), shared), None
        if self.vae_gan.encoder is not None:
            with fixed(self.vae_gan.encoder):
                rebuilt = self._rebuilt(real, ctf, shared)

        def work(part: Part) -> tuple[Tensor, dict[str, Tensor]]:
            own, own_ctf = real[part.rows], ctf[part.rows]
            fake_score, _ = self._score(fakes.images(self.vae_gan, part, own_ctf), own_ctf)
            adversarial = self._adversarial(own, fake_score, own_ctf)
            if rebuilt is None:
                return adversarial, {"generator_loss": adversarial}
            with torch.no_grad():
                head = self._head(rebuilt, part, real, ctf)
                _, target = self._score(own, own_ctf)
            score, features = self._score(rebuilt.images(self.vae_gan, part, own_ctf, head), own_ctf)
            adversarial = adversarial + self._adversarial(own, score, own_ctf)
            perceptual = losses.feature_distance(features, target)
            return (adversarial + c.perceptual_weight * perceptual,
                    {"generator_loss": adversarial, "perceptual": perceptual})

        alone = None if fakes.diversity is None else -c.diversity_weight * fakes.diversity
        with fixed(self.critic):
            stats = self._descend(("generator",), work, self._inside(shared), fakes.rows, alone)
        if fakes.diversity is None:
            return stats
        assert fakes.sigma is not None
        sigma = fakes.sigma.value.detach().square().mean().sqrt()
        return stats | {"diversity": fakes.diversity.detach(), "noise_sigma": sigma}

    @torch.no_grad()
    def _update_averages(self, pairs: list[tuple[nn.Module, nn.Module]], n: int) -> None:
        """``ema <- b ema + (1 - b) now``, b = 0.5^(batch / half-life); half-life in images."""
        beta = 0.5 ** (n / max(self.config.ema_half_life_kimg * 1000, 1e-8))
        for average, now in pairs:
            targets: list[Tensor] = list(average.parameters())
            if targets:
                torch._foreach_lerp_(targets, [p.detach() for p in now.parameters()], 1 - beta)
            for target, source in zip(average.buffers(), now.buffers(), strict=True):
                target.copy_(source)

    def preview(self, real: Tensor, ctf_table: Tensor) -> Preview:
        """Pictures of some particles, and of what the networks make, while training."""
        return Preview(self.vae_gan, real, ctf_table)

    def watched(self) -> dict[str, float]:
        """What a line of the log says beside losses."""
        values: dict[str, float] = {}
        if hasattr(self.vae_gan.noise, "log_sigma"):
            values["noise_sigma"] = round(float(self.vae_gan.noise.log_sigma.detach().exp().mean()), 4)
        if self.vae_gan.camera is not None:
            values["scf"] = round(camera_completeness(self.vae_gan.camera, N_TRACKED).scf, 4)
        return values

    def modules(self) -> dict[str, nn.Module]:
        """Everything a checkpoint holds."""
        return self.vae_gan.modules() | {"critic": self.critic}
