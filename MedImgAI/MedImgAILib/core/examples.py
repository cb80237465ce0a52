"""Small made-up inputs for any task, from its declaration: the shared tests run every task on them."""

from __future__ import annotations

import numpy as np

from . import ports
from .data import Points, Segment, Segmentation, Sequence, Table, Text, Volume
from .geometry import Geometry
from .raw import KSpace, Projections, ScanGeometry
from .terminology import BRAIN, MASS
from .transforms import LinearTransform

SHAPE = (20, 26, 32)


def example_geometry(shape=SHAPE) -> Geometry:
    """An LPS-ordered anisotropic grid away from the origin."""
    return Geometry.from_spacing(shape, (1.0, 1.2, 1.9), (16.0, 21.0, -9.0), np.diag([-1.0, -1.0, 1.0]))


def _radius(geometry: Geometry, center_mm, semi_axes_mm) -> np.ndarray:
    """(K, J, I) normalised distance from an ellipsoid's centre (given relative to the grid's middle)."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij")
    ras = geometry.ras(np.stack([i, j, k], axis=-1)) - geometry.center - np.asarray(center_mm)
    return np.linalg.norm(ras / np.asarray(semi_axes_mm), axis=-1)


def example_volume(name: str = "image", seed: int = 0, geometry: Geometry | None = None) -> Volume:
    """A head-like ellipsoid with a bright ball and a little noise; float32, intensities of about 0…150."""
    geometry = geometry or example_geometry()
    head = _radius(geometry, (0, 0, 0), (12, 13, 16)) < 1
    ball = _radius(geometry, (3, -2, 2), (4, 5, 6)) < 1
    noise = np.random.default_rng(seed).normal(0, 2, geometry.shape)
    return Volume((100.0 * head + 40.0 * ball + noise).astype(np.float32), geometry, name=name)


def example_head(name: str = "head", spacing_mm: float = 5.0) -> Volume:
    """A whole head in T1 contrast: scalp, skull, grey and white matter, ventricles; float32, about 0…120."""
    extent = np.array([180.0, 230.0, 240.0])
    shape = tuple((extent[::-1] / spacing_mm).astype(int))
    geometry = Geometry.from_spacing(shape, [spacing_mm] * 3, (90.0, 115.0, -100.0), np.diag([-1.0, -1.0, 1.0]))
    array = np.random.default_rng(0).normal(0, 2, shape)
    head = (((0, 0, -10), (78, 98, 115), 110.0), ((0, 0, 20), (72, 90, 80), 15.0), ((0, 0, 20), (66, 84, 72), 80.0))
    for center_mm, semi_axes_mm, value in (*head, ((0, 0, 20), (50, 66, 54), 120.0), ((0, 5, 20), (10, 25, 12), 30.0)):
        inside = _radius(geometry, center_mm, semi_axes_mm) < 1
        array[inside] += value - array[inside].mean()
    return Volume(array.astype(np.float32), geometry, name=name)


def example_segmentation(name: str = "segmentation", shift_mm: float = 0.0) -> Segmentation:
    """Two segments: the ellipsoid and the ball of :func:`example_volume`, the ball moved by ``shift_mm``."""
    geometry = example_geometry()
    labels = (_radius(geometry, (0, 0, 0), (12, 13, 16)) < 1).astype(np.uint8)
    labels[_radius(geometry, (3 + shift_mm, -2, 2), (4, 5, 6)) < 1] = 2
    segments = (
        Segment("Brain", 1, (0.98, 0.98, 0.88), BRAIN),
        Segment("Mass", 2, (0.56, 0.93, 0.56), MASS),
    )
    return Segmentation.from_labels(labels, geometry, segments, name)


def _example(port: ports.Port, number: int):
    geometry = example_geometry()
    if isinstance(port, ports.VolumePort):
        volume = example_volume(port.name, seed=number)
        if port.components and 1 not in port.components:
            channels = [np.roll(volume.array, c, axis=1) for c in range(port.components[0])]
            volume = Volume(np.stack(channels, axis=-1), geometry, name=port.name)
        return volume
    if isinstance(port, ports.SegmentationPort):
        return example_segmentation(port.name, shift_mm=0.8 * number)
    if isinstance(port, ports.PointsPort):
        return Points(geometry.center + np.array([[3.0, -2.0, 2.0]]), ("seed",), port.name)
    if isinstance(port, ports.TransformPort):
        matrix = np.eye(4)
        matrix[:3, :3] = [[0.995, -0.0998, 0], [0.0998, 0.995, 0], [0, 0, 1]]
        matrix[:3, 3] = (1.5, -2.0, 1.0)
        return LinearTransform(matrix, port.name)
    if isinstance(port, ports.TablePort):
        return Table({"x": np.arange(8.0), "y": np.arange(8.0) ** 2}, port.name)
    if isinstance(port, ports.TextPort):
        return Text("An example.", port.name)
    if isinstance(port, ports.SequencePort):
        items = [example_volume(f"frame {n}", seed=n) for n in range(4)]
        return Sequence(items, np.arange(4) * 500.0, name=port.name)
    if isinstance(port, ports.ProjectionsPort):
        angles = np.pi * np.arange(90) / 90
        u = np.arange(48) - 23.5
        profile = 2 * np.sqrt(np.maximum(0, 15.0**2 - u**2)) * 0.02
        scan = ScanGeometry("parallel", angles, pixel_mm=(2.0, 1.0))
        return Projections(np.broadcast_to(profile, (90, 3, 48)).astype(np.float32), scan, port.name)
    if isinstance(port, ports.KSpacePort):
        image = example_volume().array[8:10, :, :]
        coils = np.stack([image * w for w in (np.linspace(0.5, 1, 32), np.linspace(1, 0.5, 32))])
        shifted = np.fft.ifftshift(coils, axes=(-2, -1))
        kspace = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(-2, -1))
        return KSpace(kspace.astype(np.complex64), geometry.cropped((8, 0, 0), image.shape), name=port.name)
    raise TypeError(f"There is no example for a {port.kind}; the task must override example().")


def example_inputs(task) -> dict:
    """One value (a list where ``multiple``) for each input port of ``task`` that is not optional."""
    inputs, number = {}, 0
    for port in task.inputs:
        if port.optional:
            continue
        count = max(port.minimum_count, 3) if port.multiple else 1
        values = [_example(port, number + n) for n in range(count)]
        number += count
        inputs[port.name] = values if port.multiple else values[0]
    return inputs
