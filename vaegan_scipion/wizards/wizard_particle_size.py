"""Wizard of the forms that take particles: part of the box kept and particle diameter (Å), on real particles."""
import tkinter as tk
from typing import Any

from matplotlib.backends.backend_tkagg import FigureCanvasTkAgg
from matplotlib.figure import Figure
from pwem.wizards import EmWizard
from pyworkflow.gui import dialog
from pyworkflow.viewer import DESKTOP_TKINTER

from ..convert.sample_images import Sample, sample_images
from ..engine_run import UNREADABLE
from ..protocols import VaeganProtClasses2D, VaeganProtStates, VaeganProtTrain2D, VaeganProtTrain3D
from ..protocols.form_settings import number_of
from .size_picture import MARGIN_MIN, SizePicture, clipped

CROP_LIMITS = (0.1, 1.0)  # of presets.check
RADIUS_LIMITS = (0.05, 0.5)
STEP = 0.01
WIDE_ANG = 100.0  # boxes from here on move by whole Å


class ParticleSizeDialog(dialog.Dialog):
    """Two sliders under the picture; OK leaves their values in `crop_frac` and `radius_frac` (of the kept box).

    A diameter stays what it is in Å where the kept part changes, unless it no longer fits.
    """

    def __init__(self, parent: Any, sample: Sample, pixel_size_ang: float, crop_frac: float,
                 radius_frac: float) -> None:
        self.sample, self.pixel_size_ang = sample, pixel_size_ang
        self.crop_frac, self.radius_frac = clipped(crop_frac, CROP_LIMITS), clipped(radius_frac, RADIUS_LIMITS)
        super().__init__(parent, "Box and particle size")

    def body(self, bodyFrame: Any) -> None:
        """The picture and its sliders."""
        figure = Figure(figsize=(8, 5.5))
        self.picture = SizePicture(figure, self.sample.images, self.pixel_size_ang)
        self.canvas = FigureCanvasTkAgg(figure, bodyFrame)
        self.canvas.get_tk_widget().grid(row=0, column=0, columnspan=2, sticky="news")
        self.crop_scale = self._slider(bodyFrame, 1, "Part of the box kept", CROP_LIMITS, self.crop_frac)
        self.box_ang = self.pixel_size_ang * self.sample.images.shape[-1]
        self.diameter_scale = self._slider(bodyFrame, 2, "Particle diameter (Å)", (self.box_ang / 100, self.box_ang),
                                           2 * self.radius_frac * self.crop_frac * self.box_ang)
        self._moved()

    def _slider(self, frame: Any, row: int, text: str, limits: Any, value: float) -> Any:
        tk.Label(frame, text=text).grid(row=row, column=0, sticky="e", padx=5)
        step = STEP if limits == CROP_LIMITS else 1.0 if limits[1] >= WIDE_ANG else 0.1
        scale = tk.Scale(frame, from_=limits[0], to=limits[1], resolution=step, orient=tk.HORIZONTAL, length=400)
        scale.set(value)
        scale.config(command=self._moved)
        scale.grid(row=row, column=1, sticky="we")
        return scale

    def _moved(self, _value: Any = None) -> None:
        self.crop_frac = float(self.crop_scale.get())
        self.radius_frac = clipped(self.diameter_scale.get() / (2 * self.crop_frac * self.box_ang), RADIUS_LIMITS)
        self.picture.update(self.crop_frac, self.radius_frac)
        self.canvas.draw_idle()


class VaeganParticleSizeWizard(EmWizard):
    """Opens the dialog and puts both values into the form."""

    _environments = [DESKTOP_TKINTER]
    _targets = [(form, ["cropFrac", "particleDiameterAng"])
                for form in (VaeganProtTrain2D, VaeganProtTrain3D, VaeganProtStates, VaeganProtClasses2D)]

    def show(self, form: Any, *_params: Any) -> None:
        """Show the particles of the form's input."""
        protocol = form.protocol
        particles = protocol.inputParticles.get()
        if particles is None:
            dialog.showWarning("No particles", "Choose the input particles first.", form.root)
            return
        try:
            sample = sample_images(particles)
        except UNREADABLE as error:  # images or the set's own table are gone or cut
            dialog.showError("No picture", f"The particles cannot be read ({error}).", form.root)
            return
        shape = sample.images.shape
        if not all(shape) or shape[-1] != shape[-2] or not particles.getSamplingRate():
            dialog.showWarning("No picture", "The set has no enabled particle or no sampling rate, or its images are "
                               "not square.", form.root)
            return
        crop_frac = CROP_LIMITS[1] if protocol.cropFrac.get() is None else protocol.cropFrac.get()
        box_ang = particles.getSamplingRate() * particles.getXDim()
        radius_frac = radius_of(protocol.particleDiameterAng.get(), crop_frac * box_ang)
        chosen = ParticleSizeDialog(form.root, sample, particles.getSamplingRate(), crop_frac, radius_frac)
        if chosen.resultYes():
            form.setVar("cropFrac", chosen.crop_frac)
            form.setVar("particleDiameterAng", round(2 * chosen.radius_frac * chosen.crop_frac * box_ang, 1))


def radius_of(diameter_text: str, kept_ang: float) -> float:
    """Radius over the kept box of a diameter in A; for an empty field one that leaves the margin of the picture."""
    try:
        diameter_ang = number_of(diameter_text, float)
    except ValueError:
        diameter_ang = None
    return diameter_ang / (2 * kept_ang) if diameter_ang and kept_ang else round(0.5 / MARGIN_MIN, 2)
