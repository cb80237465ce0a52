"""Mammograms: breast, pectoral muscle, dense tissue, suspicious places, and the report of a screening exam."""
