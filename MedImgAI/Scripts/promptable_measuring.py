"""Dice of the promptable network after 1, 3 and 5 simulated clicks, on images that it did not learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CLICKS = (1, 3, 5)


def held_out(data: Path):
    """``(name, image, (K, J, I) bool structure)`` of hippocampi, organs in MR, lesions and a spinal cord."""
    import SimpleITK as sitk
    from MedImgAILib.core.itk import volume_from_itk

    def read(name):
        return volume_from_itk(sitk.ReadImage(str(data / name)), name=name)

    for path in sorted((data / "hippocampus" / "images").glob("*.nii.gz"))[::8]:
        yield "hippocampus", read(path.relative_to(data)), read(f"hippocampus/labels/{path.name}").array > 0
    organs = read("ct/ts_abdomen_mr_sm_seg.nii.gz").array
    for number in np.unique(organs[organs > 0]):
        if (organs == number).sum() > 400:
            yield "organs in MR", read("ct/ts_abdomen_mr_sm.nii.gz"), organs == number
    yield "lung lesion in CT", read("ct/lung1_image.nrrd"), read("ct/lung1_label.nrrd").array > 0
    cord = read("spine_multicontrast/t2_t2_seg-manual.nii.gz").array > 0
    yield "spinal cord in MR", read("spine_multicontrast/t2_t2.nii.gz"), cord


def measure(network, data: Path, most: int = 100) -> dict[str, float]:
    """Mean Dice of each group of images after 1, 3 and 5 clicks; each click goes where the answer is most wrong."""
    from MedImgAILib.core import Context, Volume
    from MedImgAILib.networks.prompts.given import Prompts
    from MedImgAILib.networks.prompts.memory import Embeddings
    from MedImgAILib.networks.prompts.own import OwnNetwork

    found: dict[str, list] = {}
    for number, (name, image, structure) in enumerate(held_out(data)):
        if number >= most:
            break
        truth = _largest(Volume(structure, image.geometry).canonical().array)
        image = image.canonical()
        kept, points, answer = Embeddings(), {True: [], False: []}, np.zeros(truth.shape, bool)
        scores = []
        for click in range(max(CLICKS)):
            belongs, place = _worst(answer, truth)
            points[belongs].append(image.geometry.ras(place[::-1]))
            prompts = Prompts(*(np.reshape(points[b], (-1, 3)) for b in (True, False)))
            answer = OwnNetwork(network).segment(image, prompts, kept, number, Context("cpu"))
            if click + 1 in CLICKS:
                scores.append(2 * (answer & truth).sum() / (answer.sum() + truth.sum()))
        found.setdefault(name, []).append(scores)
        print(name, " ".join(f"{s:.3f}" for s in scores), flush=True)
    return {
        f"{name}, Dice after {clicks} click{'s' if clicks > 1 else ''}": round(float(np.mean(scores, axis=0)[n]), 3)
        for name, scores in found.items()
        for n, clicks in enumerate(CLICKS)
    }


def _largest(mask):
    from scipy.ndimage import label

    parts, count = label(mask)
    return parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]) if count > 1 else mask


def _worst(answer, truth):
    """Whether the deepest wrong voxel belongs to the structure, and where it is."""
    from scipy.ndimage import distance_transform_edt

    depth = [distance_transform_edt(wrong) for wrong in (truth & ~answer, answer & ~truth)]
    belongs = depth[0].max() >= depth[1].max()
    chosen = depth[0] if belongs else depth[1]
    return bool(belongs), np.array(np.unravel_index(chosen.argmax(), chosen.shape))
