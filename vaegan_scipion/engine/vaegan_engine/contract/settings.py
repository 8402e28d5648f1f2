"""The typed ``run.json`` between the Scipion plugin and the engine.

Standard library only, Python 3.8 syntax: Scipion imports this file without torch.
Every field has its unit in its name and its default here, and nowhere else.
Unknown keys, wrong types and other contract versions are errors.
Paths inside ``run.json`` are relative to the folder that holds it.
"""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Dict, List, Literal, Tuple, Type, Union

CONTRACT_VERSION = 1


@dataclass(frozen=True)
class DataConfig:
    """Which particles, and how they become training images."""

    particles: str = ""  # RELION 3.0 or 3.1+ star file
    stack: str = ""  # one stack that holds every image, in place of those the star file names
    max_images: int = 0  # use only the first rows; 0 = all
    box_px: int = 48  # training box, a multiple of 8
    crop_frac: float = 1.0  # central part of the original box that is kept
    particle_radius_frac: float = 0.45  # radius of the particle circle / cropped box
    resize: Literal["fourier", "lanczos5"] = "fourier"
    normalization: Literal["background", "thesis"] = "background"
    invert_contrast: bool = False  # True when the protein is dark (raw micrographs)
    phase_flipped: bool = False  # True when CTF phases were already corrected
    ignore_ctf: bool = False  # True for images without CTF columns: a CTF of 1 everywhere
    half_set: Literal[0, 1, 2] = 0  # 0 = all, 1 or 2 = one independent half
    poses_dir: str = ""  # train3d with the poses of this folder of refine (particles.csv); empty = without
    input_poses: bool = False  # train3d with the alignment that the particles carry

    @property
    def posed(self) -> bool:
        """Whether the training is given poses."""
        return bool(self.poses_dir) or self.input_poses


@dataclass(frozen=True)
class ModelConfig:
    """Networks. z = [one-hot of n_categories, n_normal Gaussian coordinates]."""

    generator: Literal["voxel", "siren", "dcgan", "basis"] = "voxel"  # basis: the one for known poses
    n_categories: int = 6  # more than expected: unused ones empty themselves
    n_normal: int = 0
    n_basis: int = 8  # maps that a training with poses combines, at least n_normal
    homogeneous: bool = False  # one structure: no encoder, z is a constant vector of n_normal ones
    temperature: float = 8.0  # of the posterior over categories: networks trained on generated images are too sure
    pose_prior: Literal["uniform", "camera"] = "uniform"  # camera: a network trained with the generator
    max_shift_frac: float = 0.05  # in-plane shift prior, uniform, fraction of the box
    noise: Literal["radial", "scalar", "gaussian_map", "poisson_map", "none"] = "radial"  # of generated images
    downsampling: Literal["blur_aps", "aps", "maxpool"] = "blur_aps"  # *aps: exactly shift invariant
    pooling: Literal["mean_max", "mean"] = "mean_max"  # of the last feature maps
    first_layer: Literal["conv", "gabor"] = "conv"
    polar_encoder: bool = False
    ctf_channels: bool = True  # networks also see the Wiener-filtered image
    critic_width: int = 16
    encoder_width: int = 16
    generator_width: int = 128  # siren, dcgan and camera
    voxel_init: float = 0.02  # scale of the basis at the start
    voxel_smooth_shells: float = 3.0  # maps move easily below this Fourier shell, slowly above; 0 = off
    dropout: float = 0.0


