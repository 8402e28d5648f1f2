"""``reproduce shift-invariance`` and ``rotation-invariance``: features of moved images (thesis, 9.1 and 14.1).

Images: scikit-learn's digits (8 x 8 px, in place of MNIST's 28 x 28, which would have to be downloaded), enlarged to
28 x 28 by linear interpolation and padded with zeros to 64 x 64. The networks are those of the presets with their
weights as they start. A feature vector is the global average of the last feature maps; its error under a motion is
``|f(moved x) - f(x)| / |f(x)|``, Euclidean.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contract import presets, result_files
from ..contract.settings import ModelConfig
from ..figures import drawing
from ..networks.critic_encoder import Trunk
from ..physics.image_alignment import move_image
from ..runtime.compute import describe, prepare_device
from ..runtime.progress import progress_bar
from . import experiment_tables
from .experiment_tables import ReproduceOptions, TableRow

BOX_PX = 64
IMAGES = "scikit-learn digits (8 px enlarged to 28 px, padded to 64 px), not MNIST"
N_DIGITS = 100
WIDTHS = {"small": 8, "full": 32}  # of the networks
ANGLES_DEG = np.arange(0.0, 360.0, 5.0)
_BATCH = 64
Features = Callable[[Tensor], Tensor]


def digits(n: int = N_DIGITS) -> np.ndarray:
    """The first ``n`` digits as ``(n, 64, 64)`` float32 images of values 0 to 1."""
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    small = load_digits().images[:n] / 16.0
    large = zoom(small, (1, 3.5, 3.5), order=1)
    before = (BOX_PX - large.shape[-1]) // 2
    after = BOX_PX - large.shape[-1] - before
    return np.pad(large, ((0, 0), (before, after), (before, after))).astype(np.float32)


def features_of(model: ModelConfig, width: int, polar: bool, seed: int, device: torch.device) -> Features:
    """Global average of the last feature maps ``(n, f)`` of an untrained network without dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk = Trunk(replace(model, dropout=0.0, ctf_channels=False), width, polar, BOX_PX).to(device).eval()
    return lambda images: trunk(images[:, None]).mean((2, 3))


