"""The experiments of the thesis and the analyses that only they need."""
