"""The typed ``run.json`` between the Scipion plugin and the engine: every setting, its default, help and limits.

Standard library only, Python 3.8 syntax. Unknown keys, wrong types and other contract versions are errors.
Paths inside ``run.json`` are relative to the folder that holds it.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Literal, Tuple, Type, Union

from .setting import fixed, section, setting

CONTRACT_VERSION = 2
_VERSION_HELP = "of plugin and engine, which must have the same"


@dataclass(frozen=True)
class DataConfig:
    """Which particles, and how they become training images."""

    particles: str = setting("", "RELION 3.0 or 3.1+ star file", path=True, required=True, metavar="STAR")
    stack: str = setting("", "One stack that holds every image, in place of those the star file names", path=True)
    max_images: int = setting(0, "Only the first ones are used, for a quick try", label="Particles to train on", low=1,
                              zero="all")
    box_px: int = setting(48, "Images are Fourier-cropped to this box, a multiple of 8; 32 to 128 is usual. On the "
                          "command line smaller images than the default have the box that they fill",
                          label="Training box", unit="px", low=16, high=512)
    crop_frac: float = setting(1.0, "Central part of the image that is used. Keep 1.3 particle diameters",
                               label="Part of the box kept", low=0.1, high=1)
    particle_radius_frac: float = setting(
        0.45, "Radius of the circle that holds the particle, as fraction of the kept box. Outside of it is background",
        label="Particle radius / box", low=0.05, high=0.5)
    resize: Literal["fourier", "lanczos5"] = setting("fourier", "How images are brought to the training box")
    normalization: Literal["background", "thesis"] = setting(
        "background", "background: mean 0 and variance 1 outside of the particle circle; thesis: its equation 49")
    invert_contrast: bool = setting(False, "Yes for particles from micrographs whose contrast was not inverted",
                                    label="Is the protein dark?")
    phase_flipped: bool = setting(False, "CTF phases were already corrected; a column rlnCtfDataArePhaseFlipped of the "
                                  "star file decides where there is one")
    micrograph_pixel_size_ang: float = setting(0.0, "Of the coordinates of the particles", unit="A", low=1e-3, high=1e3,
                                               label="Pixel size of the micrographs", zero="as the star file says")
    ignore_ctf: bool = setting(False, "The CTF is taken as 1, for class averages or negative stain",
                               label="Images without a CTF")
    half_set: Literal[0, 1, 2] = setting(0, "0 = all particles, 1 or 2 = one independent half")
    prepared_dir: str = setting("", "Results folder of prepare, whose images are taken; they must be of the same "
                                "particles and settings. Empty = they are prepared in the results folder", path=True)
    poses_dir: str = setting("", "Take the poses of this results folder, and the preset posed; train3d: of states "
                             "(particles.csv), train2d: of classes2d", path=True)
    input_poses: bool = setting(False, "train3d, states: start from the alignment that the particles carry")

    @property
    def posed(self) -> bool:
        """Whether the training is given poses."""
        return bool(self.poses_dir) or self.input_poses


@dataclass(frozen=True)
class ModelConfig:
    """Networks. z = [one-hot of n_categories, n_normal Gaussian coordinates]."""

    generator: Literal["voxel", "siren", "dcgan", "basis"] = setting(
        "voxel", "voxel and siren make maps, dcgan makes images; basis makes either at known poses")
    n_categories: int = setting(6, "More than the species you expect; unused ones empty themselves",
                                label="Number of components", low=0, high=1000)
    n_normal: int = setting(0, "Gaussian coordinates of z", low=0, high=1000)
    n_basis: int = setting(8, "With poses: maps that are combined, at least n_normal", low=1, high=1000)
    homogeneous: bool = setting(False, "One structure: no encoder, z is a constant vector of n_normal ones")
    temperature: float = setting(8.0, "Of the posterior over categories; networks are too sure", low=1, high=100)
    pose_prior: Literal["uniform", "camera", "none"] = setting(
        "uniform", "Of generated images; in 2D of their angle. camera: a network trained with the generator; "
        "none, 2D: the angle is left to z")
    max_shift_frac: float = setting(0.05, "How far particles may be off centre, as fraction of the kept box",
                                    label="Largest shift (fraction of the box)", low=0, high=0.5)
    noise: Literal["radial", "scalar", "gaussian_map", "poisson_map", "none"] = setting(
        "radial", "Of generated images: one sigma per frequency, one for all, or a map of them")
    downsampling: Literal["blur_aps", "aps", "maxpool"] = setting("blur_aps", "*aps: exactly shift invariant")
    pooling: Literal["mean_max", "mean"] = setting("mean_max", "Of the last feature maps")
    first_layer: Literal["conv", "gabor"] = setting("conv", "Of critic and encoder")
    polar_encoder: bool = setting(False, "The encoder sees polar coordinates")
    ctf_channels: bool = setting(True, "Networks also see the Wiener-filtered image")
    critic_width: int = setting(16, "Features of the critic's first layer", low=1, high=4096)
    encoder_width: int = setting(16, "Features of the encoder's first layer", low=1, high=4096)
    generator_width: int = setting(128, "Features of siren, dcgan and camera", low=1, high=4096)
    voxel_init: float = setting(0.02, "Scale of the basis at the start", low=0)
    voxel_smooth_shells: float = setting(3.0, "Maps move easily below this Fourier shell, slowly above", low=0,
                                         zero="off")
    dropout: float = setting(0.0, "Part of the features that is left out at random", low=0, high=0.99)


@dataclass(frozen=True)
class TrainingConfig:
    """Losses, optimisers and the clock, which counts images seen (kimg = 1,000)."""

    total_kimg: float = setting(24.0, "Thousands of images seen; longer is finer", label="Training length",
                                unit="kimg", low=1e-3, high=1e7)
    encoder_kimg: float = setting(96.0, "Then the encoder alone, on images of the averaged generator", unit="kimg",
                                  low=0, high=1e7)
    likelihood_weight: float = setting(0.0, "With poses: of the images' likelihood (the VAE's loss)", low=0,
                                       zero="off")
    adversarial_weight: float = setting(1.0, "Of the critic's say (the GAN's loss)", low=0, zero="off, with poses only")
    adversarial_batch: int = setting(32, "With poses: images of a batch that are rendered for the critic", low=2,
                                     high=4096)
    band_shells: float = setting(12.0, "With poses: Fourier shells that are used (box size / resolution)", low=3)
    start_rounds: int = setting(12, "With poses: rounds of principal components that it starts from", low=1, high=1000,
                                zero="random maps")
    round_kimg: float = setting(100.0, "With poses: images seen between two steps of the maps", unit="kimg", low=1e-3,
                                high=1e7)
    batch_size: int = setting(32, "Images per step; more needs more memory", label="Batch size", low=2, high=4096)
    loss: Literal["rpgan", "wgan_gp", "hinge"] = setting("rpgan", "Of critic and generator")
    gradient_penalty: float = setting(1.0, "gamma of R1 + R2 (rpgan, hinge), or lambda of WGAN-GP", low=0)
    penalty_every: int = setting(4, "Without poses: steps from one gradient penalty to the next, which counts for all",
                                 low=1, high=1000)
    critic_reconstructions: bool = setting(False, "The critic is shown reconstructions too (thesis, algorithm 3)")
    encoder_objective: Literal["regression", "perceptual"] = setting(
        "regression", "regression: z of generated images; perceptual: reconstructions in the critic's features")
    info_weight: float = setting(0.1, "Generator's share of the regression loss", low=0)
    perceptual_weight: float = setting(0.2, "Thesis, generator", low=0)
    kl_weight: float = setting(1.0, "Thesis, encoder", low=0)
    diversity_weight: float = setting(0.02, "Thesis, noise generator", low=0)
    critic_lr: float = setting(3e-4, "Learning rate of the critic", low=0, high=1)
    generator_lr: float = setting(1e-3, "Learning rate of generator and noise", low=0, high=1)
    voxel_lr: float = setting(3e-2, "Learning rate of the voxels", low=0, high=1)
    encoder_lr: float = setting(1e-3, "Learning rate of the encoder", low=0, high=1)
    adam_beta1: float = setting(0.0, "Adam, first moment", low=0, high=1)
    adam_beta2: float = setting(0.9, "Adam, second moment", low=0, high=1)
    lr_schedule: Literal["linear", "exponential"] = setting("linear", "How learning rates fall")
    lr_final_frac: float = setting(0.05, "linear: learning rate at the end / at the start", low=0, high=1)
    lr_decay: float = setting(0.96, "exponential: factor per lr_decay_kimg", low=0, high=1)
    lr_decay_kimg: float = setting(160.0, "exponential: images per factor", unit="kimg", low=1e-3, high=1e7)
    ema_half_life_kimg: float = setting(2.0, "Of the averaged generator", unit="kimg", low=0, high=1e7)
    tick_kimg: float = setting(3.2, "Between log lines and previews", unit="kimg", low=1e-3, high=1e7)
    checkpoint_kimg: float = setting(8.0, "Between checkpoints", unit="kimg", low=1e-3, high=1e7)
    continue_from: str = setting("", "Training whose newest checkpoint the networks start from; empty = from scratch",
                                 path=True, metavar="RUN")


@dataclass(frozen=True)
class ComputeConfig:
    """Where to run."""

    device: str = setting("auto", "auto, cpu, cuda or cuda:N")
    threads: int = setting(0, "CPU threads", low=1, high=4096, zero="as many as cores are free; states: all cores")
    seed: int = setting(0, "Start of all random numbers. Another seed gives another result of the same worth",
                        label="Seed", low=0, high=10**9)
    memory_gb: float = setting(0.0, "Memory that may be held of what grows with the particles; the rest stays on disk",
                               unit="GB", low=0.1, high=10**5, zero="half of what is free")


@dataclass(frozen=True)
class TrainRun:
    """``train2d`` and ``train3d``."""

    command: Literal["train2d", "train3d"] = fixed("train3d")
    preset: str = setting(
        "fast", "fast learns in minutes to hours; others are settings of the original work and its ablations, days on "
        "a GPU: 'vaegan presets' explains each", label="Preset")
    data: DataConfig = section(DataConfig, shown=("particles", "stack", "max_images", "box_px", "crop_frac",
                                                  "prepared_dir", "poses_dir", "input_poses"))
    model: ModelConfig = section(ModelConfig, shown=())
    training: TrainingConfig = section(TrainingConfig, shown=("continue_from",))
    compute: ComputeConfig = section(ComputeConfig)
    contract_version: int = fixed(CONTRACT_VERSION, _VERSION_HELP)


@dataclass(frozen=True)
class EmbedRun:
    """``embed``: the encoder mean of every particle of a finished run."""

    command: Literal["embed"] = fixed("embed")
    run_dir: str = setting("", "Results folder of the training", path=True, required=True)
    particles: str = setting("", "Other particles than the run's own (RELION star file)", path=True, metavar="STAR")
    batch_size: int = setting(256, "Images at a time", low=1, high=10**6)
    compute: ComputeConfig = section(ComputeConfig)
    contract_version: int = fixed(CONTRACT_VERSION, _VERSION_HELP)


@dataclass(frozen=True)
class ClusterRun:
    """``cluster``: UMAP, then density-based clustering (or k-means, Gaussian mixture)."""

    command: Literal["cluster"] = fixed("cluster")
    embedding_dir: str = setting("", "Results folder of embed", path=True, required=True)
    run_dir: str = setting("", "Results folder of the training", path=True, required=True)
    method: Literal["hdbscan", "kmeans", "gmm"] = setting(
        "hdbscan", "hdbscan finds the number of clusters in the UMAP plane; kmeans and gmm are given it and work in z",
        label="Clustering")
    n_clusters: int = setting(3, "kmeans and gmm: every particle is put in one of them", label="Number of clusters",
                              low=2, high=10**6)
    n_neighbors: int = setting(30, "UMAP: particles that each one is laid next to. More shows the large picture, fewer "
                               "the detail; 5 to 200 is usual", label="UMAP neighbours", low=2, high=1000)
    min_dist: float = setting(0.0, "UMAP: 0 packs clusters tightly, which suits clustering; more spreads them",
                              label="UMAP minimal distance", low=0, high=1)
    min_samples: int = setting(10, "HDBSCAN: neighbours that make a region dense. More leaves more particles "
                               "unassigned; 5 to 50 is usual", label="HDBSCAN samples", low=1, high=1000)
    min_cluster_size: int = setting(0, "HDBSCAN: replaces the share (min_cluster_frac)", label="Smallest cluster",
                                    unit="particles", low=2, high=10**9, zero="use the share")
    min_cluster_frac: float = setting(0.03, "HDBSCAN: smallest share of the particles that is a cluster; at least 15 "
                                      "particles, at most 900 of 30,000", label="Smallest cluster (fraction of all)",
                                      low=1e-3, high=0.5)
    join_valley: float = setting(
        0.5, "HDBSCAN: groups are joined unless the density in z between them falls below this part of the lower peak",
        label="Join groups above this valley", low=0, high=1, zero="join none")
    stability_repeats: int = setting(
        5, "Parts of the particles, and clouds without groups, are clustered this often; the verdict and the stability "
        "of each cluster come from it", label="Repeats for the stability", low=1, high=100, zero="neither")
    compute: ComputeConfig = section(ComputeConfig)
    contract_version: int = fixed(CONTRACT_VERSION, _VERSION_HELP)


@dataclass(frozen=True)
class TraverseRun:
    """``traverse``: PCA inside each cluster and maps (images) along it."""

    command: Literal["traverse"] = fixed("traverse")
    clusters_dir: str = setting("", "Results folder of cluster", path=True, required=True)
    run_dir: str = setting("", "Results folder of the training", path=True, required=True)
    n_components: int = setting(1, "Of each cluster", label="Principal components", low=1, high=1000)
    n_points: int = setting(7, "Maps along each principal component", label="Points per component", low=1, high=10**4)
    low_percentile: float = setting(5.0, "Where the first point lies among the particles of the cluster",
                                    label="First point (percentile)", low=0, high=100)
    high_percentile: float = setting(95.0, "Where the last point lies among the particles of the cluster",
                                     label="Last point (percentile)", low=0, high=100)
    compute: ComputeConfig = section(ComputeConfig)
    contract_version: int = fixed(CONTRACT_VERSION, _VERSION_HELP)


@dataclass(frozen=True)
class HalvesRun:
    """``halves``: two independent trainings on half the particles each, and their FSC."""

    command: Literal["halves"] = fixed("halves")
    clusters_dir: str = setting("", "Results folder of cluster", path=True, required=True)
    run_dir: str = setting("", "Results folder of the training", path=True, required=True)
    total_kimg: float = setting(0.0, "Thousands of images that each half sees", label="Training length per half",
                                unit="kimg", low=1e-3, high=1e7, zero="as long as the training itself")
    compute: ComputeConfig = section(ComputeConfig)
    contract_version: int = fixed(CONTRACT_VERSION, _VERSION_HELP)


@dataclass(frozen=True)
class StatesRun:
    """``states``: states, poses and maps by expectation maximisation over poses."""

    command: Literal["states"] = fixed("states")
    data: DataConfig = section(DataConfig, shown=("particles", "stack", "max_images", "box_px", "crop_frac",
                                                  "invert_contrast", "phase_flipped", "ignore_ctf", "prepared_dir",
                                                  "micrograph_pixel_size_ang",
                                                  "input_poses"), optional=("particles",))
    particle_diameter_ang: float = setting(
        0.0, "Of the circle that holds the particle. Outside of it is background", label="Particle diameter", unit="A",
        low=1, high=1e5, zero="0.9 of the kept part of the box")
    mask_diameter_ang: float = setting(
        0.0, "Of the soft circle through which images are seen: noise takes the place of what lies outside, so that "
        "neighbours do not decide the poses", label="Diameter of the images' mask", unit="A", low=1, high=1e5,
        zero="the particle's diameter and the largest shift to both sides; no mask where no diameter is given")
    hide_neighbours: bool = setting(True, "Where there is such a mask and the star file has coordinates: what lies "
                                    "nearer to another particle is hidden too", label="Hide neighbours")
    mask: str = setting("", "With input_poses, in their frame: soft mask about the whole particle, 0 to 1, made in the "
                        "particles' box. Maps end there, and their FSC is taken in it. Empty = a sphere as wide as "
                        "unseen images ask", label="Mask", path=True, metavar="MRC")
    symmetry: str = setting(
        "C1", "Point group of the particle with RELION's axes: C1, C4, D2, T, O, I (= I2), I1. Maps are held to it; "
        "a state that breaks it is found by relax_symmetry", label="Symmetry", metavar="GROUP")
    relax_symmetry: str = setting(
        "", "With input_poses and symmetry C1: the poses are right up to this group, which states may break; each "
        "particle chooses among those that show the same. Empty = the poses are right as they are",
        label="Symmetry to relax", metavar="GROUP")
    run_dir: str = setting("", "In place of particles: results folder of a training, for its images", path=True)
    clusters_dir: str = setting("", "Results folder of cluster, to start from its maps too; empty = none", path=True)
    max_shift_frac: float = setting(0.1, "How far particles may be off centre, as fraction of the kept box",
                                    label="Largest shift (fraction of the box)", low=0, high=0.5)
    n_maps: int = setting(3, "Maps that are tried beside the best start, for particles that share no frame; 1 = none. "
                          "The number of states does not depend on it", label="Maps to try", low=1, high=32)
    n_starts: int = setting(4, "Starts from one random map each, two for one of a symmetric map; unseen images choose "
                            "the best. More is safer and slower", label="Starts to try", low=1, high=100)
    start_shells: float = setting(0.0, "Of the start, as box size / resolution. Lower is safer, higher sees more",
                                  label="Shells at the start", low=2, zero="by the particle's size, from 10")
    search_shells: float = setting(0.0, "Of the pose search, as box size / resolution; not below that of the start",
                                   label="Shells of the pose search", low=2, zero="by the particle's size, from 10")
    state_shells: float = setting(0.0, "That tell states apart, as box size / resolution; not below the pose search's",
                                  label="Shells that tell states apart", low=2, zero="by the particle's size, from 12")
    start_steps: int = setting(120, "Steps of every start; more is slower, steadier",
                               label="Steps at the start", low=1, high=10**6)
    search_steps: int = setting(60, "Steps of what goes on from the best start, of twice as many images; more is "
                                "slower, steadier", label="Steps of the best start", low=1, high=10**6)
    batch_size: int = setting(128, "Images per step, at most a quarter of all", label="Batch size", low=2, high=10**5)
    smallest_frac: float = setting(0.03, "States below this share of all particles are dissolved; always below 50",
                                   label="Smallest state (fraction of all)", low=0, high=0.5)
    compute: ComputeConfig = section(ComputeConfig)
    contract_version: int = fixed(CONTRACT_VERSION, _VERSION_HELP)


@dataclass(frozen=True)
class FullresRun:
    """``fullres``: every state of a finished ``states`` refined locally in the particles' own box."""

    command: Literal["fullres"] = fixed("fullres")
    states_dir: str = setting("", "Results folder of states", path=True, required=True, option="states")
    particles: str = setting("", "RELION star file of the same particles at full size, joined by vaeParticleId; "
                             "empty = those of the states", path=True, metavar="STAR")
    stack: str = setting("", "One stack that holds every image, in place of those the star file names", path=True)
    mask: str = setting("", "In the frame of the states' maps: soft mask about the whole particle, 0 to 1, made in "
                        "their box or the particles'. Maps end there, and their FSC is taken in it. Empty = that "
                        "of states, else a sphere, and one of each map for FSC", label="Mask", path=True, metavar="MRC")
    b_factor_ang2: float = setting(
        0.0, "Of the sharpened maps, below 0 as RELION's", label="B-factor", unit="A^2", low=-2000, high=-10,
        zero="by a Guinier fit, where the resolution is finer than 10 A")
    max_rounds: int = setting(10, "They end where the band grows no more", label="Most rounds", low=1, high=100)
    compute: ComputeConfig = section(ComputeConfig, shown=("device", "threads"))
    contract_version: int = fixed(CONTRACT_VERSION, _VERSION_HELP)


