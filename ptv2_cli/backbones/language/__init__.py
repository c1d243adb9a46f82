"""Language models: their heads, and the text that they write."""
