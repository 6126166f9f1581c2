"""Studies of many trainings: sweeps over the settings."""
