"""How a model's network is applied to a prepared image: the card's ``inference`` object."""

from __future__ import annotations

from dataclasses import dataclass

from .model_json import Node

MODES = ("sliding_window", "whole")
ACTIVATIONS = ("softmax", "sigmoid", "regions")


@dataclass(frozen=True)
class Inference:
    """Fields of the object; all are optional.

    Parameters
    ----------
    mode : "sliding_window" or "whole"
    window : (i, j, k), optional
        Voxels of a window; None lets the program choose by the free memory.
    overlap : float
        Share of a window that its neighbour covers too, 0 ≤ overlap < 1.
    activation : "softmax", "sigmoid" or "regions"
        Softmax: channel 0 is background. Sigmoid: channel c is the label c + 1 where it exceeds ``threshold`` and all
        others. Regions (that lie in one another): the last channel c that exceeds ``threshold`` gives the label c + 1.
    channels : tuple of int, optional
        The network's output channels that are used, in this order; all by default.
    threshold : float
    largest : tuple of int
        Labels of which only the largest connected part is kept.
    mirrored : tuple of "i", "j" and "k"
        Axes along which the image is mirrored too; the mean of the answers to all combinations decides.
    dimensions : 2 or 3
        2: the network takes the slices one by one.
    """

    mode: str = "sliding_window"
    window: tuple[int, int, int] | None = None
    overlap: float = 0.5
    activation: str = "softmax"
    threshold: float = 0.5
    dimensions: int = 3
    channels: tuple[int, ...] | None = None
    largest: tuple[int, ...] = ()
    mirrored: tuple[str, ...] = ()

    @classmethod
    def read(cls, node: Node) -> Inference:
        """Check and read the object.

        Raises
        ------
        ModelError
        """
        mode, activation = (
            node.text(name, "|".join(choices), getattr(cls, name))
            for name, choices in (("mode", MODES), ("activation", ACTIVATIONS))
        )
        window = voxels(node, "window")
        overlap, threshold = (
            float(node.take(name, (int, float), getattr(cls, name))) for name in ("overlap", "threshold")
        )
        dimensions = node.integer("dimensions", 2, cls.dimensions)
        channels, largest = node.take("channels", list, None), node.take("largest", list, [])
        mirrored = node.take("mirrored", list, [])
        node.end()
        if channels is not None:
            if not channels or not all(type(c) is int and 0 <= c < 1000 for c in channels):
                node.fail("channels", "a list of channel numbers from 0 on is needed")
            channels = tuple(channels)
        if not all(type(n) is int and n > 0 for n in largest):
            node.fail("largest", "a list of labels is needed")
        if not all(axis in ("i", "j", "k") for axis in mirrored) or len(set(mirrored)) < len(mirrored):
            node.fail("mirrored", 'some of "i", "j" and "k" are needed, each once')
        if not 0 <= overlap < 1:
            node.fail("overlap", "a share of at least 0 and less than 1 is needed")
        if not 0 < threshold < 1:
            node.fail("threshold", "a probability between 0 and 1 is needed")
        if dimensions > 3 or (dimensions == 2 and window and window[2] != 1):
            node.fail("dimensions", "2 (with windows of one slice) or 3 is needed")
        return cls(mode, window, overlap, activation, threshold, dimensions, channels, tuple(largest), tuple(mirrored))

    def to_json(self) -> dict:
        """The object of ``model.json``; empty if all is as by default."""
        given = {k: v for k, v in vars(self).items() if v != getattr(type(self), k)}
        for name in ("window", "channels", "largest", "mirrored"):
            if name in given:
                given[name] = list(given[name])
        return given


def voxels(node: Node, name: str) -> tuple[int, int, int] | None:
    """An optional list of three positive whole numbers."""
    given = node.numbers(name, 3, None)
    if given is None:
        return None
    if any(n != int(n) or n < 1 for n in given):
        node.fail(name, "three positive whole numbers are needed")
    return tuple(int(n) for n in given)
