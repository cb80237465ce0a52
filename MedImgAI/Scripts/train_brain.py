"""Train the brain models that the extension ships, on synthetic images only: tissues, and the brain itself.

    python train_brain.py --data FOLDER --work FOLDER

FOLDER holds the twenty label maps of heads that the authors of SynthSeg publish for such trainings
(github.com/BBillot/SynthSeg, commit 66342c1, folder ``data/training_label_maps``, Apache-2.0),
``training_seg_01.nii.gz`` to ``training_seg_20.nii.gz``. No real image is seen.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import train_tools as tools

STEPS = (2000, 1500)
"""Of the coarse look alone, and of both."""
COARSE, FINE = [16, 24, 32, 32], [8, 16, 24]
"""Channels of the two U-Nets."""
SPACING = 1.5
WINDOW = (64, 80, 64)
"""Voxels along the axes K, J, I."""
CSF, GREY, WHITE = 1, 2, 3
CLOSED_MM = 6.0
"""Sulci narrower than twice this belong to the brain, as most programs and observers outline it."""
METRICS = {
    "brain_tissue": {"Dice of grey matter, ICBM152": 0.874, "Dice of white matter, ICBM152": 0.897},
    "brain_extraction": {"Dice, Colin27": 0.959},
}
"""On heads of which nothing was seen; `make bench NAME=segmentation` computes them."""
_FREE = (-1.0,) * 4
STRUCTURES = (
    # Labels of the maps (FreeSurfer's, and 500 and more outside the brain), tissue, values in T1, T2, FLAIR, PD.
    ((4, 43, 5, 44, 14, 15, 72, 136, 137, 163, 164), CSF, (0.22, 0.95, 0.12, 0.75)),
    ((24,), CSF, (0.24, 0.90, 0.18, 0.75)),
    ((2, 41, 25, 57), WHITE, (0.82, 0.42, 0.48, 0.50)),
    ((7, 46), WHITE, (0.82, 0.42, 0.48, 0.50)),
    ((16,), WHITE, (0.76, 0.46, 0.50, 0.55)),
    ((28, 60, 85), WHITE, (0.75, 0.44, 0.50, 0.56)),
    ((3, 42), GREY, (0.60, 0.58, 0.62, 0.68)),
    ((8, 47), GREY, (0.60, 0.55, 0.60, 0.66)),
    ((10, 49), GREY, (0.70, 0.50, 0.55, 0.60)),
    ((11, 50, 26, 58), GREY, (0.62, 0.55, 0.60, 0.66)),
    ((12, 51), GREY, (0.66, 0.50, 0.58, 0.62)),
    ((13, 52), GREY, (0.76, 0.38, 0.48, 0.52)),
    ((17, 53, 18, 54), GREY, (0.60, 0.58, 0.66, 0.68)),
    ((30, 62), GREY, (0.40, 0.60, 0.40, 0.50)),
    ((515,), 0, (0.10, 0.08, 0.08, 0.10)),
    *(((number,), 0, _FREE) for number in (502, 506, 507, 508, 509, 511, 512, 514, 516, 530)),
)
_IN_BRAIN = 64
"""Added to the number of a structure where the closed outline of the brain holds it."""
_BONE = 15
_TWINS = len(STRUCTURES) - _BONE + 1
"""Bone and what follows it is of two kinds in patches, for marrow, fat and muscle are not told apart in the maps."""
_LESION = len(STRUCTURES) + _TWINS + 1


@dataclass(frozen=True)
class Heads:
    """Heads as numbers of structures at 1 mm, axes along S, A, R, the brain in the middle of each array.

    Parameters
    ----------
    codes : list of (K, J, I) uint8 tensor
        0 is air, n the n-th of STRUCTURES, to which _IN_BRAIN is added within the brain's closed outline.
    contrasts : (C, L) tensor
        Values that are usual in T1 (three times), T2, FLAIR and proton density; -1 where any is.
    tissues : (L,) int64 tensor
    """

    codes: list
    contrasts: object
    tissues: object


def heads(data: Path, work: Path) -> Heads:
    """Those of the folder; made once and kept in ``work``.

    Raises
    ------
    SystemExit
        If there is none.
    """
    import torch

    paths = sorted(data.glob("training_seg_*.nii.gz"))
    if not paths:
        raise SystemExit(f"There is no training_seg_*.nii.gz in {data}.")
    codes = tools.kept(work / "brain_heads.pt", lambda: {path.name: _coded(path) for path in paths})
    contrasts = torch.full((4, _LESION + 1), -1.0)
    tissues = torch.zeros(_LESION + 1, dtype=torch.int64)
    contrasts[:, 0] = 0
    for number, (_, tissue, values) in enumerate(STRUCTURES, 1):
        contrasts[:, number], tissues[number] = torch.tensor(values), tissue
    # T1 is what heads are mostly taken in.
    return Heads(list(codes.values()), contrasts[[0, 0, 0, 1, 2, 3]], tissues)


def _coded(path: Path):
    import torch
    from MedImgAILib.hosts.files import read_file

    volume = read_file(path)
    volume = volume.reordered(*volume.geometry.canonical_order())
    label = np.rint(volume.array).astype(np.int64)
    table = np.zeros(1024, np.uint8)
    for number, (labels, _, _) in enumerate(STRUCTURES, 1):
        table[list(labels)] = number
    codes = table[label]
    tissue = np.array([0, *(tissue for _, tissue, _ in STRUCTURES)])[codes]
    matter = (tissue >= GREY) | (codes == 1)
    middle = [(int(w.min()) + int(w.max())) // 2 for w in np.nonzero(matter)]
    # All arrays get their brain's middle in theirs.
    half = [max(m, n - 1 - m) for m, n in zip(middle, codes.shape)]
    before = [(h - m, h - (n - 1 - m)) for h, m, n in zip(half, middle, codes.shape)]
    codes, matter = np.pad(codes, before), np.pad(matter, before)
    soft = (np.array([0, *(t for _, t, _ in STRUCTURES)])[codes] > 0) | (codes == 0)
    codes[_closed(matter) & (soft | matter)] |= _IN_BRAIN
    kept = np.nonzero((codes > 0).any(axis=(1, 2)))[0]
    reach = max(half[0] - int(kept[0]), int(kept[-1]) - half[0])
    return torch.from_numpy(np.ascontiguousarray(codes[half[0] - reach : half[0] + reach + 1]))


def _closed(matter: np.ndarray) -> np.ndarray:
    """(K, J, I) bool at 1 mm, closed by a ball, computed at 2 mm."""
    import torch
    from scipy.ndimage import binary_fill_holes, distance_transform_edt
    from torch.nn import functional

    margin = int(CLOSED_MM) + 4
    box = tuple(slice(max(0, w.min() - margin), w.max() + margin + 1) for w in np.nonzero(matter))
    inner = torch.from_numpy(matter[box].astype(np.float32))[None, None]
    coarse = functional.interpolate(inner, scale_factor=0.5, mode="area")[0, 0].numpy() > 0.5
    near = distance_transform_edt(~np.pad(coarse, 5)) * 2 <= CLOSED_MM
    deep = distance_transform_edt(near)[5:-5, 5:-5, 5:-5] * 2
    fine = functional.interpolate(
        torch.from_numpy(deep.astype(np.float32))[None, None], inner.shape[2:], mode="trilinear"
    )
    result = matter.copy()
    result[box] |= fine[0, 0].numpy() > CLOSED_MM
    return binary_fill_holes(result)


def drawn(shapes: Heads, plan, rng):
    """(image (1, K, J, I), tissue (K, J, I), brain (K, J, I)) of a random shape, contrast and part of a head."""
    import torch
    from MedImgAILib.networks.synthesis import patches, synthetic_image

    source = shapes.codes[int(torch.randint(len(shapes.codes), (), generator=rng))]
    far = 75 if tools.chance(rng, 0.2) else 45
    grid = tools.random_grid(WINDOW, source.shape, rng, degrees=20, scale=0.15, shift=far, bend=3.5, knots=6,
                             enlarged=float(np.log(SPACING)))[0].flip(-1)  # fmt: skip
    index, inside = 0, True
    for axis, count in enumerate(source.shape):
        place = ((grid[..., axis] + 1) * ((count - 1) / 2)).round().to(torch.int64)
        inside = inside & (place >= 0) & (place < count)
        index = index * count + place.clamp(0, count - 1)
    code = source.flatten()[index] * inside
    brain, labels = code >= _IN_BRAIN, (code % _IN_BRAIN).to(torch.int64)
    tissue = shapes.tissues[labels]
    missing = _missing(rng)
    tissue[missing], brain[missing] = 0, False
    twins = patches(WINDOW, rng, 10, tools.uniform(rng, 0.1, 0.5))
    labels = torch.where((labels >= _BONE) & twins, labels + _TWINS, labels)
    if tools.chance(rng, 0.2):
        labels[patches(WINDOW, rng, 4, tools.uniform(rng, 0.02, 0.15)) & brain] = _LESION
    image = synthetic_image(labels, shapes.contrasts, rng, plan)
    if tools.chance(rng, 0.2):
        # Nothing is left about the brain, as after extraction by others.
        left = brain if tools.chance(rng, 0.7) else tissue > CSF
        image, tissue = torch.where(left, image, 0), torch.where(left, tissue, 0)
    image[missing] = 0
    low, high = torch.quantile(image.flatten()[::37], torch.tensor([0.01, 0.995]))
    image = ((image - low) / (high - low + 1e-6)).clamp(0, 1) * tools.uniform(rng, 0.6, 1.1)
    return image[None], tissue, brain


def _missing(rng):
    """(K, J, I) bool: what lies beyond the edge of the field of view."""
    import torch

    result = torch.zeros(WINDOW, dtype=torch.bool)
    if tools.chance(rng, 0.25):
        axis = int(3 * tools.uniform(rng, 0, 1))
        count = int(WINDOW[axis] * tools.uniform(rng, 0.05, 0.5))
        result.narrow(axis, 0 if tools.chance(rng, 0.5) else WINDOW[axis] - count, count).fill_(True)
    return result


def loss(scores, truth):
    """Of the tissues, and of the brain as a class of its own in the fifth channel; then of the first U-Net by half."""
    import torch
    from torch.nn import functional

    tissue, brain = truth
    score, wanted = scores[:, 4], brain.float()
    probability = torch.sigmoid(score)
    overlap = (2 * (probability * wanted).sum() + 1) / (probability.sum() + wanted.sum() + 1)
    entropy = functional.binary_cross_entropy_with_logits(score, wanted)
    result = tools.dice_and_entropy(scores[:, :4], tissue) + entropy + 1 - overlap
    return result + 0.5 * loss(scores[:, 5:], truth) if scores.shape[1] > 5 else result


def train(shapes: Heads, options) -> dict:
    """The weights of the network."""
    import torch
    from MedImgAILib.networks.contrast_unet import ContrastUNet
    from MedImgAILib.networks.synthesis import Synthesis
    from torch.nn import functional

    class First(torch.nn.Module):
        """The coarse look alone."""

        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            half = functional.avg_pool3d(x, 2)
            return functional.interpolate(self.network(half), x.shape[2:], mode="trilinear")

    plan = Synthesis(typical=0.8, jitter=0.1, spread=0.08, thick=3.0, shading=0.3, noise=0.06, gamma=0.15)

    def sample(rng):
        image, tissue, brain = drawn(shapes, plan, rng)
        return image[None], (tissue[None], brain[None])

    torch.manual_seed(options.seed)
    network = ContrastUNet(COARSE, FINE)
    first = First(network.coarse)
    first.load_state_dict(
        tools.fit(first, sample, STEPS[0], options.work / "brain_coarse.pt", options, 4e-3, loss_of=loss)
    )
    return tools.fit(network, sample, STEPS[1], options.work / "brain.pt", options, 4e-3, loss_of=loss)


def cards():
    """Two packages: tissues by both looks, and the brain by the coarse one alone, which is as good at it and faster."""
    from MedImgAILib.core.model_card import ModelCard, ModelInput, ModelOutput
    from MedImgAILib.core.model_inference import Inference
    from MedImgAILib.core.model_intensity import Intensity
    from MedImgAILib.networks.anatomy import segments

    def image(spacing):
        return ModelInput("image", "MR", 1, (spacing,) * 3, "RAS", Intensity("percentiles", lower=1, upper=99.5))

    window = WINDOW[::-1]
    half = tuple(n // 2 for n in window)
    found = {
        "brain_tissue": {
            "title": "Brain tissue in any contrast (U-Nets)",
            "inputs": (image(SPACING),),
            "outputs": segments("Cerebrospinal fluid", "Grey matter", "White matter"),
            "architecture": "medimgai.ContrastUNet", "arguments": {"coarse": COARSE, "fine": FINE},
            "inference": Inference(window=window, overlap=0.4, channels=(0, 1, 2, 3)),
        },
        "brain_extraction": {
            "title": "Brain extraction in any contrast (U-Net)",
            "inputs": (image(2 * SPACING),),
            "outputs": segments("Brain"),
            "architecture": "medimgai.ResidualUNet", "arguments": {"channels": COARSE, "classes": 5},
            "inference": Inference(window=half, overlap=0.5, channels=(4,), activation="sigmoid", largest=(1,)),
        },
    }  # fmt: skip
    shared = {
        "version": "1.0.0", "task": "segmentation", "license": "Apache-2.0",
        "citation": "Method and label maps: Billot B, Greve DN, Puonti O, et al. SynthSeg: segmentation of brain MRI "
        "scans of any contrast and resolution without retraining. Med Image Anal 2023; 86:102789.",
        "training_data": "Synthetic images only, of random contrast, drawn from the shapes of twenty heads: the label "
        "maps that SynthSeg's authors publish (github.com/BBillot/SynthSeg, Apache-2.0); Scripts/train_brain.py.",
        "intended_use": "Research on MR images of adult brains, with or without skull.",
        "limits": "Children were never shown, large lesions only as random patches. Grey and white matter are least "
        "exact where they differ little, as in T2. Look at the result where the field of view cuts the head. The state "
        "of the tissue network was chosen among three by its figures on ICBM152, which are therefore optimistic.",
    }  # fmt: skip
    return [
        ModelCard(
            id=name,
            metrics=METRICS[name],
            **{**own, "outputs": (ModelOutput("segmentation", "segmentation", own["outputs"]),)},
            **shared,
        )
        for name, own in found.items()
    ]


def main():
    options = tools.arguments(__doc__, "folder with the label maps").parse_args()
    options.deadline = time.monotonic() + 60 * options.minutes
    try:
        state = train(heads(options.data, options.work), options)
    except tools.OutOfTime:
        print("Out of time; the same command resumes.")
        return
    write(state, options.output)


def write(state: dict, output: Path):
    """Both packages of the weights that :func:`train` gives."""
    coarse = {name.removeprefix("coarse."): value for name, value in state.items() if name.startswith("coarse.")}
    for made, weights in zip(cards(), (state, coarse)):
        tools.write_package(output / made.id, made, [weights], {"weights.safetensors": ["ICBM152", "Colin27"]})


if __name__ == "__main__":
    main()
