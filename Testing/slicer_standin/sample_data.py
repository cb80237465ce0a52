"""``SampleData``: remembers what is registered; nothing is downloaded."""

from __future__ import annotations

import slicer

_FIELDS = {
    "uris", "fileNames", "nodeNames", "customDownloader", "thumbnailFileName", "loadFileTypes", "loadFiles",
    "loadFileProperties", "checksums", "loadFileType",
}  # fmt: skip


class SampleDataSource:
    """One registered sample."""

    def __init__(self, **fields):
        self.__dict__.update(dict.fromkeys(_FIELDS), **fields)
        listed = ("fileNames", "nodeNames", "checksums", "loadFiles", "loadFileTypes")
        if isinstance(self.uris, str):
            self.uris = [self.uris]
            self.__dict__.update({name: [getattr(self, name)] for name in listed})
        elif isinstance(self.uris, (list, tuple)):
            made = {name: [None] * len(self.uris) for name in listed[1:] if getattr(self, name) is None}
            self.__dict__.update(made)
        if any(len(getattr(self, name)) != len(self.uris) for name in listed):
            raise ValueError("All fields of sample data source must have the same length")


class SampleDataLogic:
    """The part of the logic that modules use."""

    @staticmethod
    def registerCustomSampleDataSource(category="Custom", sampleName=None, **fields):
        unknown = set(fields) - _FIELDS
        if unknown:
            raise TypeError(f"registerCustomSampleDataSource() got unexpected keyword arguments {sorted(unknown)}")
        source = SampleDataSource(sampleName=sampleName, **fields)
        slicer.modules.sampleDataSources.setdefault(category, []).append(source)


def downloadSample(name):
    """Tests have no network."""
    raise RuntimeError(f"the stand-in cannot download {name}")
