"""Each state to the full resolution: honest halves and their FSC, motions, one frame for all."""
