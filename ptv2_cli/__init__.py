"""ptv2: train, evaluate and compare P-tuning v2 and its baselines on frozen language models."""

__version__ = "0.1.0"
