"""Image formation: rotations, CTF, projection, Fourier bands, FSC, alignment of maps and images."""
