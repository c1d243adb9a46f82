"""Training: the loop, evaluation, checkpoints."""
