"""``slicer.i18n``: English."""


def tr(text: str) -> str:
    """The text itself."""
    return text


def translate(_context: str, text: str) -> str:
    """The text itself."""
    return text


def getContext(source_file: str) -> str:
    """The translation context of a file."""
    import os

    return os.path.splitext(os.path.basename(source_file))[0]
