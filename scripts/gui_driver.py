"""Hands and eyes for a Tk program on an X display: where a widget is, mouse by xdotool, pictures by ImageMagick.

The driver lives in a thread of the program that it drives: it asks Tk where things are, and everything it does
goes through the X server, as a person's mouse would.
"""
import os
import queue
import subprocess
import threading
import time
from pathlib import Path

POLL_MS = 40
WAIT_S = 60 * float(os.environ.get("VAEGAN_GUI_PATIENCE", 1))  # more on a machine that does much else
COLOURS = 160  # of a saved picture


class GuiError(Exception):
    """Something did not come up in time."""


class Driver:
    """Runs functions in Tk's thread, clicks, waits and takes pictures.

    root : the program's Tk root. folder : where pictures go. scale : their size / the screen's.
    """

    def __init__(self, root, folder, scale):
        self.root, self.folder, self.scale = root, Path(folder), scale
        self._asked = queue.Queue()
        self._serve()

    def _serve(self):
        while not self._asked.empty():
            function, answer, done = self._asked.get()
            try:
                answer.append((True, function()))
            except Exception as error:
                answer.append((False, error))
            done.set()
        self.root.after(POLL_MS, self._serve)

    def ask(self, function):
        """The value of a function called in Tk's thread."""
        answer, done = [], threading.Event()
        self._asked.put((function, answer, done))
        if not done.wait(WAIT_S):
            raise GuiError(f"the GUI did not answer within {WAIT_S} s")
        good, value = answer[0]
        if not good:
            raise value
        return value

    def wait(self, function, what, seconds=WAIT_S):
        """The first true value of a function called in Tk's thread."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.ask(function)
            if value:
                return value
            time.sleep(0.2)
        raise GuiError(f"{what}: not within {seconds} s")

    # ------------------------------- hands -------------------------------
    def mouse(self, *words):
        """One xdotool command line."""
        subprocess.run(["xdotool", *map(str, words)], check=True)

    def click(self, x, y):
        """Click with the left button at screen pixels."""
        self.mouse("mousemove", round(x), round(y), "sleep", 0.15, "click", 1)
        time.sleep(0.3)

    def click_widget(self, widget):
        """Click the middle of a Tk widget."""
        self.click(*self.ask(lambda: (widget.winfo_rootx() + widget.winfo_width() / 2,
                                      widget.winfo_rooty() + widget.winfo_height() / 2)))

    def drag(self, corners):
        """Press at the first of the screen pixels, go through all, let go at the last."""
        self.mouse("mousemove", *corners[0], "sleep", 0.2, "mousedown", 1)
        for corner in corners[1:]:
            self.mouse("mousemove", *corner)
            time.sleep(0.25)
            self.ask(self.root.update_idletasks)  # Tk joins motions that wait: let it see each corner
        self.mouse("mouseup", 1)
        time.sleep(0.3)

    # ------------------------------- eyes -------------------------------
    def picture(self, name, window=None):
        """Save a picture of a Tk window (with its frame), or of the whole screen."""
        self.mouse("mousemove", 2, 2)  # away: no tool tips
        time.sleep(0.6)  # let it be drawn
        crop = []
        if window is not None:
            self.ask(window.update_idletasks)
            x, y, wide, high, top = self.ask(lambda: (
                window.winfo_rootx(), window.winfo_rooty(), window.winfo_width(), window.winfo_height(),
                window.winfo_rooty() - window.winfo_y()))
            crop = ["-crop", f"{wide}x{high + top}+{max(x, 0)}+{max(y - top, 0)}", "+repage"]
        return self.save(name, "root", crop)

    def save(self, name, window_id, crop=()):
        """Save a picture of an X window; a picture of one colour is an error."""
        path = self.folder / f"{name}.png"
        subprocess.run(["import", "-window", str(window_id), *crop, str(path)], check=True)
        return self.shrink(path)

    def shrink(self, path):
        """Make a picture smaller, in pixels and colours; one that is blank is an error."""
        subprocess.run(["mogrify", "-resize", f"{100 * self.scale:g}%", "-colors", str(COLOURS), str(path)], check=True)
        found = subprocess.run(["identify", "-format", "%k", str(path)], check=True, capture_output=True, text=True)
        if int(found.stdout) < 8:
            raise GuiError(f"{path}: the picture is blank")
        print(f"picture {path.name}", flush=True)
        return path

    def x_window(self, title, seconds=WAIT_S):
        """X id of a visible window of any program whose title has these words."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = subprocess.run(["xdotool", "search", "--onlyvisible", "--name", title], capture_output=True,
                                   text=True).stdout.split()
            if found:
                return found[-1]
            time.sleep(0.3)
        raise GuiError(f"no window with the title '{title}' within {seconds} s")

    def close_x_window(self, found, seconds=WAIT_S):
        """Alt+F4 to a window of any program until it is gone: on a busy machine one key press may be lost."""
        end = time.monotonic() + seconds
        while subprocess.run(["xdotool", "getwindowname", found], capture_output=True).returncode == 0:
            if time.monotonic() > end:
                raise GuiError(f"window {found} does not close within {seconds} s")
            subprocess.run(["xdotool", "windowactivate", "--sync", found, "key", "alt+F4"], capture_output=True)
            time.sleep(1.5)


def widgets(parent):
    """A widget and all below it."""
    yield parent
    for child in parent.winfo_children():
        yield from widgets(child)


def with_text(parent, *texts):
    """The first visible widget below that has one of the texts; None if there is none."""
    for widget in widgets(parent):
        if "text" in (widget.keys() or ()) and str(widget.cget("text")).strip() in texts and widget.winfo_viewable():
            return widget
    return None
