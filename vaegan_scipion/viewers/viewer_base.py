"""What the viewers share: figures in Scipion's windows, maps and images read from disk."""
import os
from typing import Any, Callable, List, Optional, Sequence

import mrcfile
import numpy as np
import pyworkflow.protocol.params as params
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pwem.viewers import Chimera, ChimeraView, EmPlotter
from pwem.viewers.mdviewer.viewer import MDViewer
from pyworkflow.viewer import DESKTOP_TKINTER, ProtocolViewer
from scipy.ndimage import gaussian_filter

from ..engine.vaegan_engine.contract import drawings, errors, result_files
from ..engine.vaegan_engine.contract.record import read_records
from ..engine.vaegan_engine.contract.records import JunkGroup
from ..engine_run import UNREADABLE, EngineError, reason_of
from ..protocols import VaeganProtEvaluate, VaeganProtFullres, VaeganProtStates, VaeganProtTraverse
from ..protocols.form_settings import label_of
from ..protocols.protocol_base import CLUSTERS_SEEN, VaeganNamed, content_digest, groups_digest, made_of
from ..protocols.protocol_fullres import STATES_SEEN
from . import map_drawings
from .engine_views import BrowserView, make_report
from .save_figure import FORMATS, add_save_button, file_stem, save_figure

SCREEN_IN = (14.5, 8.8)  # of 1,500 by 1,000 pixels, less frame and buttons
CHIMERA_DIR, MOVIES_DIR = "chimerax", "movies"
PICTURES_DIR = "pictures"
SHOWN_DETAIL_PX = 64  # a particle is smoothed to this many pixels: its noise hides it otherwise


