"""Star files, stacks, prepared images, tables by particle id."""
