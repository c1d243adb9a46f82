"""Heads: hidden states to loss and predictions."""
