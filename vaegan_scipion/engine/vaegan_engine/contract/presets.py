"""Named settings over one base, the command that lists them, and the check that a config can be run.

Standard library only, Python 3.8 syntax: Scipion imports this file without torch.
"""
from __future__ import annotations

import json
from dataclasses import dataclass, replace
from math import log
from typing import Any, Dict

from .boxes import max_band_shells
from .errors import ConfigError, DataError
from .run_json import from_dict, merged, to_dict
from .setting import check_settings, field_of, limit_problem, limits_text
from .settings import DataConfig, TrainRun


@dataclass(frozen=True)
class Preset:
    """What a preset is for, in one line, and what it changes in the defaults of the contract."""

    purpose: str
    changes: Dict[str, Any]
    poses: bool = False  # for a training that is given poses, and for no other


# Steps of 16 images: 250,000 are 4,000 kimg, 10,000 are 160 kimg, an average of 0.96 per step halves in 17.
THESIS_3D: Dict[str, Any] = {
    "data": {"box_px": 64, "resize": "lanczos5"},
    "model": {"generator": "siren", "n_categories": 0, "n_normal": 10, "noise": "gaussian_map",
              "first_layer": "gabor", "downsampling": "aps", "pooling": "mean", "ctf_channels": False,
              "critic_width": 32, "encoder_width": 32, "generator_width": 128, "dropout": 0.1},
    "training": {"total_kimg": 4000.0, "encoder_kimg": 0.0, "batch_size": 16,
                 "loss": "wgan_gp", "gradient_penalty": 10.0, "penalty_every": 1,
                 "encoder_objective": "perceptual", "perceptual_weight": 0.2, "kl_weight": 1.0,
                 "diversity_weight": 0.02, "critic_lr": 1e-5, "generator_lr": 1e-5,
                 "encoder_lr": 1e-5, "adam_beta1": 0.9, "adam_beta2": 0.999,
                 "lr_schedule": "exponential", "lr_decay": 0.96, "lr_decay_kimg": 160.0,
                 "ema_half_life_kimg": 0.016 * log(0.5) / log(0.96), "tick_kimg": 16.0, "checkpoint_kimg": 160.0},
}
THESIS_2D = merged(THESIS_3D, {
    "model": {"generator": "dcgan", "first_layer": "conv", "polar_encoder": True, "pose_prior": "none"},
    "training": {"total_kimg": 3200.0}})
POSED: Dict[str, Any] = {
    "model": {"generator": "basis", "n_categories": 0, "n_normal": 8, "generator_width": 64},
    "training": {"total_kimg": 500.0, "encoder_kimg": 0.0, "batch_size": 256, "likelihood_weight": 1.0,
                 "adversarial_weight": 0.0, "voxel_lr": 1e-2, "tick_kimg": 25.0, "checkpoint_kimg": 100.0}}
# Views differ more than states do: more images are combined than maps
POSED_2D = merged(POSED, {"model": {"n_normal": 24, "n_basis": 24}, "training": {"band_shells": 8.0}})
NO_NOISE: Dict[str, Any] = {"model": {"noise": "none"}}
VARIANT: Dict[str, Any] = {"model": {"downsampling": "maxpool", "first_layer": "conv", "polar_encoder": False}}
CAMERA: Dict[str, Any] = {"model": {"pose_prior": "camera"}}
HOMOGENEOUS: Dict[str, Any] = {"model": {"homogeneous": True}}