@dataclass(frozen=True)
class Classes2dRun:
    """``classes2d``: class averages of particles, by expectation maximisation in the plane."""

    command: Literal["classes2d"] = fixed("classes2d")
    data: DataConfig = section(DataConfig, shown=("particles", "stack", "max_images", "box_px", "crop_frac",
                                                  "invert_contrast", "phase_flipped", "ignore_ctf", "prepared_dir"))
    particle_diameter_ang: float = setting(
        0.0, "Of the circle that holds the particle. Class averages are masked to it", label="Particle diameter",
        unit="A", low=1, high=1e5, zero="0.9 of the kept part of the box")
    n_classes: int = setting(50, "Classes to start from; empty ones are dissolved and equal ones joined",
                             label="Classes to start from", low=1, high=1000)
    max_shift_frac: float = setting(0.1, "How far particles may be off centre, as fraction of the kept box",
                                    label="Largest shift (fraction of the box)", low=0, high=0.5)
    n_steps: int = setting(36, "Steps over parts of the particles; more is slower, steadier", low=1, high=10**5,
                           label="Steps of the start")
    compute: ComputeConfig = section(ComputeConfig, shown=("threads", "seed", "memory_gb"))
    contract_version: int = fixed(CONTRACT_VERSION, _VERSION_HELP)


