"""Task data from and to files; the formats are chosen by suffix, and by content where there is none."""

from .api import default_suffix, read_file, supported_suffixes, write_file, write_files

__all__ = ["default_suffix", "read_file", "supported_suffixes", "write_file", "write_files"]
