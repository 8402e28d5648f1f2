"""z of every particle: embedding, clusters and how far to believe them, traversal."""