@dataclass(frozen=True)
class ConsensusRun:
    """``consensus``: what several runs of ``cluster`` or ``states`` on the same particles agree on."""

    command: Literal["consensus"] = fixed("consensus")
    clusters: Tuple[str, ...] = setting((), "Results folders of cluster or states on the same particles; 3 or more, "
                                        "an odd number", path=True, required=True, metavar="DIR")
    contract_version: int = fixed(CONTRACT_VERSION, _VERSION_HELP)


@dataclass(frozen=True)
class EvaluateRun:
    """``evaluate``: clusters against labels of the particles, maps against reference maps; one of them or both."""

    command: Literal["evaluate"] = fixed("evaluate")
    clusters_dir: str = setting("", "Results folder of cluster, states or classes2d", path=True, required=True)
    truth_csv: str = setting("", "Labels, as truth.csv of simulate: columns id and map (or label, state)", path=True)
    maps: Tuple[str, ...] = setting((), "Reference maps, in the order of the labels; a simulated phantom needs none",
                                    path=True, metavar="MRC")
    ceiling_json: str = setting("", "ceiling.json of vaegan ceiling", path=True)
    symmetry: str = setting(
        "C1", "Point group of the reference maps with RELION's axes, exact or broken: poses that show the same by it "
        "are one, and of a map's copies the likest is compared", label="Symmetry of the references", metavar="GROUP")
    all_references: bool = setting(False, "Align each map to every reference, not only to that of its majority's state")
    partial_labels: bool = setting(False, "Particles without a label are left out of the scores, in place of an error")
    compute: ComputeConfig = section(ComputeConfig, shown=("threads",))
    contract_version: int = fixed(CONTRACT_VERSION, _VERSION_HELP)


