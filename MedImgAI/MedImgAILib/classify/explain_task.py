"""Explanation of a classification, as an image over the image."""

from __future__ import annotations

import numpy as np

from ..core import (
    BooleanParameter,
    ChoiceParameter,
    Display,
    InputError,
    IntegerParameter,
    ParameterError,
    Table,
    TablePort,
    TextParameter,
    VolumePort,
)
from ..core.errors import listed
from ..core.geometry import inverse_order, reorder_array
from ..networks.preparation import storage_order
from . import attribution
from .classifier import Classifier, map_on_image
from .model_task import MODEL, ModelTask

_UNRELATED = 0.5
"""Rank correlation below which two maps count as different."""
_COARSE_REPEATS = 5
"""Sets of random weights for Grad-CAM, whose few cells are alike or opposite by chance; one for maps of every voxel."""
_COLORS = "vtkMRMLColorTableNodeFileColdToHotRainbow.txt"
_SIGNED = ("occlusion", "integrated_gradients")


class ExplainClassification(ModelTask):
    """A map of what the score of a class depends on, and whether the map depends on what the network learnt."""

    id = "explain.classification"
    title = "Explain a classification"
    summary = "Shows over the image what a network's answer depends on: Grad-CAM, occlusion or integrated gradients."
    references = (
        "Selvaraju RR, Cogswell M, Das A, et al. Grad-CAM: visual explanations from deep networks via gradient-based "
        "localization. ICCV 2017: 618-626.",
        "Chattopadhay A, Sarkar A, Howlader P, Balasubramanian VN. Grad-CAM++. WACV 2018: 839-847.",
        "Zeiler MD, Fergus R. Visualizing and understanding convolutional networks. ECCV 2014: 818-833.",
        "Sundararajan M, Taly A, Yan Q. Axiomatic attribution for deep networks. ICML 2017: 3319-3328.",
        "Adebayo J, Gilmer J, Muelly M, et al. Sanity checks for saliency maps. NeurIPS 2018: 9505-9515.",
    )
    keywords = ("saliency", "heat map", "Grad-CAM", "attribution", "interpretability", "explainable")

    inputs = (
        VolumePort(
            "images", "Images", "What was classified; of several views for a model of one image, the first.",
            components=(), multiple=True,
        ),
    )  # fmt: skip
    parameters = (
        MODEL,
        ChoiceParameter(
            "method", "Method", "grad_cam",
            "Grad-CAM is quick and coarse, occlusion slow and easy to understand, integrated gradients fine and noisy.",
            choices=attribution.METHODS,
        ),
        TextParameter("target", "Class", "", "Whose score is explained; empty: the likeliest class."),
        BooleanParameter(
            "sanity_check", "Sanity check", True,
            "Whether to look if the map changes when the network forgets what it learnt; one that does not is useless.",
        ),
        IntegerParameter(
            "window_percent", "Window", 15, "Size of the covered window, of the image's extent.", "%",
            minimum=1, maximum=100, enabled_when=("method", ("occlusion",)),
        ),
        IntegerParameter(
            "steps", "Steps", 32, "Images between none and this one; more are more exact and slower.",
            minimum=4, maximum=1000, advanced=True, enabled_when=("method", ("integrated_gradients",)),
        ),
        ChoiceParameter(
            "baseline", "Without information", "mean",
            "What an image without information is like: covers the window, or is where integrated gradients begin.",
            choices={"mean": "The image's mean", "minimum": "The image's darkest value", "zero": "0 after preparation"},
            advanced=True, enabled_when=("method", _SIGNED),
        ),
        TextParameter(
            "layer", "Layer", "", "Name of the network's layer for Grad-CAM; empty: the last that still is an image.",
            advanced=True, enabled_when=("method", ("grad_cam", "grad_cam_plus_plus")),
        ),
    )  # fmt: skip
    outputs = (
        VolumePort("saliency", "Saliency", "On the grid of the image. Grad-CAM: 0…1; the others: change of the score."),
        TablePort("checks", "Checks", "Score, and what the map is like for networks with random weights."),
    )

    def run(self, inputs, parameters, context):
        classifier, _ = self.opened(inputs, parameters, context)
        name, images = classifier.cases(inputs.images, context)[0]
        with context.part(0.0, 0.1):
            parts = classifier.pictures(name, images)
            prepared = [classifier.prepared(group, context) for _, group in parts]
        instances = [i for (label, _), p in zip(parts, prepared) for i in classifier.instances(label, p)]
        scores, _ = classifier.scores([i.sample for i in instances])
        target = _target(parameters.target, classifier, scores)
        if any(not hasattr(n, "named_modules") for n in classifier.networks):
            raise InputError("A network of this format cannot be looked into; choose a package with safetensors.")
        with context.part(0.1, 0.4 if parameters.sanity_check else 0.95) as part:
            part.progress(0.0, "Explaining")
            values, gap = _maps(classifier.networks, classifier, instances, target, parameters, part)
        rows = [("score of the class", float(scores[:, target].mean()), "")]
        if gap is not None:
            rows.append(
                ("completeness: relative error of the sum", gap, "yes" if gap < 0.05 else "no, take more steps")
            )
        if parameters.sanity_check:
            rows += self._sanity(classifier, instances, target, parameters, values, context)
        if parameters.method not in _SIGNED:
            top = float(values.max())
            values = values / top if top > 0 else values
            if top <= 0:
                context.warn("The map is empty: nothing in the image speaks for this class.")
        three = values if values.ndim == 3 else values[:, None]
        image = images[0]
        title = f"{image.name} {attribution.METHODS[parameters.method]} {classifier.classes[target]}".strip()
        array = _on_image(three, parts, prepared, image, classifier.card.inputs[0].orientation, context)
        limit = float(np.abs(array).max()) or 1.0
        signed = parameters.method in _SIGNED
        display = Display(limit * (2 if signed else 1), 0.0 if signed else limit / 2, _COLORS)
        saliency = image.with_array(array, name=title, display=display)
        columns = dict(zip(("check", "value", "passed"), zip(*rows)))
        return {"saliency": saliency, "checks": Table({**columns, "value": np.array(columns["value"])}, "Checks")}

    @staticmethod
    def _sanity(classifier, instances, target, parameters, values, context) -> list[tuple]:
        """Mean rank correlation with the maps of networks whose last layer, or all layers, are random."""
        rows = []
        kinds = {"last layer": 1, "all layers": None}
        repeats = 1 if parameters.method in _SIGNED else _COARSE_REPEATS
        for number, (what, layers) in enumerate(kinds.items()):
            found = []
            for repeat in range(repeats):
                start = 0.4 + 0.27 * (number + repeat / repeats)
                with context.part(start, start + 0.27 / repeats) as part:
                    part.progress(0.0, f"Sanity check: {what}")
                    seed = context.seed + repeat
                    networks = [attribution.randomised(n, layers, seed) for n in classifier.networks]
                    other, _ = _maps(networks, classifier, instances, target, parameters, part)
                found.append(attribution.rank_correlation(np.abs(values), np.abs(other)))
            likeness = float(np.mean(found))
            passed = "yes" if layers == 1 or abs(likeness) < _UNRELATED else "no"
            rows.append((f"rank correlation with {what} random", likeness, "" if layers == 1 else passed))
            if passed == "no":
                context.warn("The map hardly depends on what the network has learnt; do not trust it.")
        return rows


