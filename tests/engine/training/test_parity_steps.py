"""Two training steps of every preset against the literal transcription in ``parity_reference``: losses, gradients,
weights and averages, float64. Boxes and widths are small and dropout is off; nothing else is changed."""
import math

import parity_reference as ref
import pytest
import torch
from tolerances import TOLERANCES
from vaegan_engine.contract import presets, run_json
from vaegan_engine.training import batch_parts
from vaegan_engine.training.trainer import Trainer

D, PIXEL_ANG, BATCH = 16, 4.0, 4
RTOL, ATOL = TOLERANCES["float64"]
PRESETS = [(command, name, {}) for command, named in presets.PRESETS.items() for name, preset in named.items()
           if not preset.poses]
OTHERS = [("train3d", "thesis-3d", changes) for changes in (
    {"training": {"critic_reconstructions": True}}, {"training": {"loss": "hinge", "gradient_penalty": 1.0}},
    {"training": {"loss": "rpgan", "gradient_penalty": 1.0}}, {"model": {"noise": "poisson_map"}},
    {"model": {"noise": "scalar"}}, {"model": {"noise": "radial"}})]
OTHERS += [("train3d", "fast", {"model": {"n_categories": 4}})]  # as few as images: parts have maps of their own


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Literal:
    """The run's networks as lists of weights, and one step of the algorithm."""

    def __init__(self, trainer):
        self.run, self.model, self.c = trainer.run, trainer.run.model, trainer.run.training
        self.weights = {name: [p.detach().clone().requires_grad_(True) for p in part.parameters()]
                        for name, part in trainer.modules().items() if not name.endswith("_ema")}
        self.amplitude = float(trainer.vae_gan.generator.amplitude)
        self.rng = torch.Generator()
        self.rng.set_state(trainer.vae_gan.rng.get_state())
        self.average = {name: [w.detach().clone() for w in self.weights[name]]
                        for name in ("generator", "noise", "encoder") if name in self.weights}
        generator_lr = self.c.voxel_lr if self.model.generator == "voxel" else self.c.generator_lr
        betas = (self.c.adam_beta1, self.c.adam_beta2)
        lrs = {"generator": generator_lr, "noise": self.c.generator_lr, "camera": self.c.generator_lr,
               "critic": self.c.critic_lr, "encoder": self.c.encoder_lr}
        self.adam = {name: ref.Adam(w, lrs[name], (0.9, 0.99) if name == "encoder" and self.is_regression else betas)
                     for name, w in self.weights.items()}
        self.gradients, self.steps = {}, 0

    @property
    def is_regression(self):
        return self.c.encoder_objective == "regression"

    def prior(self):
        if self.model.homogeneous:
            return torch.ones(BATCH, self.model.n_normal)
        if self.model.n_categories:
            start = int(torch.randint(self.model.n_categories, (1,), generator=self.rng))
            return torch.eye(self.model.n_categories)[[(i + start) % self.model.n_categories for i in range(BATCH)]]
        return torch.randn(BATCH, self.model.n_normal, generator=self.rng)

    def poses(self):
        if self.model.pose_prior == "camera":
            return ref.camera(torch.randn(BATCH, 64, generator=self.rng), self.weights["camera"])
        q = torch.randn(BATCH, 4, generator=self.rng)
        return torch.stack([ref.rotation_of_quaternion(row) for row in q])

    def angles(self):
        return 360 * torch.rand(BATCH, generator=self.rng) if self.model.pose_prior == "uniform" else None

    def planes(self, z, rotations):
        weights = self.weights["generator"]
        if self.model.generator == "dcgan":
            images = self.amplitude * ref.dcgan(z, weights, D)
            return ref.plane_of(images if rotations is None else ref.turned(images, rotations))
        if self.model.generator == "siren":
            return ref.siren(z, rotations, weights, self.amplitude, D)
        return ref.voxel_slices(z, rotations, weights, self.amplitude, self.model.voxel_smooth_shells,
                                self.run.data.particle_radius_frac)

    def render(self, z, ctf):
        """Images with CTF, shift and noise, and the diversity."""
        shifts = (torch.rand(BATCH, 2, generator=self.rng) * 2 - 1) * self.model.max_shift_frac * D
        rotations = self.angles() if self.run.command == "train2d" else self.poses()
        planes = self.planes(z, rotations)
        signal = ref.image_of(ref.moved(planes * ctf, shifts))
        kind, weights = self.model.noise, self.weights["noise"]
        if kind == "none":
            return signal, 0.0
        eps = torch.randn(BATCH, D, D, generator=self.rng)
        if kind == "scalar":
            return signal + eps * torch.exp(weights[0]), 0.0
        if kind == "radial":
            sigma = torch.zeros(D, D // 2 + 1)
            for j, i, kx, ky in ref.frequencies(D):
                sigma[j, i] = torch.exp(weights[0])[min(round(math.hypot(kx, ky)), D // 2)]
            return signal + ref.image_of(ref.plane_of(eps) * sigma), 0.0
        zn = torch.randn(BATCH, 100, generator=self.rng)
        sigma = torch.log(1 + torch.exp(ref.dcgan(zn, weights, D) + 0.5413))
        self.noise_sigma = (sigma.detach() ** 2).mean() ** 0.5
        diversity = sum((sigma[i] - sigma[i - 1]).abs().mean() / (zn[i] - zn[i - 1]).abs().mean()
                        for i in range(BATCH)) / BATCH
        if kind == "poisson_map":
            clean = ref.image_of(ref.moved(planes, shifts))
            return signal + eps * sigma * torch.sqrt(clean.abs().clamp(min=1e-6)), diversity
        return signal + eps * sigma, diversity

    def seen(self, images, ctf):
        if not self.model.ctf_channels:
            return images[:, None]
        return torch.stack((images, ref.image_of(ref.plane_of(images) * ctf / (ctf**2 + 0.5))), 1)

    def score(self, images, ctf):
        return ref.critic(self.seen(images, ctf), self.weights["critic"], self.model)

    def encode(self, images, ctf):
        return ref.encoder(self.seen(images, ctf), self.weights["encoder"], self.model)

    def posterior(self, head):
        mean, log_variance = head[:, :self.model.n_normal], head[:, self.model.n_normal:]
        return mean + torch.exp(log_variance / 2) * torch.randn(mean.shape, generator=self.rng)

    def update(self, loss, names):
        factor = (self.c.lr_decay ** (self.steps * BATCH / 1000 / self.c.lr_decay_kimg)
                  if self.c.lr_schedule == "exponential"
                  else 1 - (1 - self.c.lr_final_frac) * self.steps * BATCH / 1000 / self.c.total_kimg)
        wanted = [w for name in names for w in self.weights.get(name, [])]
        found = iter(torch.autograd.grad(loss, wanted))
        for name in names:
            if name in self.weights:
                self.gradients[name] = [next(found) for _ in self.weights[name]]
                self.adam[name].step(self.gradients[name], factor)

    def critic_step(self, real, ctf):
        fakes, _ = self.render(self.prior(), ctf)
        groups = [(real, ctf), (fakes.detach(), ctf)]
        if self.c.critic_reconstructions:
            rebuilt, _ = self.render(self.posterior(self.encode(real, ctf)), ctf)
            groups.append((rebuilt.detach(), ctf))
        groups = [(images.requires_grad_(True), ctf) for images, ctf in groups]
        scores = [self.score(*group)[0] for group in groups]
        c_real, c_fake = scores[0], torch.cat(scores[1:])
        with_penalty, penalty = self.steps % self.c.penalty_every == 0, 0.0  # else it is left out
        if self.c.loss == "wgan_gp":
            alpha = torch.rand(BATCH, 1, 1, generator=self.rng)
            mixed = (alpha * real.detach() + (1 - alpha) * fakes.detach()).requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.score(mixed, ctf)[0].sum(), mixed, create_graph=True)
            penalty = ((torch.sqrt((gradient**2).sum((1, 2))) - 1) ** 2).mean()
            adversarial = c_fake.mean() - c_real.mean()
            loss = adversarial + 10 * penalty
        else:
            for (images, _), score in zip(groups, scores, strict=True):
                (gradient,) = torch.autograd.grad(score.sum(), images, create_graph=True)
                penalty = penalty + (gradient**2).sum((1, 2)).mean()
            if self.c.loss == "hinge":
                adversarial = (1 - c_real).clamp(min=0).mean() + (1 + c_fake).clamp(min=0).mean()
            else:
                adversarial = torch.log(1 + torch.exp(c_fake - c_real)).mean()
            loss = adversarial + with_penalty * self.c.penalty_every * self.c.gradient_penalty / 2 * penalty
        self.update(loss, ["critic"])
        return {"critic_loss": adversarial, "score_real": c_real.mean(), "score_fake": c_fake.mean(),
                **({"gradient_penalty": penalty} if with_penalty else {})}

    def adversarial(self, real, fake_score, ctf):
        if self.c.loss == "rpgan":
            return torch.log(1 + torch.exp(self.score(real, ctf)[0].detach() - fake_score)).mean()
        return -fake_score.mean()

    def step(self, real, table):
        ctf = ref.ctf_of(table, D, PIXEL_ANG)
        stats = self.critic_step(real.clone(), ctf)
        if self.is_regression and "encoder" in self.weights:  # ours (preset fast): the encoder reads z back
            z = self.prior()
            fakes, _ = self.render(z, ctf)
            adversarial = self.adversarial(real, self.score(fakes, ctf)[0], ctf)
            logits = self.encode(fakes, ctf)
            regression = -(z * (logits - torch.log(torch.exp(logits).sum(1, keepdim=True)))).sum(1).mean()
            self.update(adversarial + self.c.info_weight * regression, ["generator", "noise", "encoder"])
            stats |= {"generator_loss": adversarial, "encoder_loss": regression}
        else:
            stats |= self.thesis_step(real, ctf)
        beta = (0.96 ** (BATCH / 16) if self.run.preset != "fast"  # 0.96 per step of 16 images
                else 0.5 ** (BATCH / (self.c.ema_half_life_kimg * 1000)))
        for name, averages in self.average.items():
            self.average[name] = [beta * a + (1 - beta) * w.detach()
                                  for a, w in zip(averages, self.weights[name], strict=True)]
        self.steps += 1
        return {name: float(value) for name, value in stats.items()}

    def thesis_step(self, real, ctf):
        """Algorithms 6 (camera), 7 and 8 (no noise): encoder, then generator, noise generator and camera."""
        stats = {}
        if "encoder" in self.weights:
            head = self.encode(real, ctf)
            mean, log_variance = head[:, :self.model.n_normal], head[:, self.model.n_normal:]
            kl = 0.5 * (mean**2 + torch.exp(log_variance) - log_variance - 1).sum(1).mean()
            rebuilt, _ = self.render(self.posterior(head), ctf)
            perceptual = (self.score(real, ctf)[1] - self.score(rebuilt, ctf)[1]).abs().mean()
            self.update(kl + perceptual, ["encoder"])
            stats |= {"kl": kl, "encoder_loss": perceptual}
        fakes, diversity = self.render(self.prior(), ctf)
        if self.model.noise.endswith("map"):
            stats |= {"diversity": diversity, "noise_sigma": self.noise_sigma}
        adversarial, perceptual = self.adversarial(real, self.score(fakes, ctf)[0], ctf), 0.0
        if "encoder" in self.weights:
            rebuilt, _ = self.render(self.posterior(self.encode(real, ctf).detach()), ctf)
            score, features = self.score(rebuilt, ctf)
            adversarial = adversarial + self.adversarial(real, score, ctf)
            perceptual = (self.score(real, ctf)[1] - features).abs().mean()
            stats["perceptual"] = perceptual
        self.update(adversarial - 0.02 * diversity + 0.2 * perceptual, ["generator", "noise", "camera"])
        return stats | {"generator_loss": adversarial}


def assert_same(found, expected, what):
    """Equal within the table; numbers are held against the largest one of their network."""
    scale = max(float(x.detach().abs().max()) for x in expected) if expected else 1.0
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        error = float((a - b).detach().abs().max())
        assert error <= ATOL * min(1.0, scale) + RTOL * scale, (what, i, error, scale)


def label(value):
    return value if isinstance(value, str) else "-".join(str(v) for s in value.values() for v in s.values())


@pytest.mark.parametrize(("command", "name", "changes"), PRESETS + OTHERS, ids=label)
def test_steps_equal_the_literal_algorithm(command, name, changes, monkeypatch):
    """In parts too: what couples images of a batch is made of the whole batch."""
    small = {"data": {"box_px": D}, "compute": {"device": "cpu"}, "training": {"batch_size": BATCH},
             "model": {"critic_width": 4, "encoder_width": 4, "generator_width": 32, "dropout": 0.0}}
    run = presets.build_run(command, name, run_json.merged(small, changes))
    trainers = {part_images: Trainer(run, D, PIXEL_ANG, torch.device("cpu")) for part_images in (BATCH, 1.3)}
    for trainer in trainers.values():
        trainer.vae_gan.generator.amplitude.fill_(3.0)
    literal = Literal(trainers[BATCH])
    rng = torch.Generator().manual_seed(7)
    for step in range(2):
        real = torch.randn(BATCH, D, D, generator=rng)
        u = torch.rand(BATCH, generator=rng)
        table = torch.stack((15000 + 9000 * u, 14000 + 8000 * u, 180 * u.flip(0), 300 + 0 * u, 2.0 + 0 * u,
                             0.1 + 0 * u, 40 * u), 1)
        expected = literal.step(real, table)
        for part_images, trainer in trainers.items():  # one part; parts of 1, 1 and 2 images
            monkeypatch.setattr(batch_parts, "PART_IMAGES", part_images)
            assert_same_step(trainer, trainer.step(real, table), literal, expected, (part_images, step))


def assert_same_step(trainer, found, literal, expected, what):
    """Statistics, gradients, weights and averages."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert abs(float(found[key]) - value) <= ATOL + RTOL * abs(value), (what, key, float(found[key]), value)
    for part, weights in literal.weights.items():
        own = list(trainer.modules()[part].parameters())
        if own:
            assert_same([p.grad for p in own], literal.gradients[part], (what, part, "gradient"))
            assert_same(own, weights, (what, part, "weight"))
    for part, averages in literal.average.items():
        assert_same(list(trainer.modules()[f"{part}_ema"].parameters()), averages, (what, part, "average"))
