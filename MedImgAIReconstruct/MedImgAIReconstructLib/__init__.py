"""Reconstruction: from raw data to a volume in the right place."""
