"""Results of embed and cluster: UMAP to select in, cards, maps or images, FSC, classes, report."""
import os
import re
from typing import Any, Callable, Dict, List

import pyworkflow.protocol.params as params

from ..convert.columns import DEFOCUS, MICROGRAPH, ColumnError, read_column
from ..convert.from_engine import Clusters, read_clusters
from ..convert.poses import read_poses
from ..engine.vaegan_engine.contract.labels import CLUSTERS, STATES
from ..protocols import VaeganProtCluster, VaeganProtSelect, VaeganProtTraverse
from ..protocols.protocol_select import BY_FILE
from . import cards, map_drawings, plots, umap_colours
from .engine_views import Counterpart, make_counterpart
from .umap_explorer import ExplorerCalls, UmapExplorer
from .viewer_base import VaeganViewer, central_section, fsc_curve, newest_run, read_particle

SELECTIONS_DIR = "selections"
LASSO = re.compile(r"lasso_(\d+)\.txt")
TILT = "tilt of the view (deg)"
COLOURS = {  # choice -> column of the particles; empty where it is read elsewhere, or named by the user
    "cluster": "", "state": "", "defocus (Å)": DEFOCUS, "contrast": "", TILT: "", "micrograph": MICROGRAPH,
    "membership": "", "another column": ""}


def free_path(folder: str) -> str:
    """The next file of a lasso: after the last one, whichever were deleted, as runs name theirs."""
    taken = [int(found.group(1)) for found in map(LASSO.fullmatch, os.listdir(folder)) if found]
    return os.path.join(folder, f"lasso_{max(taken, default=0) + 1:03d}.txt")


