"""Training and export: pictures become checkpoints, and checkpoints model folders."""