class VaeganViewer(VaeganNamed, ProtocolViewer):
    """A form of buttons; each makes views."""

    _environments = [DESKTOP_TKINTER]
    DRAWINGS: Sequence[str] = ()  # the buttons that draw: what "Save all pictures" saves
    _saved: Optional[List[str]] = None  # paths, while pictures are saved in place of shown

    def _add_report_button(self, form: Any) -> None:
        form.addParam("showReport", params.LabelParam, label="Report in the browser",
                      help="One HTML file to keep or to send: extra/report/report.html.")

    def _add_save_button(self, form: Any) -> None:
        form.addParam("savePictures", params.LabelParam, label="Save all pictures",
                      help="Every drawing of this form as PNG, PDF and SVG, into extra/pictures of this run. 'Save "
                           "figure as ...' below a drawing saves that one.")

    def _save_pictures(self, _name: Any = None) -> List[Any]:
        """Draw everything into files; what has nothing to show is left out, what cannot be read is named."""
        self._saved, buttons, failed = [], self._getVisualizeDict(), []
        try:
            for name in self.DRAWINGS:
                try:
                    buttons[name](name)
                except UNREADABLE as error:
                    failed.append(f"\n{label_of(self.getParam(name))}: {reason_of(error)}")
            saved = self._saved
        finally:
            self._saved = None
        if not saved:
            return [self.errorMessage("This run has nothing to draw yet." + "".join(failed), "Nothing saved")]
        return [self.infoMessage(f"{len(saved)} files are in {os.path.dirname(os.path.abspath(saved[0]))}"
                                 + "".join(failed), "Saved")]

    def _save(self, draw: Callable[..., Any], arguments: Any, title: str, size_in: Any) -> None:
        """One drawing in every format, named by its title."""
        folder = self.protocol._getExtraPath(PICTURES_DIR)
        os.makedirs(folder, exist_ok=True)
        figure = Figure(figsize=size_in)
        FigureCanvasAgg(figure)
        draw(figure, *arguments)
        for _, suffix in FORMATS:
            assert self._saved is not None
            self._saved.append(save_figure(figure, os.path.join(folder, file_stem(title)), suffix))

    def _visualizeParam(self, paramName: Any = None) -> None:
        """Show what a button stands for; a message where the run has not made it (yet)."""
        try:
            super()._visualizeParam(paramName)
        except UNREADABLE as error:
            why = "It is not finished." if not self.protocol.isFinished() else "Run it again with Restart."
            self.showError(f"This run has nothing to show here. {why}\n\n{reason_of(error)}")

    def figure_view(self, draw: Callable[..., Any], *arguments: Any, title: str = "",
                    size_in: Any = (8, 6)) -> List[Any]:
        """A window with a new figure that `draw(figure, *arguments)` fills.

        What `draw` returns lives as long as the figure, as its `content`: nobody else holds the widgets.
        """
        if self._saved is not None:
            self._save(draw, arguments, title, size_in)
            return []
        plotter = FilledPlotter(windowTitle=title, figsize=on_screen(size_in))
        figure = plotter.getFigure()
        figure.content = draw(figure, *arguments)
        add_save_button(figure, title)
        return [plotter]

    def sentence_view(self, sentence: str) -> List[Any]:
        """The answer of a run in a window."""
        return self.figure_view(map_drawings.draw_sentence, sentence, title="Answer",
                                size_in=map_drawings.sentence_size_in(sentence))

    def junk_view(self, folder: str) -> List[Any]:
        """Examples of what was set aside, by `junk_examples.json` of a results folder."""
        path = os.path.join(folder, result_files.JUNK_EXAMPLES_JSON)
        if not os.path.exists(path):
            return [self.infoMessage("No image was set aside (or this run is older than its gallery).", "No junk")]
        with mrcfile.mmap(os.path.join(folder, result_files.MAPS, result_files.JUNK_EXAMPLES_MRCS), mode="r",
                          permissive=True) as mrc:
            images, pixel_size_ang = np.array(mrc.data, np.float32), float(mrc.voxel_size.x)
        images = images.reshape(-1, *images.shape[-2:])  # a stack of one is read as an image
        groups = map_drawings.read_examples(read_records(JunkGroup, path, "states or classes2d"), images)
        return self.figure_view(map_drawings.draw_junk, groups, pixel_size_ang, title="Set aside",
                                size_in=map_drawings.junk_size_in(groups))

    def chimera_view(self, name: str, commands: str) -> List[Any]:
        """ChimeraX with a file of commands that is kept in extra/chimerax; a message where there is no ChimeraX."""
        script = self.protocol._getExtraPath(CHIMERA_DIR, f"{name}.cxc")
        os.makedirs(os.path.dirname(script), exist_ok=True)
        with open(script, "w") as stream:
            stream.write(commands)
        program = Chimera.getProgram()
        if not program or not os.path.exists(program):
            return [self.errorMessage(
                "ChimeraX was not found. Set CHIMERA_HOME in scipion.conf to its folder (scipion-em-chimera installs "
                f"it). Any ChimeraX opens the maps: {script}", "No ChimeraX")]
        return [ChimeraView(script)]

    def table_view(self, output_name: str) -> List[Any]:
        """Scipion's metadata viewer on an output; a message when it is not there."""
        output = getattr(self.protocol, output_name, None)
        if output is None:
            return [self.errorMessage(f"This run has no {output_name}.", "Nothing to show")]
        return list(MDViewer(project=self.getProject(), protocol=self.protocol)._visualize(output))

    def older_message(self, run: Any, about: Any) -> List[Any]:
        """A message where a traversal or an evaluation is of groups that were made anew since; else nothing."""
        if run is None or about is None or not is_older(run, about):
            return []
        return [self.errorMessage(f"The groups of '{about.getRunName()}' were made anew after '{run.getRunName()}', "
                                  "and have other numbers now. Run that one again.", "Nothing to show")]

    def report_view(self, clustering: Any, **runs: Any) -> List[Any]:
        """The HTML report in the browser, kept in the viewed run; a message when it cannot be made.

        clustering: None for results that stand alone. runs: classes; and traversal, evaluation, states on this
        clustering where it is not the newest finished one. States at whose poses it was made come before others.
        Of states or classes that are viewed, the evaluation is that of these.
        """
        viewed = runs.get("states") or runs.get("classes") or clustering
        refused = (self.older_message(runs.get("traversal"), clustering)
                   or self.older_message(runs.get("evaluation"), viewed))
        if refused:
            return refused
        at_poses_of = clustering.getStates() if clustering is not None else None
        if runs.get("states") is None and at_poses_of is not None and at_poses_of.isFinished():
            runs["states"] = at_poses_of
        kinds = {"traversal": (VaeganProtTraverse, clustering), "evaluation": (VaeganProtEvaluate, viewed),
                 "states": (VaeganProtStates, clustering)}
        chosen = {name: runs.get(name) or newest_run(self.getProject(), kind, about)
                  for name, (kind, about) in kinds.items()}
        if type(chosen["states"]) is VaeganProtStates:
            runs["fullres"] = newest_refinement(self.getProject(), chosen["states"])
        try:
            return [BrowserView(make_report(self.protocol, clustering, **{**runs, **chosen}))]
        except (EngineError, errors.EngineError) as error:
            return [self.errorMessage(str(error), "No report")]


