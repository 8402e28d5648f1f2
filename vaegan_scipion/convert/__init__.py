"""Scipion sets to the engine's files and back."""
