"""Predictions of new rows by finished runs."""
