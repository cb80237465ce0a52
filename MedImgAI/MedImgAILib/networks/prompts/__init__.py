"""Segmentation by prompts: points, boxes and scribbles, to a network that keeps what it has seen of the image."""
