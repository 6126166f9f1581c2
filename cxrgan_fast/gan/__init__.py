"""The game between the networks, without a loop: losses, schedules, random numbers."""
