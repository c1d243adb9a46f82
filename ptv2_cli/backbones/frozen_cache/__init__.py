"""Outputs of frozen lower layers, computed once and used again."""
