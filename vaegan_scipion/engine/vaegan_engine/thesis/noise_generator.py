"""``reproduce noise-generator``: a GAN on one noisy image, known noise against the noise generator (thesis, 10).

The data are one clean image plus fresh noise of standard deviation 1 at every step. A DC-GAN makes an image; it is
shown to the invariant critic with noise of a known standard deviation (a sweep of 0.5 to 1.5), or with the noise
generator's ``eps * sigma(z_n)``, which is trained along. WGAN-GP with lambda 10, the generator averaged by 0.96 per
step. Measured: PSNR of the averaged generator's images, each at its best cyclic shift, as the critic cannot see
shifts, the noise generator's root mean square sigma, and how far those images are from the clean one and from one
another; all of it along the training too (``curve.csv``).
"""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..contract import presets, result_files, run_json
from ..contract.errors import ConfigError
from ..contract.settings import TrainRun
from ..data.image_preparation import resize, resize_matrix
from ..data.mrc_files import read_map
from ..figures import drawing
from ..runtime.compute import describe, prepare_device
from ..runtime.progress import progress_bar
from ..simulation.phantom import PHANTOM_BOX_ANG, phantom_states
from . import experiment_tables
from .experiment_tables import ReproduceOptions, chosen
from .noise_gan import TRUE_SIGMA, Measured, NoiseGan, shifted_onto
from .trainings import maps_of

SIGMAS = tuple(round(0.5 + 0.1 * i, 1) for i in range(11))
GENERATED = "noise-generator"
ONE_IMAGE = "noise-generator-one-image"  # not in the thesis: z of the image generator is constant
TRAINED = {GENERATED: "#d62728", ONE_IMAGE: "#2ca02c"}  # and the colour of each
NAMES = (*(f"sigma-{sigma}" for sigma in SIGMAS), *TRAINED)
MAP = "ribo50S_4states/maps/r50S_E_like_64.mrc"
CURVE_CSV = "curve.csv"
N_POINTS = 40  # of the learning curve


class Scale(NamedTuple):
    """Size and length of one training."""

    box_px: int
    width: int  # of the critic; the generator's is twice that
    batch: int
    steps: int
    learning_rate: float


SCALES = {"small": Scale(32, 8, 4, 1200, 5e-4), "full": Scale(64, 32, 1, 10000, 1e-4)}
READ = {"model": ("critic_width",),
        "training": ("critic_lr", "generator_lr", "gradient_penalty", "diversity_weight", "adam_beta1", "adam_beta2")}


def settings(options: ReproduceOptions, scale: Scale) -> TrainRun:
    """Those of ``thesis-2d`` at the scale's width and rates, then what the command line asks. Raises ConfigError."""
    changes: dict[str, Any] = {"model": {"critic_width": scale.width}, "compute": {"seed": options.compute.seed},
                               "training": {"critic_lr": scale.learning_rate, "generator_lr": scale.learning_rate}}
    for text in options.settings:
        asked = presets.parse_setting(text)
        for section, values in asked.items():
            unread = [key for key in values if key not in READ.get(section, ())]
            if unread:
                raise ConfigError(f"--set {text}: this experiment does not read it.", "It reads " + ", ".join(
                    f"{name}.{key}" for name, keys in READ.items() for key in keys) + ".")
        changes = run_json.merged(changes, asked)
    return presets.build_run("train2d", "thesis-2d", changes)


def clean_image(options: ReproduceOptions, box_px: int) -> tuple[np.ndarray, str]:
    """A projection ``(d, d)`` float32 of mean 0 and variance ``snr``, and of what: a map, else the phantom."""
    if options.maps or options.data_dir:
        path = maps_of(options, [MAP])[0]
        array = read_map(path)[0].sum(axis=0)[None].astype(np.float32)
        image = resize(array, resize_matrix("fourier", array.shape[-1], box_px))[0]
        name = Path(path).stem
    else:
        image, name = phantom_states(1, box_px, PHANTOM_BOX_ANG / box_px)[0].sum(axis=0), "built-in phantom"
    return (options.snr**0.5 * (image - image.mean()) / image.std()).astype(np.float32), name


