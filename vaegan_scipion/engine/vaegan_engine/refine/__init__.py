"""States, poses and maps from particles: the decisions."""
