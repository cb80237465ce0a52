"""The breast-cancer screening exam: up to four mammograms in, a report out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..core import (
    FloatParameter,
    InputError,
    Points,
    PointsPort,
    Segment,
    Segmentation,
    SegmentationPort,
    Table,
    TablePort,
    Task,
    Text,
    TextParameter,
    TextPort,
    VolumePort,
)
from ..core.data import Display
from ..core.terminology import MASS, anatomy
from .sorting import proposed_views, sorted_into_views
from .view import VIEWS, ViewResult, density_class, examine

if TYPE_CHECKING:
    from .model import Answer

PIXEL = FloatParameter(
    "pixel_mm", "Pixel size", 0.0, "On the detector; 0 takes the image's, or 0.07 mm where that cannot be true.", "mm",
    minimum=0.0, maximum=1.0, decimals=4, advanced=True,
)  # fmt: skip
SUSPICION = FloatParameter(
    "suspicion", "Least suspicion", 0.75, "Places less striking than this are not listed; at most three a view are.",
    minimum=0.0, maximum=1.0, step=0.05,
)  # fmt: skip
MODEL = TextParameter(
    "model", "Model", "",
    "Package that 'Train breast-cancer screening' made; without one there are measures, but no probabilities.",
    kind="folder",
)  # fmt: skip
COVERAGE = FloatParameter(
    "coverage", "Coverage", 0.9,
    "How often the set of possible classes shall hold the true one; several or none mean 'does not know'.",
    minimum=0.5, maximum=0.999, step=0.01, decimals=3,
)  # fmt: skip
SEGMENTS = (
    Segment("Breast", 1, (0.95, 0.76, 0.65), anatomy("76752008", "Breast")),
    Segment("Pectoral muscle", 2, (0.75, 0.3, 0.26), anatomy("60005003", "Pectoralis major muscle")),
    Segment("Dense tissue", 3, (0.4, 0.63, 1.0)),
)


def view_inputs() -> tuple[VolumePort, ...]:
    """One port for each view."""
    return tuple(
        VolumePort(
            name, title, f"Mammogram, {title}, for presentation (dense tissue bright).", optional=True,
            components=(1, 3, 4),
        )
        for name, title in VIEWS.items()
    )  # fmt: skip


def examined(inputs, parameters, context) -> dict[str, ViewResult]:
    """Each given view examined.

    Raises
    ------
    InputError
        If there is none, or two are the same view.
    """
    named = {name: getattr(inputs, name) for name in VIEWS if getattr(inputs, name) is not None}
    given = sorted_into_views(inputs.mammograms, named, parameters.pixel_mm, context)
    if not given:
        raise InputError("No mammogram was given; choose at least one view.")
    results = {}
    for number, (name, volume) in enumerate(given.items()):
        with context.part(number / len(given), (number + 1) / len(given)):
            results[name] = examine(name, volume, parameters.pixel_mm, parameters.suspicion, context)
    return results


def segmentation_of(result: ViewResult) -> Segmentation:
    """Breast, pectoral muscle and dense tissue in one layer, every suspicious place in a second."""
    labels = result.breast.astype(np.uint8)
    labels[result.muscle], labels[result.dense] = 2, 3
    places = np.zeros(labels.shape, np.uint8)
    y, x = np.ogrid[: labels.shape[0], : labels.shape[1]]
    segments = list(SEGMENTS)
    # The strongest is drawn last, so that none of it is covered.
    for number, finding in reversed(list(enumerate(result.findings, 1))):
        inside = np.hypot(y - finding.row, x - finding.column) * result.picture.pixel_mm <= finding.radius_mm
        places[inside] = number
    for number, finding in enumerate(result.findings, 1):
        if (places == number).any():
            name = f"Suspicious {number} ({finding.kind})"
            segments.append(Segment(name, number, (1.0, 0.86, 0.1), MASS, layer=1))
    layers = [result.picture.restored(labels)]
    if len(segments) > len(SEGMENTS):
        layers.append(result.picture.restored(places))
    name = f"{VIEWS[result.name]} regions"
    return Segmentation(tuple(layers), result.picture.volume.geometry, tuple(segments), name)


def points_of(result: ViewResult) -> Points:
    """The suspicious places as labelled points, strongest first."""
    positions = [result.picture.ras(f.row, f.column) for f in result.findings]
    labels = tuple(f"{n} {f.kind} {f.strength:.2f}" for n, f in enumerate(result.findings, 1))
    return Points(np.array(positions).reshape(-1, 3), labels, f"{VIEWS[result.name]} suspicious places")


def saliency_of(result: ViewResult, learnt: np.ndarray | None = None):
    """The map of suspicion, 0…1, over the image: what a network's answer comes from where there is one."""
    volume = result.picture.volume
    values = result.picture.restored(result.saliency if learnt is None else learnt)
    display = Display(window=1.0, level=0.5, color="Inferno")
    return volume.with_array(values, name=f"{VIEWS[result.name]} suspicion", units="", display=display)


def view_table(results: dict[str, ViewResult], answer: Answer | None = None) -> Table:
    """One row a view: density class, probability by a model, features, number of suspicious places."""
    rows = list(results.values())
    columns: dict = {"view": tuple(VIEWS[r.name] for r in rows), "density": tuple(r.density_class for r in rows)}
    if answer is not None:
        columns[f"probability {answer.diagnosis.classes[1]}"] = np.array([answer.views[r.name] for r in rows])
    for name in rows[0].features:
        columns[name] = np.array([r.features[name] for r in rows])
    columns["suspicious places"] = np.array([len(r.findings) for r in rows])
    return Table(columns, "Views")


