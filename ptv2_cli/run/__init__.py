"""One config carried to one run directory."""
