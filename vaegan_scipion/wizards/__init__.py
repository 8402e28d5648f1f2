"""Wizards of the plugin's forms."""
from .wizard_particle_size import VaeganParticleSizeWizard

__all__ = ["VaeganParticleSizeWizard"]
