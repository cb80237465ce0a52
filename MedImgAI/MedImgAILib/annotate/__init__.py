"""Annotation quality: comparison of segmentations."""