def _on_image(values, parts, prepared, image, orientation, context) -> np.ndarray:
    """A map of what the network saw on the grid of the image, each slice in its place where they were seen apart."""
    if len(parts) == 1:
        return map_on_image(values, prepared[0][0], image, "", context).array
    slices = [
        map_on_image(values[k : k + 1], prepared[k][0], group[0], "", context).array
        for k, (_, group) in enumerate(parts)
    ]
    order = storage_order(image.geometry, orientation)
    return np.ascontiguousarray(reorder_array(np.concatenate(slices), *inverse_order(*order)))


def _target(text: str, classifier: Classifier, scores) -> int:
    if not text.strip():
        return int(scores.mean(axis=0).argmax())
    if text.strip() not in classifier.classes:
        raise ParameterError(
            f"Class: the model has no class '{text.strip()[:60]}' (it has: {listed(classifier.classes)})."
        )
    return classifier.classes.index(text.strip())


def _maps(networks, classifier, instances, target, parameters, context):
    """(K, J, I) map, mean over the members of an ensemble, and the largest completeness gap or None."""
    import torch

    maps, gaps = [], []
    total = len(instances) * len(networks)
    for number, instance in enumerate(instances):
        sample = torch.from_numpy(np.ascontiguousarray(instance.sample))[None].to(classifier.device)
        fill = {"mean": float(sample.mean()), "minimum": float(sample.min()), "zero": 0.0}[parameters.baseline]
        found = []
        for member, network in enumerate(networks):
            done = number * len(networks) + member
            context.progress(done / total)

            def check(fraction, done=done):
                context.progress((done + fraction) / total)

            with torch.no_grad():
                outputs = network(sample).shape[1]
            channel = classifier.channel(outputs, target)
            sign = -1.0 if outputs == 1 and target == 0 else 1.0
            asked = network if sign > 0 else _Negated(network)
            if parameters.method == "occlusion":
                window = [max(1, round(n * parameters.window_percent / 100)) for n in sample.shape[2:]]
                stride = [max(1, w // 2) for w in window]
                found.append(attribution.occlusion(asked, sample, channel, window, stride, fill, check))
            elif parameters.method == "integrated_gradients":
                baseline = torch.full_like(sample, fill)
                one, gap = attribution.integrated_gradients(asked, sample, channel, baseline, parameters.steps, check)
                found.append(one)
                gaps.append(gap)
            else:
                plus_plus = parameters.method == "grad_cam_plus_plus"
                layer = parameters.layer.strip()
                layer = f"network.{layer}" if layer and asked is not network else layer
                found.append(attribution.class_activation(asked, sample, channel, layer, plus_plus))
        maps.append(np.mean(found, axis=0))
    stacked = np.stack(maps) if maps[0].ndim == 2 else maps[0]
    return stacked.astype(np.float32), max(gaps) if gaps else None


def _Negated(network):  # noqa: N802 - made where torch is there
    """A network with the opposite score, for the negative class of a single output."""
    import torch

    class Negated(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return -self.network(x)

    return Negated().eval()
