"""Numbers that describe images: regions by the definitions of the Image Biomarker Standardisation Initiative."""
