"""The VAE-GAN: losses, one step, the loop, checkpoints, a trained run read back."""
