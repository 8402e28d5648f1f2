"""``reproduce noise-generator``: a GAN on one noisy image, known noise against the noise generator (thesis, 10).

The data are one clean image plus fresh noise of standard deviation 1 at every step. A DC-GAN makes an image; it is
shown to the invariant critic with noise of a known standard deviation (a sweep of 0.5 to 1.5), or with the noise
generator's ``eps * sigma(z_n)``, which is trained along. WGAN-GP with lambda 10, the generator averaged by 0.96 per
step. Measured: PSNR of the averaged generator's images, each at its best cyclic shift, as the critic cannot see
shifts, and the noise generator's root mean square sigma.
"""
from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..contract import presets, result_files
from ..data.image_preparation import resize, resize_matrix
from ..data.mrc_files import read_map
from ..figures import drawing
from ..networks.critic_encoder import Critic
from ..networks.image_decoder import DcGan
from ..networks.noise import NOISE_LATENT, NoiseGenerator
from ..runtime.compute import describe, prepare_device
from ..runtime.progress import progress_bar
from ..simulation.phantom import PHANTOM_BOX_ANG, phantom_states
from ..training import losses
from . import experiment_tables
from .experiment_tables import ReproduceOptions, chosen
from .trainings import maps_of

SIGMAS = tuple(round(0.5 + 0.1 * i, 1) for i in range(11))
GENERATED = "noise-generator"
NAMES = (*(f"sigma-{sigma}" for sigma in SIGMAS), GENERATED)
TRUE_SIGMA = 1.0
MAP = "ribo50S_4states/maps/r50S_E_like_64.mrc"
Z_DIM = 10
EMA = 0.96


class Scale(NamedTuple):
    """Size and length of one training."""

    box_px: int
    width: int  # of the critic; the generator's is twice that
    batch: int
    steps: int
    learning_rate: float


SCALES = {"small": Scale(32, 8, 4, 1200, 5e-4), "full": Scale(64, 32, 1, 10000, 1e-4)}


class Outcome(NamedTuple):
    """What a training made."""

    images: np.ndarray  # (n, d, d) of the averaged generator
    sigma: float


def clean_image(options: ReproduceOptions, box_px: int) -> tuple[np.ndarray, str]:
    """A projection ``(d, d)`` float32 of mean 0 and standard deviation 1, and of what: a map, else the phantom."""
    if options.maps or options.data_dir:
        path = maps_of(options, [MAP])[0]
        array = read_map(path)[0].sum(axis=0)[None].astype(np.float32)
        image = resize(array, resize_matrix("fourier", array.shape[-1], box_px))[0]
        name = Path(path).stem
    else:
        image, name = phantom_states(1, box_px, PHANTOM_BOX_ANG / box_px)[0].sum(axis=0), "built-in phantom"
    return ((image - image.mean()) / image.std()).astype(np.float32), name


