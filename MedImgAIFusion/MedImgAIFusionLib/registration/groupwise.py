"""Many images onto their common middle, none of them the reference: for time series and groups.

All are registered to one frame, then to the mean of all, round by round; after each round the transforms are shifted so
that their mean is the identity (Guimond et al. 2000, Comput Vis Image Underst 77:192).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from MedImgAILib.core import CompositeTransform, Context, Geometry, LinearTransform, Volume
from MedImgAILib.core.resampling import resample_volume

from . import diffeomorphic, fields, linear, quality
from .warping import Quiet, displacement


@dataclass(frozen=True)
class Options:
    """How to register; see the task's parameters."""

    model: str = "rigid"
    metric: str = "mutual_information"
    search: str = "header"
    rounds: int = 2
    samples: int = 20000
    iterations: int = 40


@dataclass
class Result:
    """What :func:`register` found.

    ``matrices`` has one (4, 4) for each image, mean space RAS to the image's RAS; ``warps`` one field (see
    :class:`.diffeomorphic.Result`) for each, before the matrix, or None; ``grid`` is that of the mean; ``spread`` the
    standard deviation over the images, averaged over the voxels, at the start and after each round. ``reasons`` says of
    each image why its last linear registration failed; empty if it did not.
    """

    grid: Geometry
    matrices: list
    warps: list | None = None
    spread: list = field(default_factory=list)
    reasons: list = field(default_factory=list)
    mean: Volume | None = None

    def transform(self, number: int, name: str = ""):
        """The parts of the transform that carries an image to the mean space, the image's points first."""
        parts = [LinearTransform(np.linalg.inv(self.matrices[number]), name=name)]
        if self.warps:
            parts.append(displacement(self.warps[number].to_moving, self.warps[number].geometry, name))
        return parts

    def inverse(self, number: int, name: str = ""):
        """The parts of the transform from the mean space to an image."""
        parts = [displacement(self.warps[number].to_fixed, self.warps[number].geometry, name)] if self.warps else []
        return [*parts, LinearTransform(self.matrices[number], name=name)]


def register(images: list, options: Options, context: Context) -> Result:
    """Bring the images to their common middle.

    Parameters
    ----------
    images : list of scalar Volume
        Of any grids; the first one's is the mean's.
    options : Options
    context : Context
        Progress counts the registrations.

    Returns
    -------
    Result
    """
    result = Result(images[0].geometry, [np.eye(4) for _ in images], reasons=[""] * len(images))
    linear_model = "affine" if options.model == "affine" else "rigid"
    settings = linear.Options(linear_model, options.metric, options.search, samples=options.samples)
    total = len(images) * (options.rounds + (options.model == "deformable"))
    done = 0
    reference = replace(images[_middle(images)], name="reference")
    _measure(result, images, context)
    for number in range(options.rounds):
        for n, image in enumerate(images):
            context.progress(done / total, f"Round {number + 1} of {options.rounds}")
            if image.array is not reference.array:
                with context.part(done / total, (done + 1) / total) as part:
                    start = result.matrices[n] if number else None
                    found = linear.register(reference, image, settings, Quiet(part), start=start)
                result.matrices[n] = found.matrix
                result.reasons[n] = quality.verdict(found, quality.compare(reference, image, found.matrix)[0])
            done += 1
        # From the second round on only small corrections are looked for.
        settings = replace(settings, search="header")
        result.matrices = _centered(result.matrices)
        reference = _measure(result, images, context)
    if options.model == "deformable":
        warps = []
        plan = diffeomorphic.Options(_WARPED_BY.get(options.metric, "local_correlation"), options.iterations)
        for n, image in enumerate(images):
            with context.part(done / total, (done + 1) / total) as part:
                warps.append(diffeomorphic.register(reference, image, result.matrices[n], plan, Quiet(part)))
            done += 1
        result.warps = _centered_warps(warps)
        _measure(result, images, context)
    return result


_WARPED_BY = {"mean_squares": "mean_squares", "normalized_gradients": "normalized_gradients"}
"""The warp's likeness where it is not the local correlation."""


def _middle(images) -> int:
    """The image most like the others where their headers put them: the the greatest mean correlation."""
    grid = images[0].geometry
    coarse = grid.with_spacing(np.maximum(grid.spacing, np.array(grid.shape[::-1]) * grid.spacing / 24))
    small = []
    for image in images:
        array = resample_volume(image, coarse, "linear", None, float(image.array.min())).array.ravel()
        array = array.astype(np.float64) - array.mean()
        small.append(array / max(np.linalg.norm(array), 1e-12))
    small = np.stack(small)
    # Rounded, so that the storage order does not decide between equals.
    return int(np.argmax(np.round(np.abs(small @ small.T).sum(axis=1), 6)))


def _centered(matrices):
    """The matrices with a common map taken off, so that the mean of their logarithms is zero."""
    from scipy.linalg import expm, logm

    mean = expm(np.mean([np.real(logm(matrix)) for matrix in matrices], axis=0))
    return [matrix @ np.linalg.inv(mean) for matrix in matrices]


def _centered_warps(warps):
    """The warps with their mean taken off, on the grid they share."""
    grid = warps[0].geometry.cropped(tuple(s.start for s in warps[0].inside), _inner_shape(warps[0]))
    inner = [warp.to_moving[(slice(None), *warp.inside)] for warp in warps]
    shift = fields.inverse(np.mean(inner, axis=0))
    centered = [fields.compose(one, shift) for one in inner]
    return [diffeomorphic.run_out(one, grid, warp.history) for one, warp in zip(centered, warps, strict=True)]


def _inner_shape(warp):
    return tuple(s.stop - s.start for s in warp.inside)


def _measure(result, images, context) -> Volume:
    """The mean of the images as they lie now, noted in the result with their spread."""
    total = np.zeros(result.grid.shape)
    squares, counts = np.zeros(result.grid.shape), np.zeros(result.grid.shape, np.int32)
    for number, image in enumerate(images):
        context.check()
        transform = CompositeTransform(result.transform(number))
        image = image.with_array(image.array.astype(np.float32))
        moved = resample_volume(image, result.grid, "linear", transform, np.nan).array.astype(np.float64)
        seen = np.isfinite(moved)
        moved[~seen] = 0
        total += moved
        squares += moved**2
        counts += seen
    shared = np.maximum(counts, 1)
    mean = total / shared
    everywhere = counts == len(images)
    variance = np.maximum(squares / shared - mean**2, 0)
    result.spread.append(float(np.sqrt(variance[everywhere]).mean()) if everywhere.any() else float("nan"))
    context.curve("Standard deviation over the images", len(result.spread) - 1, result.spread[-1])
    low = min(float(image.array.min()) for image in images)
    mean[counts == 0] = low
    result.mean = Volume(mean.astype(np.float32), result.grid, name="mean", units=images[0].units)
    return result.mean
