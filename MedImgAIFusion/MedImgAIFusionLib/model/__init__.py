"""Fusion inside a network: one encoder for each modality, trained so that any of them may be missing."""
