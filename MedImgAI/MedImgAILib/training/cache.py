"""Prepared cases on the disk, each under a hash of its content and of how it was prepared."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core import Context, Geometry, InputError, MedImgAIError, OutputError
from ..core.resampling import resample_labels
from ..networks.preparation import Prepared, prepare_all
from .cases import Case
from .reading import in_channels, read_image, read_segmentation, renamed
from .teaching import UNLABELLED

ON_ERROR = ("stop", "skip")
_MOST_IN_MEMORY = 2 << 30
_MAPPED_FROM = 4 << 20
"""Bytes from which a case is read from the disk where it is needed, and only the part that is."""
_MOST_PLACES = 20000


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case as the network wants it.

    Parameters
    ----------
    case : Case
    key : str
        Hash of its content and preparation.
    image : (C, K, J, I) float32 ndarray, optional
        None where it lies on the disk only; :meth:`Preparation.loaded` brings it.
    labels : (K, J, I) uint8 ndarray, optional
        0 background, n the n-th segment, everywhere 255 if unknown; for classification None.
    places : dict of int to (N, 3) int32 ndarray
        For each label some of its voxels (k, j, i).
    prepared : Prepared
        The way back to the image's own grid; its array is left out.
    """

    case: Case
    key: str
    image: np.ndarray | None
    labels: np.ndarray | None
    places: dict
    prepared: Prepared


