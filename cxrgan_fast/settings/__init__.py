"""Every setting of a training run: its default, its bounds and its help, in one place."""
