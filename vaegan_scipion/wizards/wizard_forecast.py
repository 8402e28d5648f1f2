"""Wizard that says, before a run, what time, memory and disk it will take for this set on this machine."""
import time
import tkinter as tk
from typing import Any

from pwem.wizards import EmWizard
from pyworkflow.gui import dialog
from pyworkflow.viewer import DESKTOP_TKINTER

from ..forecast import ForecastProcess
from ..protocols import (
    VaeganProtClasses2D,
    VaeganProtCluster,
    VaeganProtFullres,
    VaeganProtStates,
    VaeganProtTrain2D,
    VaeganProtTrain3D,
)
from ..protocols.cost_note import COST_FIELD

POLL_MS = 300
WIDTH_PX = 640


class ForecastDialog(dialog.Dialog):
    """Says how long it has been measuring, then the answer; the rest of Scipion goes on meanwhile."""

    def __init__(self, parent: Any, measuring: ForecastProcess) -> None:
        self.measuring, self.began = measuring, time.monotonic()
        super().__init__(parent, "Time, memory and disk", buttons=[("Close", dialog.RESULT_CANCEL)], default="Close")

    def body(self, bodyFrame: Any) -> None:
        """One text."""
        self.text = tk.StringVar()
        tk.Label(bodyFrame, textvariable=self.text, justify=tk.LEFT, wraplength=WIDTH_PX, anchor="w", padx=10,
                 pady=10).grid(row=0, column=0, sticky="we")
        self._poll()

    def _poll(self) -> None:
        found = self.measuring.answer()
        if found is not None:
            self.text.set(found)
            return
        self.text.set(f"Measuring on this machine, on some images of this box, for {self.measuring.n_particles:,} "
                      f"particles: {time.monotonic() - self.began:.0f} s. Half a minute is usual, more where the "
                      "machine is busy. Close stops it.")
        self._again = self.after(POLL_MS, self._poll)

    def destroy(self) -> None:
        """Nothing is measured for a window that is gone."""
        if getattr(self, "_again", None):
            self.after_cancel(self._again)
        self.measuring.stop()
        super().destroy()


class VaeganForecastWizard(EmWizard):
    """Measures what the form would take."""

    _environments = [DESKTOP_TKINTER]
    _targets = [(form, [COST_FIELD]) for form in (
        VaeganProtStates, VaeganProtFullres, VaeganProtClasses2D, VaeganProtTrain2D, VaeganProtTrain3D,
        VaeganProtCluster)]

    def show(self, form: Any, *_params: Any) -> None:
        """Show what is expected; what is wrong with the form comes first."""
        problems = form.protocol.validate()
        if problems:
            dialog.showWarning("Not yet", "This can be said of a form that can be run:\n\n"
                               + "\n".join(map(str, problems)), form.root)
            return
        ForecastDialog(form.root, ForecastProcess(form.protocol))
