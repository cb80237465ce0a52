"""Transform nodes of every kind."""

from __future__ import annotations

import numpy as np
import slicer
import vtk

from ...core.errors import InputError
from ...core.geometry import Geometry
from ...core.transforms import BSplineTransform, CompositeTransform, DisplacementTransform, LinearTransform, Transform
from .arrays import image_of_array, matrix_from_array, matrix_to_array, view_of_image
from .prepared import Prepared
from .records import read_provenance


def read_transform(node) -> Transform:
    """The transform from the node's own space to world RAS, parents included.

    Beyond its grid a displacement field is 0 here, as in ITK, while VTK continues its edge.

    Raises
    ------
    InputError
        If a part is neither linear, B-spline nor displacement grid.
    """
    to_world = vtk.vtkGeneralTransform()
    node.GetTransformToWorld(to_world)
    flat = vtk.vtkCollection()
    slicer.vtkMRMLTransformNode.FlattenGeneralTransform(flat, to_world)
    parts = []
    for n in range(flat.GetNumberOfItems()):
        for part in _parts(flat.GetItemAsObject(n), node):
            if parts and isinstance(part, LinearTransform) and isinstance(parts[-1], LinearTransform):
                part = LinearTransform(part.matrix @ parts.pop().matrix)
            parts.append(part)
    # A linear transform that does nothing is no part of a warp.
    warps = [p for p in parts if not (isinstance(p, LinearTransform) and np.array_equal(p.matrix, np.eye(4)))]
    about = {"name": node.GetName() or "", "provenance": read_provenance(node)}
    if not warps:
        return LinearTransform(np.eye(4), **about)
    if len(warps) > 1:
        return CompositeTransform(tuple(warps), **about)
    return _named(warps[0], **about)


def _named(part, name, provenance):
    if isinstance(part, LinearTransform):
        return LinearTransform(part.matrix, name, provenance)
    return type(part)(part.vectors, part.geometry, part.inverted, name, provenance)


def _parts(transform, node) -> list[Transform]:
    """A VTK transform as parts of a chain that carries points forward."""
    transform.Update()
    if transform.IsA("vtkHomogeneousTransform"):
        return [LinearTransform(matrix_to_array(transform.GetMatrix()))]
    # VTK's flag tells that the object evaluates the inverse of what its vectors describe.
    stored_to_parent = not transform.GetInverseFlag() if transform.IsA("vtkWarpTransform") else False
    if transform.IsA("vtkGridTransform"):
        vectors, geometry = _lattice(transform.GetDisplacementGrid(), transform, node)
        vectors = _scaled(vectors, transform.GetDisplacementScale(), transform.GetDisplacementShift())
        return [DisplacementTransform(vectors, geometry, inverted=stored_to_parent)]
    if transform.IsA("vtkBSplineTransform"):
        vectors, geometry = _lattice(transform.GetCoefficientData(), transform, node)
        return _bspline_parts(
            transform, _scaled(vectors, transform.GetDisplacementScale(), 0.0), geometry, stored_to_parent
        )
    raise InputError(
        f"Transform '{node.GetName()}' contains a {transform.GetClassName()[3:]}, which is not supported; "
        "convert it to a grid transform in the Transforms module."
    )


def _bspline_parts(transform, vectors, geometry: Geometry, stored_to_parent: bool) -> list[Transform]:
    if transform.GetBorderModeAsString() == "Zero" and _border(vectors).any():
        # VTK takes the coefficients beyond the grid as 0 and lets the displacement fade out over them.
        vectors = np.pad(vectors, ((3, 3), (3, 3), (3, 3), (0, 0)))
        geometry = geometry.cropped((-3, -3, -3), vectors.shape[:3])
    bulk = transform.GetBulkTransformMatrix() if hasattr(transform, "GetBulkTransformMatrix") else None
    bulk = np.eye(4) if bulk is None else matrix_to_array(bulk)
    if np.array_equal(bulk, np.eye(4)):
        return [BSplineTransform(vectors, geometry, inverted=stored_to_parent)]
    # The bulk is added to the displacement: B x + u(x) = B (x + B⁻¹ u(x)).
    vectors = vectors @ np.linalg.inv(bulk[:3, :3]).T
    parts = [BSplineTransform(vectors, geometry, inverted=True), LinearTransform(bulk)]
    return parts if stored_to_parent else [part.inverse() for part in reversed(parts)]