def breast_table(results: dict[str, ViewResult], answer: Answer | None = None) -> Table:
    """One row a breast: dense share, density class, highest suspicion, and what a model says."""
    sides = [side for side in ("left", "right") if any(name.startswith(side) for name in results)]
    columns: dict = {"breast": tuple(side.capitalize() for side in sides)}
    members = [[r for name, r in results.items() if name.startswith(side)] for side in sides]
    dense = [float(np.mean([r.features["dense_percent"] for r in group])) for group in members]
    columns["dense_percent"] = np.array(dense)
    columns["density"] = tuple(map(density_class, dense))
    strengths = [max((f.strength for r in group for f in r.findings), default=0.0) for group in members]
    columns["highest_suspicion"] = np.array(strengths)
    if answer is not None:
        columns[f"probability {answer.diagnosis.classes[1]}"] = np.array([answer.breasts[side] for side in sides])
        columns["called"] = tuple(answer.called(side) for side in sides)
        columns["possible"] = tuple(answer.set_text(side) for side in sides)
    return Table(columns, "Breasts")


class BreastScreening(Task):
    """Breast, pectoral muscle, dense tissue and suspicious places of each view; both breasts compared; a report."""

    id = "cases.breast_screening"
    title = "Breast-cancer screening"
    group = "Case studies"
    summary = "Reads up to four mammograms of an exam and writes a report with regions, density and suspicious places."
    references = (
        "Karssemeijer N. Automated classification of parenchymal patterns in mammograms. Phys Med Biol 1998; "
        "43:365-378.",
        "te Brake GM, Karssemeijer N. Single and multiscale detection of masses in digital mammograms. IEEE Trans Med "
        "Imaging 1999; 18:628-639.",
        "Kobatake H, Hashimoto S. Convergence index filter for vector fields. IEEE Trans Image Process 1999; "
        "8:1029-1038.",
    )
    keywords = ("mammography", "breast density", "BI-RADS", "mass", "calcification", "CC", "MLO")
    inputs = (
        VolumePort(
            "mammograms", "Mammograms", "Up to four in any order; view and side are found by header, name or picture.",
            optional=True, multiple=True, components=(1, 3, 4),
        ),
        *view_inputs(),
    )  # fmt: skip
    parameters = (MODEL, COVERAGE, SUSPICION, PIXEL)
    outputs = (
        TextPort("report", "Report", "HTML page with pictures, tables and the limits of all this."),
        TablePort("views", "Views", "Density class, features and findings of each view."),
        TablePort("breasts", "Breasts", "Both breasts side by side."),
        TablePort("reasons", "Contributions", "Measures that move the model's probabilities most.", optional=True),
        *(SegmentationPort(f"{n}_regions", f"{t} regions", "Breast, muscle, dense, suspicious.", optional=True)
          for n, t in VIEWS.items()),
        *(VolumePort(f"{n}_suspicion", f"{t} suspicion", "Saliency, 0 to 1.", optional=True) for n, t in VIEWS.items()),
        *(PointsPort(f"{n}_places", f"{t} places", "The suspicious places.", optional=True) for n, t in VIEWS.items()),
    )  # fmt: skip
    orientation_tolerance = 2e-2
    together = tuple((n, f"{n}_suspicion", f"{n}_regions", f"{n}_places") for n in VIEWS)

    def example(self):
        from .phantom import example_mammogram

        return {"left_mlo": example_mammogram(oblique=True)}, {"pixel_mm": 0.4}

    def proposed_inputs(self, volumes):
        return proposed_views(volumes)

    def notice(self, given):
        missing = [title for name, title in VIEWS.items() if name not in given]
        if "mammograms" in given or not 0 < len(missing) < len(VIEWS):
            return ""
        return f"Not there: {', '.join(missing)}. The exam is read without."

    def validate(self, inputs, parameters):
        if parameters.model.strip():
            from ..classify.apply_task import Classify
            from ..core.model_files import FEATURES
            from .model import breast_package

            if breast_package(parameters.model).card.architecture != FEATURES:
                Classify().require_packages()

    def run(self, inputs, parameters, context):
        from .screening_report import report_html

        with_model = bool(parameters.model.strip())
        with context.part(0.0, 0.8 if with_model else 0.95) as part:
            results = examined(inputs, parameters, part)
        found = None
        if with_model:
            from .model import answer, breast_package

            with context.part(0.8, 0.95) as part:
                part.progress(0.0, "Asking the model")
                found = answer(breast_package(parameters.model), results, parameters.coverage, part)
        views, breasts = view_table(results, found), breast_table(results, found)
        outputs = {
            "report": Text(report_html(results, views, breasts, found), "Screening report"),
            "views": views,
            "breasts": breasts,
            "reasons": found.reasons if found else None,
        }
        saliency = found.saliency if found else {}
        for name, result in results.items():
            outputs[f"{name}_regions"] = segmentation_of(result)
            outputs[f"{name}_suspicion"] = saliency_of(result, saliency.get(name))
            outputs[f"{name}_places"] = points_of(result)
        return outputs
