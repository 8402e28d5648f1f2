"""VAE-GAN engine for cryo-EM particles (PyTorch)."""
__version__ = "0.1.0"
