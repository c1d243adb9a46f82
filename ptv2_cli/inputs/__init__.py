"""Inputs: rows to token ids, and those to batches."""
