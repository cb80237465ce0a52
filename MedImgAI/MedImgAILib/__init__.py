"""MedImgAI: AI analysis of medical images, and the core that the three modules share."""

__version__ = "0.1.0"
