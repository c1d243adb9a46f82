"""Scoring: predictions to figures."""
