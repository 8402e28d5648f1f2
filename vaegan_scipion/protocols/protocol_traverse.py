"""PCA inside each cluster, and maps or images along it."""
import json
import os
from enum import Enum
from typing import Any, List

import pyworkflow.protocol.params as params
from pwem.objects import SetOfAverages, SetOfVolumes

from ..constants import TRAVERSAL_DIR
from ..convert.from_engine import Picture, new_picture_item
from ..engine.vaegan_engine.contract import result_files, run_json
from ..engine.vaegan_engine.contract.analysis_records import TraversalPoint, read_traversal
from ..engine.vaegan_engine.contract.settings import TraverseRun
from ..engine.vaegan_engine.contract.status import Status, made_by_others, read_status
from ..engine_run import has_result, result_file
from .form_settings import add_setting, problems_of, values_of
from .protocol_base import VaeganProtBase, groups_digest
from .protocol_train import citations_of_training

SETTINGS = ("n_components", "n_points", "low_percentile", "high_percentile")


class VaeganProtTraverseOutputs(Enum):
    """Outputs: volumes after a 3D training, averages after a 2D one."""

    outputVolumes = SetOfVolumes
    outputAverages = SetOfAverages


class VaeganProtTraverse(VaeganProtBase):
    """Principal components of the latent vectors inside each cluster, and maps along them.

    For every point the number of particles near it is given: a map with few particles near it is
    made up by the generator and shows nothing of the data.
    """

    _label = "PCA traversal"
    _possibleOutputs = VaeganProtTraverseOutputs

    # --------------------------- DEFINE param functions ---------------------------
    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Input")
        form.addParam("inputClusters", params.PointerParam, pointerClass="VaeganProtCluster", important=True,
                      label="Clusters", help="A finished run of embed and cluster.")
        for name in ("n_components", "n_points"):
            add_setting(form, TraverseRun, name)
        for name in ("low_percentile", "high_percentile"):
            add_setting(form, TraverseRun, name, expertLevel=params.LEVEL_ADVANCED)
        self._defineComputeParams(form)

    # --------------------------- INSERT steps functions ---------------------------
    def _insertAllSteps(self) -> None:
        settings = json.dumps(run_json.to_dict(self._getSettings()), sort_keys=True)
        digest = groups_digest(self.inputClusters.get())
        self._insertFunctionStep(self.traverseStep, digest, settings)
        self._insertFunctionStep(self.createOutputStep, digest, settings, needsGPU=False)

    # --------------------------- STEPS functions ---------------------------
    def traverseStep(self, *digests: str) -> None:
        self._keepGroups(self.inputClusters.get())
        self._runEngine(self._getSettings(), "traverse", TRAVERSAL_DIR)

    def createOutputStep(self, *digests: str) -> None:
        clustering = self.inputClusters.get()
        volumetric = clustering.isVolumetric()
        rate = clustering.inputTraining.get().getTrainingPixelSize()
        made = self._createSetOfVolumes() if volumetric else self._createSetOfAverages()
        made.setSamplingRate(rate)
        for row in self.readPoints():
            made.append(new_picture_item(
                volumetric, self.pictureOf(row), rate,
                f"cluster {row.cluster + 1}, component {row.component + 1}, point {row.point + 1}",
                label=row.cluster, component=row.component + 1, point=row.point + 1,
                position=row.position, near=row.n_near, distance=row.distance_z))
        name = (VaeganProtTraverseOutputs.outputVolumes if volumetric
                else VaeganProtTraverseOutputs.outputAverages).name
        self._defineOutputs(**{name: made})
        self._defineSourceRelation(clustering.getParticlesPointer(), made)

    # --------------------------- INFO functions ---------------------------
    def _validateForm(self) -> List[str]:
        problems, clustering = self._validateCompute(), self.inputClusters.get()
        if clustering is not None and not clustering.hasAttribute("outputClasses"):
            problems.append(f"The run '{clustering.getRunName()}' has no clusters. Finish it first.")
        if clustering is not None and read_status(clustering.inputTraining.get().getRunDir()) == Status():
            problems.append("The folder of the training is gone. Train and cluster again.")
        elif clustering is not None and made_by_others(clustering.getClustersDir(),
                                                       clustering.inputTraining.get().getRunDir()):
            problems.append(f"The clusters of '{clustering.getRunName()}' are older than their training "
                            f"'{clustering.inputTraining.get().getRunName()}', which was trained on or anew since. "
                            "Run embed and cluster again first.")
        low, high = self.lowPercentile.get(), self.highPercentile.get()
        if low >= high:
            problems.append(f"The percentiles are {low:g} and {high:g}; use a first one below the last one.")
        return problems + problems_of(TraverseRun, values_of(self, TraverseRun, SETTINGS))

    def _summary(self) -> List[str]:
        if not self.getOutputsSize() or not has_result(self._getExtraPath(TRAVERSAL_DIR), result_files.TRAVERSAL_CSV):
            return ["The traversal is not made yet."]
        points = self.readPoints()
        counts = [row.n_near for row in points]
        clusters = {row.cluster for row in points}
        return [f"{len(points)} points in {len(clusters)} clusters",
                f"Particles near a point: {min(counts)} to {max(counts)}"]

    def _methods(self) -> List[str]:
        if not self.getOutputsSize():
            return []
        return [f"Inside each cluster {self.nPoints.get()} points were laid along {self.nComponents.get()} principal "
                f"component(s) of the latent vectors, from percentile {self.lowPercentile.get():g} to "
                f"{self.highPercentile.get():g}."]

    def _citations(self) -> List[str]:
        clustering = self.inputClusters.get()
        return citations_of_training(None if clustering is None else clustering.inputTraining.get())

    # --------------------------- UTILS functions ---------------------------
    def readPoints(self) -> List[TraversalPoint]:
        """Rows of `traversal.csv`."""
        return read_traversal(self._getExtraPath(TRAVERSAL_DIR))

    def pictureOf(self, point: TraversalPoint) -> Picture:
        """Where a point's map or image is."""
        path = str(result_file(self._getExtraPath(TRAVERSAL_DIR), point.file))
        return Picture(0 if self.inputClusters.get().isVolumetric() else point.index + 1, path)

    def _getSettings(self) -> TraverseRun:
        clustering, extra = self.inputClusters.get(), self._getExtraPath()
        return TraverseRun(
            clusters_dir=os.path.relpath(clustering.getClustersDir(), extra),
            run_dir=os.path.relpath(clustering.inputTraining.get().getRunDir(), extra),
            **values_of(self, TraverseRun, SETTINGS), compute=self._getCompute())
