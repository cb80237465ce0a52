"""Networks on whole images: inference that streams, architectures, loaders of public weights and the catalogue."""