class VaeganClusterViewer(VaeganViewer):
    """Viewer of embed and cluster."""

    _label = "viewer clusters"
    _targets = [VaeganProtCluster]
    DRAWINGS = ("showAnswer", "showDensity", "showColoured", "showCards", "showPictures", "showSurfaces",
                "showFsc")

    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Visualization")
        form.addParam("showAnswer", params.LabelParam, label="Answer: what to trust",
                      help="Which of both to trust and why, and, after a training at the poses of states, how many "
                           "particles of each cluster are in each state.")
        form.addParam("showUmap", params.LabelParam, label="UMAP: look and select",
                      help="Rest on a dot to see its particle, click it for its generated counterpart, draw around "
                           "dots to make a subset. Above 100,000 particles the density is shown.")
        form.addParam("showDensity", params.LabelParam, label="UMAP: density",
                      help="How many particles are where, in the colours of the clusters.")
        form.addParam("colourBy", params.EnumParam, choices=list(COLOURS), default=0, label="Colour of the UMAP below",
                      help="State, defocus, contrast, tilt of the view, micrograph, membership of the cluster, or any "
                           "other column of the particles.")
        form.addParam("colourColumn", params.StringParam, default="", condition=f"colourBy == {len(COLOURS) - 1}",
                      label="Column", help="Name as in the particles' table, such as _ctfModel._phaseShift.")
        form.addParam("showColoured", params.LabelParam, label="UMAP: coloured",
                      help="By what is chosen above: a group that is one defocus or one view is no state.")
        form.addParam("showCards", params.LabelParam, label="Cards of the clusters",
                      help="Size, map or image, the newest finished traversal and the FSC of each cluster.")
        form.addParam("showPictures", params.LabelParam, label="Maps or images of the clusters",
                      help="Three sections of each map, or the images.")
        form.addParam("showSurfaces", params.LabelParam, label="Surfaces of the clusters",
                      help="Of their maps, seen along z, y and x; 3D only.")
        form.addParam("showFsc", params.LabelParam, label="FSC between halves",
                      help="When 'Two independent halves' was on.")
        form.addParam("showClasses", params.LabelParam, label="Classes in Scipion's viewer",
                      help="Classes of the input particles; the last one is that of the unassigned, if any.")
        self._add_report_button(form)
        self._add_save_button(form)

    def _getVisualizeDict(self) -> Dict[str, Callable[..., List[Any]]]:
        return {"showAnswer": self._answer, "showColoured": self._coloured, "savePictures": self._save_pictures,
                "showUmap": self._umap, "showDensity": self._density, "showCards": self._cards,
                "showPictures": self._pictures, "showSurfaces": self._surfaces, "showFsc": self._fsc,
                "showClasses": self._classes, "showReport": self._report}

    def _umap(self, _name: Any = None) -> List[Any]:
        clusters = read_clusters(self.protocol.getClustersDir())
        particles = self.protocol.getParticlesPointer().get()
        dark = self.protocol.inputTraining.get().getDataSettings().invert_contrast
        pictures = {label: central_section(picture.read())
                    for label, picture in self.protocol.readPictures().items()}

        def image_of(particle_id: int) -> Any:
            particle = None if particles is None else particles[particle_id]
            if particle is None:
                raise ValueError("it is not among the particles any more")
            return read_particle(particle, dark)

        def counterpart_of(particle_id: int) -> Counterpart:
            return make_counterpart(self.protocol, particle_id)

        return self.figure_view(UmapExplorer, clusters, pictures,
                                ExplorerCalls(image_of, counterpart_of, self.create_subset),
                                title="UMAP", size_in=(12, 7.5))

    def _answer(self, _name: Any = None) -> List[Any]:
        crossed = self.protocol.readCrossing()
        if crossed is None:
            return self.sentence_view(self.protocol.answerText(None))
        return self.figure_view(plots.draw_answer, crossed, self.protocol.answerText(crossed), title="Answer",
                                size_in=plots.answer_size_in(crossed))

    def _coloured(self, _name: Any = None) -> List[Any]:
        clusters = read_clusters(self.protocol.getClustersDir())
        try:
            shown = self.values_of(list(COLOURS)[self.colourBy.get()], clusters)
        except ColumnError as error:
            return self._nothing(str(error))
        return self.figure_view(umap_colours.draw_umap_values, clusters.umap, shown, title=f"UMAP by {shown.title}",
                                size_in=(9.5, 7))

    def values_of(self, colour: str, clusters: Clusters) -> umap_colours.Values:
        """What is known of the particles in the order of `clusters`. Raises ColumnError."""
        if colour == "cluster":
            return umap_colours.Values(colour, clusters.label.tolist(), CLUSTERS)
        if colour == "membership":
            return umap_colours.Values(colour, clusters.probability.tolist())
        ids = clusters.particle_id.tolist()
        states = self.protocol.getStates()
        if colour in ("state", TILT, "contrast") and states is None:
            raise ColumnError(f"There is no {colour} to show: the training was not made at the poses of states.")
        if colour in ("state", TILT, "contrast"):
            poses = read_poses(states.getStatesDir())
            value_of = {"state": lambda pose: pose.label, TILT: lambda pose: pose.tilt_deg,
                        "contrast": lambda pose: pose.contrast}[colour]
            return umap_colours.Values(colour, [value_of(poses[i]) if i in poses else None for i in ids],
                                       STATES if colour == "state" else None)
        name = COLOURS[colour] or (self.colourColumn.get() or "").strip()
        values = read_column(self.protocol.getParticlesPointer().get(), name)
        return umap_colours.Values(colour if COLOURS[colour] else name, [values.get(i) for i in ids])

    def _nothing(self, why: str) -> List[Any]:
        """A message."""
        return [self.errorMessage(why, "Nothing to show")]

    def create_subset(self, ids: List[int]) -> str:
        """Start a run of 'select and export' with these particle ids; returns what was done as a sentence."""
        folder = self.protocol._getExtraPath(SELECTIONS_DIR)
        os.makedirs(folder, exist_ok=True)
        path = free_path(folder)
        with open(path, "x") as stream:
            stream.write(" ".join(map(str, ids)) + "\n")
        project = self.getProject()
        selection = project.newProtocol(VaeganProtSelect, selectBy=BY_FILE, selectionFile=path)
        selection.inputClusters.set(self.protocol)
        selection.setObjLabel(f"lasso: {len(ids)} particles")
        problems = selection.validate()
        if problems:
            return " ".join(problems)
        project.launchProtocol(selection)
        return f"A subset of {len(ids)} particles is being made: run {selection.getObjId()}, {selection.getRunName()}."

    def _density(self, _name: Any = None) -> List[Any]:
        clusters = read_clusters(self.protocol.getClustersDir())
        return self.figure_view(plots.draw_density, clusters.umap, clusters.label, title="UMAP density")

    def _cards(self, _name: Any = None) -> List[Any]:
        made = self.read_cards()
        return self.figure_view(cards.draw_cards, made, title="Cards", size_in=cards.cards_size_in(len(made)))

    def read_cards(self) -> List[cards.Card]:
        """A card per group, in the order of `clusters.json`."""
        clusters = read_clusters(self.protocol.getClustersDir())
        pictures, strips = self.protocol.readPictures(), self._strips()
        fscs = getattr(self.protocol, "outputFSCs", None) or []
        curves = {curve.label: curve for curve in map(fsc_curve, fscs)}
        made, rate = [], self.protocol.getMapPixelSize() if pictures else 0.0
        for row in self.protocol.readClusterRows():
            label = row.label
            inside = clusters.label == label
            made.append(cards.Card(
                label, int(inside.sum()), float(inside.mean()), float(clusters.probability[inside].mean()),
                pictures[label].read() if label in pictures else None, row.stability,
                strips.get(label, ()), curves.get(label), pixel_size_ang=rate))
        return made

    def _strips(self) -> Dict[int, List[plots.Point]]:
        traversal = newest_run(self.getProject(), VaeganProtTraverse, self.protocol)
        strips: Dict[int, List[plots.Point]] = {}
        for row in traversal.readPoints() if traversal else ():
            if row.component == 0:
                strips.setdefault(row.cluster, []).append(plots.Point(
                    row.cluster, 1, row.position, row.n_near, central_section(traversal.pictureOf(row).read())))
        return strips

    def _pictures(self, _name: Any = None) -> List[Any]:
        pictures = self.protocol.readPictures()
        labels = sorted(pictures, key=lambda label: (label < 0, label))
        arrays = [pictures[label].read() for label in labels]
        volumetric = self.protocol.isVolumetric()
        draw = plots.draw_slices if volumetric else plots.draw_montage
        names = [plots.cluster_name(label) for label in labels]
        colours = [plots.cluster_colour(label) for label in labels]
        return self.figure_view(draw, arrays, names, colours, self.protocol.getMapPixelSize(), title="Clusters",
                                size_in=plots.slices_size_in(len(labels)) if volumetric else (8, 8))

    def _surfaces(self, _name: Any = None) -> List[Any]:
        if not self.protocol.isVolumetric():
            return [self.infoMessage("Clusters of a 2D training have images, not maps.", "No surfaces")]
        pictures = self.protocol.readPictures()
        labels = sorted(pictures, key=lambda label: (label < 0, label))
        return self.figure_view(map_drawings.draw_surfaces, [pictures[label].read() for label in labels],
                                [plots.cluster_name(label) for label in labels],
                                [plots.cluster_colour(label) for label in labels], self.protocol.getMapPixelSize(),
                                title="Surfaces", size_in=map_drawings.surfaces_size_in(len(labels)))

    def _fsc(self, _name: Any = None) -> List[Any]:
        output = getattr(self.protocol, "outputFSCs", None)
        if output is None or not output.getSize():
            return [self.infoMessage("This run has no FSC. Set 'Two independent halves' to Yes.", "No FSC")]
        return self.figure_view(plots.draw_fsc, [fsc_curve(fsc) for fsc in output], title="FSC")

    def _classes(self, _name: Any = None) -> List[Any]:
        return self.table_view("outputClasses")

    def _report(self, _name: Any = None) -> List[Any]:
        return self.report_view(self.protocol)
