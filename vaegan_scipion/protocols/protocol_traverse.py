"""PCA inside each cluster, and maps or images along it."""
import json
import os
from enum import Enum
from typing import Any, Dict, List

import pyworkflow.protocol.params as params
from pwem.objects import SetOfAverages, SetOfVolumes

from ..constants import TRAVERSAL_DIR
from ..convert.from_engine import Picture, new_picture_item
from ..engine.vaegan_engine.contract import result_files, run_json
from ..engine.vaegan_engine.contract.settings import TraverseRun
from ..engine_run import has_result, read_status, result_file
from .protocol_base import VaeganProtBase


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
        default = TraverseRun()
        form.addSection(label="Input")
        form.addParam("inputClusters", params.PointerParam, pointerClass="VaeganProtCluster", important=True,
                      label="Clusters", help="A finished run of embed and cluster.")
        form.addParam("nComponents", params.IntParam, default=default.n_components,
                      label="Principal components", help="Per cluster, at least 1.")
        form.addParam("nPoints", params.IntParam, default=default.n_points, label="Points per component",
                      help="Maps made along each component, at least 2.")
        form.addParam("lowPercentile", params.FloatParam, default=default.low_percentile,
                      expertLevel=params.LEVEL_ADVANCED, label="First point (percentile)",
                      help="Where the particles begin along a component, 0 to 50.")
        form.addParam("highPercentile", params.FloatParam, default=default.high_percentile,
                      expertLevel=params.LEVEL_ADVANCED, label="Last point (percentile)",
                      help="Where the particles end along a component, 50 to 100.")
        self._defineComputeParams(form)

    # --------------------------- INSERT steps functions ---------------------------
    def _insertAllSteps(self) -> None:
        settings = json.dumps(run_json.to_dict(self._getSettings()), sort_keys=True)
        table = result_file(self.inputClusters.get().getClustersDir(), result_files.CLUSTERS_CSV)
        digest = f"{table.stat().st_size} {table.stat().st_mtime:.3f}"
        self._insertFunctionStep(self.traverseStep, digest, settings)
        self._insertFunctionStep(self.createOutputStep, digest, settings, needsGPU=False)

    # --------------------------- STEPS functions ---------------------------
    def traverseStep(self, *digests: str) -> None:
        self._runEngine(self._getSettings(), "traverse", TRAVERSAL_DIR)

    def createOutputStep(self, *digests: str) -> None:
        clustering = self.inputClusters.get()
        volumetric = clustering.isVolumetric()
        rate = clustering.inputTraining.get().getTrainingPixelSize()
        made = self._createSetOfVolumes() if volumetric else self._createSetOfAverages()
        made.setSamplingRate(rate)
        for row in self.readPoints():
            made.append(new_picture_item(
                volumetric, row["picture"], rate,
                f"cluster {row['cluster'] + 1}, component {row['component'] + 1}, point {row['point'] + 1}",
                label=row["cluster"], component=row["component"] + 1, point=row["point"] + 1,
                position=row["position"], near=row["n_near"], distance=row["distance_z"]))
        name = (VaeganProtTraverseOutputs.outputVolumes if volumetric
                else VaeganProtTraverseOutputs.outputAverages).name
        self._defineOutputs(**{name: made})
        self._defineSourceRelation(clustering.getParticlesPointer(), made)

    # --------------------------- INFO functions ---------------------------
    def _validate(self) -> List[str]:
        problems, clustering = self._validateCompute(), self.inputClusters.get()
        if clustering is not None and not clustering.hasAttribute("outputClasses"):
            problems.append(f"The run '{clustering.getRunName()}' has no clusters. Finish it first.")
        if clustering is not None and not read_status(clustering.inputTraining.get().getRunDir()):
            problems.append("The folder of the training is gone. Train and cluster again.")
        for name, value, low in (("Principal components", self.nComponents.get(), 1),
                                 ("Points per component", self.nPoints.get(), 2)):
            if value < low:
                problems.append(f"{name} is {value}; use at least {low}.")
        low, high = self.lowPercentile.get(), self.highPercentile.get()
        if not 0 <= low < high <= 100:
            problems.append(f"The percentiles are {low:g} and {high:g}; use 0 <= first < last <= 100.")
        return problems

    def _summary(self) -> List[str]:
        if not self.getOutputsSize() or not has_result(self._getExtraPath(TRAVERSAL_DIR), result_files.TRAVERSAL_CSV):
            return ["The traversal is not made yet."]
        points = self.readPoints()
        counts = [row["n_near"] for row in points]
        clusters = {row["cluster"] for row in points}
        return [f"{len(points)} points in {len(clusters)} clusters",
                f"Particles near a point: {min(counts)} to {max(counts)}"]

    def _methods(self) -> List[str]:
        if not self.getOutputsSize():
            return []
        return [f"Inside each cluster {self.nPoints.get()} points were laid along {self.nComponents.get()} principal "
                f"component(s) of the latent vectors, from percentile {self.lowPercentile.get():g} to "
                f"{self.highPercentile.get():g}."]

    def _citations(self) -> List[str]:
        return ["Larsen2016"]

    # --------------------------- UTILS functions ---------------------------
    def readPoints(self) -> List[Dict[str, Any]]:
        """Rows of `traversal.csv` with numbers as numbers and the picture of each point."""
        folder = result_file(self._getExtraPath(TRAVERSAL_DIR), result_files.TRAVERSAL_CSV).parent
        volumetric, rows = self.inputClusters.get().isVolumetric(), []
        for row in result_files.read_csv(folder / result_files.TRAVERSAL_CSV):
            index = 0 if volumetric else int(row["index"]) + 1
            rows.append({"cluster": int(row["cluster"]), "component": int(row["component"]),
                         "point": int(row["point"]), "position": float(row["position"]),
                         "n_near": int(row["n_near"]), "distance_z": float(row["distance_z"]),
                         "picture": Picture(index, str(result_file(folder, row["file"])))})
        return rows

    def _getSettings(self) -> TraverseRun:
        clustering, extra = self.inputClusters.get(), self._getExtraPath()
        return TraverseRun(
            clusters_dir=os.path.relpath(clustering.getClustersDir(), extra),
            run_dir=os.path.relpath(clustering.inputTraining.get().getRunDir(), extra),
            n_components=self.nComponents.get(), n_points=self.nPoints.get(),
            low_percentile=self.lowPercentile.get(), high_percentile=self.highPercentile.get(),
            compute=self._getCompute())
