"""Training samples of the promptable network: a structure, an image in which it lies, and prompts.

A third of the pictures are real, a third are painted from label maps with random intensities (Billot et al. 2023,
Med Image Anal 86:102789), a third show random shapes (Hoffmann et al. 2022, IEEE TMI 41:543).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

LARGEST_SHARE, FEWEST_VOXELS = 0.6, 120
"""A structure fills no more of a sample, and has no fewer voxels there."""

SHARES = {"abdomen": 0.5, "thorax": 0.1, "colin": 0.05, "mni152": 0.1, "ms26": 0.05, "tumour": 0.1, "hippocampus": 0.1}
"""How often each group of images is drawn."""


@dataclass
class Case:
    """A labelled image on a grid with axes at right angles; ``spacing`` in mm (k, j, i)."""

    name: str
    image: np.ndarray
    labels: np.ndarray
    spacing: np.ndarray
    places: dict = field(default_factory=dict)
    pyramid: list = field(default_factory=list)

    def __post_init__(self):
        self.image = self.image.astype(np.float32)
        for number, box in enumerate(ndimage.find_objects(self.labels), start=1):
            if box is None:
                continue
            voxels = np.argwhere(self.labels[box] == number) + [s.start for s in box]
            if len(voxels) >= 25:
                extent = max((s.stop - s.start) * mm for s, mm in zip(box, self.spacing))
                self.places[number] = voxels[:: max(1, len(voxels) // 3000)], extent
        for step in (1, 2, 4):
            smooth = ndimage.gaussian_filter(self.image, 0.4 * step) if step > 1 else self.image
            self.pyramid.append((step, smooth[::step, ::step, ::step]))


def load_cases(data: Path) -> list[Case]:
    """The labelled images to learn from; see the model's card."""
    import SimpleITK as sitk

    def read(name):
        image = sitk.ReadImage(str(data / name))
        return sitk.GetArrayFromImage(image), np.array(image.GetSpacing()[::-1])

    cases = []

    def add(name, image, labels):
        array, spacing = read(image)
        cases.append(Case(name, array, labels, spacing))

    def labels_of(name):
        return read(name)[0].astype(np.uint8)

    add("abdomen", "ct/ts_abdomen_ct.nii.gz", labels_of("ct/ts_abdomen_ct_seg117.nii.gz"))
    add("thorax", "ct/ts_thorax_cropped_ct.nii.gz", labels_of("ct/ts_thorax_cropped_aorta.nii.gz"))
    add("colin", "brain/ch2.nii.gz", (labels_of("brain/ch2bet.nii.gz") > 0).astype(np.uint8))
    grey, white = (read(f"brain/mni152_{n}.nii.gz")[0] for n in ("gm", "wm"))
    tissue = np.where(grey > 127, 1, np.where(white > 127, 2, 0)).astype(np.uint8)
    add("mni152", "brain/mni152_t1.nii.gz", tissue)
    lesions = labels_of("ms_multimodal/patient26/lesion_gt.nii.gz")
    for contrast in ("FLAIR", "T2"):
        add(f"ms26 {contrast}", f"ms_multimodal/patient26/{contrast}.nii.gz", lesions)
    add("tumour", "brain_tumour/brain1_image.nrrd", labels_of("brain_tumour/brain1_label.nrrd"))
    for number, path in enumerate(sorted((data / "hippocampus" / "images").glob("*.nii.gz"))):
        if number % 8:  # every eighth is kept to judge by
            whole = (labels_of(f"hippocampus/labels/{path.name}") > 0).astype(np.uint8)
            add(f"hippocampus {path.name}", path.relative_to(data), whole)
    return cases