def on_screen(size_in: Any) -> Any:
    """A figure's width and height in inches, none larger than a screen: one that is squeezed later loses its layout."""
    return tuple(min(size, most) for size, most in zip(size_in, SCREEN_IN))


class FilledPlotter(EmPlotter):
    """Scipion's figure window; the drawings place their axes themselves."""

    def tightLayout(self) -> None:
        """Nothing."""


def read_particle(particle: Any, dark_protein: bool) -> np.ndarray:
    """A particle's image (d, d), smoothed for the eye, protein white."""
    index, path = particle.getLocation()
    with mrcfile.mmap(path, mode="r", permissive=True) as mrc:
        image = np.array(mrc.data[max(index, 1) - 1] if mrc.data.ndim == 3 else mrc.data, np.float32)
    smooth = gaussian_filter(image, max(image.shape) / SHOWN_DETAIL_PX)
    return -smooth if dark_protein else smooth


def central_section(array: np.ndarray) -> np.ndarray:
    """The image itself, or the section of a map across z through its centre."""
    return drawings.central_sections(array)[0]


def is_older(run: Any, clustering: Any) -> bool:
    """Whether a traversal or an evaluation is of clusters that were made anew since: its labels name others."""
    return (isinstance(run, (VaeganProtTraverse, VaeganProtEvaluate))
            and not made_of(run, CLUSTERS_SEEN, groups_digest(clustering)))


def same(one: Any, other: Any) -> bool:
    """Whether both are one object of the project."""
    return None not in (one, other) and one.getObjId() == other.getObjId()


def newest_refinement(project: Any, search: Any) -> Optional[Any]:
    """The last finished full resolution of these states, if there is one that was made of them as they are now."""
    table = os.path.join(search.getStatesDir(), result_files.PARTICLES_CSV)
    runs = [run for run in project.getRuns() if type(run) is VaeganProtFullres and run.isFinished()
            and same(run.inputStates.get(), search)]
    made = [run for run in runs if os.path.exists(os.path.join(run.getStatesDir(), result_files.FULLRES_JSON))
            and os.path.exists(table) and made_of(run, STATES_SEEN, content_digest(table))]
    return made[-1] if made else None


def newest_run(project: Any, kind: Any, clustering: Any) -> Optional[Any]:
    """The last finished run of a class that takes this clustering, if there is one; else states of its particles.

    Evaluations take states and classes in its place.
    """
    if clustering is None:
        return None

    runs = [run for run in project.getRuns() if type(run) is kind and run.isFinished()]
    related = [run for run in runs if same(run.inputClusters.get(), clustering) and not is_older(run, clustering)]
    if not related and kind is VaeganProtStates:
        particles = clustering.getParticlesPointer().get()
        related = [run for run in runs if same(run.inputParticles.get(), particles)]
    return related[-1] if related else None


def fsc_curve(fsc: Any) -> drawings.Curve:
    """A Scipion FSC of this plugin as curve of its cluster."""
    frequency_per_ang, values = fsc.getData()
    return drawings.Curve(fsc._vaeganLabel.get(), [float(x) for x in frequency_per_ang],
                       [float(y) for y in values])
