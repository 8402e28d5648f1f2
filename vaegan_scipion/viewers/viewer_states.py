"""Results of find states and poses: answer, verdict, cards, maps, motions, FSC, viewing directions, junk."""
import os
from typing import Any, Callable, Dict, List

import numpy as np
import pyworkflow.protocol.params as params
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..convert.from_engine import Picture
from ..convert.poses import read_poses
from ..engine.vaegan_engine.contract import wording
from ..engine.vaegan_engine.contract.chimerax import maps_commands
from ..engine.vaegan_engine.contract.labels import STATES, state_colour, state_name
from ..engine.vaegan_engine.contract.surface_picture import surface_level
from ..engine_run import result_file
from ..protocols import VaeganProtStates
from . import cards, map_drawings, plots, states_drawings
from .moving import Frame, Movie
from .viewer_base import MOVIES_DIR, VaeganViewer, fsc_curve

FILM_SIZE_IN = (9, 4.2)


class VaeganStatesViewer(VaeganViewer):
    """Viewer of find states and poses."""

    _label = "viewer states"
    _targets = [VaeganProtStates]
    DRAWINGS = ("showAnswer", "showVerdict", "showCards", "showSurfaces", "showMaps", "showViews", "showMotions",
                "showFsc", "showJunk")

    def _defineParams(self, form: Any) -> None:
        form.addSection(label="Visualization")
        form.addParam("showAnswer", params.LabelParam, label="Answer",
                      help="How many states there are, to what resolution, and whether to trust them, in plain words.")
        form.addParam("showVerdict", params.LabelParam, label="Verdict and its evidence",
                      help="How many states there are, and the numbers that say so.")
        form.addParam("showCards", params.LabelParam, label="Cards of the states",
                      help="Size, map and FSC of the half maps of each state.")
        form.addParam("showViews", params.LabelParam, label="Viewing directions",
                      help="How many particles look along each direction, on an equal-area map of the sphere.")
        form.addParam("showMaps", params.LabelParam, label="Maps of the states", help="Three sections of each.")
        form.addParam("showSurfaces", params.LabelParam, label="Surfaces of the states",
                      help="Seen along z, y and x, in the states' colours, without another program.")
        form.addParam("showChimera", params.LabelParam, label="Maps in ChimeraX",
                      help="All states beside each other. Needs ChimeraX (CHIMERA_HOME in scipion.conf).")
        form.addParam("showMotions", params.LabelParam, label="Maps along the motions",
                      help="Of the states that vary continuously: maps from one end of the motion to the other.")
        form.addParam("showFilm", params.LabelParam, label="Motions as a film",
                      help="Sections of these maps, one after the other, state by state; a slider picks one.")
        form.addParam("saveFilm", params.LabelParam, label="Save the film as GIF",
                      help="Into extra/movies of this run, one for each state that varies.")
        form.addParam("showFsc", params.LabelParam, label="FSC between half maps",
                      help="Two halves of each state's particles, refined apart.")
        form.addParam("showJunk", params.LabelParam, label="What was set aside",
                      help="Some images of each reason, beside some that were kept.")
        form.addParam("showClasses", params.LabelParam, label="Classes in Scipion's viewer",
                      help="Classes of the input particles with their alignment.")
        form.addParam("showReport", params.LabelParam, label="Report in the browser",
                      help="With the clusters it started from, if any. One HTML file to keep or to send: "
                           "extra/report/report.html.")
        self._add_save_button(form)

    def _getVisualizeDict(self) -> Dict[str, Callable[..., List[Any]]]:
        return {"showAnswer": self._answer, "showVerdict": self._verdict, "showCards": self._cards,
                "showViews": self._views, "showMaps": self._maps, "showSurfaces": self._surfaces,
                "showChimera": self._chimera, "showMotions": self._motions, "showFilm": self._film,
                "saveFilm": self._save_film, "showFsc": self._fsc, "showJunk": self._junk,
                "showClasses": self._classes, "showReport": self._report, "savePictures": self._save_pictures}

    def _verdict(self, _name: Any = None) -> List[Any]:
        details = self.protocol.readSummary()
        rows = self.protocol.readClusterRows()
        return self.figure_view(states_drawings.draw_evidence, details, rows, title="Verdict",
                                size_in=states_drawings.evidence_size_in(details, rows))

    def read_cards(self) -> List[cards.Card]:
        """A card per state, the largest first."""
        poses = read_poses(self.protocol.getStatesDir())
        label = np.array([pose.label for pose in poses.values()])
        probability = np.array([pose.probability for pose in poses.values()])
        curves = {curve.label: curve for curve in map(fsc_curve, getattr(self.protocol, "outputFSCs", None) or [])}
        rate = self.protocol.getMapPixelSize()
        return [cards.Card(row.label, row.n_particles, row.fraction, float(probability[label == row.label].mean()),
                           self._map(row.file), curve=curves.get(row.label), proven=row.of_state.proof.proven_0143,
                           pixel_size_ang=rate)
                for row in self.protocol.readClusterRows()]

    def _map(self, file: str) -> np.ndarray:
        return Picture(0, str(result_file(self.protocol.getStatesDir(), file))).read()

    def _cards(self, _name: Any = None) -> List[Any]:
        made = self.read_cards()
        return self.figure_view(cards.draw_cards, made, STATES, title="States", size_in=cards.cards_size_in(len(made)))

    def _answer(self, _name: Any = None) -> List[Any]:
        return self.sentence_view(self.protocol.answerText())

    def _views(self, _name: Any = None) -> List[Any]:
        poses = list(read_poses(self.protocol.getStatesDir()).values())
        shown = []
        for row in self.protocol.readClusterRows():
            own = [(pose.rot_deg, pose.tilt_deg) for pose in poses if pose.label == row.label]
            angles = np.array(own).reshape(-1, 2)
            shown.append(states_drawings.Views(row.label, *angles.T, wording.views_text(
                row.of_state.scf, row.of_state.unsampled_frac)))
        return self.figure_view(states_drawings.draw_views, shown, title="Viewing directions",
                                size_in=states_drawings.views_size_in(len(shown)))

    def _surfaces(self, _name: Any = None) -> List[Any]:
        rows = self.protocol.readClusterRows()
        return self.figure_view(map_drawings.draw_surfaces, [self._map(row.file) for row in rows],
                                [f"{state_name(row.label)}, {row.n_particles}" for row in rows],
                                [state_colour(row.label) for row in rows], self.protocol.getMapPixelSize(),
                                title="Surfaces", size_in=map_drawings.surfaces_size_in(len(rows)))

    def _chimera(self, _name: Any = None) -> List[Any]:
        maps = [(str(result_file(self.protocol.getStatesDir(), row.file)), state_colour(row.label),
                 surface_level(self._map(row.file))) for row in self.protocol.readClusterRows()]
        return self.chimera_view("states", maps_commands(maps))

    def _maps(self, _name: Any = None) -> List[Any]:
        rows = self.protocol.readClusterRows()
        names = [f"{state_name(row.label)}, {row.n_particles} particles" for row in rows]
        return self.figure_view(plots.draw_slices, [self._map(row.file) for row in rows], names,
                                [state_colour(row.label) for row in rows], self.protocol.getMapPixelSize(),
                                title="Maps",
                                size_in=plots.slices_size_in(len(rows)))

    def _motions(self, _name: Any = None) -> List[Any]:
        rows = self._moving_rows()
        if not rows:
            return self._no_motion()
        shown = [(row.label, k / (len(row.of_state.motion_files) - 1), file)
                 for row in rows for k, file in enumerate(row.of_state.motion_files)]
        return self.figure_view(plots.draw_slices, [self._map(file) for _, _, file in shown],
                                [f"{state_name(label)}, t = {t:.1f}" for label, t, _ in shown],
                                [state_colour(label) for label, _, _ in shown], self.protocol.getMapPixelSize(),
                                title="Maps along the motions", size_in=plots.slices_size_in(len(shown)))

    def _moving_rows(self) -> List[Any]:
        return [row for row in self.protocol.readClusterRows() if row.of_state.motion_files]

    def _no_motion(self) -> List[Any]:
        text = "The states of this run are discrete: none varies continuously, so there is no motion to show."
        return [self.infoMessage(text, "No motion")]

    def frames_of(self, row: Any) -> List[Frame]:
        """The maps along the motion of a state."""
        last = max(len(row.of_state.motion_files) - 1, 1)
        return [Frame(row.label + 0.5 * k / last, self._map(file), f"{state_name(row.label)}, t = {k / last:.1f}",
                      state_colour(row.label)) for k, file in enumerate(row.of_state.motion_files)]

    def _film(self, _name: Any = None) -> List[Any]:
        frames = [frame for row in self._moving_rows() for frame in self.frames_of(row)]
        if not frames:
            return self._no_motion()
        return self.figure_view(Movie, frames, self.protocol.getMapPixelSize(), title="Motions", size_in=FILM_SIZE_IN)

    def _save_film(self, _name: Any = None) -> List[Any]:
        paths = []
        for row in self._moving_rows():
            figure = Figure(figsize=FILM_SIZE_IN)
            FigureCanvasAgg(figure)
            paths.append(Movie(figure, self.frames_of(row), self.protocol.getMapPixelSize()).save_gif(
                self.protocol._getExtraPath(MOVIES_DIR, f"state_{row.label + 1:02d}.gif")))
        if not paths:
            return self._no_motion()
        return [self.infoMessage(f"{len(paths)} film{'s' * (len(paths) != 1)}: {os.path.abspath(paths[0])}", "Saved")]

    def _fsc(self, _name: Any = None) -> List[Any]:
        output = getattr(self.protocol, "outputFSCs", None)
        if output is None or not output.getSize():
            return [self.errorMessage("This run has no FSC.", "Nothing to show")]
        unproven_per_ang = max(1 / row.of_state.proof.shared_ang for row in self.protocol.readClusterRows())
        return self.figure_view(plots.draw_fsc, [fsc_curve(fsc) for fsc in output], STATES, unproven_per_ang,
                                title="FSC between half maps")

    def _junk(self, _name: Any = None) -> List[Any]:
        return self.junk_view(self.protocol.getStatesDir())

    def _classes(self, _name: Any = None) -> List[Any]:
        return self.table_view("outputClasses")

    def _report(self, _name: Any = None) -> List[Any]:
        return self.report_view(self.protocol.getClustering(), states=self.protocol)