def _border(vectors: np.ndarray) -> np.ndarray:
    border = np.ones(vectors.shape[:3], bool)
    border[1:-1, 1:-1, 1:-1] = False
    return vectors[border]


def _scaled(vectors, scale: float, shift: float):
    return vectors if scale == 1 and shift == 0 else vectors * scale + shift


def _lattice(image, transform, node) -> tuple[np.ndarray, Geometry]:
    """The (K, J, I, 3) vectors and the grid of an oriented VTK transform."""
    vectors = view_of_image(image)
    if vectors is None:
        raise InputError(f"Transform '{node.GetName()}' has an empty grid; load or compute it first.")
    directions = transform.GetGridDirectionMatrix() if hasattr(transform, "GetGridDirectionMatrix") else None
    directions = np.eye(4) if directions is None else matrix_to_array(directions)
    geometry = Geometry.from_spacing(vectors.shape[:3], image.GetSpacing(), image.GetOrigin(), directions[:3, :3])
    start = image.GetExtent()[::2]
    return vectors, geometry.cropped(start[::-1], vectors.shape[:3])


def prepare_transform(value: Transform) -> Prepared:
    """Ready for a transform node.

    Raises
    ------
    OutputError
        If the grid's values cannot be stored in a node.
    """
    from_parent = isinstance(value, (DisplacementTransform, BSplineTransform)) and not value.inverted
    # The node gets the direction that the vectors describe, so that files keep them as they are.
    transform = _to_vtk(value.inverse() if from_parent else value)

    def install(node):
        was = node.StartModify()
        node.SetAndObserveTransformNodeID(None)
        if from_parent:
            node.SetAndObserveTransformFromParent(transform)
        else:
            node.SetAndObserveTransformToParent(transform)
        node.EndModify(was)

    accepts = ("vtkMRMLTransformNode",)
    if isinstance(value, LinearTransform):
        return Prepared("vtkMRMLLinearTransformNode", accepts, install)
    names = {BSplineTransform: "vtkMRMLBSplineTransformNode", DisplacementTransform: "vtkMRMLGridTransformNode"}
    node_class = names.get(type(value), "vtkMRMLTransformNode")
    return Prepared(node_class, tuple({"vtkMRMLTransformNode", *names.values()}), install, exact=True)


def _to_vtk(value: Transform) -> vtk.vtkAbstractTransform:
    """A VTK transform that carries points forward (to parent)."""
    if isinstance(value, LinearTransform):
        transform = vtk.vtkTransform()
        transform.SetMatrix(matrix_from_array(value.matrix))
        return transform
    if isinstance(value, CompositeTransform):
        chain = vtk.vtkGeneralTransform()
        chain.PostMultiply()
        for part in value.parts:
            chain.Concatenate(_to_vtk(part))
        return chain
    image = image_of_array(value.vectors, value.label)
    image.SetOrigin(value.geometry.origin)
    image.SetSpacing(value.geometry.spacing)
    directions = np.eye(4)
    directions[:3, :3] = value.geometry.directions
    if isinstance(value, BSplineTransform):
        transform = slicer.vtkOrientedBSplineTransform()
        transform.SetBorderModeToZero()
        transform.SetCoefficientData(image)
    else:
        transform = slicer.vtkOrientedGridTransform()
        transform.SetDisplacementGridData(image)
    transform.SetGridDirectionMatrix(matrix_from_array(directions))
    if not value.inverted:
        transform.Inverse()
    return transform
