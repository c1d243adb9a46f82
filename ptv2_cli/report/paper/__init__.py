"""The seed paper's tables and figures, filled from runs."""
