"""A whole analysis as one page or picture."""
