"""Image-level fusion: one picture that shows what several images show."""
