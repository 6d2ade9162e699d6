"""The training of the shipped network: corpus, pairs, losses, schedules, the training loop, calibration."""