@dataclass(frozen=True)
class TrainingConfig:
    """Losses, optimisers and the clock, which counts images seen (kimg = 1,000)."""

    total_kimg: float = 24.0
    encoder_kimg: float = 96.0  # then the encoder alone, on images of the averaged generator
    likelihood_weight: float = 0.0  # with poses: of the images' likelihood (the VAE's loss); 0 = off
    adversarial_weight: float = 1.0  # of the critic's say (the GAN's loss); 0 = off, with poses only
    adversarial_batch: int = 32  # with poses: images of a batch that are rendered for the critic
    band_shells: float = 12.0  # with poses: Fourier shells that are used (box size / resolution)
    start_rounds: int = 12  # with poses: rounds of principal components that it starts from; 0 = random maps
    round_kimg: float = 100.0  # with poses: images seen between two steps of the maps
    batch_size: int = 32
    loss: Literal["rpgan", "wgan_gp", "hinge"] = "rpgan"
    gradient_penalty: float = 1.0  # gamma of R1 + R2 (rpgan, hinge), or lambda of WGAN-GP
    critic_reconstructions: bool = False  # the critic is shown reconstructions too (thesis, algorithm 3)
    encoder_objective: Literal["regression", "perceptual"] = "regression"
    info_weight: float = 0.1  # generator's share of the regression loss
    perceptual_weight: float = 0.2  # thesis, generator
    kl_weight: float = 1.0  # thesis, encoder
    diversity_weight: float = 0.02  # thesis, noise generator
    critic_lr: float = 3e-4
    generator_lr: float = 1e-3
    voxel_lr: float = 3e-2
    encoder_lr: float = 1e-3
    adam_beta1: float = 0.0
    adam_beta2: float = 0.9
    lr_schedule: Literal["linear", "exponential"] = "linear"
    lr_final_frac: float = 0.05  # linear: lr at the end / lr at the start
    lr_decay: float = 0.96  # exponential: factor per lr_decay_kimg
    lr_decay_kimg: float = 160.0
    ema_half_life_kimg: float = 2.0
    band_start_frac: float = 1.0  # frequencies seen at the start / Nyquist; 1 = all, always
    band_full_kimg: float = 64.0  # until then the band grows to all of Nyquist
    tick_kimg: float = 3.2  # log line, preview
    checkpoint_kimg: float = 8.0
    continue_from: str = ""  # train folder whose newest checkpoint the networks start from; empty = from scratch


