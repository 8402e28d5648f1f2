"""The process boundary: settings, run.json, result files, errors. Standard library and numpy, Python 3.8."""
