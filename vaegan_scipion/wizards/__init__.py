"""Wizards of the plugin's forms."""
from .wizard_forecast import VaeganForecastWizard
from .wizard_particle_size import VaeganParticleSizeWizard

__all__ = ["VaeganForecastWizard", "VaeganParticleSizeWizard"]
