"""What a finished run's prompt has learned, as far as numbers show it."""
