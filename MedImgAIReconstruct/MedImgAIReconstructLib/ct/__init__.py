"""Computed tomography: projections to volumes, and back."""
