"""Magnetic-resonance raw data to images."""