@dataclass(frozen=True)
class ReportRun:
    """``report``: what the named folders hold as one HTML file; an analysis as a picture too."""

    command: Literal["report"] = fixed("report")
    run_dir: str = setting("", "Results folder of the training, with clusters; none for what stands alone", path=True)
    clusters_dir: str = setting("", "Results folder of cluster, with that of its training", path=True)
    traverse_dir: str = setting("", "Results folder of traverse", path=True)
    halves_dir: str = setting("", "Results folder of halves", path=True)
    states_dir: str = setting("", "Results folder of states (page only)", path=True)
    fullres_dir: str = setting("", "Results folder of fullres (page only)", path=True)
    classes_dir: str = setting("", "Results folder of classes2d (page only)", path=True)
    consensus_dir: str = setting("", "Results folder of consensus: several runs compared (page only)", path=True)
    evaluation_dir: str = setting("", "Results folder of evaluate; a page alone too", path=True)
    truth_csv: str = setting("", "truth.csv of simulate (picture only)", path=True)
    maps: Tuple[str, ...] = setting((), "Reference maps (picture only); a phantom needs none", path=True, metavar="MRC")
    title: str = setting("", "Heading of the page; empty = the command of the training")
    contract_version: int = fixed(CONTRACT_VERSION, _VERSION_HELP)


