"""What the Segment Editor effect of the pixel classifier does to the scene; without Qt, so that it can be tested."""

from __future__ import annotations

from pathlib import Path

from ..core import Context, InputError, OutputError, Segmentation
from ..hosts.mrml.nodes import read_node
from ..hosts.mrml.results import write_node
from ..hosts.mrml.rollback import all_or_nothing
from ..segment.pixel_session import PixelSession, Settings

_PREVIEW = "MedImgAI.PixelClassifierPreview"
"""Node attribute of a preview, so that one left behind is known."""


class PixelClassifierEditor:
    """Reads strokes and image from nodes, and puts a preview and the results into the scene.

    Parameters
    ----------
    scene : vtkMRMLScene
    """

    def __init__(self, scene):
        self.scene = scene
        self.session: PixelSession | None = None
        self.preview_node = None
        self._begun_with = None

    def begin(self, volume_node, settings: Settings):
        """Take an image; what is known of it is kept as long as neither it nor the settings change."""
        key = volume_node.GetID(), volume_node.GetImageData().GetMTime(), volume_node.GetMTime(), settings
        if key != self._begun_with:
            trained = self.session.classifier if self.session is not None else None
            self.session = PixelSession([read_node(volume_node)], settings)
            if trained is not None and len(trained.images) == 1:
                self.session.classifier = trained
            self._begun_with = key
        return self.session

    def center(self):
        """RAS point in the middle of the image."""
        return self.session.geometry.center

    def preview(self, segmentation_node, point=None, axis: str = "S") -> str:
        """Show the slice of the newest stroke, or the one through ``point``, classified; returns a line for the user.

        Raises
        ------
        InputError
            In one sentence, if the strokes do not suffice.
        """
        strokes = _strokes(segmentation_node)
        newest = self.session.newest(strokes)
        if point is None:
            if newest is None:
                return ""
            point, axis = newest
        found = self.session.preview(strokes, point, axis)
        self._show(found, segmentation_node)
        names = {"S": "axial", "A": "coronal", "R": "sagittal"}
        return f"Preview of one {names[axis]} slice."

    def _show(self, found: Segmentation, segmentation_node):
        name = f"{segmentation_node.GetName()} preview"
        if self.preview_node is None or self.scene.GetNodeByID(self.preview_node.GetID() or "") is None:
            self.preview_node = write_node(found, self.scene, name=name)
            self.preview_node.SetAttribute(_PREVIEW, "1")
            self.preview_node.SetSaveWithScene(False)
        else:
            write_node(found, self.scene, self.preview_node, name)

    def apply(self, segmentation_node, volume_node, context: Context | None = None) -> dict:
        """Classify the whole image and add ``segmentation`` and ``uncertainty`` to the scene, both or none.

        The strokes teach the classifier if there are any; otherwise the loaded one is used.
        """
        try:
            strokes = _strokes(segmentation_node)
        except InputError:
            if self.session.classifier is None:
                raise
            strokes = None
        found = self.session.apply(strokes, context)
        names = {"segmentation": "classified", "uncertainty": "uncertainty"}
        nodes = {}
        with all_or_nothing(self.scene, []):
            for output, word in names.items():
                nodes[output] = write_node(found[output], self.scene, name=f"{volume_node.GetName()} {word}")
        self.clear()
        return nodes

    def save(self, path):
        """Write the trained classifier as a JSON text.

        Raises
        ------
        InputError
            If nothing was learnt yet.
        OutputError
            If the file cannot be written.
        """
        if self.session is None or self.session.classifier is None:
            raise InputError("Nothing was learnt yet; paint two segments first.")
        path = Path(path)
        draft = path.with_name(f".{path.name}.part")
        try:
            draft.write_text(self.session.classifier.to_text(), encoding="utf-8")
            draft.replace(path)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error

    def load(self, path):
        """Take a classifier that was saved.

        Raises
        ------
        InputError, ModelError
            If the file cannot be read, is none, or is for another number of images.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read as a text ({error}).") from error
        self.session.load(text)

    def clear(self):
        """Take the preview out of the scene."""
        node, self.preview_node = self.preview_node, None
        if node is not None and self.scene.GetNodeByID(node.GetID() or "") is not None:
            self.scene.RemoveNode(node)


def _strokes(segmentation_node) -> Segmentation:
    """The painted segments; those without a voxel are left out.

    Raises
    ------
    InputError
        If fewer than two are painted.
    """
    whole = read_node(segmentation_node)
    labels = whole.labelmap()
    painted = set(labels[labels > 0].tolist())
    segments = [s for n, s in enumerate(whole.segments, start=1) if n in painted]
    if len(segments) < 2:
        raise InputError("Paint a few voxels in two segments at least; one of them may be called Background.")
    if len(segments) == len(whole.segments):
        return whole
    from dataclasses import replace

    return replace(whole, segments=tuple(segments))
