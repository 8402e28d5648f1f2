"""Figures that move: curves of a training that runs, and a traversal as a movie. No Scipion, no Tk."""
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Sequence

import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure
from matplotlib.widgets import Button, Slider

from ..engine.vaegan_engine.contract import drawings
from ..engine.vaegan_engine.contract.status import Status
from . import plots

LIVE_MS = 5000
FRAME_MS = 500
GIF_FRAMES_PER_S = 4


class LiveCurves:
    """Curves that are drawn again while a training runs.

    Parameters
    ----------
    read_rows : -> rows of `log.jsonl` so far.
    read_status : -> `status.json`; "running" keeps the figure alive.
    """

    def __init__(self, figure: Figure, read_rows: Callable[[], Sequence[Dict[str, Any]]],
                 read_status: Callable[[], Status]) -> None:
        self.figure, self.read_rows, self.read_status = figure, read_rows, read_status
        self._n_drawn = -1
        self._timer = figure.canvas.new_timer(interval=LIVE_MS)
        self._timer.add_callback(self.update)
        figure.canvas.mpl_connect("close_event", lambda _event: self._timer.stop())
        if self.update():
            self._timer.start()

    def update(self) -> bool:
        """Draw what is new; False (which ends the timer) when the training no longer runs."""
        status, rows = self.read_status(), self.read_rows()
        running = status.state == "running"
        if len(rows) != self._n_drawn or not running:
            self._n_drawn = len(rows)
            self.figure.clear()
            plots.draw_curves(self.figure, rows, headline(status))
            self.figure.canvas.draw_idle()
        return running


def headline(status: Status) -> str:
    """State, images seen, speed and time left of a training, from `status.json`."""
    parts = [status.state or "not begun"]
    if status.images_seen is not None and status.total_images is not None:
        parts.append(f"{status.images_seen / 1000:.1f} of {status.total_images / 1000:.1f} thousand images")
    if status.images_per_second is not None:
        parts.append(f"{status.images_per_second:.0f} images/s")
    if status.state == "running" and status.stage_seconds_left is not None:
        parts.append(f"{status.stage_seconds_left / 60:.0f} min left")
    return ", ".join(parts)


class Frame(NamedTuple):
    """A point of a traversal or a motion with its whole map (d, d, d) or image (d, d)."""

    position: float  # the order
    array: np.ndarray
    text: str
    colour: str


class Movie:
    """Central sections of the maps along a traversal or a motion, one point after the other.

    Grey levels are the same in all frames; a scale bar where the pixel size is known. The slider stops the movie, Play
    starts it again.
    """

    def __init__(self, figure: Figure, frames: Sequence[Frame], pixel_size_ang: float = 0.0) -> None:
        self.figure = figure
        self.frames = sorted(frames, key=lambda frame: frame.position)
        self.index = 0
        sections = [drawings.central_sections(frame.array) for frame in self.frames]
        low, high = np.percentile(np.stack([np.stack(each) for each in sections]), (1, 99.8))
        n_views = len(sections[0])
        self._sections, self.pictures = sections, []
        for number in range(n_views):
            axes = figure.add_axes((0.03 + number * 0.94 / n_views, 0.20, 0.92 / n_views, 0.64))
            self.pictures.append(axes.imshow(sections[0][number], cmap="gray", origin="lower", vmin=low,
                                             vmax=max(high, low + 1e-12)))
            name = f"section across {drawings.PLANES[number][0]}" if n_views > 1 else ""
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(name, fontsize=8)
            if number == 0:
                drawings.draw_scale_bar(axes, sections[0][0].shape[1], pixel_size_ang)
        self.title = figure.text(0.5, 0.93, "", ha="center", fontsize=10)
        self.slider = Slider(figure.add_axes((0.14, 0.06, 0.60, 0.04)), "point", 1, max(2, len(self.frames)),
                             valinit=1, valstep=1)
        self.button = Button(figure.add_axes((0.84, 0.05, 0.12, 0.06)), "Stop")
        self.slider.on_changed(self.on_slider)
        self.button.on_clicked(self.on_button)
        self.playing = True
        self._timer = figure.canvas.new_timer(interval=FRAME_MS)
        self._timer.add_callback(self.advance)
        figure.canvas.mpl_connect("close_event", lambda _event: self._timer.stop())  # no window, nothing to draw on
        self.show(0)
        self._timer.start()

    def show(self, index: int) -> None:
        """Show one point."""
        self.index = index
        frame = self.frames[index]
        for picture, section in zip(self.pictures, self._sections[index]):
            picture.set_data(section)
        self.title.set_text(f"{frame.text} (point {index + 1} of {len(self.frames)})")
        self.title.set_color(frame.colour)
        self.slider.eventson = False
        self.slider.set_val(index + 1)
        self.slider.eventson = True
        self.figure.canvas.draw_idle()

    def advance(self) -> bool:
        """Show the next point, the first after the last."""
        if self.playing:
            self.show((self.index + 1) % len(self.frames))
        return True

    def on_slider(self, value: float) -> None:
        self._set_playing(False)
        self.show(min(int(value), len(self.frames)) - 1)

    def on_button(self, _event: Any = None) -> None:
        self._set_playing(not self.playing)

    def _set_playing(self, playing: bool) -> None:
        self.playing = playing
        self.button.label.set_text("Stop" if playing else "Play")
        self.figure.canvas.draw_idle()

    def save_gif(self, path: str) -> str:
        """Write the movie as animated GIF, forth and back; returns the path."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        order = list(range(len(self.frames))) + list(range(len(self.frames) - 2, 0, -1))
        writer = PillowWriter(fps=GIF_FRAMES_PER_S)
        before = self.index
        with writer.saving(self.figure, path, dpi=100):
            for index in order:
                self.show(index)
                self.figure.canvas.draw()
                writer.grab_frame()
        self.show(before)
        return path