@dataclass(frozen=True)
class CounterpartRun:
    """``counterpart``: one particle as the networks see it, beside what the generator makes at its z."""

    command: Literal["counterpart"] = fixed("counterpart")
    run_dir: str = setting("", "Results folder of the training", path=True, required=True)
    embedding_dir: str = setting("", "Results folder of embed", path=True, required=True)
    particle_id: int = setting(1, "Id of the particle (vaeParticleId, else its row from 1)")
    n_orientations: int = setting(2000, "3D: orientations tried for the likest projection", low=1, high=10**5)
    compute: ComputeConfig = section(ComputeConfig)
    contract_version: int = fixed(CONTRACT_VERSION, _VERSION_HELP)


AnyRun = Union[TrainRun, EmbedRun, ClusterRun, TraverseRun, HalvesRun, StatesRun, FullresRun, Classes2dRun,
               ConsensusRun, EvaluateRun, ReportRun, CounterpartRun]
RUN_TYPES: Dict[str, Type[Any]] = {
    "train2d": TrainRun, "train3d": TrainRun, "embed": EmbedRun, "cluster": ClusterRun, "traverse": TraverseRun,
    "halves": HalvesRun, "states": StatesRun, "fullres": FullresRun, "classes2d": Classes2dRun,
    "consensus": ConsensusRun, "evaluate": EvaluateRun, "report": ReportRun, "counterpart": CounterpartRun}
