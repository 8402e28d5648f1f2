"""Compare clusters, states or classes with labels of the particles, and their maps with reference maps."""
import csv
import json
import os
import shutil
from dataclasses import replace
from enum import Enum
from typing import Any, List, Optional

import pyworkflow.protocol.params as params
from pwem.objects import FSC, SetOfFSCs, SetOfVolumes, Volume
from pyworkflow.object import Integer

from ..constants import EVALUATION_DIR, LABELS_CSV, REFERENCES_DIR
from ..convert.from_engine import Picture, new_picture_item
from ..convert.same_particles import TOLERANCE_PX, why_others
from ..engine.vaegan_engine.contract import result_files
from ..engine.vaegan_engine.contract.answer import evaluation_answer, evaluation_methods
from ..engine.vaegan_engine.contract.drawings import frequencies_per_ang
from ..engine.vaegan_engine.contract.errors import ConfigError
from ..engine.vaegan_engine.contract.labels import GROUPS, UNASSIGNED
from ..engine.vaegan_engine.contract.record import read_record
from ..engine.vaegan_engine.contract.records import Evaluation, MapEvaluation
from ..engine.vaegan_engine.contract.settings import EvaluateRun
from ..engine.vaegan_engine.contract.symmetry import family_and_fold
from ..engine_run import has_result, result_file
from .form_settings import add_setting, label_of
from .mask_field import write_volume
from .protocol_base import VaeganProtBase, content_digest, groups_digest, set_digest
from .protocol_classes_2d import VaeganProtClasses2D
from .protocol_states import VaeganProtStates
from .protocol_train import citations_of_training

GROUPED = "VaeganProtCluster,VaeganProtStates,VaeganProtClasses2D"  # runs that part particles into groups
NO_LABELS, FROM_CLASSES, FROM_FILE = 0, 1, 2
REFERENCE_NAMES_JSON = "reference_names.json"
CENTRED_FRAC = 0.25  # of the box: a class average may have moved its particles by less
ID_COLUMNS = ("id", "particle_id")
JUNK = "junk"  # label of images that are no particle
LABELS_ENCODING = "utf-8-sig"  # spreadsheets put a mark before the first column
LABEL_COLUMNS = ("map", "label", "state")


class VaeganProtEvaluateOutputs(Enum):
    """Outputs, where reference maps were given."""

    outputVolumes = SetOfVolumes
    outputFSCs = SetOfFSCs


