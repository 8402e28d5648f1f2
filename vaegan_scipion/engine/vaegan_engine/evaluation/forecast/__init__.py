"""What a run will take in time, memory and disk: one module for each command, measured and counted."""
