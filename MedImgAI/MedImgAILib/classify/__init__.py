"""Classification and diagnosis: models applied and trained, calibration, "do not know", explanation."""
