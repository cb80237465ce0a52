"""A value that is ready to be put into a node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...core.errors import OutputError


@dataclass(frozen=True)
class Prepared:
    """All that can fail because of the value is done; :attr:`install` only hands finished VTK objects to a node.

    Parameters
    ----------
    node_class : str
        MRML class of a new node.
    accepts : tuple of str
        MRML classes that may be overwritten.
    install : callable
        Takes the node, which is in a scene.
    exact : bool
        Whether a subclass of an accepted class is refused.
    """

    node_class: str
    accepts: tuple[str, ...]
    install: Callable
    exact: bool = False

    def check_target(self, node, scene, who: str):
        """Raise :class:`OutputError` if ``node`` cannot be overwritten with the value."""
        if scene.GetNodeByID(node.GetID() or "") is not node:
            raise OutputError(f"The output node '{node.GetName()}' is no longer in the scene; choose another.")
        fits = node.GetClassName() in self.accepts if self.exact else any(node.IsA(name) for name in self.accepts)
        if not fits:
            raise OutputError(
                f"{who} cannot be stored in '{node.GetName()}', which is a {node.GetNodeTagName()} node; "
                "choose another output or create a new one."
            )
