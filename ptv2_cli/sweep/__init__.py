"""A grid of runs: its plan, the engine that carries it out, its table of settings."""
