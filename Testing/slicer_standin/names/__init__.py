"""Checks every Qt, ctk, Slicer and qMRML name that the project uses against the names Slicer 5.12 has."""
