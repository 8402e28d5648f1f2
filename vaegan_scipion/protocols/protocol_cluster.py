"""Embed particles with a trained model and cluster them."""
import json
import os
import shutil
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import Any, Dict, List, Optional, Type

import pyworkflow.protocol.params as params
from pwem.objects import FSC, SetOfClasses2D, SetOfClasses3D, SetOfFSCs, SetOfParticlesFlex, SetOfVolumes
from pwem.protocols import ProtFlexBase
from pyworkflow.object import Integer
from pyworkflow.protocol import MODE_RESTART

from ..constants import CLUSTERS_DIR, EMBEDDING_DIR, HALVES_DIR, PARTICLES_STAR, PROGRAM_NAME
from ..convert.from_engine import (
    Clusters,
    Picture,
    check_ids,
    class_ids,
    cross_with_states,
    enabled_ids,
    fill_classes,
    fill_flexible,
    new_picture_item,
    read_clusters,
    read_fsc_curves,
    read_latents,
)
from ..convert.poses import Placing, scaled_shifts, set_alignment
from ..engine.vaegan_engine.contract import result_files, run_json
from ..engine.vaegan_engine.contract.answer import Crossing, clusters_answer, trusted
from ..engine.vaegan_engine.contract.labels import UNASSIGNED, cluster_name
from ..engine.vaegan_engine.contract.record import read_record, read_records, to_json
from ..engine.vaegan_engine.contract.records import Clustering, ClusterRow
from ..engine.vaegan_engine.contract.setting import field_of
from ..engine.vaegan_engine.contract.settings import ClusterRun, EmbedRun, HalvesRun
from ..engine.vaegan_engine.contract.status import read_status
from ..engine_run import has_result, result_file
from .cost_note import add_cost_line, cost_note
from .form_settings import add_setting, label_text, optional, problems_of, values_of
from .particle_notes import contrast_notes, snr_notes
from .protocol_base import (
    VaeganProtBase,
    count_enabled,
    set_digest,
    stars_differ,
    validate_particles,
    warn_particles,
)
from .protocol_train import IMAGES, citations_of_training
from .same_kind import frame_notes, refuse_other_poses, validate_poses, validate_same_kind, validate_training_poses

METHODS = list(field_of(ClusterRun, "method").choices)
FIXED_NUMBER = " or ".join(f"method == {METHODS.index(name)}" for name in ("kmeans", "gmm"))
N_PARTICLES_MIN = 30  # two of the smallest clusters that the engine looks for
N_PARTICLES_FEW = 500
# settings of the form: for every method, for hdbscan, for a number of clusters that is given
FOR_ALL = ("method", "n_neighbors", "min_dist", "stability_repeats")
FOR_DENSITY = ("min_samples", "min_cluster_size", "min_cluster_frac", "join_valley")
FOR_FIXED_NUMBER = ("n_clusters",)
DENSITY_CITED = " [Campello2013] [McInnes2017]"
DENSITY = f"method == {METHODS.index('hdbscan')}"


class VaeganProtCluster3DOutputs(Enum):
    """Outputs after a 3D training."""

    outputClasses = SetOfClasses3D
    outputVolumes = SetOfVolumes
    outputParticles = SetOfParticlesFlex
    outputFSCs = SetOfFSCs


class VaeganProtCluster2DOutputs(Enum):
    """Outputs after a 2D training."""

    outputClasses = SetOfClasses2D
    outputParticles = SetOfParticlesFlex


