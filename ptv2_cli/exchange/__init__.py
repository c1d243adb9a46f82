"""Runs to and from what other libraries read: PEFT adapters, the reference's checkpoints."""