def train(gan: NoiseGan, steps: int, folder: Path) -> list[Measured]:
    """Train to the end, from the checkpoint in ``folder`` if there is one; returns the learning curve.

    The curve is kept as ``curve.csv`` and grows by a point, with a checkpoint, after every fortieth of the steps.
    """
    checkpoint, curve_csv = folder / result_files.CHECKPOINTS / "newest.pt", folder / CURVE_CSV
    curve: list[Measured] = []
    if checkpoint.exists():
        gan.restore(checkpoint)
        curve = [point for point in read_curve(curve_csv) if point.step <= gan.steps_done]
    else:
        curve.append(gan.measured())
    every = max(1, steps // N_POINTS)
    while gan.steps_done < steps:
        gan.step()
        if gan.steps_done % every == 0 or gan.steps_done == steps:
            curve.append(gan.measured())
            result_files.write_csv(curve_csv, Measured._fields, curve)
            gan.save(checkpoint)
    return curve


def read_curve(path: Path) -> list[Measured]:
    """The points of a ``curve.csv``."""
    return [Measured(int(row["step"]), *(float(row[name]) for name in Measured._fields[1:]))
            for row in result_files.read_csv(path)]


def run(options: ReproduceOptions, out_dir: Path) -> str:
    """Train what is missing, then table and figure of all that is finished."""
    device = prepare_device(options.compute)
    scale = SCALES[options.scale]
    if options.kimg:
        scale = scale._replace(steps=max(1, round(options.kimg * 1000 / scale.batch)))
    asked = replace(settings(options, scale), compute=replace(options.compute, device=str(device)))
    clean, source = clean_image(options, scale.box_px)
    names = chosen(options, NAMES)
    with progress_bar(len(names), "trainings", "trainings") as bar:
        for name in names:
            if not (out_dir / name / experiment_tables.ROW_JSON).exists():
                known = None if name in TRAINED else float(name.removeprefix("sigma-"))
                gan = NoiseGan(clean, known, asked, scale.batch, one_image=name == ONE_IMAGE)
                train(gan, scale.steps, out_dir / name)
                made = gan.measured(64)
                image = shifted_onto(gan.images(1, seed=1)[0], clean)
                result_files.write_npz(out_dir / name / "image.npz", image=image)
                experiment_tables.write_row(out_dir / name, {
                    "configuration": name, "sigma": made.sigma, "psnr_db": made.psnr_db, "error": made.error,
                    "spread": made.spread, "box_px": scale.box_px, "steps": scale.steps, "batch": scale.batch,
                    "learning_rate": asked.training.generator_lr, "snr": options.snr, "seed": options.compute.seed})
            bar.update(1)
    rows = experiment_tables.read_rows(out_dir, NAMES)
    draw(rows, clean, out_dir)
    thesis: list[dict[str, Any]] = [{"configuration": "noise-generator (thesis)", "sigma": 1.03,
                                     "psnr_db": "as the known sigma 1"}]
    notes = [f"one projection of the {source}, variance {options.snr:g}, with noise of standard deviation "
             f"{TRUE_SIGMA:g}; scale {options.scale}; {describe(device)}, CPU {experiment_tables.machine()}"]
    return experiment_tables.write_table(out_dir, options.experiment, rows + thesis, notes)


def draw(rows: list[dict[str, Any]], clean: np.ndarray, out_dir: Path) -> None:
    """PSNR against the known sigma with the noise generators beside it, their sigma against steps, and the images."""
    shown = [row for row in rows if row["configuration"] in ("sigma-0.5", "sigma-1.0", "sigma-1.5", *TRAINED)]
    figure = drawing.new_figure(14, 3.4)
    axes = figure.subplots(1, 3 + len(shown), width_ratios=[2.2, 2.2] + [1] * (1 + len(shown)))
    known = [row for row in rows if row["configuration"] not in TRAINED]
    axes[0].plot([row["sigma"] for row in known], [row["psnr_db"] for row in known], marker="o", label="known noise")
    for row in rows:
        if row["configuration"] in TRAINED:
            colour = TRAINED[row["configuration"]]
            axes[0].plot(row["sigma"], row["psnr_db"], "s", color=colour, label=row["configuration"])
            curve = read_curve(out_dir / row["configuration"] / CURVE_CSV)
            steps = [point.step for point in curve]
            axes[1].plot(steps, [point.sigma for point in curve], color=colour, label="sigma")
            axes[1].plot(steps, [point.error for point in curve], color=colour, ls="--", label="error of the image")
    for axis, draw_line in ((axes[0], axes[0].axvline), (axes[1], axes[1].axhline)):
        draw_line(TRUE_SIGMA, color="0.6", ls=":")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=6)
    axes[0].set(xlabel="sigma of the noise added to generated images", ylabel="PSNR (dB)")
    axes[1].set(xlabel="step", ylabel="in units of the true sigma", ylim=(0, 3))
    drawing.draw_density(axes[2], clean, "clean")
    for ax, row in zip(axes[3:], shown, strict=True):
        image = result_files.read_npz(out_dir / row["configuration"] / "image.npz")["image"]
        drawing.draw_density(ax, image, f"{row['configuration']}\n{row['psnr_db']:.1f} dB")
    drawing.save_png(figure, out_dir / experiment_tables.FIGURE_PNG)
