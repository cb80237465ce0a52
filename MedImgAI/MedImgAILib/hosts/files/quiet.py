"""Keeps C and C++ libraries from printing: the user gets one sentence, not a library's error stack."""

from __future__ import annotations

import contextlib
import os


@contextlib.contextmanager
def silence():
    """Keep ITK quiet, and with it HDF5, GDCM and libjpeg, which write straight to file descriptors 1 and 2."""
    import SimpleITK as sitk

    with contextlib.ExitStack() as restore:
        # The switch is the whole program's: inside Slicer other modules want their warnings back.
        restore.callback(sitk.ProcessObject.SetGlobalWarningDisplay, sitk.ProcessObject.GetGlobalWarningDisplay())
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        for descriptor in (1, 2):
            try:
                saved = os.dup(descriptor)
            except OSError:
                # A program without a console has no such descriptor, so nothing can be printed there either.
                continue
            restore.callback(os.close, saved)
            restore.callback(os.dup2, saved, descriptor)
            sink = os.open(os.devnull, os.O_WRONLY)
            restore.callback(os.close, sink)
            os.dup2(sink, descriptor)
        yield