class VaeganProtCluster(VaeganProtBase, ProtFlexBase):
    """Embed particles with a trained VAE-GAN, cluster them, and make one map or image per cluster.

    The encoder gives every particle a latent vector, UMAP lays them out in a plane, and HDBSCAN
    finds the dense groups; their number need not be known. Particles in no group are a class of
    their own, the last one, and none is dropped. The maps come from the generator at the
    clusters' latent vectors: they show what was learned and are not reconstructions from poses.

    Outputs: classes of the input particles, maps, particles with latent vector and embedding,
    and, when asked for, the FSC between two halves of the data trained apart.
    """

    _label = "embed and cluster"
    _possibleOutputs = VaeganProtCluster3DOutputs

    # --------------------------- DEFINE param functions ---------------------------
    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Input")
        form.addParam("inputTraining", params.PointerParam, pointerClass="VaeganProtTrain3D,VaeganProtTrain2D",
                      important=True, label="Training", help="A finished run of train 3D or train 2D.")
        form.addParam("inputParticles", params.PointerParam, pointerClass="SetOfParticles", allowsNull=True,
                      label="Other particles (optional)",
                      help="Of the same kind and pixel size. Empty = the particles of the training.")
        form.addParam("doHalves", params.BooleanParam, default=False, label="Two independent halves (FSC)",
                      help="Train on each half of the data anew and compare the maps. Takes about as long as "
                           "the training. 3D only.")
        add_setting(form, HalvesRun, "total_kimg", param="halvesKimg", unit=IMAGES, condition="doHalves",
                    expertLevel=params.LEVEL_ADVANCED)
        add_cost_line(form)
        form.addSection(label="Clusters")
        add_setting(form, ClusterRun, "method")
        add_setting(form, ClusterRun, "n_clusters", condition=FIXED_NUMBER)
        add_setting(form, ClusterRun, "min_cluster_frac", condition=DENSITY)
        add_setting(form, ClusterRun, "n_neighbors")
        self._defineAdvancedParams(form)
        self._defineComputeParams(form)

    def _defineAdvancedParams(self, form: Any) -> None:
        advanced = params.LEVEL_ADVANCED
        add_setting(form, ClusterRun, "min_dist", expertLevel=advanced)
        for name in ("min_samples", "min_cluster_size", "join_valley"):
            add_setting(form, ClusterRun, name, condition=DENSITY, expertLevel=advanced)
        add_setting(form, ClusterRun, "stability_repeats", expertLevel=advanced)

    # --------------------------- INSERT steps functions ---------------------------
    def _insertAllSteps(self) -> None:
        digest = set_digest(self.getParticlesPointer().get())
        embed, cluster, halves = map(_as_text, (self._getEmbedSettings(), self._getClusterSettings(),
                                                self._getHalvesSettings() if self.doHalves else None))
        training = self.inputTraining.get()
        trained = json.dumps(to_json(read_status(training.getRunDir())), sort_keys=True) + training._posesDigest()
        aligned = training.usesAlignment()
        self._insertFunctionStep(self.convertInputStep, digest, aligned, needsGPU=False)
        self._insertFunctionStep(self.embedStep, digest, trained, embed)
        self._insertFunctionStep(self.clusterStep, digest, trained, embed, cluster)
        if self.doHalves:
            self._insertFunctionStep(self.halvesStep, digest, trained, embed, cluster, halves)
        self._insertFunctionStep(self.createOutputStep, digest, trained, embed, cluster, halves, needsGPU=False)

    # --------------------------- STEPS functions ---------------------------
    def convertInputStep(self, digest: str, aligned: bool) -> None:
        self._writeParticles(self.getParticlesPointer().get(), aligned)

    def embedStep(self, *digests: str) -> None:
        shutil.rmtree(self._getExtraPath(HALVES_DIR), ignore_errors=True)  # they belong to the training before
        settings = self._getEmbedSettings()
        if not settings.particles and stars_differ(self, self.inputTraining.get()):
            settings = replace(settings, particles=PARTICLES_STAR)
        if self.inputParticles.get() is None:
            refuse_other_poses(self, self.inputTraining.get())
        self._runEngine(settings, "embed", EMBEDDING_DIR)

    def clusterStep(self, *digests: str) -> None:
        self._runEngine(self._getClusterSettings(), "cluster", CLUSTERS_DIR)

    def halvesStep(self, *digests: str) -> None:
        self._runEngine(self._getHalvesSettings(), "halves", HALVES_DIR)

    def createOutputStep(self, *digests: str) -> None:
        pointer, training = self.getParticlesPointer(), self.inputTraining.get()
        particles, rate = pointer.get(), training.getTrainingPixelSize()
        clusters, latents = read_clusters(self.getClustersDir()), read_latents(self._getExtraPath(EMBEDDING_DIR))
        enabled = enabled_ids(particles)
        check_ids(enabled, clusters.particle_id, result_files.CLUSTERS_CSV)
        check_ids(enabled, latents.particle_id, result_files.LATENTS_NPZ)

        pictures, made = self.readPictures(), {}
        classes = (self._createSetOfClasses3D(pointer) if self.isVolumetric()
                   else self._createSetOfClasses2D(pointer))
        fill_classes(classes, clusters, pictures, rate)
        made["outputClasses"] = classes
        if self.isVolumetric():
            made["outputVolumes"] = self._makeVolumes(clusters, pictures, rate)
        flexible = self._createSetOfParticlesFlex(progName=PROGRAM_NAME)
        fill_flexible(flexible, particles, clusters, latents, training.getRunDir())
        made["outputParticles"] = flexible
        # the project keeps every output a run ever had: one that is not wanted any more is emptied
        if self.doHalves or self.hasAttribute("outputFSCs"):
            made["outputFSCs"] = self._makeFSCs()
        self._defineMade(pointer, made)

    def _makeVolumes(self, clusters: Clusters, pictures: Dict[int, Picture], rate: float) -> Any:
        volumes = self._createSetOfVolumes()
        volumes.setSamplingRate(rate)
        for label in sorted(pictures):
            if label != UNASSIGNED:
                volumes.append(new_picture_item(True, pictures[label], rate, f"cluster {label + 1}", label=label,
                                                particles=int((clusters.label == label).sum())))
        return volumes

    def _makeFSCs(self) -> Any:
        curves = read_fsc_curves(self._getExtraPath(HALVES_DIR)) if self.doHalves else {}
        fscs = self._createSetOfFSCs()
        for label, curve in sorted(curves.items()):
            fsc = FSC(objLabel=f"cluster {label + 1}")
            fsc.setData(*curve)
            fsc._vaeganLabel = Integer(label)
            fscs.append(fsc)
        return fscs

    # --------------------------- INFO functions ---------------------------
    def _validateForm(self) -> List[str]:
        problems, training = self._validateCompute(), self.inputTraining.get()
        if training is None:
            return problems
        if self.hasAttribute("outputClasses") and self.runMode.get() != MODE_RESTART \
                and isinstance(self.outputClasses, SetOfClasses3D) != training.isVolumetric():
            problems.append("This run has clusters of the other kind (2D or 3D). Use Restart, or a new run.")
        if not read_status(training.getRunDir()).finished:
            problems.append(f"The run '{training.getRunName()}' has no finished training. Finish it first.")
        elif training.isHomogeneous():
            problems.append(f"The run '{training.getRunName()}' learned one structure and has no encoder: there is "
                            "nothing to cluster. Train with another preset.")
        particles = self.getParticlesPointer().get()
        if particles is None:
            return problems + ["The training has no input particles any more. Give the particles here."]
        problems += validate_training_poses(training)
        problems += validate_particles(particles, not training.getDataSettings().ignore_ctf, N_PARTICLES_MIN)
        n_particles = count_enabled(particles)
        values = self._clusterValues()
        problems += problems_of(ClusterRun, values)
        if self.doHalves:
            problems += problems_of(HalvesRun, {"total_kimg": self._halvesKimg()})
        for name, most in (("n_neighbors", n_particles - 1), ("n_clusters", n_particles),
                           ("min_cluster_size", n_particles // 2)):
            if values.get(name, 0) > most:
                problems.append(f"{label_text(field_of(ClusterRun, name))} is {values[name]}. With {n_particles} "
                                f"particles use at most {most}.")
        if self.doHalves and not training.isVolumetric():
            problems.append("Two independent halves (FSC) is Yes after a 2D training. Set it to No.")
        trained_on = training.getParticlesPointer().get()
        if self.doHalves and self.inputParticles.get() is not None:
            problems.append("Two independent halves (FSC) are trained on the particles of the training; with Other "
                            "particles they cannot be compared. Set it to No, or leave Other particles empty.")
        if self.inputParticles.get() is not None and trained_on is not None:
            problems += validate_same_kind(particles, trained_on)
            problems += validate_poses(particles, training)
        return problems

    def _warnings(self) -> List[str]:
        training, notes = self.inputTraining.get(), self._warnCompute()
        if training is None or self.getParticlesPointer().get() is None:
            return notes
        particles = self.getParticlesPointer().get()
        notes += warn_particles(particles, N_PARTICLES_FEW)
        data = training.getDataSettings()
        if self.inputParticles.get() is not None:
            notes += contrast_notes(particles, data.particle_radius_frac * data.crop_frac, data.invert_contrast)
            notes += frame_notes(training)
        most = data.max_images
        if self.inputParticles.get() is None and most > 0:
            notes.append(f"The training saw only the first {most} particles; all "
                         f"{count_enabled(particles)} are embedded.")
        return notes

    def _summary(self) -> List[str]:
        if not (self.hasAttribute("outputClasses") and has_result(self.getClustersDir(), result_files.CLUSTERING_JSON)):
            return ["The clusters are not made yet.", *cost_note(self.getClustersDir())]
        rows = sorted(self.readClusterRows(), key=lambda row: (row.label == UNASSIGNED, row.label))
        total = sum(row.n_particles for row in rows)
        numbers = class_ids([row.label for row in rows])
        lines = [f"Answer: {self.answerText(self.readCrossing())}",
                 f"{sum(row.label != UNASSIGNED for row in rows)} clusters of {total} particles",
                 *snr_notes(self.inputTraining.get().getRunDir())]
        for row in rows:
            lines.append(f"{cluster_name(row.label)}: {row.n_particles} particles "
                         f"({100 * row.n_particles / total:.1f} %), class {numbers[row.label]}"
                         + ("" if row.stability is None else f", stability {row.stability:.2f}"))
        details = self.readDetails()
        if details.sweep:
            lines.append("Number of clusters, by the particles of the smallest: " + ", ".join(
                f"{row.min_cluster_size}: {row.clusters}" for row in details.sweep))
        if details.verdict:
            lines.append(f"Verdict: {details.verdict}")
        if self.doHalves and self.hasAttribute("outputFSCs"):
            lines += [f"{fsc.getObjLabel()}: {fsc.calculateResolution(precision=1)} Å (FSC 0.143, halves)"
                      for fsc in self.outputFSCs]
        return lines

    def _methods(self) -> List[str]:
        if not self.hasAttribute("outputClasses"):
            return []
        rows, method = self.readClusterRows(), METHODS[self.method.get()]
        unassigned = [row.n_particles for row in rows if row.label == UNASSIGNED]
        by, network = method + DENSITY_CITED * (method == "hdbscan"), self.inputTraining.get().getNetworkText()
        return [f"{sum(row.n_particles for row in rows)} particles were embedded by the encoder of {network}, "
                f"projected with UMAP [McInnes2018] ({self.nNeighbors.get()} neighbours, minimal distance "
                f"{self.minDist.get():g}, seed {self.seed.get()}) and clustered with {by} into "
                f"{len(rows) - len(unassigned)} clusters; {sum(unassigned)} particles belong to none."]

    def _citations(self) -> List[str]:
        by_density = ["Campello2013", "McInnes2017"] * (METHODS[self.method.get()] == "hdbscan")
        return [*citations_of_training(self.inputTraining.get()), "McInnes2018", *by_density]

    # --------------------------- UTILS functions ---------------------------
    def getPossibleOutputs(self) -> Type[Enum]:
        """Outputs of the kind of the training; without FSC unless it was asked for."""
        return VaeganProtCluster3DOutputs if self.isVolumetric() else VaeganProtCluster2DOutputs

    def isVolumetric(self) -> bool:
        """Whether the clusters have maps (3D) rather than images (2D)."""
        training = self.inputTraining.get()
        return training is None or training.isVolumetric()

    def readAlignments(self, sampling_rate_ang: float) -> Dict[int, Placing]:
        """Particle id -> alignment of a particle of this pixel size that was trained at; empty without.

        Of states and classes 2D what they have found; else that of the clustered particles, shifts in the new pixels.
        """
        training, particles = self.inputTraining.get(), self.getParticlesPointer().get()
        if training.getAlignedBy() is not None:
            return dict(training.getAlignedBy().readAlignments(sampling_rate_ang))
        if not training.usesAlignment() or particles is None:
            return {}
        scale = particles.getSamplingRate() / sampling_rate_ang
        return {item.getObjId(): Placing(0, partial(set_alignment, matrix=scaled_shifts(
            item.getTransform().getMatrix(), scale))) for item in particles if item.hasTransform()}

    def getParticlesPointer(self) -> Any:
        """Pointer to the particles that are clustered."""
        return (self.inputParticles if self.inputParticles.get() is not None
                else self.inputTraining.get().getParticlesPointer())

    def getMapPixelSize(self) -> float:
        """Pixel size of the clusters' maps or images in A."""
        return float(self.inputTraining.get().getTrainingPixelSize())

    def getClustersDir(self) -> str:
        """Results folder of the clustering."""
        return str(self._getExtraPath(CLUSTERS_DIR))

    def readClusterRows(self) -> List[ClusterRow]:
        """Rows of `clusters.json`."""
        return read_records(ClusterRow, result_file(self.getClustersDir(), result_files.CLUSTERS_JSON), "cluster")

    def readDetails(self) -> Clustering:
        """`clustering.json`: how the clusters came about and how stable they are."""
        return read_record(Clustering, result_file(self.getClustersDir(), result_files.CLUSTERING_JSON), "cluster")

    def getStates(self) -> Any:
        """The run of states at whose poses the training was made; None where there is none."""
        return self.inputTraining.get().getStates()

    def readCrossing(self) -> Optional[Crossing]:
        """The clusters crossed with the states of the training's poses; None without states."""
        states = self.getStates()
        if states is None or not has_result(states.getStatesDir(), result_files.PARTICLES_CSV):
            return None
        return cross_with_states(read_clusters(self.getClustersDir()), states.getStatesDir())

    def answerText(self, crossed: Optional[Crossing]) -> str:
        """Which of states and clusters to trust, and why; without states, what to make of the clusters."""
        if crossed is None:
            return clusters_answer(self.readDetails(), self.inputTraining.get().isPosed(), not self.isVolumetric())
        return trusted(crossed, self.readDetails(), True, self.getStates().readSummary())

    def readPictures(self) -> Dict[int, Picture]:
        """Label -> map (3D) or image (2D), by `clusters.json`."""
        folder, pictures = self.getClustersDir(), {}
        for row in self.readClusterRows():
            if row.file:
                index = 0 if self.isVolumetric() else row.index + 1
                pictures[row.label] = Picture(index, str(result_file(folder, row.file)))
        return pictures

    def _getRunDirFromExtra(self) -> str:
        """Folder of the training, relative to extra/ (where the requests are)."""
        return os.path.relpath(self.inputTraining.get().getRunDir(), self._getExtraPath())

    def _getEmbedSettings(self) -> EmbedRun:
        # all of the training's own particles are prepared already, in its cache
        same = self.inputParticles.get() is None and not self.inputTraining.get().getDataSettings().max_images
        particles = "" if same else PARTICLES_STAR
        return EmbedRun(run_dir=self._getRunDirFromExtra(), particles=particles, compute=self._getCompute())

    def _getClusterSettings(self) -> ClusterRun:
        return ClusterRun(embedding_dir=EMBEDDING_DIR, run_dir=self._getRunDirFromExtra(), **self._clusterValues(),
                          compute=self._getCompute())

    def _clusterValues(self) -> Dict[str, Any]:
        """What the form says of the chosen method; the fields of the other one are hidden and do not count."""
        fixed = METHODS[self.method.get()] != "hdbscan"
        return values_of(self, ClusterRun, FOR_ALL + (FOR_FIXED_NUMBER if fixed else FOR_DENSITY))

    def _halvesKimg(self) -> float:
        """Thousands of images that each half sees; 0 = as the training."""
        return optional(self, "halvesKimg") or 0.0

    def _getHalvesSettings(self) -> HalvesRun:
        return HalvesRun(clusters_dir=CLUSTERS_DIR, run_dir=self._getRunDirFromExtra(), total_kimg=self._halvesKimg(),
                         compute=self._getCompute())


def _as_text(settings: Any) -> str:
    """Settings as the text that Scipion compares between runs; empty when there are none."""
    return "" if settings is None else json.dumps(run_json.to_dict(settings), sort_keys=True)
