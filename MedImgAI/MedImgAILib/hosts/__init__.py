"""Hosts: the only place that touches MRML nodes, files and HTTP."""
