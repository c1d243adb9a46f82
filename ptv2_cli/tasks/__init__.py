"""Tasks: rows of a data set to features, predictions and scores."""
