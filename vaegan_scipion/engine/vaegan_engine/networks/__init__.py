"""The networks of the VAE-GAN, as modules."""
