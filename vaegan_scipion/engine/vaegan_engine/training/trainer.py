"""One training step of the VAE-GAN. No files, no prints, no host synchronisation here."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from ..contract.settings import TrainRun
from ..networks import latent_vector
from ..networks.critic_encoder import input_channels
from ..networks.vae_gan import Frame, build_with_critic
from . import losses
from .pose_watch import N_TRACKED, camera_completeness
from .preview import Preview
from .seeded_dropout import seeded_dropout


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
        with seeded_dropout(self.run, self.images_seen, self.device):
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
        source = self.vae_gan.generator.source()
        fixed = None if source is None else source.detach()
        stats = self._critic_step(real, ctf, fixed)
        if self.vae_gan.encoder is None:
            return stats | self._generator_step(real, ctf, source)
        if self.config.encoder_objective == "regression":
            return stats | self._generator_step_regression(real, ctf, source)
        stats |= self._encoder_step_perceptual(real, ctf, fixed)
        return stats | self._generator_step(real, ctf, source)

    def _score(self, images: Tensor, ctf: Tensor) -> tuple[Tensor, Tensor]:
        return self.critic(input_channels(images, ctf, self.model))

    def _encode(self, images: Tensor, ctf: Tensor) -> Tensor:
        assert self.vae_gan.encoder is not None
        return self.vae_gan.encoder(input_channels(images, ctf, self.model))

    def _critic_step(self, real: Tensor, ctf: Tensor, source: Tensor | None) -> dict[str, Tensor]:
        n = len(real)
        fake, fake_ctf = self._fakes_for_critic(real, ctf, source)
        optimizer = self.optimizers["critic"]
        optimizer.zero_grad(set_to_none=True)
        with_penalty = self.images_seen // n % self.config.penalty_every == 0
        weight = self.config.gradient_penalty * self.config.penalty_every if with_penalty else 0.0
        both_ctf = torch.cat((ctf, fake_ctf))
        penalties = {}
        if self.config.loss == "wgan_gp":
            scores, _ = self._score(torch.cat((real, fake)), both_ctf)
            real_score, fake_score = scores[:n], scores[n:]
            loss = adversarial = fake_score.mean() - real_score.mean()
            if with_penalty:
                between = losses.interpolate(real, fake[:n], self.vae_gan.rng).requires_grad_(True)
                penalties["gradient_penalty"] = losses.wasserstein_penalty(self._score(between, ctf)[0], between)
                loss = loss + weight * penalties["gradient_penalty"]
        else:
            both = torch.cat((real, fake)).requires_grad_(with_penalty)
            scores, _ = self._score(both, both_ctf)
            real_score, fake_score = scores[:n], scores[n:]
            critic_loss = losses.hinge_critic if self.config.loss == "hinge" else losses.relativistic_critic
            loss = adversarial = critic_loss(real_score, fake_score)
            if with_penalty:
                penalties["gradient_penalty"] = 2 * losses.squared_gradient(scores, both)  # R1 + R2: means over halves
                loss = loss + 0.5 * weight * penalties["gradient_penalty"]
        loss.backward()
        optimizer.step()
        return {"critic_loss": adversarial.detach(), "score_real": real_score.detach().mean(),
                "score_fake": fake_score.detach().mean(), **{name: value.detach() for name, value in penalties.items()}}

    @torch.no_grad()
    def _fakes_for_critic(self, real: Tensor, ctf: Tensor, source: Tensor | None) -> tuple[Tensor, Tensor]:
        """Images of the prior, and reconstructions behind them if the critic is to see those too; their CTFs."""
        fake = self.vae_gan.render(self.vae_gan.sample_prior(len(real)), ctf, source=source).images
        if not self.config.critic_reconstructions:
            return fake, ctf
        rebuilt = self.vae_gan.reconstruct(ctf, self._encode(real, ctf), source).images
        return torch.cat((fake, rebuilt)), torch.cat((ctf, ctf))

    def _adversarial(self, real: Tensor, fake_score: Tensor, ctf: Tensor) -> Tensor:
        if self.config.loss == "rpgan":
            with torch.no_grad():
                real_score, _ = self._score(real, ctf)
            return losses.relativistic_generator(real_score, fake_score)
        return -fake_score.mean()

    def _generator_step_regression(self, real: Tensor, ctf: Tensor, source: Tensor | None) -> dict[str, Tensor]:
        """Generator and encoder together: the encoder reads z back from generated images.

        The generator shares the loss with weight ``info_weight`` (InfoGAN, Chen et al. 2016).
        """
        fakes = self.vae_gan.render(self.vae_gan.sample_prior(len(real)), ctf, source=source)
        self.critic.requires_grad_(False)
        score, _ = self._score(fakes.images, ctf)
        adversarial = self._adversarial(real, score, ctf)
        self.critic.requires_grad_(True)
        regression = latent_vector.regression_loss(self._encode(fakes.images, ctf), fakes.z, self.model)
        loss = adversarial + self.config.info_weight * regression
        if fakes.diversity is not None:
            loss = loss - self.config.diversity_weight * fakes.diversity
        for name in ("generator", "encoder"):
            self.optimizers[name].zero_grad(set_to_none=True)
        loss.backward()
        for name in ("generator", "encoder"):
            self.optimizers[name].step()
        return {"generator_loss": adversarial.detach(), "encoder_loss": regression.detach()}

    def _encoder_step_averaged(self, ctf: Tensor) -> dict[str, Tensor]:
        """The encoder alone reads z back from images of the averaged, now fixed, generator."""
        with torch.no_grad():
            if self._averaged_source is None:
                self._averaged_source = self.vae_gan.generator_ema.source()
            fakes = self.vae_gan.render(self.vae_gan.sample_prior(len(ctf)), ctf, True, True, self._averaged_source)
        regression = latent_vector.regression_loss(self._encode(fakes.images, ctf), fakes.z, self.model)
        optimizer = self.optimizers["encoder"]
        optimizer.zero_grad(set_to_none=True)
        regression.backward()
        optimizer.step()
        return {"encoder_loss": regression.detach()}

    def _encoder_step_perceptual(self, real: Tensor, ctf: Tensor, source: Tensor | None) -> dict[str, Tensor]:
        """Thesis: ``KL(q(z|x), prior) + |F(x) - F(G(z))|``, F = the critic's last feature maps."""
        parts = self.critic, self.vae_gan.generator, self.vae_gan.noise, self.vae_gan.camera
        fixed = [part for part in parts if part is not None]
        for part in fixed:
            part.requires_grad_(False)
        head = self._encode(real, ctf)
        kl = latent_vector.kl_divergence(head, self.model)
        reconstruction = self.vae_gan.reconstruct(ctf, head, source).images
        with torch.no_grad():
            _, target = self._score(real, ctf)
        _, features = self._score(reconstruction, ctf)
        perceptual = losses.feature_distance(features, target)
        optimizer = self.optimizers["encoder"]
        optimizer.zero_grad(set_to_none=True)
        (self.config.kl_weight * kl + perceptual).backward()
        optimizer.step()
        for part in fixed:
            part.requires_grad_(True)
        return {"kl": kl.detach(), "encoder_loss": perceptual.detach()}

    def _generator_step(self, real: Tensor, ctf: Tensor, source: Tensor | None) -> dict[str, Tensor]:
        """Thesis: ``-C(fake) - C(rec) - 0.02 diversity + 0.2 perceptual``; no rec in a homogeneous run."""
        c = self.config
        fakes = self.vae_gan.render(self.vae_gan.sample_prior(len(real)), ctf, source=source)
        rebuilt = None
        if self.vae_gan.encoder is not None:
            with torch.no_grad():
                head = self._encode(real, ctf)
            rebuilt = self.vae_gan.reconstruct(ctf, head, source)
        self.critic.requires_grad_(False)
        fake_score, _ = self._score(fakes.images, ctf)
        adversarial = self._adversarial(real, fake_score, ctf)
        stats = {}
        perceptual = adversarial.new_zeros(())
        if rebuilt is not None:
            with torch.no_grad():
                _, target = self._score(real, ctf)
            rebuilt_score, features = self._score(rebuilt.images, ctf)
            adversarial = adversarial + self._adversarial(real, rebuilt_score, ctf)
            perceptual = losses.feature_distance(features, target)
            stats["perceptual"] = perceptual.detach()
        loss = adversarial + c.perceptual_weight * perceptual
        if fakes.diversity is not None:
            loss = loss - c.diversity_weight * fakes.diversity
            stats["diversity"] = fakes.diversity.detach()
        optimizer = self.optimizers["generator"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        self.critic.requires_grad_(True)
        return {"generator_loss": adversarial.detach(), **stats}

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
