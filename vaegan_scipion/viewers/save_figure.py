"""Saving the figure of a window: PNG to look at, PDF and SVG to print and to draw on in."""
import os
import re
from typing import Any

from matplotlib.figure import Figure

FORMATS = (("PNG", ".png"), ("PDF", ".pdf"), ("SVG", ".svg"))
DPI = 200  # of what is made of pixels
MOST_DOTS = 5000  # of one colour, that are drawn one by one in PDF and SVG
LABEL = "Save figure as ..."


def save_figure(figure: Figure, path: str, suffix: str) -> str:
    """Write a figure in the format of a suffix, which is added where the path has none; the path. Raises OSError.

    Clouds of many dots become an image inside PDF and SVG, whose text and lines stay what they are.
    """
    if not path.lower().endswith(suffix):
        path += suffix
    for axes in figure.axes:
        for dots in axes.collections:
            dots.set_rasterized(dots.get_rasterized() or len(dots.get_offsets()) > MOST_DOTS)
    figure.savefig(path, dpi=DPI, format=suffix[1:])
    return path


def file_stem(title: str) -> str:
    """The name of a file from the title of a window."""
    return re.sub(r"\W+", "_", title.lower()).strip("_") or "figure"


def add_save_button(figure: Figure, title: str) -> Any:
    """A button with a menu of formats in the bar below a window's figure; None where there is no window."""
    bar = getattr(figure.canvas.manager, "toolbar", None)
    if bar is None or not hasattr(bar, "pack"):
        return None
    import tkinter

    button = tkinter.Menubutton(bar, text=LABEL, relief="raised")
    menu = tkinter.Menu(button, tearoff=False)
    for name, suffix in FORMATS:
        menu.add_command(label=name, command=lambda suffix=suffix: ask_and_save(figure, title, suffix))
    button.configure(menu=menu)
    button.pack(side="left", padx=6)
    return button


def ask_and_save(figure: Figure, title: str, suffix: str) -> str:
    """Ask for a file and write the figure; a message where that fails. The path, "" where nothing was written."""
    from tkinter import filedialog, messagebox

    window = figure.canvas.manager.window
    path = filedialog.asksaveasfilename(parent=window, initialfile=file_stem(title) + suffix, defaultextension=suffix,
                                        filetypes=[(suffix[1:].upper(), f"*{suffix}")], title=LABEL)
    if not path:
        return ""
    try:
        return save_figure(figure, path, suffix)
    except OSError as error:
        messagebox.showerror("Not saved", f"{os.path.basename(path)} cannot be written ({error.strerror or error}). "
                             "Choose another folder.", parent=window)
        return ""
