"""Benchmarks: a file here has ``rows()``, which measures; ``python -m Benchmarks.run NAME`` runs it."""