def sample(cases: list[Case], rng, size: int):
    """An image (size³ float32 about 0…1) and the structure in it (size³ bool)."""
    while True:
        kind = rng.random()
        if kind < 0.35:
            labels = _shapes(rng, size)
            image, start = None, tuple(rng.integers(size // 4, 3 * size // 4, 3))
        else:
            group = rng.choice(list(SHARES), p=list(SHARES.values()))
            of_group = [c for c in cases if c.name.startswith(group)]
            case = of_group[rng.integers(len(of_group))]
            image, labels, start = _crop(case, rng, size)
        if labels[start] == 0:
            continue
        parts, _ = ndimage.label(labels == labels[start])
        target = parts == parts[start]
        if FEWEST_VOXELS <= target.sum() <= LARGEST_SHARE * target.size:
            break
    if image is None or rng.random() < 0.45:
        image = _painted(labels, image, rng)
    return _altered(image, rng), target


def _shapes(rng, size):
    """Labels 1, 2, …: where each of several smooth random fields is the largest, with ellipsoids above them."""
    count = rng.integers(2, 6)
    coarse = int(rng.integers(3, 8))
    fields = np.stack([_smooth(rng, coarse, size) for _ in range(count)])
    labels = (fields.argmax(axis=0) + 1).astype(np.uint8)
    grid = np.indices((size,) * 3, dtype=np.float32)
    for number in range(rng.integers(0, 6)):
        middle, radii = rng.uniform(0.15, 0.85, 3) * size, rng.uniform(0.1, 0.35, 3) * size
        turn = _rotation(rng, np.pi)
        offset = np.tensordot(turn, grid - middle[:, None, None, None], axes=1)
        distance = np.sqrt(((offset / radii[:, None, None, None]) ** 2).sum(axis=0))
        labels[distance + 0.3 * fields[number % count] < 1] = count + 1 + number
    return labels


def _smooth(rng, coarse, size):
    return ndimage.zoom(rng.normal(size=(coarse,) * 3).astype(np.float32), size / coarse, order=1)[:size, :size, :size]


def _rotation(rng, most):
    a, b, c = rng.uniform(-most, most, 3)
    rk = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    rj = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    ri = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return (rk @ rj @ ri).astype(np.float32)


def _crop(case: Case, rng, size):
    """Image and labels of a turned, stretched and bent cube about a structure, and a voxel of it."""
    numbers = list(case.places)
    voxels, extent = case.places[numbers[rng.integers(len(numbers))]]
    place = voxels[rng.integers(len(voxels))]
    side = extent / np.exp(rng.uniform(np.log(0.25), np.log(1.3)))
    step = max(side / size, 0.5 * case.spacing.min())
    start = np.rint(size / 2 + rng.uniform(-0.25, 0.25, 3) * size).astype(int)
    turn = _rotation(rng, 0.4)[rng.permutation(3)] * rng.choice([-1, 1], 3)[:, None] * rng.uniform(0.8, 1.25, 3)
    offset = np.indices((size,) * 3, dtype=np.float32) - start[:, None, None, None]
    if rng.random() < 0.5:
        bend = np.stack([_smooth(rng, 5, size) for _ in range(3)]) * rng.uniform(0.5, 2.5)
        offset += bend - bend[(slice(None), *start)][:, None, None, None]
    index = np.tensordot((turn * step).T / case.spacing[:, None], offset, axes=1) + place[:, None, None, None]
    shrink, image = max((p for p in case.pyramid if p[0] <= max(1.0, step / case.spacing.min())), key=lambda p: p[0])
    lowest = float(image.min())
    picture = ndimage.map_coordinates(image, index / shrink, order=1, mode="constant", cval=lowest, prefilter=False)
    nearest = np.rint(index).astype(np.int32)
    inside = np.all((nearest >= 0) & (nearest < np.array(case.labels.shape)[:, None, None, None]), axis=0)
    labels = np.where(inside, case.labels[tuple(np.clip(n, 0, m - 1) for n, m in zip(nearest, case.labels.shape))], 0)
    return picture, labels, tuple(start)


def _painted(labels, image, rng):
    """Each label in a random shade; what has no label is told apart by the picture, if there is one."""
    regions = labels.astype(int)
    if image is not None:
        cuts = np.quantile(image, np.sort(rng.uniform(0.05, 0.95, rng.integers(1, 5))))
        regions = np.where(labels == 0, -1 - np.digitize(image, cuts), regions)
    _, flat = np.unique(regions, return_inverse=True)
    flat = flat.reshape(labels.shape)
    count = flat.max() + 1
    # Every two shades differ; those of neighbours may still be close.
    shades = rng.permutation(np.linspace(0, 1, count)) + rng.uniform(-0.3, 0.3, count) / count
    spread = rng.uniform(0, 0.06, count)
    painted = shades[flat] + spread[flat] * rng.normal(size=labels.shape)
    return ndimage.gaussian_filter(painted.astype(np.float32), rng.uniform(0.2, 1.2))


def _altered(image, rng):
    """Window, gamma, inversion, shading, coarse slices and noise; then 1st and 99th percentile to 0 and 1."""
    low, high = np.percentile(image, [rng.uniform(0, 10), rng.uniform(90, 100)])
    image = np.clip((image - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    image = image ** np.float32(np.exp(rng.normal(0, 0.3)))
    if rng.random() < 0.3:
        image = 1 - image
    if rng.random() < 0.4:
        image = image * (1 + 0.25 * _smooth(rng, 3, len(image)))
    if rng.random() < 0.15:
        axis, step = int(rng.integers(3)), int(rng.integers(2, 4))
        thick = ndimage.uniform_filter1d(image, step, axis=axis)
        image = np.repeat(thick.take(range(0, len(image), step), axis), step, axis).take(range(len(image)), axis)
    if rng.random() < 0.3:
        image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.2))
    image = image + np.float32(0.08 * rng.random() ** 2) * rng.normal(size=image.shape).astype(np.float32)
    low, high = np.percentile(image, [1, 99])
    return ((image - low) / max(high - low, 1e-6)).astype(np.float32)


def first_prompt(target, rng) -> dict:
    """A point, a few, a scribble or a box, and now and then what does not belong to it."""
    marks = {"positive": np.zeros(target.shape, bool), "negative": np.zeros(target.shape, bool), "box": None}
    kind = rng.random()
    if kind < 0.6:
        mark(marks["positive"], target, rng)
    elif kind < 0.75:
        _scribble(marks["positive"], target, rng)
    if kind > 0.75 or rng.random() < 0.1:
        (bounds,) = ndimage.find_objects(target.astype(int))
        slack = [max(1.0, 0.1 * (b.stop - b.start)) for b in bounds]
        edges = [(b.start + rng.uniform(-s, s / 2), b.stop + rng.uniform(-s / 2, s)) for b, s in zip(bounds, slack)]
        marks["box"] = tuple(slice(max(0, round(a)), min(n, round(b))) for (a, b), n in zip(edges, target.shape))
    if rng.random() < 0.3:
        around = ndimage.binary_dilation(target, iterations=int(rng.integers(3, 9))) & ~target
        if around.any():
            mark(marks["negative"], around, rng, weighted=False)
    return marks


def mark(marked, where, rng, weighted=True):
    """Add a point in ``where``, rather in its depth than at its edge."""
    if weighted:
        depth = ndimage.distance_transform_edt(where)
        weight = (depth**2).ravel()
        place = rng.choice(weight.size, p=weight / weight.sum())
    else:
        place = rng.choice(np.flatnonzero(where))
    marked.reshape(-1)[place] = True


def _scribble(marked, target, rng):
    """A straight line between two voxels of a slice of the structure, where it stays inside."""
    axis = int(rng.integers(3))
    voxels = np.argwhere(target)
    first = voxels[rng.integers(len(voxels))]
    same = voxels[voxels[:, axis] == first[axis]]
    second = same[rng.integers(len(same))]
    steps = np.linspace(0, 1, 2 * int(np.abs(second - first).max()) + 1)[:, None]
    line = np.rint(first + steps * (second - first)).astype(int)
    marked[tuple(line.T)] = True
    marked &= target


def correct(marks, answer, target, rng) -> bool:
    """Add a point where ``answer`` (bool) is wrong over the larger volume; False if it is right."""
    missed, added = target & ~answer, answer & ~target
    if not (missed.any() or added.any()):
        return False
    if missed.sum() >= added.sum():
        mark(marks["positive"], missed, rng)
    else:
        mark(marks["negative"], added, rng)
    return True
