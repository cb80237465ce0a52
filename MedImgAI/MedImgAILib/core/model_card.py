"""The card of a model package: what ``model.json`` says.

A UTF-8 JSON object. Fields marked * are required; unknown fields are refused, so that a typing error is noticed.

=====================  ===============================================================================================
schema_version*        1; a package of a newer version is refused
id*                    lower-case letters, digits and ``_ . -``, beginning with a letter
version*               version of the model, "1.0.0"
title*, task*          text; one of :data:`TASKS`
inputs*                list of objects: name*, modality* ("CT", "MR", …, DICOM's defined terms), channels (1),
                       spacing_mm ([i, j, k] to resample to; absent, or 0 along an axis: as it comes), orientation (as
                       "RAS"; absent: as it comes), intensity ({"rule": …}, or a list of such, see
                       :class:`.model_intensity.Intensity`), intensity_first (true: before resampling), crop_above
                       (cut to the box of the voxels above this value), crop_nonzero (true: cut to the box of the
                       voxels that are not 0 in any input), size ([i, j, k] voxels that the network sees), fit
                       ("pad": crop or pad with 0 about the middle; "stretch": resample to the size;
                       "within": resample to the same shape with one side as the size says), interpolation
                       ("linear", "averaged": linear, after averaging over the larger voxels, "cubic", or
                       "cubic_in_plane": nearest along the axis of the thick slices where they are thicker than three
                       times the other spacings), align (where the grid of another spacing
                       lies: "center" about the same middle, "box" in the same box with the spacing that fits it,
                       "first_voxel" with the same first voxel centre), largest_mm (the longest, middle and shortest
                       side of the largest image that the model knows; a much larger one is warned of)
outputs*               list of objects: name*, kind* (one of :data:`KINDS`), and with "segmentation" or "classes"
                       segments*: name*, label* (≥ 1; 0 is background), color ([r, g, b] in 0…1), terminology
                       ({"category", "type", "modifier", "region", "region_modifier"}: [scheme, value, meaning] each)
network*               class* (a name of :data:`.model_networks.NETWORKS`), arguments (object of plain JSON)
inference              how the network is applied, see :class:`.model_inference.Inference`
license*, citation*    SPDX identifier or text; how to cite it
training*              data* (what it was trained on), metrics ({name: number}, on data that it had not seen)
intended_use*, limits* one or a few sentences each
weights_sha256*        SHA-256 of weights.safetensors, 64 hexadecimal digits
members                for an ensemble: SHA-256 of weights_2.safetensors, weights_3.safetensors, …; the mean counts
=====================  ===============================================================================================
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field

from .data import Segment
from .errors import InputError, ModelError
from .model_inference import Inference, voxels
from .model_intensity import Intensity, intensity_json, read_intensity
from .model_json import REQUIRED, Node, check_plain
from .terminology import Code, Terminology

SCHEMA_VERSION = 1
TASKS = (
    "segmentation", "classification", "detection", "regression", "enhancement", "synthesis", "registration",
    "reconstruction", "embedding",
)  # fmt: skip
INTERPOLATIONS = ("linear", "averaged", "cubic", "cubic_in_plane")
ALIGNMENTS = ("center", "box", "first_voxel")
MOST_MEMBERS = 50
KINDS = ("segmentation", "classes", "volume", "displacement", "values")


@dataclass(frozen=True)
class ModelInput:
    """An image that the network takes, and how it must be prepared."""

    name: str
    modality: str
    channels: int = 1
    spacing_mm: tuple[float, float, float] | None = None
    orientation: str | None = None
    intensity: Intensity | tuple[Intensity, ...] = Intensity()
    crop_above: float | None = None
    size: tuple[int, int, int] | None = None
    fit: str = "pad"
    crop_nonzero: bool = False
    intensity_first: bool = False
    interpolation: str = "linear"
    align: str = "center"
    largest_mm: tuple[float, float, float] | None = None

    @classmethod
    def read(cls, node: Node) -> ModelInput:
        spacing = node.numbers("spacing_mm", 3, None)
        if spacing is not None and (min(spacing) < 0 or not any(spacing)):
            node.fail("spacing_mm", "spacings are positive, or 0 for as it comes")
        orientation = node.text("orientation", "[RLAPSI]{3}", None)
        if orientation is not None and {frozenset(p) for p in ("RL", "AP", "SI")} != {
            next(frozenset(p) for p in ("RL", "AP", "SI") if letter in p) for letter in orientation
        }:
            node.fail("orientation", f"'{orientation}' does not name three axes")
        rule = node.take("intensity", (dict, list), {"rule": "none"})
        try:
            intensity = read_intensity(rule)
        except (TypeError, ValueError) as error:
            node.fail("intensity", str(error))
        crop_above = node.take("crop_above", (int, float), None)
        result = cls(
            node.text("name"), node.text("modality"), node.integer("channels", 1, 1), spacing, orientation, intensity,
            crop_above, voxels(node, "size"), node.text("fit", "pad|stretch|within", "pad"),
            node.take("crop_nonzero", bool, False), node.take("intensity_first", bool, False),
            node.text("interpolation", "|".join(INTERPOLATIONS), "linear"),
            node.text("align", "|".join(ALIGNMENTS), "center"), node.numbers("largest_mm", 3, None),
        )  # fmt: skip
        if result.fit != "pad" and (result.size is None or spacing is not None):
            node.fail("fit", f"{result.fit} needs a size and no spacing_mm")
        node.end()
        return result


@dataclass(frozen=True)
class ModelOutput:
    """What the network gives; ``segments`` name its channels or labels."""

    name: str
    kind: str
    segments: tuple[Segment, ...] = ()

    @classmethod
    def read(cls, node: Node) -> ModelOutput:
        name, kind = node.text("name"), node.one_of("kind", KINDS)
        segments = ()
        if kind in ("segmentation", "classes"):
            segments = tuple(_segment(child) for child in node.children("segments"))
            if len({s.label for s in segments}) < len(segments):
                node.fail("segments", "two have the same label")
        node.end()
        return cls(name, kind, segments)


def _segment(node: Node) -> Segment:
    name, label = node.text("name"), node.integer("label", 1)
    color = node.numbers("color", 3, (0.5, 0.68, 0.5))
    terminology = Terminology()
    if (given := node.take("terminology", dict, None)) is not None:
        codes = Node(given, f"terminology of '{name}'")
        parts = {}
        for part in ("category", "type", "modifier", "region", "region_modifier"):
            code = codes.take(part, list, REQUIRED if part in ("category", "type") else ["", "", ""])
            if len(code) != 3 or not all(isinstance(text, str) for text in code):
                codes.fail(part, "[scheme, value, meaning] is needed")
            parts[part] = Code(*code)
        codes.end()
        terminology = Terminology(**parts)
    node.end()
    try:
        return Segment(name, label, color, terminology)
    except InputError as error:
        raise ModelError(f"The model card is wrong: {error}") from error


@dataclass(frozen=True)
class ModelCard:
    """See the module's table; ``architecture`` and ``arguments`` are the network's class and arguments."""

    id: str
    version: str
    title: str
    task: str
    inputs: tuple[ModelInput, ...]
    outputs: tuple[ModelOutput, ...]
    architecture: str
    license: str
    citation: str
    training_data: str
    intended_use: str
    limits: str
    weights_sha256: str = ""
    arguments: dict = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    inference: Inference = Inference()
    members: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value) -> ModelCard:
        """Check and read the object of ``model.json``.

        Raises
        ------
        ModelError
            With the place of the first problem.
        """
        top = Node(value, "")
        version = top.integer("schema_version", 1)
        if version > SCHEMA_VERSION:
            raise ModelError(f"The model package has format version {version}; update MedImgAI to use it.")
        network, training = top.child("network"), top.child("training")
        arguments = network.take("arguments", dict, {})
        check_plain(arguments, "network.arguments")
        metrics = training.take("metrics", dict, {})
        check_plain(metrics, "training.metrics")
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in metrics.values()):
            training.fail("metrics", "numbers are needed")
        card = cls(
            id=top.text("id", r"[a-z][a-z0-9_.-]{0,79}"),
            version=top.text("version", r"[0-9A-Za-z.+-]{1,40}"),
            title=top.text("title"),
            task=top.one_of("task", TASKS),
            inputs=tuple(ModelInput.read(node) for node in top.children("inputs")),
            outputs=tuple(ModelOutput.read(node) for node in top.children("outputs")),
            architecture=network.text("class"),
            arguments=arguments,
            license=top.text("license"),
            citation=top.text("citation"),
            training_data=training.text("data"),
            metrics=metrics,
            inference=Inference.read(Node(top.take("inference", dict, {}), "inference")),
            intended_use=top.text("intended_use"),
            limits=top.text("limits"),
            weights_sha256=top.text("weights_sha256", "[0-9a-f]{64}"),
            members=_members(top),
        )
        for node in (network, training, top):
            node.end()
        return card

    def to_json(self) -> dict:
        """The object of ``model.json``; :meth:`from_json` reads it back."""
        inputs = []
        for each in self.inputs:
            plain = ModelInput(each.name, each.modality)
            entry = {
                k: v for k, v in asdict(each).items()
                if k in ("name", "modality", "channels") or v != getattr(plain, k)
            }  # fmt: skip
            inputs.append(entry | {"intensity": intensity_json(each.intensity)})
        outputs = []
        for each in self.outputs:
            segments = [_segment_json(s) for s in each.segments]
            outputs.append({"name": each.name, "kind": each.kind} | ({"segments": segments} if segments else {}))
        return {
            "schema_version": SCHEMA_VERSION,
            "id": self.id,
            "version": self.version,
            "title": self.title,
            "task": self.task,
            "inputs": inputs,
            "outputs": outputs,
            "network": {"class": self.architecture, "arguments": self.arguments},
            **({"inference": self.inference.to_json()} if self.inference != Inference() else {}),
            "license": self.license,
            "citation": self.citation,
            "training": {"data": self.training_data, "metrics": self.metrics},
            "intended_use": self.intended_use,
            "limits": self.limits,
            "weights_sha256": self.weights_sha256,
            **({"members": list(self.members)} if self.members else {}),
        }


def _members(top: Node) -> tuple[str, ...]:
    """The hashes of an ensemble's further weights."""
    given = top.take("members", list, [])
    if len(given) > MOST_MEMBERS or not all(isinstance(v, str) and re.fullmatch("[0-9a-f]{64}", v) for v in given):
        top.fail("members", "a list of SHA-256 is needed")
    return tuple(given)


def _segment_json(segment: Segment) -> dict:
    codes = {
        part: [code.scheme, code.value, code.meaning]
        for part in ("category", "type", "modifier", "region", "region_modifier")
        if (code := getattr(segment.terminology, part))
    }
    return {"name": segment.name, "label": segment.label, "color": list(segment.color), "terminology": codes}