class VaeganProtEvaluate(VaeganProtBase):
    """Compare clusters or states with labels of the particles, their maps with reference maps, or both.

    Labels are another classification of the same particles (a RELION or cryoSPARC job, a second run of this plugin
    with another seed) or a table of known species. The agreement is given as NMI, AMI and ARI; the two last are
    corrected for chance. Each map is aligned to a reference over rotation, shift and hand, and compared by FSC.

    Outputs, where reference maps were given: the maps in the frame of their references, and the FSCs.
    """

    _label = "evaluate"
    _possibleOutputs = VaeganProtEvaluateOutputs

    # --------------------------- DEFINE param functions ---------------------------
    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Input")
        form.addParam("inputClusters", params.PointerParam, pointerClass=GROUPED, important=True,
                      label="Clusters, states or classes",
                      help="A finished run of embed and cluster, of find states and poses, or of classes 2D.")
        form.addParam("labelsFrom", params.EnumParam, choices=["no labels", "classes", "file"], default=FROM_CLASSES,
                      label="Labels from",
                      help="What each particle is known or thought to be: classes of this project, or a table.")
        form.addParam("inputClasses", params.PointerParam, pointerClass="SetOfClasses", allowsNull=True,
                      condition=f"labelsFrom == {FROM_CLASSES}", label="Classes",
                      help="Another classification of the same particles. Particles in no class are left out, and so "
                           "are those that embed and cluster left unassigned; junk of classes 2D counts as junk.")
        form.addParam("labelsFile", params.FileParam, default="", condition=f"labelsFrom == {FROM_FILE}",
                      label="File of labels",
                      help="CSV with the columns id and label, such as truth.csv of a simulation. "
                           "Ids are those of the clustered set.")
        form.addParam("inputReferences", params.PointerParam, pointerClass="SetOfVolumes,Volume", allowsNull=True,
                      label="Reference maps (optional)",
                      help="Maps to align to and compare with; in the order of the labels, where there are both. "
                           "Voxels no larger than those of the maps compared.")
        add_setting(form, EvaluateRun, "symmetry", expertLevel=params.LEVEL_ADVANCED)
        self._defineComputeParams(form, gpu=False)

    # --------------------------- INSERT steps functions ---------------------------
    def _insertAllSteps(self) -> None:
        digest = json.dumps([self._clustersDigest(), self._labelsDigest(), self._referencesDigest(),
                             self._symmetry()])
        self._insertFunctionStep(self.convertInputStep, digest)
        self._insertFunctionStep(self.evaluateStep, digest, self.numberOfThreads.get())
        self._insertFunctionStep(self.createOutputStep, digest, self.numberOfThreads.get())

    # --------------------------- STEPS functions ---------------------------
    def convertInputStep(self, digest: str) -> None:
        labels, folder = self._getExtraPath(LABELS_CSV), self._getExtraPath(REFERENCES_DIR)
        shutil.rmtree(folder, ignore_errors=True)
        if os.path.exists(labels):
            os.remove(labels)
        if self.labelsFrom.get() == FROM_CLASSES and self.inputClasses.get() is not None:
            rows = [(particle_id, label) for item in self.inputClasses.get() for label in label_of_class(item)
                    for particle_id in sorted(item.getIdSet())]
            result_files.write_csv(labels, ["id", "label"], rows)
        elif self.labelsFrom.get() == FROM_FILE:
            with open(self.labelsFile.get().strip(), newline="", encoding=LABELS_ENCODING) as stream:
                text = stream.read()
            with open(labels, "w", newline="", encoding="utf-8") as stream:
                stream.write(text)
        result_files.write_json(self._getExtraPath(REFERENCE_NAMES_JSON), self._referenceNames())
        for number, volume in enumerate(self._references(), start=1):
            os.makedirs(folder, exist_ok=True)
            write_volume(volume, os.path.join(folder, f"reference_{number:04d}.mrc"))

    def evaluateStep(self, digest: str, _threads: int) -> None:
        self._keepGroups(self.inputClusters.get())
        self._runEngine(self._getSettings(), "evaluate", EVALUATION_DIR)

    def createOutputStep(self, digest: str, _threads: int) -> None:
        rows, made = self.readEvaluation().maps, {}
        # the project keeps every output a run ever had: one that is not wanted any more is emptied
        if rows or self.hasAttribute("outputVolumes"):
            made = {"outputVolumes": self._makeVolumes(rows), "outputFSCs": self._makeFSCs(rows)}
        self._defineMade(self.inputClusters.get().getParticlesPointer(), made)

    def _makeVolumes(self, rows: List[MapEvaluation]) -> Any:
        volumes = self._createSetOfVolumes()
        volumes.setSamplingRate(self.inputClusters.get().getMapPixelSize())
        for row in rows:
            path = str(result_file(self._getExtraPath(EVALUATION_DIR), row.aligned_file))
            volumes.append(new_picture_item(True, Picture(0, path), row.voxel_size_ang, self._title(row),
                                            label=row.label, correlation=row.correlation,
                                            particles=row.n_particles))
        return volumes

    def _makeFSCs(self, rows: List[MapEvaluation]) -> Any:
        fscs = self._createSetOfFSCs()
        for row in rows:
            frequencies = frequencies_per_ang(row.compared.map_box_px, row.voxel_size_ang)
            fsc = FSC(objLabel=self._title(row))
            fsc.setData(frequencies[1:].tolist(), row.compared.fsc[1:])
            fsc._vaeganLabel = Integer(row.label)
            fscs.append(fsc)
        return fscs

    # --------------------------- INFO functions ---------------------------
    def _validateForm(self) -> List[str]:
        problems, clustering = self._validateCompute() + self._validateSymmetry(), self.inputClusters.get()
        if clustering is None:
            return problems
        if not clustering.hasAttribute("outputClasses"):
            return [*problems, f"The run '{clustering.getRunName()}' has no classes. Finish it first."]
        references = self._references()
        if self.labelsFrom.get() == NO_LABELS and not references:
            problems.append("There is nothing to compare with. Give labels, reference maps or both.")
        if self.labelsFrom.get() == FROM_CLASSES and self.inputClasses.get() is None:
            problems.append("Labels come from classes, but there are none. Give the classes, or choose 'no labels'.")
        if self.labelsFrom.get() == FROM_CLASSES and self.inputClasses.get() is not None:
            problems += self._validateClasses(clustering.getParticlesPointer().get())
        if self.labelsFrom.get() == FROM_FILE:
            problems += validate_labels((self.labelsFile.get() or "").strip())
        if references and not clustering.isVolumetric():
            problems.append("Reference maps are of no use after a 2D training, or for classes. Leave them empty.")
        elif references:
            problems += self._validateReferences(clustering.getMapPixelSize())
        return problems

    def _validateReferences(self, rate: float) -> List[str]:
        """What is wrong with the reference maps for maps of this pixel size in A."""
        problems = []
        for volume in self._references():
            name, voxel_ang = volume.getFileName(), volume.getSamplingRate()
            if not os.path.exists(name):
                problems.append(f"{name}: the reference map is not there. Bring it back, or give another.")
            elif not voxel_ang or voxel_ang <= 0:
                problems.append(f"{name}: the reference map has a sampling rate of {voxel_ang} Å/px; it must be above "
                                "0. Import it with its sampling rate.")
            elif voxel_ang > 1.001 * rate:
                problems.append(f"{name} has voxels of {voxel_ang:.3f} Å, larger than those of the maps compared "
                                f"({rate:.3f} Å). Give a finer reference.")
        return problems

    def _validateSymmetry(self) -> List[str]:
        """What is wrong with the references' point group."""
        try:
            family_and_fold(self._symmetry(), f"'{label_of(self.getParam('symmetry'))}'")
        except ConfigError as error:
            return [str(error)]
        return []

    def _validateClasses(self, particles: Any) -> List[str]:
        """Why the classes are not of the same particles; they may have been centred since."""
        labelled = self.inputClasses.get().getImages()
        if particles is None or labelled is None:
            return []
        shared = particles.getIdSet() & labelled.getIdSet()
        if not shared:
            return ["The classes and the particles have no particle id in common. Give classes of the same particles."]
        tolerance_px = max(TOLERANCE_PX, CENTRED_FRAC * particles.getXDim(), CENTRED_FRAC * labelled.getXDim())
        return list(filter(None, [why_others(particles, labelled, sorted(shared), tolerance_px)]))

    def _summary(self) -> List[str]:
        values = self._evaluationOrNone()
        if values is None:
            return ["Nothing is compared yet."]
        lines = [f"Answer: {self.answerText()}"]
        scores = values.labels
        if scores is not None:
            lines.append(f"NMI {scores.nmi:.3f}, AMI {scores.ami:.3f}, ARI {scores.ari:.3f}: "
                         f"{scores.clusters} {self.getGroups()} against "
                         f"{len(scores.states)} labels, {scores.n_particles} particles")
            if scores.unlabelled:
                lines.append(f"{scores.unlabelled} particles without a label were left out")
        lines += [f"{self._title(row)}: {row.compared.resolution_05_ang:.1f} Å at FSC 0.5 "
                  f"({row.compared.nyquist_frac_05:.2f} of Nyquist), {row.compared.resolution_0143_ang:.1f} Å at 0.143 "
                  f"({row.compared.nyquist_frac_0143:.2f}), "
                  f"correlation {row.correlation:.2f}" + (", other hand" if row.mirrored else "")
                  for row in values.maps]
        return lines

    def _methods(self) -> List[str]:
        values = self._evaluationOrNone()
        text = "" if values is None else evaluation_methods(values, self.getGroups())
        return [text] if text else []

    def _citations(self) -> List[str]:
        return citations_of(self.inputClusters.get())

    # --------------------------- UTILS functions ---------------------------
    def readEvaluation(self) -> Evaluation:
        """`evaluation.json` of the run."""
        path = result_file(self._getExtraPath(EVALUATION_DIR), result_files.EVALUATION_JSON)
        return read_record(Evaluation, path, "evaluate")

    def _evaluationOrNone(self) -> Optional[Evaluation]:
        return self.readEvaluation() if has_result(self._getExtraPath(EVALUATION_DIR),
                                                   result_files.EVALUATION_JSON) else None

    def answerText(self) -> str:
        """What was found against what is known, in sentences."""
        values = self.readEvaluation()
        named = [replace(row, reference=self.referenceName(row)) for row in values.maps]
        return evaluation_answer(replace(values, maps=named), self.getGroups())

    def getGroups(self) -> str:
        """What was compared: "clusters", "states" or "classes"."""
        return groups_of(self.inputClusters.get())

    def _title(self, row: MapEvaluation) -> str:
        """ "cluster 1 against ribosome"."""
        return f"{GROUPS[self.getGroups()].name(row.label)} against {self.referenceName(row)}"

    def referenceName(self, row: MapEvaluation) -> str:
        """A reference by its label in the project where it has one, as it was when it was compared."""
        kept = self._getExtraPath(REFERENCE_NAMES_JSON)
        names = result_files.read_json(kept) if os.path.exists(kept) else self._referenceNames()
        stem = os.path.splitext(row.reference)[0].rsplit("_", 1)
        known = len(stem) == 2 and stem[0] == "reference" and 0 < int(stem[1]) <= len(names)
        return str(names[int(stem[1]) - 1] if known else row.reference)

    def _referenceNames(self) -> List[str]:
        """Labels of the references, or the names of their files."""
        return [str(volume.getObjLabel() or os.path.basename(volume.getFileName())) for volume in self._references()]

    def _references(self) -> List[Any]:
        """Reference volumes, in the order of their ids."""
        given = self.inputReferences.get()
        if given is None:
            return []
        if isinstance(given, Volume):
            return [given]
        return [volume.clone() for volume in given.iterItems(orderBy="id") if volume.isEnabled()]

    def _symmetry(self) -> str:
        """Point group of the references, as it was typed."""
        return str(self.symmetry.get() or "").strip()

    def _clustersDigest(self) -> str:
        return groups_digest(self.inputClusters.get())

    def _labelsDigest(self) -> str:
        if self.labelsFrom.get() == FROM_CLASSES and self.inputClasses.get() is not None:
            return "classes " + set_digest(self.inputClasses.get())
        return f"file {content_digest(self.labelsFile.get().strip())}" if self.labelsFrom.get() == FROM_FILE else ""

    def _referencesDigest(self) -> List[str]:
        return [f"{volume.getFileName()} {volume.getSamplingRate():g} {content_digest(volume.getFileName())}"
                for volume in self._references()]

    def _getSettings(self) -> EvaluateRun:
        clustering, extra = self.inputClusters.get(), self._getExtraPath()
        references = self._getExtraPath(REFERENCES_DIR)
        names = os.listdir(references) if os.path.isdir(references) else []
        return EvaluateRun(
            clusters_dir=os.path.relpath(clustering.getClustersDir(), extra),
            truth_csv=LABELS_CSV if os.path.exists(self._getExtraPath(LABELS_CSV)) else "",
            maps=tuple(sorted(os.path.join(REFERENCES_DIR, name) for name in names)),
            symmetry=self._symmetry(), partial_labels=True, compute=self._getCompute())


