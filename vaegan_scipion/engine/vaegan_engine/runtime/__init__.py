"""Device, progress, log, stop signals, finished steps."""
