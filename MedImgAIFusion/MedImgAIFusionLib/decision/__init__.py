"""Decision-level fusion: one answer from several raters."""
