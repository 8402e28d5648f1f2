"""Maps and poses from images: sums in Fourier space, searches, least squares. Decides nothing."""
