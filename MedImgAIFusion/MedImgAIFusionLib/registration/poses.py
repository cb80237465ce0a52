"""Linear maps from the fixed to the moving image by few parameters, all in mm.

A pose maps a fixed position x to A (x − center) + center + t. Rotations and affine terms are multiplied by the
radius of the image, so that a unit of any parameter moves the image's periphery by about a millimetre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pose:
    """A (3, 3) matrix and a translation about ``center``, in the common frame."""

    linear: np.ndarray
    shift: np.ndarray
    center: np.ndarray

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4) fixed to moving."""
        result = np.eye(4)
        result[:3, :3] = self.linear
        result[:3, 3] = self.center + self.shift - self.linear @ self.center
        return result

    @classmethod
    def from_matrix(cls, matrix, center) -> Pose:
        """The pose of a (4, 4) matrix, fixed to moving."""
        linear = matrix[:3, :3]
        return cls(linear, matrix[:3, 3] - center + linear @ center, center)

    def map(self, points):
        """(N, 3) fixed positions carried to the moving image."""
        return (points - self.center) @ self.linear.T + (self.center + self.shift)


class RigidModel:
    """Rotation vector and translation relative to a starting pose: six parameters."""

    size = 6

    def __init__(self, start: Pose, radius_mm: float):
        self._start, self._radius = start, radius_mm

    def pose(self, parameters) -> Pose:
        """The pose at these parameters; 0 is the start."""
        turned = _rotation(parameters[:3] / self._radius) @ self._start.linear
        return Pose(turned, self._start.shift + parameters[3:], self._start.center)

    def chain(self, parameters, by_linear, by_shift):
        """The derivative by the parameters from those by the pose's matrix (3, 3) and translation (3,)."""
        vector, step = parameters[:3] / self._radius, 1e-6
        result = np.empty(6)
        for axis in range(3):
            nudge = np.zeros(3)
            nudge[axis] = step
            slope = (_rotation(vector + nudge) - _rotation(vector - nudge)) / (2 * step)
            result[axis] = (by_linear * (slope @ self._start.linear)).sum() / self._radius
        result[3:] = by_shift
        return result


class AffineModel:
    """Nine matrix entries and a translation relative to a starting pose: twelve parameters."""

    size = 12

    def __init__(self, start: Pose, radius_mm: float):
        self._start, self._radius = start, radius_mm

    def pose(self, parameters) -> Pose:
        """The pose at these parameters; 0 is the start."""
        linear = self._start.linear + parameters[:9].reshape(3, 3) / self._radius
        return Pose(linear, self._start.shift + parameters[9:], self._start.center)

    def chain(self, parameters, by_linear, by_shift):
        """As :meth:`RigidModel.chain`."""
        return np.concatenate([by_linear.ravel() / self._radius, by_shift])


MODELS = {"rigid": RigidModel, "affine": AffineModel}


def _rotation(vector) -> np.ndarray:
    """(3, 3) matrix of a rotation vector in radians (Rodrigues)."""
    angle = np.sqrt(vector @ vector)
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    if angle < 1e-8:
        return np.eye(3) + cross
    return np.eye(3) + np.sin(angle) / angle * cross + (1 - np.cos(angle)) / angle**2 * (cross @ cross)


def angle_between(first, second) -> float:
    """Angle in degrees of the rotation from one (3, 3) rotation matrix to another."""
    return float(np.degrees(np.arccos(np.clip((np.trace(first.T @ second) - 1) / 2, -1, 1))))


def alike(first: Pose, second: Pose, degrees: float, distance_mm: float) -> bool:
    """Whether two poses differ by less than an angle and, at their common centre, by less than a distance."""
    near = np.linalg.norm(first.shift - second.shift) < distance_mm
    return bool(near) and angle_between(first.linear, second.linear) < degrees


def rotations(count: int) -> np.ndarray:
    """(count, 3, 3) rotations spread evenly over all: super-Fibonacci spirals (Alexa 2022, CVPR, p. 8281)."""
    n = np.arange(count) + 0.5
    phi, psi = np.sqrt(2.0), 1.533751168755204288118041
    r, big = np.sqrt(n / count), np.sqrt(1 - n / count)
    alpha, beta = 2 * np.pi * n / phi, 2 * np.pi * n / psi
    x, y, z, w = r * np.sin(alpha), r * np.cos(alpha), big * np.sin(beta), big * np.cos(beta)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)
