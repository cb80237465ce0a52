"""Dice, HD95 and NSD without networks: lungs in CT, and the pixel classifier on lesions and chest radiographs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MedImgAILib.core import Geometry, Segmentation, Volume

from .segmentation_agreement import Agreement, agreement, data, labels_of, read, rows_of, run, run_all


def chest() -> list[Agreement]:
    """The radiologist's lesion in a chest CT: the part of the dense tissue that touches it."""
    from scipy.ndimage import label

    folder = data("ct")
    image, truth = read(folder / "lung1_image.nrrd"), labels_of(folder / "lung1_label.nrrd") > 0
    image = replace(image, units="HU")
    dense = run("segment.lungs_ct", {"image": image}).mask("Dense part")
    numbers, _ = label(dense)
    touching = np.isin(numbers, np.setdiff1d(np.unique(numbers[truth]), [0]))
    return [agreement("ct", "lung1", "lesion", "lungs_ct, dense part", touching, truth, image.geometry, 2.0)]


def lesions() -> list[Agreement]:
    """White-matter lesions by the pixel classifier from three contrasts.

    Strokes lie in every sixth slice; the slices between them are judged.
    """
    found = []
    for case in ("patient07", "patient26"):
        folder = data(f"ms_multimodal/{case}")
        images = [replace(read(folder / f"{name}.nii.gz"), name=name) for name in ("FLAIR", "T1", "T2")]
        truth = labels_of(folder / "lesion_gt.nii.gz") > 0
        box = _box(images[0].array > 0.05 * images[0].array.max())
        start, size = tuple(s.start for s in box), tuple(s.stop - s.start for s in box)
        grid = images[0].geometry.cropped(start, size)
        images = [replace(i, array=np.ascontiguousarray(i.array[box]), geometry=grid) for i in images]
        truth = truth[box]
        strokes = _strokes(images[0], truth)
        outputs = run_all(
            "segment.pixel_classifier_train", {"images": images, "strokes": strokes},
            {"scales_mm": "1, 2, 4", "trees": 40},
        )  # fmt: skip
        mask = outputs["segmentation"].mask("Lesion").copy()
        painted = (strokes.layers[0] > 0).any(axis=(1, 2))
        mask[painted] = truth[painted] = False
        found.append(agreement("ms_multimodal", case, "lesions", "pixel classifier", mask, truth, grid))
    return found


def chest_radiographs() -> list[Agreement]:
    """Both lungs in chest radiographs by the pixel classifier, from strokes in eight of 256 rows."""
    from MedImgAILib.core import Segment
    from MedImgAILib.core.resampling import resample_volume

    found = []
    for path in sorted(data("cxr/masks").glob("*_anat.png"))[::3]:
        name = path.stem.removesuffix("_anat")
        (picture,) = data("cxr/images").glob(f"{name}.*")
        image, mask = read(picture, spacing_mm=1.0), read(path, spacing_mm=1.0)
        if image.is_vector:
            image = image.with_array(np.ascontiguousarray(image.array[..., :3].mean(axis=-1).astype(np.float32)))
        grid = image.geometry.resized((1, 256, 256))
        image, mask = resample_volume(image, grid, "linear"), resample_volume(mask, grid, "nearest")
        grid = Geometry.from_spacing(grid.shape)
        image = replace(image, geometry=grid)
        truth = np.isin(mask.array, (1, 2))
        painted = np.zeros(truth.shape, np.uint8)
        painted[:, 16::32] = 1 + truth[:, 16::32]
        strokes = Segmentation.from_labels(painted, grid, [Segment("Rest", 1), Segment("Lungs", 2)], "strokes")
        outputs = run_all(
            "segment.pixel_classifier_train", {"images": [image], "strokes": strokes},
            {"scales_mm": "2, 4, 8, 16", "trees": 40},
        )  # fmt: skip
        lungs = outputs["segmentation"].mask("Lungs")
        found.append(agreement("cxr", name, "lungs", "pixel classifier", lungs, truth, grid, 2.0))
    return found


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    spans = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))[[0, -1]] for axis in range(3)]
    return tuple(slice(first, last + 1) for first, last in spans)


def _strokes(image: Volume, lesion: np.ndarray) -> Segmentation:
    """Lesions, and scattered voxels of the rest, in every sixth slice."""
    from MedImgAILib.core import Segment

    painted = np.zeros(lesion.shape, np.uint8)
    rng = np.random.default_rng(0)
    rest = (image.array > 0.05 * image.array.max()) & ~lesion
    painted[::6][rest[::6] & (rng.random(rest[::6].shape) < 0.05)] = 1
    painted[::6][lesion[::6]] = 2
    segments = [Segment("Rest", 1), Segment("Lesion", 2)]
    return Segmentation.from_labels(painted, image.geometry, segments, "strokes")


def rows() -> list[dict]:
    """One for each kind of image."""
    return rows_of([*chest(), *lesions(), *chest_radiographs()])


METHODS = (chest, lesions, chest_radiographs)
PARTS = (rows,)
