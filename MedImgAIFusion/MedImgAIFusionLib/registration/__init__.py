"""Registration: where a point of one image lies in another."""
