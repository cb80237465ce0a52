# Nothing to do without Slicer.
