"""Fusion of features: what several registered modalities tell of a voxel or a region, side by side."""
