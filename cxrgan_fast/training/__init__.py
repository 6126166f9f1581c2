"""Training: the step, its executors and the loop."""
