"""GGUF files: read, checked, and converted once for transformers."""
