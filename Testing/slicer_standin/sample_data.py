"""``SampleData``: remembers what is registered; nothing is downloaded."""

from __future__ import annotations

import slicer


class SampleDataSource:
    """One registered sample."""

    def __init__(self, **fields):
        self.__dict__.update(fields)


class SampleDataLogic:
    """The part of the logic that modules use."""

    @staticmethod
    def registerCustomSampleDataSource(category="Custom", sampleName=None, uris=None, fileNames=None, nodeNames=None,
                                       customDownloader=None, thumbnailFileName=None, loadFileTypes=None, loadFiles=None,
                                       loadFileProperties=None, checksums=None, sampleDescription=None):  # fmt: skip
        fields = {name: value for name, value in locals().items() if name != "category"}
        slicer.modules.sampleDataSources.setdefault(category, []).append(SampleDataSource(**fields))


def downloadSample(name):
    """Tests have no network."""
    raise RuntimeError(f"the stand-in cannot download {name}")