def label_of_class(item: Any) -> List[Any]:
    """The label that a class gives its particles: its number, or junk; none of what was left in no cluster."""
    if getattr(item, "_vaeganLabel", None) is not None and item._vaeganLabel.get() == UNASSIGNED:
        return []
    junk = getattr(item, "_vaeganJunk", None)
    return [JUNK if junk is not None and junk.get() else item.getObjId()]


def groups_of(run: Any) -> str:
    """What the groups of a run are: "clusters", "states" or "classes"."""
    if isinstance(run, VaeganProtStates):
        return "states"
    return "classes" if isinstance(run, VaeganProtClasses2D) else "clusters"


def citations_of(run: Any) -> List[str]:
    """Who made the way in which the groups of a run were found; nobody without a run."""
    if run is None:
        return []
    return citations_of_training(run.inputTraining.get()) if groups_of(run) == "clusters" else ["Scheres2012"]


def validate_labels(path: str) -> List[str]:
    """What keeps a table of labels from being used."""
    if not path:
        return ["File of labels is empty. Choose the file, or 'no labels'."]
    try:
        with open(path, newline="", encoding=LABELS_ENCODING) as stream:
            columns = [name.strip() for name in next(csv.reader(stream), [])]
            stream.read()  # every line of it can be
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return [f"{path}: the labels cannot be read ({error}). Give a CSV file."]
    if not (set(columns) & set(ID_COLUMNS) and set(columns) & set(LABEL_COLUMNS)):
        return [f"{path}: it has the columns {', '.join(columns) or '(none)'}. It needs one of {', '.join(ID_COLUMNS)} "
                f"and one of {', '.join(LABEL_COLUMNS)}."]
    return []