def all_shifts(image: Tensor) -> Iterator[Tensor]:
    """All ``d * d`` cyclic shifts of an image ``(d, d)``, in batches ``(m, d, d)``, y slowest."""
    d = image.shape[-1]
    index = torch.arange(d, device=image.device)
    rows = (index[None, :] - index[:, None]) % d  # row r of the image shifted by s is row r - s
    for start in range(0, d * d, _BATCH):
        shift = torch.arange(start, min(d * d, start + _BATCH), device=image.device)
        yield image[rows[shift // d][:, :, None], rows[shift % d][:, None, :]]


@torch.no_grad()
def shift_errors(features: Features, images: Tensor, tick: Callable[[int], Any]) -> np.ndarray:
    """Relative feature error ``(n, d, d)`` of each image at every shift (y, x)."""
    errors = []
    for image in images:
        reference = features(image[None])
        distances = [(features(batch) - reference).norm(dim=1) / reference.norm() for batch in all_shifts(image)]
        errors.append(torch.cat(distances).reshape(image.shape).cpu().numpy())
        tick(1)
    return np.stack(errors)


@torch.no_grad()
def rotation_errors(features: Features, images: np.ndarray, device: torch.device) -> tuple[np.ndarray, float]:
    """Relative feature error ``(n, a)`` at ``ANGLES_DEG`` and the median error between different images."""
    reference = features(torch.from_numpy(images).to(device))
    columns = []
    for angle in ANGLES_DEG.tolist():
        moved = np.stack([move_image(image, angle, (0.0, 0.0)) for image in images]).astype(np.float32)
        turned_features = features(torch.from_numpy(moved).to(device))
        columns.append(((turned_features - reference).norm(dim=1) / reference.norm(dim=1)).cpu().numpy())
    apart = torch.cdist(reference, reference) / reference.norm(dim=1)[:, None]
    different = apart[~torch.eye(len(reference), dtype=torch.bool, device=device)]
    return np.stack(columns, axis=1), float(different.median())


def model_of(command: str, preset: str) -> ModelConfig:
    """Network settings of a preset."""
    return presets.build_run(command, preset, {}).model


def run(options: ReproduceOptions, out_dir: Path) -> str:
    """Measure, draw, write the table. All images at any scale; the scale is the width of the networks."""
    device = prepare_device(options.compute)
    measure = shift if options.experiment == "shift-invariance" else rotation
    n = options.per_map or N_DIGITS
    rows = measure(options, digits(n), out_dir, device)
    notes = [f"{IMAGES}; {n} images; scale {options.scale}: networks of width {WIDTHS[options.scale]}, untrained; "
             f"seed {options.compute.seed}; {describe(device)}, CPU {experiment_tables.machine()}",
             "error: |f(moved) - f| / |f|, f = global average of the last feature maps"]
    return experiment_tables.write_table(out_dir, options.experiment, rows, notes)


def shift(options: ReproduceOptions, images: np.ndarray, out_dir: Path, device: torch.device) -> list[TableRow]:
    """Invariant (APS, cyclic padding) and variant critic under all 4,096 shifts."""
    configurations = {"invariant critic (aps, cyclic)": "thesis-2d", "variant critic (max pooling, zeros)":
                      "thesis-2d-variant"}
    mean_errors, rows = {}, []
    with progress_bar(len(images) * len(configurations), "shifts", "images") as bar:
        for name, preset in configurations.items():
            features = features_of(model_of("train2d", preset), WIDTHS[options.scale], False, options.compute.seed,
                                   device)
            errors = shift_errors(features, torch.from_numpy(images).to(device), bar.update)
            mean_errors[name] = errors.mean(axis=0)
            rows.append({"configuration": name, "images": len(images), "shifts": errors[0].size,
                         "largest error": f"{errors.max():.2e}", "mean error": f"{errors.mean():.2e}",
                         "thesis": "0" if preset == "thesis-2d" else "not 0"})
    result_files.write_npz(out_dir / "errors.npz", **dict(zip(
        ("invariant", "variant"), mean_errors.values(), strict=True)))
    draw_shift(mean_errors, out_dir / experiment_tables.FIGURE_PNG)
    return rows


def draw_shift(errors: dict[str, np.ndarray], path: Path) -> None:
    """Mean error over the images at every shift, both on one scale (thesis, figure 34)."""
    figure = drawing.new_figure(9, 4)
    axes = figure.subplots(1, len(errors))
    high = max(float(values.max()) for values in errors.values())
    for ax, (name, values) in zip(axes, errors.items(), strict=True):
        picture = ax.imshow(values, vmin=0, vmax=high, origin="lower", cmap="viridis")
        ax.set(xlabel="shift x (px)", ylabel="shift y (px)")
        ax.set_title(f"{name}\nlargest {values.max():.1e}", fontsize=9)
    figure.colorbar(picture, ax=list(axes), label="mean feature error, relative")
    figure.suptitle("scikit-learn digits, every cyclic shift of 64 x 64 px", fontsize=9)
    drawing.save_png(figure, path)


def rotation(options: ReproduceOptions, images: np.ndarray, out_dir: Path,
             device: torch.device) -> list[TableRow]:
    """Polar encoder, Gabor critic, plain invariant critic and variant under rotations of 0 to 355 degrees."""
    configurations = (("polar encoder (thesis-2d)", "train2d", "thesis-2d", True),
                      ("plain critic, aps (thesis-2d)", "train2d", "thesis-2d", False),
                      ("Gabor critic (thesis-3d)", "train3d", "thesis-3d", False),
                      ("variant critic (thesis-2d-variant)", "train2d", "thesis-2d-variant", False))
    rows: list[TableRow] = []
    mean_errors = {}
    for name, command, preset, polar in configurations:
        features = features_of(model_of(command, preset), WIDTHS[options.scale], polar, options.compute.seed, device)
        errors, different = rotation_errors(features, images, device)
        mean_errors[name] = errors.mean(axis=0), different
        turned = ANGLES_DEG > 0
        rows.append({"configuration": name, "images": len(images), "angles": int(turned.sum()),
                     "mean error": float(errors[:, turned].mean()), "largest error": float(errors.max()),
                     "at 90 deg": float(errors[:, ANGLES_DEG == 90].mean()),
                     "at 45 deg": float(errors[:, ANGLES_DEG == 45].mean()),
                     "two images differ by": different,
                     "mean error / that": float(errors[:, turned].mean()) / different})
    result_files.write_csv(out_dir / "errors.csv", ["angle_deg", *mean_errors], (
        [angle, *(f"{mean[i]:.6g}" for mean, _ in mean_errors.values())]
        for i, angle in enumerate(ANGLES_DEG.tolist())))
    figure = drawing.new_figure(8, 4.5)
    ax = figure.subplots()
    for name, (mean, different) in mean_errors.items():
        ax.plot(ANGLES_DEG, mean / different, label=name)
    ax.axhline(1, color="0.6", ls=":")
    ax.set(xlabel="rotation (deg)", ylabel="error / difference of two images", ylim=(0, None),
           title="scikit-learn digits, untrained networks")
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.05, 0.42))
    drawing.save_png(figure, out_dir / experiment_tables.FIGURE_PNG)
    return rows
