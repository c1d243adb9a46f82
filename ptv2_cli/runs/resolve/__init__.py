"""The rules of a config: every default filled in, every combination checked."""
