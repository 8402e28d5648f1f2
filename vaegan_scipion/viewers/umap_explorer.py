"""UMAP to look at and to select in: hover, click and lasso on a matplotlib figure. No Scipion, no Tk."""
import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np
from matplotlib.figure import Figure
from matplotlib.path import Path as Polygon
from matplotlib.widgets import Button, LassoSelector
from scipy.spatial import cKDTree

from ..engine.vaegan_engine.contract import drawings
from ..engine.vaegan_engine.contract.labels import cluster_colour, cluster_name

NEAR_PX = 12  # a dot this near to the mouse is meant
CLICK_PX = 4  # a drag that stays within is a click
POLL_MS = 300
RINGS_AT_MOST = 100  # more would hide the dots
HELP = ("Draw around particles to select them, with Shift to add another region. Rest on a dot to see its particle, "
        "click it for its counterpart.")


class Counterpart(NamedTuple):
    """What the generator makes at a particle's own z, most like it: image (d, d) and correlation."""

    image: np.ndarray
    correlation: float


class ExplorerCalls(NamedTuple):
    """What the explorer asks of the run that it shows."""

    read_image: Callable[[int], np.ndarray]  # particle id -> image (d, d)
    counterpart: Callable[[int], Counterpart]  # particle id -> its counterpart; takes seconds: called in another thread
    create_subset: Callable[[List[int]], str]  # rising ids -> what was done; called when the button is pressed


