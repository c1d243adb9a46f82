"""Finished runs as tables and pictures, and two of them against each other."""
