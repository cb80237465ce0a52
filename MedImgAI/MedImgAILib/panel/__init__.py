"""The shared task panel of the three modules (Qt through Slicer)."""
