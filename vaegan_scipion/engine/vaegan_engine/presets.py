"""Named settings over one base, and the check that a config can be run."""
from __future__ import annotations

import json
from typing import Any

from .contract import TrainRun, from_dict, merged, to_dict
from .errors import ConfigError, DataError

THESIS_3D: dict[str, Any] = {
    "data": {"box_px": 64, "resize": "lanczos5"},
    "model": {"generator": "siren", "n_categories": 0, "n_normal": 10, "noise": "gaussian_map",
              "first_layer": "gabor", "downsampling": "aps", "pooling": "mean", "ctf_channels": False,
              "critic_width": 32, "encoder_width": 32, "generator_width": 128, "dropout": 0.1},
    "training": {"total_kimg": 4000.0, "encoder_kimg": 0.0, "batch_size": 16,
                 "loss": "wgan_gp", "gradient_penalty": 10.0,
                 "encoder_objective": "perceptual", "perceptual_weight": 0.2, "kl_weight": 1.0,
                 "diversity_weight": 0.02, "critic_lr": 1e-5, "generator_lr": 1e-5,
                 "encoder_lr": 1e-5, "adam_beta1": 0.9, "adam_beta2": 0.999,
                 "lr_schedule": "exponential", "lr_decay": 0.96, "lr_decay_kimg": 160.0,
                 "ema_half_life_kimg": 0.2717, "tick_kimg": 16.0, "checkpoint_kimg": 160.0},
}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "train3d": {"fast": {}, "thesis": THESIS_3D},
    "train2d": {
        "fast": {"model": {"generator": "dcgan"}},
        "thesis": merged(THESIS_3D, {
            "model": {"generator": "dcgan", "first_layer": "conv", "polar_encoder": True},
            "training": {"total_kimg": 3200.0}}),
    },
}


def build_run(command: str, preset: str, changes: dict[str, Any]) -> TrainRun:
    """Defaults, then the preset, then ``changes``; checked. Raises ConfigError."""
    if preset not in PRESETS[command]:
        raise ConfigError(f"preset is '{preset}'.", f"Choose one of {', '.join(PRESETS[command])}.")
    values = merged(to_dict(TrainRun()), {"command": command, "preset": preset})
    values = merged(merged(values, PRESETS[command][preset]), changes)
    run = from_dict(TrainRun, values, "settings")
    check(run)
    return run


def parse_setting(text: str) -> dict[str, Any]:
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
    data, model, training = run.data, run.model, run.training
    if run.command == "train2d" and model.generator != "dcgan":
        raise ConfigError(f"model.generator is '{model.generator}' in a 2D training.", "Use 'dcgan'.")
    if run.command == "train3d" and model.generator == "dcgan":
        raise ConfigError("model.generator is 'dcgan' in a 3D training.", "Use 'voxel' or 'siren'.")
    if model.pose_prior == "camera":
        raise ConfigError("model.pose_prior is 'camera', which this release does not have.",
                          "Use 'uniform'.")
    if data.box_px % 8 or not 16 <= data.box_px <= 512:
        raise DataError(f"data.box_px is {data.box_px}; the networks halve the training box three times.",
                        "Use a multiple of 8 from 16 to 512; the particles' own box may be odd or even.")
    if model.n_categories + model.n_normal < 1 or model.n_categories == 1:
        raise ConfigError(f"model.n_categories is {model.n_categories} and n_normal {model.n_normal}.",
                          "Use at least 2 categories, or none and at least 1 normal coordinate.")
    if training.encoder_objective == "perceptual" and training.encoder_kimg > 0:
        raise ConfigError(f"training.encoder_kimg is {training.encoder_kimg} with the perceptual encoder, "
                          "which has no stage of its own.", "Use encoder_kimg 0.")
    limits = [("data.crop_frac", data.crop_frac, 0.1, 1.0),
              ("data.particle_radius_frac", data.particle_radius_frac, 0.05, 0.5),
              ("model.max_shift_frac", model.max_shift_frac, 0.0, 0.5),
              ("model.temperature", model.temperature, 1.0, 100.0),
              ("training.batch_size", training.batch_size, 2, 4096),
              ("training.total_kimg", training.total_kimg, 1e-3, 1e7),
              ("training.tick_kimg", training.tick_kimg, 1e-3, 1e7)]
    for name, value, low, high in limits:
        if not low <= value <= high:
            raise ConfigError(f"{name} is {value}.", f"Use a value from {low} to {high}.")