def shifted_onto(image: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """``image`` ``(d, d)`` at the whole-pixel cyclic shift that is nearest to ``clean``."""
    overlap = np.fft.irfft2(np.fft.rfft2(clean) * np.fft.rfft2(image).conj(), s=clean.shape)
    place = np.unravel_index(int(overlap.argmax()), overlap.shape)
    return np.roll(image, (int(place[0]), int(place[1])), (0, 1))


def psnr_db(image: np.ndarray, clean: np.ndarray) -> float:
    """``10 log10(range^2 / MSE)`` with the clean image's range."""
    error = float(np.mean((np.asarray(image, np.float64) - clean) ** 2))
    return float(10 * np.log10(float(np.ptp(clean)) ** 2 / max(error, 1e-30)))


def train(clean: np.ndarray, known_sigma: float | None, scale: Scale, seed: int, device: torch.device) -> Outcome:
    """Train one GAN; ``known_sigma`` None uses the noise generator (thesis, algorithms 4 and 5)."""
    run = presets.build_run("train2d", "thesis-2d", {})
    model, config = replace(run.model, dropout=0.0), run.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = DcGan(Z_DIM, 2 * scale.width, scale.box_px).to(device)
        noise = NoiseGenerator("gaussian_map" if known_sigma is None else "none", scale.box_px,
                               2 * scale.width).to(device)
        critic = Critic(replace(model, critic_width=scale.width), scale.box_px).to(device)
    averaged = copy.deepcopy(generator).requires_grad_(False)
    rng = torch.Generator(device).manual_seed(seed + 1)
    betas = (config.adam_beta1, config.adam_beta2)
    makers = torch.optim.Adam([*generator.parameters(), *noise.parameters()], lr=scale.learning_rate, betas=betas)
    judges = torch.optim.Adam(critic.parameters(), lr=scale.learning_rate, betas=betas)
    truth = torch.from_numpy(clean).to(device).expand(scale.batch, -1, -1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, device=device)

    def fake() -> tuple[Tensor, Tensor | None]:
        made = generator(normal(scale.batch, Z_DIM))
        if known_sigma is not None:
            return made + known_sigma * normal(*made.shape), None
        added, diversity = noise(made, rng)
        return made + added, diversity

    for _ in range(scale.steps):
        real = truth + TRUE_SIGMA * normal(*truth.shape)
        with torch.no_grad():
            generated = fake()[0]
        between = losses.interpolate(real, generated, rng).requires_grad_(True)
        scores = critic(torch.cat((real, generated))[:, None])[0]
        penalty = losses.wasserstein_penalty(critic(between[:, None])[0], between)
        loss = scores[scale.batch:].mean() - scores[:scale.batch].mean() + config.gradient_penalty * penalty
        judges.zero_grad(set_to_none=True)
        loss.backward()
        judges.step()
        generated, diversity = fake()
        loss = -critic(generated[:, None])[0].mean()
        if diversity is not None:
            loss = loss - config.diversity_weight * diversity
        makers.zero_grad(set_to_none=True)
        loss.backward()
        makers.step()
        average(averaged, generator)
    with torch.no_grad():
        images = averaged(normal(64, Z_DIM)).cpu().numpy()
        sigma = known_sigma if known_sigma is not None else float(
            noise.sigma_map(normal(64, NOISE_LATENT)).square().mean().sqrt())
    return Outcome(images, sigma)


@torch.no_grad()
def average(averaged: nn.Module, network: nn.Module) -> None:
    """``a <- 0.96 a + 0.04 p`` for weights; buffers are copied."""
    for a, p in zip(averaged.parameters(), network.parameters(), strict=True):
        a.lerp_(p, 1 - EMA)
    for kept, buffer in zip(averaged.buffers(), network.buffers(), strict=True):
        kept.copy_(buffer)


def run(options: ReproduceOptions, out_dir: Path) -> str:
    """Train what is missing, then table and figure of all that is finished."""
    device = prepare_device(options.compute)
    scale = SCALES[options.scale]
    if options.kimg:
        scale = scale._replace(steps=max(1, round(options.kimg * 1000 / scale.batch)))
    clean, source = clean_image(options, scale.box_px)
    names = chosen(options, NAMES)
    with progress_bar(len(names), "trainings", "trainings") as bar:
        for name in names:
            if not (out_dir / name / experiment_tables.ROW_JSON).exists():
                known = None if name == GENERATED else float(name.removeprefix("sigma-"))
                made = train(clean, known, scale, options.compute.seed, device)
                images = np.stack([shifted_onto(image, clean) for image in made.images])
                result_files.write_npz(out_dir / name / "image.npz", image=images[0])
                experiment_tables.write_row(out_dir / name, {
                    "configuration": name, "sigma": made.sigma,
                    "psnr_db": float(np.mean([psnr_db(image, clean) for image in images])),
                    "box_px": scale.box_px, "steps": scale.steps, "batch": scale.batch, "seed": options.compute.seed})
            bar.update(1)
    rows = experiment_tables.read_rows(out_dir, NAMES)
    draw(rows, clean, out_dir)
    thesis: list[dict[str, Any]] = [{"configuration": "noise-generator (thesis)", "sigma": 1.03,
                                     "psnr_db": "as the known sigma 1"}]
    notes = [f"one projection of the {source}, standard deviation 1, with noise of standard deviation {TRUE_SIGMA:g}; "
             f"scale {options.scale}; {describe(device)}, CPU {experiment_tables.machine()}"]
    return experiment_tables.write_table(out_dir, options.experiment, rows + thesis, notes)


def draw(rows: list[dict[str, Any]], clean: np.ndarray, out_dir: Path) -> None:
    """PSNR against the known sigma with the noise generator's as a line, and the images (thesis, figure 35)."""
    shown = [row for row in rows if row["configuration"] in ("sigma-0.5", "sigma-1.0", "sigma-1.5", GENERATED)]
    figure = drawing.new_figure(12, 3.2)
    axes = figure.subplots(1, 2 + len(shown), width_ratios=[2.2] + [1] * (1 + len(shown)))
    sweep = [row for row in rows if row["configuration"] != GENERATED]
    axes[0].plot([row["sigma"] for row in sweep], [row["psnr_db"] for row in sweep], marker="o",
                 label="known noise")
    for row in rows:
        if row["configuration"] == GENERATED:
            axes[0].axhline(row["psnr_db"], color="#d62728", label=f"noise generator, sigma {row['sigma']:.2f}")
            axes[0].plot(row["sigma"], row["psnr_db"], "o", color="#d62728")
    axes[0].axvline(TRUE_SIGMA, color="0.6", ls=":")
    axes[0].set(xlabel="sigma of the noise added to generated images", ylabel="PSNR (dB)")
    axes[0].legend(fontsize=7)
    drawing.draw_density(axes[1], clean, "clean")
    for ax, row in zip(axes[2:], shown, strict=True):
        image = result_files.read_npz(out_dir / row["configuration"] / "image.npz")["image"]
        drawing.draw_density(ax, image, f"{row['configuration']}\n{row['psnr_db']:.1f} dB")
    drawing.save_png(figure, out_dir / experiment_tables.FIGURE_PNG)
