"""Configs: their schema, their files and their fingerprint."""
