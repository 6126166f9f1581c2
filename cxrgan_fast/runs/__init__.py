"""What a run leaves on disk: its folder, checkpoints, generator files, logs and locks."""
