"""Made data: particles with a known truth."""
