"""The rows of a run: read, chosen, checked and encoded."""
