"""Numbers about numbers: agreement of labels, valleys of a density, what a view explains."""
