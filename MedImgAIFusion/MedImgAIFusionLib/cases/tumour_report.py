"""The page that a brain-tumour exam ends in."""

from __future__ import annotations

from html import escape

import numpy as np
from MedImgAILib.core import Table
from MedImgAILib.evaluate.pictures import grey_picture, outline, picture_html
from MedImgAILib.evaluate.report import charts_html, page, paragraph, table_html

_PAINT = {1: (90, 170, 230), 2: (240, 190, 70), 3: (230, 80, 80)}
KEY = "Outlines: blue whole tumour, yellow core, red enhancing tumour."
LIMITS = (
    "The outlines come from a network trained on the few patients that its card names; it knows gliomas of adults "
    "before treatment and nothing else, and will outline something in other images, too. For research only, not for "
    "diagnosis."
)


def report_html(exam, labels: np.ndarray, measures: Table, regions: Table | None, notes, card) -> str:
    """The report as one HTML page.

    Parameters
    ----------
    exam : .exam.Exam
    labels : (K, J, I) uint8 ndarray
        Of :data:`.tumour_regions.TISSUES`.
    measures : Table
    regions : Table, optional
    notes : list of str
    card : ModelCard
    """
    volumes = dict(zip(measures.columns["part"], measures.columns["volume"]))
    if volumes["Whole tumour"] > 0:
        found = (
            f"The tumour has {volumes['Whole tumour']:.1f} mL, its core {volumes['Tumour core']:.1f} mL, the enhancing "
            f"part {volumes['Enhancing tumour']:.1f} mL."
        )
    else:
        found = "No tumour was found."
    pictures = [(f"{name}, largest section", slice_html(volume, labels)) for name, volume in exam.images.items()]
    score = ", ".join(f"{name} {value:g}" for name, value in card.metrics.items())
    model = f"{card.title}, trained on {card.training_data}" + (f"; {score}" if score else "") + "."
    sections = [
        ("", paragraph(found)),
        ("Pictures", paragraph(KEY) + charts_html(pictures)),
        ("Volumes", table_html(measures)),
        ("What was done", "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>"),
        ("Model", paragraph(model)),
        ("Limits", paragraph(LIMITS)),
    ]
    if regions is not None:
        sections.insert(3, ("Tissue of small regions", paragraph(validated(card)) + table_html(regions)))
    return page("Brain-tumour exam", sections)


def validated(card) -> str:
    """What the classification of regions is, and what it was found to be worth."""
    text = (
        "Blocks of the outlined tumour are called oedema, non-enhancing or enhancing by their brightness in each image "
        "and their depth. This tells what a block looks like, not what a pathologist would find. "
    )
    share = card.metrics.get("region_balanced_accuracy")
    if share is None:
        return text + "It was not validated."
    return text + (
        f"In patients left out of the training the calls agreed with a reader's outlines in {100 * share:.0f} % of the "
        "blocks (mean over the tissues; chance is 33 %)."
    )


def training_html(table: Table, summary: str, judged) -> str:
    """The page of a training: figures and pictures of each patient.

    Parameters
    ----------
    table : Table
    summary : str
    judged : list of .tumour_rounds.Round
    """
    pictures = [entry for found in judged for entry in found.pictures]
    sections = [
        ("", paragraph(summary)),
        ("Patients", table_html(table)),
        ("Largest section of each tumour", paragraph(KEY) + charts_html(pictures)),
        ("Limits", paragraph(LIMITS)),
    ]
    return page("Training of the brain-tumour analysis", sections)


def slice_html(volume, labels: np.ndarray, place: int | None = None) -> str:
    """An ``<img>`` of the axial slice with most tumour, or of the one with this number from below, outlined."""
    order = volume.geometry.canonical_order()
    image = volume.reordered(*order).array
    mask = volume.with_array(labels).reordered(*order).array
    counts = (mask > 0).sum((1, 2))
    k = place
    if k is None:
        k = int(counts.argmax()) if counts.any() else image.shape[0] // 2
    # As radiologists look: front up, the patient's right on the left.
    plane, mask = image[k, ::-1, ::-1], mask[k, ::-1, ::-1]
    rgb = grey_picture(plane)
    for label, color in _PAINT.items():
        rgb[outline(mask >= label)] = color
    factor = max(1, 320 // max(rgb.shape[:2]))
    rgb = np.ascontiguousarray(np.repeat(np.repeat(rgb, factor, 0), factor, 1))
    return picture_html(rgb, "tumour")
