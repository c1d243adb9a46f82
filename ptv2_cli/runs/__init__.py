"""Runs: one config carried to one run directory."""
