"""Enhancement: smoothing, bias correction, contrast."""
