"""Fusion: registration, then fusion at image, feature, decision and model level."""
