"""Sweeps: a grid of runs, the engine that runs it, its table of settings."""
