"""Clusters, poses, maps and class averages against the truth."""