class Preparation:
    """Brings cases into the form of a model's inputs, once.

    Parameters
    ----------
    inputs : tuple of ModelInput
        As they will stand in the card: what is trained on is what inference prepares.
    segments : tuple of str
        Names of the segments to learn, in the order of their labels; empty for classification.
    folder : Path, optional
        For the cache; without one everything stays in memory.
    given : tuple of Segment
        Names for labels of files that have none, see :func:`.reading.renamed`.
    smooth : callable, optional
        ``smooth(volume, model_input)``, applied before the preparation.
    memory : int
        Bytes up to which cases are kept in memory.
    """

    def __init__(self, inputs, segments=(), folder: Path | None = None, given=(), smooth=None, memory=_MOST_IN_MEMORY):
        self.inputs, self.segments = tuple(inputs), tuple(segments)
        self.given, self.smooth, self.memory = tuple(given), smooth, memory
        self.folder = Path(folder) if folder is not None else None
        self._rule = json.dumps([repr(self.inputs), self.segments, repr(self.given), smooth is not None, 1])

    def key(self, case: Case) -> str:
        """Hash under which a case is kept."""
        return hashlib.sha256((self._rule + case.content_hash()).encode()).hexdigest()[:32]

    def case(self, case: Case, context: Context | None = None) -> PreparedCase:
        """Prepare a case, or take it from the cache.

        Raises
        ------
        InputError
            If an image cannot be used; the sentence names it.
        """
        key = self.key(case)
        stored = self._load(case, key)
        return stored if stored is not None else self._store(self._prepare(case, key, context or Context()))

    def all(self, cases, context: Context, on_error: str = "stop", workers: int = 2) -> list[PreparedCase]:
        """Prepare cases, in their order.

        Parameters
        ----------
        on_error : "stop" or "skip"
            What to do with a case that cannot be used: end with its error, or leave it out with a warning.
        """
        result, skipped, held = [], 0, 0
        with ThreadPoolExecutor(workers) as pool:
            waiting = [pool.submit(self.case, case) for case in cases]
            try:
                for number, (case, future) in enumerate(zip(cases, waiting), start=1):
                    try:
                        one = future.result()
                        held += one.image.nbytes
                        result.append(self._lean(one, held))
                    except MedImgAIError as error:
                        if on_error != "skip" or isinstance(error, OutputError):
                            raise
                        skipped += 1
                        context.warn(f"Case '{case.id}' is left out: {error}")
                    context.progress(number / len(waiting), f"Preparing case {number} of {len(waiting)}")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        if skipped and not result:
            raise InputError("None of the cases can be used; see the warnings.")
        return result

    def loaded(self, prepared: PreparedCase) -> PreparedCase:
        """The case with its arrays.

        Raises
        ------
        InputError
            If it lies on the disk and cannot be read any more; the sentence names it.
        """
        if prepared.image is not None:
            return prepared
        stored = self._load(prepared.case, prepared.key, prepared.places)
        if stored is None:
            raise InputError(f"The prepared case '{prepared.case.id}' is not in {self.folder} any more.")
        return stored

    def _lean(self, prepared: PreparedCase, held: int) -> PreparedCase:
        """Without its arrays where they are large, or all together would be."""
        if self.folder is None or (held < self.memory and not isinstance(prepared.image, np.memmap)):
            return prepared
        return replace(prepared, image=None, labels=None)

    def _prepare(self, case: Case, key: str, context: Context) -> PreparedCase:
        if len(case.images) != len(self.inputs):
            raise InputError(f"Case '{case.id}' has {len(case.images)} images where {len(self.inputs)} are needed.")
        volumes = []
        for source, wanted in zip(case.images, self.inputs):
            volume = read_image(source, f"The image of case '{case.id}'")
            volume = in_channels(volume, wanted.channels)
            volumes.append(self.smooth(volume, wanted) if self.smooth else volume)
        done = prepare_all(volumes, self.inputs, context)
        image = np.concatenate([one.array for one in done])
        labels = None
        if self.segments:
            known = case.target is not None
            labels = self.truth(case, done[0].geometry) if known else np.full(image.shape[1:], UNLABELLED, np.uint8)
        if not np.isfinite(image).all():
            raise InputError(f"The image of case '{case.id}' is not finite after its preparation.")
        return PreparedCase(case, key, image, labels, _places(labels), _without_array(done[0]))

    def truth(self, case: Case, geometry: Geometry) -> np.ndarray:
        """(K, J, I) uint8 labels of a case on a grid: n is the n-th of the segments.

        Raises
        ------
        InputError
            If the label image cannot be used or lies elsewhere.
        """
        segmentation = renamed(read_segmentation(case.target), self.given)
        own, labels = segmentation.geometry, np.zeros(segmentation.geometry.shape, np.uint8)
        for segment in segmentation.segments:
            if segment.name not in self.segments:
                raise InputError(f"The labels of case '{case.id}' have a segment '{segment.name}' that is not learnt.")
            labels[segmentation.mask(segment)] = self.segments.index(segment.name) + 1
        if not own.contains(geometry.center) and not geometry.contains(own.center):
            raise InputError(f"The label image of case '{case.id}' does not lie where its image lies.")
        return resample_labels(labels, own, geometry)

    # On the disk: a folder for each case, which appears when it is complete

    def _store(self, done: PreparedCase) -> PreparedCase:
        if self.folder is None:
            return done
        target, draft = self.folder / done.key, None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=f".{done.key}-", dir=self.folder))
            np.save(draft / "image.npy", done.image)
            if done.labels is not None:
                np.save(draft / "labels.npy", done.labels)
            prepared = done.prepared
            record = {
                "geometry": [prepared.geometry.ijk_to_ras.tolist(), list(prepared.geometry.shape)],
                "source": [prepared.source.ijk_to_ras.tolist(), list(prepared.source.shape)],
                "order": [[int(a) for a in prepared.order[0]], [bool(f) for f in prepared.order[1]]],
            }
            (draft / "record.json").write_text(json.dumps(record), encoding="utf-8")
            draft.rename(target)
        except OSError as error:
            if not target.is_dir():  # else another process was faster
                reason = error.strerror or error
                raise OutputError(f"The prepared case cannot be kept in {self.folder} ({reason}).") from error
        finally:
            if draft is not None:
                shutil.rmtree(draft, ignore_errors=True)  # gone already where all went well
        return self._load(done.case, done.key) or done

    def _load(self, case: Case, key: str, places: dict | None = None) -> PreparedCase | None:
        folder = self.folder / key if self.folder is not None else None
        if folder is None or not folder.is_dir():
            return None
        try:
            record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
            size = (folder / "image.npy").stat().st_size
            mode = "r" if size >= _MAPPED_FROM else None
            image = np.load(folder / "image.npy", mmap_mode=mode, allow_pickle=False)
            labels = np.load(folder / "labels.npy", mmap_mode=mode, allow_pickle=False) if self.segments else None
            grids = [Geometry(np.array(m), tuple(s)) for m, s in (record["geometry"], record["source"])]
            order = tuple(record["order"][0]), tuple(record["order"][1])
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"The prepared case '{case.id}' in {folder} is damaged ({str(error)[:90].rstrip('.')}); delete it."
            ) from error
        prepared = Prepared(np.empty(0, np.float32), grids[0], grids[1], order)
        return PreparedCase(case, key, image, labels, _places(labels) if places is None else places, prepared)


def _without_array(prepared: Prepared) -> Prepared:
    return Prepared(np.empty(0, np.float32), prepared.geometry, prepared.source, prepared.order)


def _places(labels: np.ndarray | None) -> dict:
    """Some voxels of each label, evenly picked where there are many."""
    if labels is None:
        return {}
    found = np.flatnonzero((labels > 0) & (labels != UNLABELLED))
    values = np.asarray(labels).reshape(-1)[found]
    result = {}
    for label in np.unique(values).tolist():
        at = found[values == label]
        at = at[:: max(1, len(at) // _MOST_PLACES)]
        result[int(label)] = np.stack(np.unravel_index(at, labels.shape), axis=1).astype(np.int32)
    return result
