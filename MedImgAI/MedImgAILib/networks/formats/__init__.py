"""Readers of other programs' models; each makes a model package, in which nothing can run code."""
