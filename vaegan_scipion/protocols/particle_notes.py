"""What forms say of the particles themselves: before a run, and of a training's in its summary."""
from typing import Any, Dict, List

from ..convert.sample_images import contrast_note, sample_images
from ..engine.vaegan_engine.contract.settings import DataConfig
from ..engine.vaegan_engine.contract.status import read_status
from ..engine.vaegan_engine.contract.wording import pose_free_note
from .box_field import data_values
from .form_settings import optional
from .protocol_base import kept_box_ang, radius_frac, warn_particles


def circle_radius_frac(protocol: Any, particles: Any) -> float:
    """Radius of the particle's circle over the whole box: from the form's diameter, else what the engine takes."""
    diameter_ang = optional(protocol, "particleDiameterAng")
    if diameter_ang is None:
        return float(DataConfig().particle_radius_frac * protocol.cropFrac.get())
    whole_ang = particles.getXDim() * particles.getSamplingRate()
    return float(diameter_ang / (2 * whole_ang)) if whole_ang > 0 else 0.5


def image_settings(protocol: Any) -> Dict[str, Any]:
    """How the images of a run were made, for a training on the same ones: settings of `DataConfig`."""
    particles = protocol.inputParticles.get()
    values = data_values(protocol, particles, ("box_px", "crop_frac", "invert_contrast", "ignore_ctf"))
    return {**values, "particle_radius_frac": kept_radius_frac(protocol, particles)}


def kept_radius_frac(protocol: Any, particles: Any) -> float:
    """Radius of the particle's circle over the part of the box that is kept: as the engine takes it."""
    diameter_ang = optional(protocol, "particleDiameterAng")
    if particles is None or diameter_ang is None:
        return DataConfig().particle_radius_frac
    return radius_frac(diameter_ang, kept_box_ang(protocol, particles))


def particle_notes(protocol: Any, particles: Any, n_few: int) -> List[str]:
    """Warnings on a set of particles and on the contrast of its images."""
    return warn_particles(particles, n_few) + contrast_notes(particles, circle_radius_frac(protocol, particles),
                                                             protocol.invertContrast.get())


def contrast_notes(particles: Any, radius_frac: float, is_inverted: bool) -> List[str]:
    """A warning where the images' contrast is not what it is said to be, or where they cannot be looked at.

    ``radius_frac``: of the particle's circle, over the whole box.
    """
    try:
        images = sample_images(particles).images
    except (OSError, ValueError) as error:
        return [f"The particles cannot be looked at ({error})."]
    if not all(map(bool, images.shape)) or images.shape[-1] != images.shape[-2]:
        return []
    contrast = contrast_note(images, radius_frac, is_inverted)
    return [contrast] if contrast else []


def snr_notes(run_dir: str) -> List[str]:
    """What a training without poses can be expected to separate at its images' SNR; nothing of other trainings."""
    snr = read_status(run_dir).snr
    return [] if snr is None else [pose_free_note(snr)]
