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
