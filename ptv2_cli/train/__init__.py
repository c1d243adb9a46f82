"""The loop, evaluation, checkpoints."""
