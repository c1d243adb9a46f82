"""Tasks: what rows mean; one module for each kind."""
