"""How good a classifier is: figures with intervals, curves, subgroups, comparison of two, and a report."""