PRESETS: Dict[str, Dict[str, Preset]] = {
    "train3d": {
        "fast": Preset("species and maps in minutes to hours (the default)", {}),
        "posed": Preset("with poses (the default with --poses): likelihood and posterior of the images at their poses",
                        POSED, poses=True),
        "thesis-3d": Preset("the thesis in 3D: uniform poses, invariant critic and encoder, noise generator",
                            THESIS_3D),
        "thesis-3d-camera": Preset("thesis-3d with the trained camera in place of uniform poses",
                                   merged(THESIS_3D, CAMERA)),
        "thesis-3d-no-noise": Preset("ablation: thesis-3d without the noise generator", merged(THESIS_3D, NO_NOISE)),
        "thesis-3d-variant": Preset("ablation: thesis-3d without invariance (max pooling, zero padding, no Gabor)",
                                    merged(THESIS_3D, VARIANT)),
        "thesis-3d-homogeneous": Preset("one structure: thesis-3d without an encoder, z constant",
                                        merged(THESIS_3D, HOMOGENEOUS)),
    },
    "train2d": {
        "fast": Preset("class images in minutes to hours (the default)", {"model": {"generator": "dcgan"}}),
        "posed": Preset("with poses in the plane (the default with --poses): z holds state and view, not rotation",
                        POSED_2D, poses=True),
        "thesis-2d": Preset("the thesis in 2D: DC-GAN, invariant critic, polar encoder, noise generator", THESIS_2D),
        "thesis-2d-no-noise": Preset("ablation: thesis-2d without the noise generator", merged(THESIS_2D, NO_NOISE)),
        "thesis-2d-variant": Preset("ablation: thesis-2d without invariance (max pooling, zero padding, no polar warp)",
                                    merged(THESIS_2D, VARIANT)),
    },
}


def print_presets() -> None:
    """Name, command and purpose of each preset, one per line."""
    for command, presets in PRESETS.items():
        for name, preset in presets.items():
            print(f"{name:22} {command:8} {preset.purpose}")


def build_run(command: str, preset: str, changes: Dict[str, Any]) -> TrainRun:
    """Defaults, then the preset, then ``changes``; checked. Raises ConfigError.

    A band that ``changes`` do not name is one that has room in the box.
    """
    if preset not in PRESETS[command]:
        raise ConfigError(f"preset is '{preset}'.",
                          f"Presets of {command}: {', '.join(PRESETS[command])} ('vaegan presets' explains them).")
    values = merged(to_dict(TrainRun()), {"command": command, "preset": preset})
    values = merged(merged(values, PRESETS[command][preset].changes), changes)
    run = from_dict(TrainRun, values, "settings")
    if "band_shells" not in changes.get("training", {}):
        run = with_fitting_band(run)
    check(run)
    return run


def with_fitting_band(run: TrainRun) -> TrainRun:
    """A training with poses whose band, where nobody asked for one, has room in the box."""
    most = max_band_shells(run.data.box_px)
    if not run.data.posed or run.training.band_shells <= most:
        return run
    return replace(run, training=replace(run.training, band_shells=most))


def parse_setting(text: str) -> Dict[str, Any]:
    """``training.total_kimg=64`` to ``{"training": {"total_kimg": 64}}``."""
    name, sep, value = text.partition("=")
    section, dot, key = name.partition(".")
    if not (sep and dot and key):
        raise ConfigError(f"--set {text!r} is not SECTION.KEY=VALUE.", "Write for example training.total_kimg=64.")
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    return {section: {key: parsed}}


def check(run: TrainRun) -> None:
    """Refuse settings that cannot be run, by name, value, limit and remedy."""
    check_parts(run)
    box_px, about = run.data.box_px, field_of(DataConfig, "box_px").about
    if box_px % 8 or limit_problem("data.box_px", box_px, about):
        raise DataError(f"data.box_px is {box_px}; the networks halve the training box three times.",
                        f"Use a multiple of 8, {limits_text(about)}; the particles' own box may be odd or even.")
    check_settings(run)


