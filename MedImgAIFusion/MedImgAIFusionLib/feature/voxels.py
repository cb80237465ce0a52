"""Features of every voxel from several modalities: values, gradients and texture at several scales, and deep ones."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import Context, ModelError, Volume
from MedImgAILib.core.model_package import ModelPackage
from MedImgAILib.segment.pixel_features import FeatureBank, feature_names

from ..model.cases import Case


def names(modalities, scales_mm, deep=()) -> tuple[list[str], np.ndarray]:
    """The features' names in the order of :class:`Features`, and the group (modality or network) of each.

    Parameters
    ----------
    modalities : sequence of str
    scales_mm : sequence of float
    deep : sequence of (title, count)
        Of each network, how many features it gives.
    """
    found, groups = [], []
    for number, modality in enumerate(modalities):
        own = [name.replace("image 1", modality, 1) for name in feature_names(1, scales_mm)]
        found += own
        groups += [number] * len(own)
    for number, (title, count) in enumerate(deep, start=len(modalities)):
        found += [f"{title} {n}" for n in range(1, count + 1)]
        groups += [number] * count
    return found, np.array(groups)


class Features:
    """The features of a case; a missing modality counts as an image without contrast.

    Parameters
    ----------
    case : Case
    scales_mm : sequence of float
    networks : sequence of (network, inputs)
        Networks for deep features, and which of the case's modalities each takes.
    context : Context
    """

    def __init__(self, case: Case, scales_mm, networks, context: Context):
        filled = np.nan_to_num(case.array, nan=0.0)
        images = [Volume(array, case.geometry) for array in filled]
        with context.part(0.0, 0.7 if networks else 1.0) as part:
            self.bank = FeatureBank(images, scales_mm, "none", part)
        self.deep = []
        for number, (network, inputs) in enumerate(networks):
            with context.part(0.7 + 0.3 * number / len(networks), 0.7 + 0.3 * (number + 1) / len(networks)) as part:
                self.deep.append(deep_features(network, case.array[list(inputs)], part))

    @property
    def deep_counts(self) -> list[int]:
        return [len(d) for d in self.deep]

    def plane(self, k: int) -> np.ndarray:
        """(F, J, I) float32: the features of one plane."""
        return np.concatenate([self.bank.plane(k), *(d[:, k] for d in self.deep)])

    def at(self, places: np.ndarray, context: Context) -> np.ndarray:
        """(N, F) float32: features at the (N, 3) voxels (k, j, i)."""
        rows = self.bank.at(places, context)
        return np.concatenate([rows, *(d[:, *places.T].T for d in self.deep)], axis=1)


def deep_features(network, array: np.ndarray, context: Context) -> np.ndarray:
    """what a network computes for each voxel just before its last layer.

    Parameters
    ----------
    network : torch.nn.Module
        Ends with a convolution over single voxels, or has the method ``encode``.
    array : (M, K, J, I) float32 ndarray

    Returns
    -------
    (F, K, J, I) float32 ndarray

    Raises
    ------
    ModelError
        If the network has no such layer at full resolution.
    """
    import torch

    context.check()
    caught = []
    last = [m for m in network.modules() if isinstance(m, torch.nn.Conv3d)][-1:]
    if not last:
        raise ModelError("Deep features: the network has no convolution; choose a network for segmentation.")
    hook = last[0].register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    try:
        with torch.inference_mode():
            network(torch.from_numpy(np.ascontiguousarray(array))[None].to(context.device))
    except RuntimeError as error:
        raise ModelError(f"Deep features: the network does not take these images ({str(error)[:120]}).") from error
    finally:
        hook.remove()
    found = caught[-1][0].float().cpu().numpy()
    if found.shape[1:] != array.shape[1:]:
        raise ModelError("Deep features: the network's last layer is not at full resolution; choose another one.")
    return found


def networks_for(folders, modalities, context: Context) -> list[tuple]:
    """(network, inputs) of model packages, whose inputs are found among the modalities by name.

    Raises
    ------
    ModelError
        If a package's inputs are not among the modalities.
    """
    result = []
    for folder in folders:
        package = ModelPackage.load(folder)
        places = []
        for wanted in package.card.inputs:
            fits = [n for n, m in enumerate(modalities) if m.casefold() == wanted.name.casefold()]
            if not fits:
                raise ModelError(
                    f"Deep features: the model '{package.card.title}' takes '{wanted.name}', which is none of "
                    f"{', '.join(modalities)}."
                )
            places.append(fits[0])
        context.used_model(f"{package.card.id} {package.card.version}", package.card.weights_sha256)
        result.append((package.network(context.device), tuple(places)))
    return result
