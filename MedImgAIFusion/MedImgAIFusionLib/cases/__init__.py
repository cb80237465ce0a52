"""Case studies: whole paths from the images of a patient to a report."""
