"""Patients for training: ports and parameters that name them, and the prepared cases."""

from __future__ import annotations

from dataclasses import dataclass, replace

from MedImgAILib.core import FloatParameter, InputError, SegmentationPort, TextParameter, VolumePort

from .cases import Patient, match_images, prepare
from .folder import read_patients

PATIENT_PORTS = (
    VolumePort(
        "images", "Images", "All modalities of the first patient, then of the next, in the same order.",
        multiple=True, optional=True,
    ),
    SegmentationPort(
        "segmentations", "Segments", "What is to be found, one segmentation for each patient.", multiple=True,
        optional=True,
    ),
)  # fmt: skip
PATIENT_PARAMETERS = (
    TextParameter(
        "data", "Folder or table", "",
        "Patients on disk in place of the scene: a folder for each, or a .csv with the columns patient, "
        "segmentation and one for each modality.", kind="folder",
    ),
    TextParameter(
        "modalities", "Modalities", "", "Their names with commas, such as 'FLAIR, T1c'; of the scene's first "
        "patient's images if empty.",
    ),
    TextParameter(
        "segmentation_name", "Segments' file", "", "What the segments' file or column is called, where it is not "
        "segmentation, labels, mask or seg.", advanced=True,
    ),
    FloatParameter(
        "voxel_mm", "Voxel size", 2.0, "To which images are brought; 0 keeps the voxels of the first image.",
        "mm", minimum=0.0, maximum=10.0,
    ),
)  # fmt: skip


def check_patients(inputs, parameters):
    """Raise :class:`InputError` if neither scene nor disk, or both, give patients."""
    if parameters.data and (inputs.images or inputs.segmentations):
        raise InputError("Give images and segments of the scene or a folder, not both.")
    if not parameters.data and not (inputs.images and inputs.segmentations):
        raise InputError("Images: give the images and segments of at least one patient, or a folder of patients.")
    if not parameters.data and len(inputs.images) % len(inputs.segmentations):
        raise InputError(
            f"Images: {len(inputs.images)} images cannot be shared out over {len(inputs.segmentations)} "
            "segmentations; give the same modalities of each patient, in the same order."
        )


@dataclass(frozen=True)
class Data:
    """Cases, the modalities in the order of their channels with their units, and the segments numbered from 1 on."""

    modalities: list
    units: list
    segments: tuple
    cases: list


def collect(inputs, parameters, context) -> Data:
    """The prepared cases of the scene or of the disk."""
    modalities = [m.strip() for m in parameters.modalities.split(",") if m.strip()]
    if parameters.data:
        modalities, patients = read_patients(parameters.data, modalities, parameters.segmentation_name)
    else:
        modalities, patients = _scene(inputs, modalities)
    context.progress(0.4, "Preparing the images")
    segments = {}
    for patient in patients:
        for segment in patient.segmentation.segments:
            segments.setdefault(segment.name, segment)
    if len(segments) > 200:
        raise InputError(f"There are {len(segments)} segments; a network is trained for at most 200.")
    cases = []
    for number, patient in enumerate(patients):
        context.progress(0.4 + 0.6 * number / len(patients), f"Preparing {patient.name}")
        cases.append(prepare(patient, modalities, parameters.voxel_mm, list(segments)))
        for modality, image in patient.images.items():
            if image.array.min() == image.array.max():
                context.warn(f"{image.label} is constant; '{modality}' tells nothing in case '{patient.name}'.")
        if not cases[-1].labels.any():
            context.warn(f"Case '{patient.name}' has no voxel of a segment.")
    images = [next((p.images[m] for p in patients if m in p.images), None) for m in modalities]
    for modality, image in zip(modalities, images):
        if image is None:
            raise InputError(f"No case has the modality '{modality}'; leave it out or add its images.")
    numbered = tuple(
        replace(s, label=n, layer=0, id=name) for n, (name, s) in enumerate(segments.items(), start=1)
    )  # fmt: skip
    return Data(modalities, [image.units for image in images], numbered, cases)


def _scene(inputs, modalities):
    count = len(inputs.images) // len(inputs.segmentations)
    groups = [inputs.images[n * count : (n + 1) * count] for n in range(len(inputs.segmentations))]
    if not modalities:
        from MedImgAILib.features.ibsi_task import unique

        modalities = unique([image.name or f"image {n}" for n, image in enumerate(groups[0], start=1)])
        found = [dict(zip(modalities, group)) for group in groups]
    else:
        found = [match_images(group, modalities) for group in groups]
    return modalities, [
        Patient(f"{n} {s.name}".strip(), images, s)
        for n, (images, s) in enumerate(zip(found, inputs.segmentations), start=1)
    ]
