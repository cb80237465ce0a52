"""Train the brain models that the extension ships, on synthetic images only: tissues, and the brain itself.

    python train_brain.py --data FOLDER --work FOLDER

FOLDER is the folder ``brain`` with the ICBM152 2009a template (``mni152_t1``, ``_gm``, ``_wm``), Colin27 (``ch2`` and
``ch2bet``) and a further head (``t1_head_256``), each ``.nii.gz``. Two networks are trained that have seen the shapes
of different brains: ``icbm`` those of the template and the further head, ``colin`` those of Colin27 and the further
head. So the first can be judged on Colin27 and the second on the template.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import train_tools as tools

STEPS = 1400
CHANNELS = [8, 16, 32, 48]
SPACING = 1.5
WINDOW = (64, 80, 64)
"""Voxels along the axes K, J, I."""
MEMBERS = {"icbm": ("icbm", "head"), "colin": ("colin", "head")}
CSF, GREY, WHITE = 1, 2, 3
METRICS: dict[str, dict[str, float]] = {"brain_tissue": {}, "brain_extraction": {}}
"""The network `icbm` judged on Colin27, `colin` on ICBM152; `make bench NAME=segmentation` computes them."""
_CLUSTERS = 6
_FIRST_SHELL = 4 + _CLUSTERS


@dataclass(frozen=True)
class Source:
    """A head as labels on a grid of 1.5 mm, axes along S, A, R.

    Parameters
    ----------
    labels : (K, J, I) int64 tensor
        0 air, 1 cerebrospinal fluid, 2 grey, 3 white matter, from 4 on clusters of the rest of the head.
    brain : (K, J, I) float tensor
        1 within the brain's closed surface.
    distance : (K, J, I) float tensor or None
        From the brain in voxels, where there is no head about it.
    reference : (L,) tensor
        Mean value of each label in the T1-weighted image, 0…1; -1 for the labels of shells.
    """

    labels: object
    brain: object
    distance: object
    reference: object


def sources(data: Path, work: Path) -> dict[str, Source]:
    """The heads, by name; made once and kept in ``work``."""

    def made():
        heads = {"icbm": _icbm(data), "colin": _colin(data), "head": _further_head(data)}
        return {name: vars(source) for name, source in heads.items()}

    return {name: Source(**fields) for name, fields in tools.kept(work / "brain_sources.pt", made).items()}


def _read(path: Path):
    """A volume on the training grid's spacing and axes, float32."""
    from MedImgAILib.core import Context
    from MedImgAILib.core.model_card import ModelInput
    from MedImgAILib.hosts.files import read_file
    from MedImgAILib.networks.preparation import prepare

    return prepare(read_file(path), ModelInput("T1", "MR", 1, (SPACING,) * 3, "RAS"), Context("cpu"))


def _icbm(data: Path) -> Source:
    t1, grey, white = (_read(data / f"mni152_{name}.nii.gz").array[0] for name in ("t1", "gm", "wm"))
    tissue = np.where(white > 127, WHITE, np.where(grey + white > 127, GREY, np.where(t1 > 0, CSF, 0)))
    return _source(t1, tissue, head=False)


def _colin(data: Path) -> Source:
    t1, brain = (_read(data / f"{name}.nii.gz").array[0] for name in ("ch2", "ch2bet"))
    return _source(t1, tissues(t1, brain > 20))


def _further_head(data: Path) -> Source:
    head, template = _read(data / "t1_head_256.nii.gz"), _read(data / "mni152_t1.nii.gz")
    mask = _carried(template, head)
    return _source(head.array[0], tissues(head.array[0], mask))


