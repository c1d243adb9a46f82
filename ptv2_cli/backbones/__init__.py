"""Backbones: pretrained models and the sites where prompts enter them."""