@dataclass(frozen=True)
class ComputeConfig:
    """Where to run."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1
    threads: int = 0  # CPU threads; 0 = as many as cores are free
    seed: int = 0


@dataclass(frozen=True)
class TrainRun:
    """``train2d`` and ``train3d``."""

    command: Literal["train2d", "train3d"] = "train3d"
    preset: str = "fast"
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    contract_version: int = CONTRACT_VERSION


@dataclass(frozen=True)
class EmbedRun:
    """``embed``: the encoder mean of every particle of a finished run."""

    command: Literal["embed"] = "embed"
    run_dir: str = ""
    particles: str = ""  # other particles than the run's own; empty = the run's own
    batch_size: int = 256
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    contract_version: int = CONTRACT_VERSION


@dataclass(frozen=True)
class ClusterRun:
    """``cluster``: UMAP, then density-based clustering (or k-means, Gaussian mixture)."""

    command: Literal["cluster"] = "cluster"
    embedding_dir: str = ""
    run_dir: str = ""
    method: Literal["hdbscan", "kmeans", "gmm"] = "hdbscan"
    n_clusters: int = 3  # kmeans and gmm only
    n_neighbors: int = 30
    min_dist: float = 0.0
    min_samples: int = 10
    min_cluster_size: int = 0  # particles; 0 = min_cluster_frac of all, at most 900
    min_cluster_frac: float = 0.03  # 900 of 30,000, the fraction of the original work
    join_valley: float = 0.5  # hdbscan: join groups parted by a shallower density valley in z; 0 = never
    stability_repeats: int = 5  # clusterings of parts of the particles, and of a null without groups; 0 = no verdict
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    contract_version: int = CONTRACT_VERSION


@dataclass(frozen=True)
class TraverseRun:
    """``traverse``: PCA inside each cluster and maps (images) along it."""

    command: Literal["traverse"] = "traverse"
    clusters_dir: str = ""
    run_dir: str = ""
    n_components: int = 1
    n_points: int = 4
    low_percentile: float = 5.0
    high_percentile: float = 95.0
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    contract_version: int = CONTRACT_VERSION


@dataclass(frozen=True)
class HalvesRun:
    """``halves``: two independent trainings on half the particles each, and their FSC."""

    command: Literal["halves"] = "halves"
    clusters_dir: str = ""
    run_dir: str = ""
    total_kimg: float = 0.0  # per half; 0 = as the run
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    contract_version: int = CONTRACT_VERSION


@dataclass(frozen=True)
class RefineRun:
    """``refine``: states, poses and maps by expectation maximisation over poses."""

    command: Literal["refine"] = "refine"
    run_dir: str = ""
    clusters_dir: str = ""  # start from its maps; empty = random maps alone
    n_starts: int = 3  # maps to start from: the clusters', filled up with random ones to this number
    n_tries: int = 4  # starts of n_starts maps, and n_starts times as many of one map; unseen images choose
    start_shells: float = 0.0  # shells = box size / resolution; 0 = by the particle's size, from 4
    search_shells: float = 0.0  # 0 = by the particle's size, from 6
    class_shells: float = 0.0  # 0 = by the particle's size, from 8
    start_steps: int = 60
    search_steps: int = 30
    batch_size: int = 256
    smallest_frac: float = 0.03  # smallest state / all particles, at least 50 particles
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    contract_version: int = CONTRACT_VERSION


@dataclass(frozen=True)
class EvaluateRun:
    """``evaluate``: clusters against labels of the particles, maps against reference maps; one of them or both."""

    command: Literal["evaluate"] = "evaluate"
    clusters_dir: str = ""
    truth_csv: str = ""  # columns id and label (or map, state); empty = no labels
    maps_dir: str = ""  # reference maps *.mrc in the order of their names; empty = none
    partial_labels: bool = False  # True: particles without a label are left out of the scores; False: an error
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    contract_version: int = CONTRACT_VERSION


@dataclass(frozen=True)
class ReportRun:
    """``report``: one HTML file about an analysis. Folders that are not named are left out."""

    command: Literal["report"] = "report"
    run_dir: str = ""
    clusters_dir: str = ""
    traverse_dir: str = ""
    halves_dir: str = ""
    refine_dir: str = ""
    evaluation_dir: str = ""
    title: str = ""  # heading; empty = the command of the training
    contract_version: int = CONTRACT_VERSION


@dataclass(frozen=True)
class CounterpartRun:
    """``counterpart``: one particle as the networks see it, beside what the generator makes at its z."""

    command: Literal["counterpart"] = "counterpart"
    run_dir: str = ""
    embedding_dir: str = ""
    particle_id: int = 1
    n_orientations: int = 2000  # tried for the projection that resembles the particle most
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    contract_version: int = CONTRACT_VERSION


AnyRun = Union[TrainRun, EmbedRun, ClusterRun, TraverseRun, HalvesRun, RefineRun, EvaluateRun, ReportRun,
               CounterpartRun]
RUN_TYPES: Dict[str, Type[Any]] = {
    "train2d": TrainRun, "train3d": TrainRun, "embed": EmbedRun, "cluster": ClusterRun,
    "traverse": TraverseRun, "halves": HalvesRun, "refine": RefineRun, "evaluate": EvaluateRun, "report": ReportRun,
    "counterpart": CounterpartRun,
}
PATH_FIELDS = ("particles", "stack", "run_dir", "embedding_dir", "clusters_dir", "traverse_dir", "halves_dir",
               "refine_dir", "evaluation_dir", "truth_csv", "maps_dir", "continue_from", "poses_dir")


def field_table(cls: Type[Any]) -> List[Tuple[str, str, Any]]:
    """(name, type, default) of each field, for documentation and forms."""
    instance = cls()
    return [(item.name, str(item.type), getattr(instance, item.name))
            for item in dataclasses.fields(cls)]