def tissues(t1: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Labels 0…3 by the values within a brain mask: half way between the means of a mixture of three Gaussians."""
    from scipy.ndimage import gaussian_filter, median_filter

    values = np.random.default_rng(0).choice(t1[brain].astype(np.float64), 50000)
    mean = np.percentile(values, (8, 45, 85))
    spread, weight = np.full(3, np.ptp(mean) / 4), np.full(3, 1 / 3)
    for _ in range(40):
        each = weight * np.exp(-0.5 * ((values[:, None] - mean) / spread) ** 2) / spread
        each /= each.sum(axis=1, keepdims=True) + 1e-300
        total = each.sum(axis=0)
        weight, mean = total / total.sum(), (each * values[:, None]).sum(axis=0) / total
        spread = np.sqrt((each * (values[:, None] - mean) ** 2).sum(axis=0) / total) + 1e-3
    # Shading: the white matter's local mean is made the same everywhere.
    white = brain & (t1 > (mean[1] + mean[2]) / 2)
    local = gaussian_filter(np.where(white, t1, 0.0), 12) / (gaussian_filter(white.astype(np.float64), 12) + 1e-3)
    even = t1 * np.where(local > 0.5 * mean[2], mean[2] / np.maximum(local, 1e-3), 1)
    labels = 1 + np.digitize(median_filter(even, 3) * 0.3 + even * 0.7, (mean[:2] + mean[1:]) / 2)
    return np.where(brain, labels, 0)


def _carried(template, head):
    """The template's brain mask on a head, by affine and then free-form registration (mutual information)."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)

    def image(prepared):
        result = sitk.GetImageFromArray(prepared.array[0])
        result.SetSpacing((SPACING,) * 3)
        center = [SPACING * (n - 1) / 2 for n in result.GetSize()]
        result.SetOrigin([-c for c in center])
        return result

    fixed, moving = image(template), image(head)
    mask = sitk.Cast(fixed > 0, sitk.sitkUInt8)
    near = sitk.BinaryDilate(mask, [3] * 3)
    coarse = [sitk.Shrink(sitk.SmoothingRecursiveGaussian(i, 1.2), [2] * 3) for i in (fixed, moving)]

    def registration(transform, steps):
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(32)
        method.SetMetricFixedMask(near)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(0.3, 1)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetInitialTransform(transform, True)
        method.SetOptimizerAsGradientDescentLineSearch(1.0, steps, 1e-5, 10)
        method.SetOptimizerScalesFromPhysicalShift()
        return method

    affine = sitk.AffineTransform(
        sitk.CenteredTransformInitializer(
            *coarse, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
        )
    )
    method = registration(affine, 40)
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([2, 0])
    method.Execute(*coarse)
    free = sitk.BSplineTransformInitializer(coarse[0], [6, 7, 6], 3)
    method = registration(free, 60)
    method.SetMovingInitialTransform(affine)
    method.Execute(*coarse)
    both = sitk.CompositeTransform([affine, free])
    field = sitk.TransformToDisplacementField(
        both, sitk.sitkVectorFloat64, moving.GetSize(), moving.GetOrigin(), moving.GetSpacing()
    )
    back = sitk.DisplacementFieldTransform(sitk.InvertDisplacementField(field, 30))
    carried = sitk.Resample(sitk.Cast(mask, sitk.sitkFloat32), moving, back, sitk.sitkLinear, 0.0)
    return sitk.GetArrayFromImage(carried) > 0.5


def _source(t1: np.ndarray, tissue: np.ndarray, head: bool = True) -> Source:
    import torch
    from scipy.ndimage import binary_closing, binary_fill_holes, distance_transform_edt, gaussian_filter, label

    solid = np.pad(tissue >= GREY, 4)
    numbers, _ = label(solid)
    solid = numbers == np.bincount(numbers.ravel())[1:].argmax() + 1
    ball = np.linalg.norm(np.indices((5, 5, 5)) - 2, axis=0) <= 2.2
    solid = binary_fill_holes(binary_closing(solid, ball))[4:-4, 4:-4, 4:-4]
    t1 = (t1 / np.percentile(t1[tissue == WHITE], 50) * 0.8).clip(0, 1.2)
    labels, distance = tissue.copy(), None
    if head:
        smooth = gaussian_filter(t1, 1.5)
        body = binary_fill_holes(smooth > 0.08)
        rest = body & (tissue == 0)
        edges = np.quantile(t1[rest], np.linspace(0, 1, _CLUSTERS + 1)[1:-1])
        labels[rest] = 4 + np.digitize(t1[rest], edges)
    else:
        distance = torch.from_numpy(distance_transform_edt(tissue == 0).astype(np.float32))
    reference = np.full(_FIRST_SHELL + 4, -1.0, np.float32)
    for number in range(1, _FIRST_SHELL):
        if (labels == number).any():
            reference[number] = t1[labels == number].mean()
    # Fluid, bone, marrow or muscle, fat.
    reference[_FIRST_SHELL:] = reference[CSF], 0.05, 0.35, 0.9
    reference[0] = 0
    return Source(
        torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(solid.astype(np.float32)), distance,
        torch.from_numpy(reference),
    )  # fmt: skip


def drawn(source: Source, rng):
    """(image (1, K, J, I), tissue (K, J, I), brain (K, J, I)) of a random shape, contrast and part of a head."""
    import torch
    from MedImgAILib.networks.synthesis import shells, synthetic_image
    from torch.nn import functional

    grid = tools.random_grid(WINDOW, source.labels.shape, rng, degrees=20, scale=0.15, shift=30, bend=2, knots=5)

    def at(values, mode):
        return functional.grid_sample(values[None, None].float(), grid, mode=mode, align_corners=True)[0, 0]

    labels = at(source.labels, "nearest").to(torch.int64)
    brain = at(source.brain, "bilinear") > 0.5
    tissue = torch.where(labels < 4, labels, 0)
    if source.distance is not None:
        # Beyond the edge of the array it is far from the brain.
        distance = at(source.distance - 99, "bilinear") + 99
        if tools.chance(rng, 0.6):
            labels = torch.where(tissue == 0, shells(distance, rng, _FIRST_SHELL), labels)
    elif tools.chance(rng, 0.2):
        labels = tissue
    image = synthetic_image(labels, source.reference, rng)
    if tools.chance(rng, 0.2):
        # Nothing is left about the brain, as after extraction by others.
        image = torch.where(brain if tools.chance(rng, 0.5) else tissue > 0, image, 0)
    low, high = torch.quantile(image.flatten()[::37], torch.tensor([0.01, 0.995]))
    image = ((image - low) / (high - low + 1e-6)).clamp(0, 1) * tools.uniform(rng, 0.8, 1.1)
    return image[None], tissue, brain


def loss(scores, truth):
    """Of the tissues, and of the brain as a class of its own in the last channel."""
    import torch
    from torch.nn import functional

    tissue, brain = truth
    score, wanted = scores[:, 4], brain.float()
    probability = torch.sigmoid(score)
    overlap = (2 * (probability * wanted).sum() + 1) / (probability.sum() + wanted.sum() + 1)
    entropy = functional.binary_cross_entropy_with_logits(score, wanted)
    return tools.dice_and_entropy(scores[:, :4], tissue) + entropy + 1 - overlap


def train(heads: dict, member: str, options) -> dict:
    """The weights of one network: five channels, background, three tissues and brain."""
    import torch
    from MedImgAILib.networks.residual_unet import ResidualUNet

    seen = [heads[name] for name in MEMBERS[member]]

    def sample(rng):
        image, tissue, brain = drawn(seen[int(torch.randint(len(seen), (), generator=rng))], rng)
        return image[None], (tissue[None], brain[None])

    torch.manual_seed(options.seed)
    network = ResidualUNet(CHANNELS, 5)
    path = options.work / f"brain_{member}.pt"
    return tools.fit(network, sample, STEPS, path, options, rate=4e-3, kept=0.995, loss_of=loss, report_every=100)


def cards():
    """Two packages of the same weights: tissues, and the brain alone."""
    from MedImgAILib.core.model_card import ModelCard, ModelInput, ModelOutput
    from MedImgAILib.core.model_inference import Inference
    from MedImgAILib.core.model_intensity import Intensity
    from MedImgAILib.networks.anatomy import segments

    rules = {"window": WINDOW[::-1], "overlap": 0.4}
    found = {
        "brain_tissue": (
            "Brain tissue in any contrast (U-Nets)", ("Cerebrospinal fluid", "Grey matter", "White matter"),
            Inference(**rules, channels=(0, 1, 2, 3)),
        ),
        "brain_extraction": (
            "Brain extraction in any contrast (U-Nets)", ("Brain",),
            Inference(**rules, channels=(4,), activation="sigmoid", largest=(1,)),
        ),
    }  # fmt: skip
    shared = {
        "inputs": (
            ModelInput("image", "MR", 1, (SPACING,) * 3, "RAS", Intensity("percentiles", lower=1, upper=99.5)),
        ),
        "architecture": "medimgai.ResidualUNet",
        "arguments": {"channels": CHANNELS, "classes": 5},
        "license": "Apache-2.0",
        "citation": "Method: Billot B, Greve DN, Puonti O, et al. SynthSeg: segmentation of brain MRI scans of any "
        "contrast and resolution without retraining. Med Image Anal 2023; 86:102789.",
        "training_data": "Synthetic images only, of random contrast, drawn from the shapes of three heads: ICBM152 "
        "2009a (grey and white matter; ICBM's licence), Colin27 (ch2 and ch2bet of MRIcron, BSD-3) and brainchop's "
        "example (MIT), the latter two labelled by their values; Scripts/train_brain.py.",
        "intended_use": "Research on images of adult brains, with or without skull, in any contrast of MR.",
        "limits": "Three heads lent their shapes: large lesions, children and strong atrophy were never shown. Grey "
        "and white matter are told apart by shape where the contrast is weak, which is less exact.",
    }  # fmt: skip
    return [
        ModelCard(
            id=name, version="1.0.0", title=title, task="segmentation", metrics=METRICS[name], inference=inference,
            outputs=(ModelOutput("segmentation", "segmentation", segments(*names)),), **shared,
        )
        for name, (title, names, inference) in found.items()
    ]  # fmt: skip


def main():
    parser = tools.arguments(__doc__, "folder with the templates")
    parser.add_argument("--member", choices=MEMBERS, help="train this network only")
    options = parser.parse_args()
    options.deadline = time.monotonic() + 60 * options.minutes
    heads = sources(options.data, options.work)
    try:
        wanted = MEMBERS if options.member is None else [options.member]
        states = [train(heads, member, options) for member in wanted]
    except tools.OutOfTime:
        print("Out of time; the same command resumes.")
        return
    if options.member is None:
        unseen = dict(zip(tools.weight_names(len(MEMBERS)), (["Colin27"], ["ICBM152"])))
        for made in cards():
            tools.write_package(options.output / made.id, made, states, unseen)


if __name__ == "__main__":
    main()