class UmapExplorer:
    """An embedding beside the particle under the mouse and its generated counterpart.

    Parameters
    ----------
    figure : an empty figure; its canvas gives the events.
    clusters : particle_id (n,), label (n,), umap (n, 2 or more), as `convert.Clusters`.
    pictures : label -> generated image or section of its cluster.
    calls : what is asked of the run.
    """

    def __init__(self, figure: Figure, clusters: Any, pictures: Dict[int, np.ndarray], calls: ExplorerCalls) -> None:
        self.figure, self.clusters, self.pictures, self.calls = figure, clusters, pictures, calls
        self.selected_ids: List[int] = []
        self.shown: Optional[int] = None  # row
        self.pinned = False
        self._drawn: List[Any] = []
        self._pending: Optional[Future] = None
        self._workers = ThreadPoolExecutor(max_workers=1)
        self._place()
        self._tree = cKDTree(clusters.umap[:, :2])
        self._lasso = LassoSelector(self.axes, self.on_lasso, button=1, props={"color": "black", "lw": 1.2})
        figure.canvas.mpl_connect("motion_notify_event", self.on_motion)
        self._adding = False  # Shift is down
        figure.canvas.mpl_connect("key_press_event", self.on_key)
        figure.canvas.mpl_connect("key_release_event", self.on_key)
        self._timer = figure.canvas.new_timer(interval=POLL_MS)
        self._timer.add_callback(self.poll)
        figure.canvas.mpl_connect("close_event", self.on_close)

    def on_close(self, _event: Any = None) -> None:
        """No window, nothing to wait for."""
        self._timer.stop()
        self._workers.shutdown(wait=False)

    def _place(self) -> None:
        figure = self.figure
        self.axes = figure.add_axes((0.08, 0.17, 0.46, 0.77))
        drawings.draw_umap(self.axes, self.clusters.umap, self.clusters.label, beside=True)
        self.axes.set_aspect("equal", adjustable="datalim")
        self.particle_axes = figure.add_axes((0.70, 0.56, 0.28, 0.36))
        self.generated_axes = figure.add_axes((0.70, 0.12, 0.28, 0.36))
        for axes, title in ((self.particle_axes, "particle"), (self.generated_axes, "generated")):
            axes.set(xticks=[], yticks=[])
            axes.set_title(title, fontsize=9)
        self.status = figure.text(0.36, 0.035, HELP, fontsize=8.5, va="center", wrap=True)
        self.create_button = Button(figure.add_axes((0.06, 0.015, 0.15, 0.045)), "Create subset")
        self.clear_button = Button(figure.add_axes((0.22, 0.015, 0.12, 0.045)), "Clear")
        self.create_button.on_clicked(self.on_create)
        self.clear_button.on_clicked(self.on_clear)

    # ------------------------------- the particle under the mouse -------------------------------
    def row_near(self, event: Any) -> Optional[int]:
        """Row of the dot under the mouse, if one is near enough."""
        if event.inaxes is not self.axes or event.xdata is None:
            return None
        _, row = self._tree.query((event.xdata, event.ydata))
        at = self.axes.transData.transform(self.clusters.umap[row, :2])
        return int(row) if np.hypot(at[0] - event.x, at[1] - event.y) <= NEAR_PX else None

    def on_motion(self, event: Any) -> None:
        if event.button is not None or self.pinned:
            return
        row = self.row_near(event)
        if row is not None and row != self.shown:
            self.show_particle(row)

    def show_particle(self, row: int) -> None:
        """Show the image of a particle and the picture of its cluster."""
        self.shown = row
        particle_id, label = int(self.clusters.particle_id[row]), int(self.clusters.label[row])
        try:
            self._show(self.particle_axes, self.calls.read_image(particle_id), f"particle {particle_id}")
        except (OSError, ValueError, IndexError, sqlite3.Error) as error:  # image files are moved and deleted
            self.particle_axes.clear()
            self.particle_axes.set(xticks=[], yticks=[])
            self.say(f"The image of particle {particle_id} cannot be read ({error}). Bring its file back.")
        if label in self.pictures:
            self._show(self.generated_axes, self.pictures[label], f"{cluster_name(label)}, generated",
                       cluster_colour(label))
        self.figure.canvas.draw_idle()

    def show_counterpart(self, row: int) -> None:
        """Begin to make the counterpart of a particle; `poll` shows it."""
        self.show_particle(row)
        self.pinned = True
        self._pending = self._workers.submit(self.calls.counterpart, int(self.clusters.particle_id[row]))
        self.say("The generator makes the counterpart of this particle (some seconds) ...")
        self._timer.start()

    def poll(self) -> None:
        """Show the counterpart when it is there."""
        if self._pending is None or not self._pending.done():
            return
        self._timer.stop()
        pending, self._pending = self._pending, None
        self.pinned = False
        error = pending.exception()
        if error is not None:
            self.say(str(error))
            return
        counterpart: Counterpart = pending.result()
        row = self.shown if self.shown is not None else 0
        title = f"generated for particle {int(self.clusters.particle_id[row])}, r = {counterpart.correlation:.2f}"
        self._show(self.generated_axes, counterpart.image, title, cluster_colour(int(self.clusters.label[row])))
        self.say(HELP)

    @staticmethod
    def _show(axes: Any, image: np.ndarray, title: str, colour: str = "black") -> None:
        axes.clear()
        axes.imshow(image, cmap="gray", origin="lower")
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=9, color=colour)

    # ------------------------------- selection -------------------------------
    def on_key(self, event: Any) -> None:
        """Shift, while it is down, adds regions to the selection."""
        if "shift" in (event.key or ""):
            self._adding = event.name == "key_press_event"

    def on_lasso(self, corners: Any) -> None:
        """Select what lies inside the polygon (data coordinates), with Shift beside what is selected.

        A click shows a counterpart instead.
        """
        path = np.asarray(corners, float)
        span_px = np.ptp(self.axes.transData.transform(path), axis=0) if len(path) > 1 else np.zeros(2)
        if span_px.max() <= CLICK_PX:
            _, row = self._tree.query(path[0])
            at = self.axes.transData.transform([self.clusters.umap[row, :2], path[0]])
            if np.hypot(*(at[0] - at[1])) <= NEAR_PX:
                self.show_counterpart(int(row))
            return
        inside = Polygon(path).contains_points(self.clusters.umap[:, :2])
        if self._adding:
            inside |= np.isin(self.clusters.particle_id, self.selected_ids)
        else:
            self._forget()
        self.selected_ids = sorted(self.clusters.particle_id[inside].tolist())
        self._drawn += self.axes.fill(*path.T, facecolor=(0, 0, 0, 0.10), edgecolor="black", lw=1.2, ls="--")
        if inside.sum() <= RINGS_AT_MOST:
            self._drawn.append(self.axes.scatter(*self.clusters.umap[inside, :2].T, s=40, facecolors="none",
                                                 edgecolors="black", linewidths=0.7))
        self.say(self.describe(inside))

    def describe(self, inside: np.ndarray) -> str:
        """How many particles of each cluster are selected."""
        counts = [(label, int((self.clusters.label[inside] == label).sum()))
                  for label in drawings.sorted_labels(self.clusters.label[inside])]
        parts = ", ".join(f"{cluster_name(label)}: {count}" for label, count in counts)
        return f"{int(inside.sum())} particles selected" + (f" ({parts})" if parts else "")

    def on_create(self, _event: Any = None) -> None:
        if not self.selected_ids:
            self.say("Nothing is selected. Draw around some particles first.")
            return
        try:
            self.say(self.calls.create_subset(list(self.selected_ids)))
        except OSError as error:  # a project that is another user's, a full disk
            self.say(f"The subset cannot be made ({error}).")

    def on_clear(self, _event: Any = None) -> None:
        self._forget()
        self.say(HELP)

    def _forget(self) -> None:
        for artist in self._drawn:
            artist.remove()
        self._drawn, self.selected_ids = [], []

    def say(self, text: str) -> None:
        """Put a sentence below the plot."""
        self.status.set_text(text)
        self.figure.canvas.draw_idle()
