"""States at full resolution: local refinement of every state's half sets in the particles' own box, and its maps."""