def check_parts(run: TrainRun) -> None:
    """Refuse parts of the model and the training that do not go together."""
    model, training = run.model, run.training
    if run.command == "train2d" and model.generator not in ("dcgan", "basis"):
        raise ConfigError(f"model.generator is '{model.generator}' in a 2D training.",
                          "Use 'dcgan', or 'basis' with poses.")
    if run.command == "train3d" and model.generator == "dcgan":
        raise ConfigError("model.generator is 'dcgan' in a 3D training.", "Use 'voxel' or 'siren'.")
    if run.command == "train2d" and model.pose_prior == "camera":
        raise ConfigError("model.pose_prior is 'camera' in a 2D training, which has no views.",
                          "Use 'uniform' or 'none'.")
    if run.command == "train3d" and model.pose_prior == "none":
        raise ConfigError("model.pose_prior is 'none' in a 3D training, which projects its maps.",
                          "Use 'uniform' or 'camera'.")
    check_posed(run)
    if model.n_categories + model.n_normal < 1 or model.n_categories == 1:
        raise ConfigError(f"model.n_categories is {model.n_categories} and n_normal {model.n_normal}.",
                          "Use at least 2 categories, or none and at least 1 normal coordinate.")
    if model.homogeneous and model.n_categories:
        raise ConfigError(f"model.n_categories is {model.n_categories} with model.homogeneous, which has one "
                          "structure.", "Use n_categories 0 and n_normal 10.")
    if model.homogeneous and training.encoder_kimg > 0:
        raise ConfigError(f"training.encoder_kimg is {training.encoder_kimg} with model.homogeneous, which has "
                          "no encoder.", "Use encoder_kimg 0.")
    if training.encoder_objective == "perceptual" and training.encoder_kimg > 0:
        raise ConfigError(f"training.encoder_kimg is {training.encoder_kimg} with the perceptual encoder, "
                          "which has no stage of its own.", "Use encoder_kimg 0.")
    if training.critic_reconstructions and (model.homogeneous or training.encoder_objective != "perceptual"
                                            or training.loss != "wgan_gp"):
        raise ConfigError("training.critic_reconstructions is true where nothing is reconstructed, or with a loss "
                          f"('{training.loss}') that pairs or balances images.",
                          "Use encoder_objective 'perceptual' and loss 'wgan_gp'.")


def check_posed(run: TrainRun) -> None:
    """Refuse poses without the model that uses them, and that model without poses."""
    data, model, training = run.data, run.model, run.training
    if data.input_poses and run.command == "train2d":
        raise ConfigError("data.input_poses is true in a 2D training, which takes the alignment of classes2d.",
                          "Give the folder of classes2d with --poses.")
    if data.poses_dir and data.input_poses:
        raise ConfigError(f"data.poses_dir is {data.poses_dir} with data.input_poses.", "Take poses from one place.")
    if data.posed != (model.generator == "basis"):
        raise ConfigError(f"model.generator is '{model.generator}' {'with' if data.posed else 'without'} poses.",
                          "Use preset posed with --poses, another preset without.")
    if not data.posed:
        if training.likelihood_weight or training.adversarial_weight != 1:
            raise ConfigError(f"training.likelihood_weight is {training.likelihood_weight:g} and adversarial_weight "
                              f"{training.adversarial_weight:g} without poses.", "Use 0 and 1, or give poses.")
        return
    if model.n_categories or not 1 <= model.n_normal <= model.n_basis:
        raise ConfigError(f"model.n_categories is {model.n_categories}, n_normal {model.n_normal} and n_basis "
                          f"{model.n_basis} with poses.", "Use n_categories 0 and n_normal from 1 to n_basis.")
    if training.likelihood_weight <= 0 and training.adversarial_weight <= 0:
        raise ConfigError("training.likelihood_weight and adversarial_weight are 0: there is nothing to train.",
                          "Use a likelihood_weight of 1.")
    if training.encoder_kimg:
        raise ConfigError(f"training.encoder_kimg is {training.encoder_kimg:g} with poses.", "Use encoder_kimg 0.")
    if training.band_shells > max_band_shells(data.box_px):
        raise ConfigError(f"training.band_shells is {training.band_shells:g}.",
                          f"Use at most {max_band_shells(data.box_px):g}, half of the box less one.")
