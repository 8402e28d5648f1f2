"""The table of commands. What it names is imported when it is asked for: a training needs no UMAP."""
from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

_FOLDER = "Results folder"


@dataclass(frozen=True)
class Command:
    """One command. Functions and classes are named ``folder.module:name``, below ``vaegan_engine``."""

    name: str
    help: str  # one line
    run: str  # called with (settings, results folder), or with nothing where there are no settings
    settings: str = ""  # settings dataclass
    resumable: bool = False  # has --resume, and its function a parameter of that name
    shared: bool = False  # has --processes: several processes can share its work
    forecast: bool = False  # has --forecast, and large sets are told what to expect
    presets: bool = False  # has --config and --set, over a preset
    out_help: str = _FOLDER
    out_required: bool = True
    details: str = ""  # text below the options

    def load(self, name: str) -> Any:
        """What ``run``, ``settings`` or ``details`` names."""
        module, _, attribute = getattr(self, name).partition(":")
        return getattr(importlib.import_module(f"..{module}", __package__), attribute)


_TABLE = (
    Command("simulate", "simulate particles from maps (or the built-in phantom)", "simulation.simulate:run_simulate",
            "simulation.options:SimulateOptions"),
    Command("prepare", "prepare the images that states, classes2d, train3d and train2d share (--prepared)",
            "data.prepare:run_prepare", "data.prepare:PrepareOptions"),
    Command("states", "find states, poses and maps of particles (expectation maximisation)",
            "refine.refine:run_states", "contract.settings:StatesRun", resumable=True, shared=True, forecast=True),
    Command("fullres", "refine every state locally at full resolution, in the particles' own box",
            "fullres.fullres:run_fullres", "contract.settings:FullresRun", resumable=True, forecast=True),
    Command("classes2d", "class averages of particles with their alignment in the plane, junk marked",
            "classes2d.classify:run_classes2d", "contract.settings:Classes2dRun", resumable=True,
            forecast=True),
    Command("train3d", "train the 3D VAE-GAN on particles, without poses or at known ones", "training.train:run_train",
            "contract.settings:TrainRun", resumable=True, shared=True, forecast=True, presets=True),
    Command("train2d", "train the 2D VAE-GAN on particles, without poses or with the alignment of classes2d",
            "training.train:run_train", "contract.settings:TrainRun", resumable=True, shared=True, forecast=True,
            presets=True),
    Command("presets", "list the presets of train3d and train2d", "contract.presets:print_presets"),
    Command("embed", "encode every particle with a trained model", "latent.embed:run_embed",
            "contract.settings:EmbedRun", forecast=True),
    Command("cluster", "UMAP and density clustering; one map per cluster", "latent.cluster:run_cluster",
            "contract.settings:ClusterRun", forecast=True),
    Command("traverse", "PCA inside each cluster and maps along it", "latent.traverse:run_traverse",
            "contract.settings:TraverseRun"),
    Command("decode", "maps at any points of a trained landscape, as a series for ChimeraX", "latent.decode:run_decode",
            "latent.decode:DecodeOptions"),
    Command("halves", "train two independent halves and compare them (FSC)", "evaluation.checks.halves:run_halves",
            "contract.settings:HalvesRun"),
    Command("consensus", "what several clusterings or sets of states of the same particles agree on",
            "evaluation.checks.consensus:run_consensus", "contract.settings:ConsensusRun"),
    Command("evaluate", "compare clusters or states, and their maps, with the truth",
            "evaluation.truth.evaluate:run_evaluate", "contract.settings:EvaluateRun",
            out_help="Results folder (default: the clusters folder)", out_required=False),
    Command("scf", "how completely the poses of a star file or of a trained camera fill Fourier space",
            "evaluation.checks.scf:run_scf", "evaluation.checks.scf:ScfOptions",
            out_help="Write scf.json into this folder", out_required=False),
    Command("ceiling", "what a supervised classifier reaches on the same images",
            "evaluation.truth.ceiling:run_ceiling", "evaluation.truth.ceiling:CeilingOptions"),
    Command("observer", "how well an observer who knows the true maps tells the states apart",
            "evaluation.truth.observer:run_observer", "evaluation.truth.observer:ObserverOptions"),
    Command("count", "how many clusters the criteria without density would choose", "latent.count:run_count",
            "latent.count:CountOptions"),
    Command("centroids", "k-means inside each cluster, the nearest particles decoded",
            "latent.centroids:run_centroids", "latent.centroids:CentroidOptions"),
    Command("homogeneity", "k-means groups of everything, each aligned by RELION as one class",
            "thesis.homogeneity:run_homogeneity", "thesis.homogeneity:HomogeneityOptions"),
    Command("match", "correlation of maps with reference maps or atomic models", "thesis.map_matching:run_match",
            "thesis.map_matching:MatchOptions"),
    Command("psnr", "reconstructions of simulated particles against their clean images", "thesis.psnr:run_psnr",
            "thesis.psnr:PsnrOptions"),
    Command("fid", "Frechet distance of generated images, features of the data set's own classifier",
            "thesis.fid:run_fid", "thesis.fid:FidOptions"),
    Command("reproduce", "run an experiment of the thesis again: data, trainings, table, figure",
            "thesis.reproduce:run_reproduce", "thesis.experiment_tables:ReproduceOptions",
            out_help="Results folder (default: reports/EXPERIMENT)", out_required=False,
            details="thesis.reproduce:DETAILS"),
    Command("benchmark", "the scoreboard: simulated tasks refined and compared with the truth",
            "evaluation.benchmark.benchmark:run_benchmark", "evaluation.benchmark.benchmark:BenchmarkOptions"),
    Command("report", "a whole analysis as one HTML file, or as one picture", "report.report:run_report",
            "contract.settings:ReportRun", out_required=False,
            out_help="FILE.html: one self-contained page; FILE.png: one picture (default: report.html)"),
    Command("counterpart", "one particle beside what the generator makes at its z",
            "latent.counterpart:run_counterpart", "contract.settings:CounterpartRun"),
)
COMMANDS = {command.name: command for command in _TABLE}
