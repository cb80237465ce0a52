"""Training of the brain-tumour case study on a folder of patients, judged with each patient left out in turn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from MedImgAILib.core import (
    BooleanParameter,
    ChoiceParameter,
    FloatParameter,
    InputError,
    IntegerParameter,
    ParameterError,
    Table,
    TablePort,
    Task,
    Text,
    TextParameter,
    TextPort,
)
from MedImgAILib.core.model_package import ModelPackage, check_new

from ..model.cases import Case, prepare
from ..model.folder import read_patients
from ..model.package import new_card
from ..model.train_task import WIDTHS
from ..model.training import Settings
from .exam import MODALITIES
from .tumour_regions import TISSUES, segments, tissue_labels
from .tumour_report import training_html
from .tumour_rounds import Rounds, identity_of, judge, learn

REGIONS = "regions.txt"
"""File of the region classifier, as JSON, beside the network in the package."""
REQUIREMENTS = ("torch>=2.2", "safetensors>=0.4", "scikit-learn>=1.3")
REFERENCES = (
    "Menze BH et al. The multimodal brain tumor image segmentation benchmark (BRATS). IEEE Trans Med Imaging 2015; "
    "34:1993-2024. doi:10.1109/TMI.2014.2377694",
    "Havaei M et al. HeMIS: hetero-modal image segmentation. MICCAI 2016:469-477. doi:10.1007/978-3-319-46723-8_54",
)


class TrainBrainTumour(Task):
    """A joint network for the parts of a tumour and a classifier of its regions, from registered brain images."""

    id = "cases.brain_tumour_train"
    title = "Train brain-tumour analysis"
    group = "Case studies"
    summary = "Learns tumour parts from a folder of patients and shows what it is worth, each patient left out in turn."
    references = REFERENCES
    keywords = ("glioma", "BraTS", "leave-one-out", "segmentation", "radiomics")
    requirements = REQUIREMENTS
    uses_device = True
    can_finish_early = True

    parameters = (
        TextParameter(
            "data", "Data", "", "A folder with one folder for each patient, or a table (.csv) of paths.", kind="folder"
        ),
        TextParameter("modalities", "Modalities", "T1c, FLAIR", "Which of T1, T1c, T2 and FLAIR, as files are named."),
        TextParameter("segmentation_name", "Segments' file", "", "What it is called, if not labels or seg."),
        TextParameter("whole", "Whole tumour", "1, 2, 3, 4", "Labels or segment names of everything."),
        TextParameter("core", "Core", "1, 3, 4", "Labels or names of necrosis, non-enhancing and enhancing tumour."),
        TextParameter("enhancing", "Enhancing", "4", "Labels or names of what takes up contrast agent."),
        TextParameter("model", "Model package", "", "New folder for what was learnt; empty keeps none.", kind="save"),
        BooleanParameter("leave_one_out", "Leave one out", True, "Trains once more for each patient, to judge on it."),
        FloatParameter(
            "spacing_mm", "Voxel size", 2.0, "To which images are brought.", "mm", minimum=0.5, maximum=10.0
        ),
        IntegerParameter("steps", "Steps", 300, "Updates of each network.", minimum=1, maximum=100000),
        ChoiceParameter(
            "width", "Network", "small", "Small trains on a processor, large needs a graphics card.",
            choices={"small": "Small", "medium": "Medium", "large": "Large"}, advanced=True,
        ),
        IntegerParameter("patch", "Patch", 32, "Voxels along an edge.", minimum=8, maximum=192, advanced=True),
    )  # fmt: skip
    outputs = (
        TablePort("cases", "Cases", "Dice of each part and accuracy of region classification, patient by patient."),
        TextPort("summary", "Summary", "What was learnt from what, and what it is worth."),
        TextPort(
            "report", "Report", "HTML page with the figures and pictures of each patient, left out.", optional=True
        ),
    )

    def validate(self, inputs, parameters):
        if not parameters.data:
            raise ParameterError("Data: no folder was given; choose a folder of patients.")
        modalities_of(parameters.modalities)
        if parameters.model:
            check_new(parameters.model)

    def example(self):
        from .tumour_example import example_folder

        settings = {"spacing_mm": 3.0, "steps": 3, "patch": 8, "leave_one_out": False}
        return {}, {"data": str(example_folder())} | settings

    def run(self, inputs, parameters, context):
        names = modalities_of(parameters.modalities)
        with context.part(0.0, 0.1) as part:
            cases = collect(parameters, names, part)
        if parameters.leave_one_out and len({case.name for case in cases}) < 2:
            raise InputError("Leaving one out needs two patients or more; switch it off or add patients.")
        settings = Settings(WIDTHS[parameters.width], parameters.steps, patch=parameters.patch)
        trainings = len(cases) * parameters.leave_one_out + 1
        folder = Path(f"{parameters.model}.unfinished") if parameters.model else None
        rounds = Rounds(folder, identity_of(cases, names, settings, context.seed))
        judged = []
        for number, case in enumerate(cases if parameters.leave_one_out else ()):
            kept = rounds.read(number)
            if kept is None:
                others = [other for other in cases if other.name != case.name]  # a table may have him twice
                with context.part(0.1 + 0.9 * number / trainings, 0.1 + 0.9 * (number + 1) / trainings) as part:
                    network, regions = learn(others, names, settings, part, f"Loss/without {case.name}")
                    with part.part(0.85, 1.0):
                        kept = judge(network, regions, case, names, part)
                if context.finish_early:
                    # What follows would be learnt in one step; this network is the best there is.
                    learnt, judged = others, [*judged, kept]
                    break
                rounds.keep(number, kept)
            judged.append(kept)
        else:
            learnt = cases
            with context.part(1 - 0.9 / trainings, 1.0) as part:
                network, regions = learn(cases, names, settings, part, "Loss/all")
        if not judged:
            for number, case in enumerate(cases):
                start, share = 1 - 0.135 / trainings, 0.135 / trainings / len(cases)
                with context.part(start + share * number, start + share * (number + 1)):
                    judged.append(judge(network, regions, case, names, context))
        rows = [found.row for found in judged]
        table = Table({key: _column([row[key] for row in rows]) for key in rows[0]}, "Cases")
        if parameters.model:
            self._store(parameters, names, learnt, settings, network, regions, table)
            rounds.remove()
        summary = _summary(table, names, len({case.name for case in learnt}), parameters.leave_one_out)
        return {
            "cases": table,
            "summary": Text(summary, "Training summary"),
            "report": Text(training_html(table, summary, judged), "Training report"),
        }

    def _store(self, parameters, names, cases, settings, network, regions, table):
        patients = list(dict.fromkeys(case.name for case in cases))
        told = f"{len(patients)} patients ({', '.join(patients[:20])})"
        metrics = {}
        if parameters.leave_one_out:
            scores = {name: _mean(table.columns[name]) for name in table.columns if name not in ("case", "regions")}
            told += f"; figures are means of {len(set(table.columns['case']))} patients, each left out of its training"
            metrics = {metric_name(n): round(v, 4) for n, v in scores.items() if np.isfinite(v)}
        card = new_card(names, [""] * len(names), segments(), parameters.spacing_mm, settings, told, metrics)
        card = replace(card, id="brain-tumour", title="Brain tumour from " + ", ".join(names))
        ModelPackage.create(Path(parameters.model), card, network.state_dict(), {REGIONS: regions.to_json()})


def modalities_of(text: str) -> list[str]:
    """Names of modalities from a text with commas, as the analysis calls them.

    Raises
    ------
    ParameterError
        If one is not known, or there is none.
    """
    known = {title.casefold(): title for title in MODALITIES.values()}
    given = list(dict.fromkeys(entry.strip() for entry in text.split(",") if entry.strip()))
    unknown = [entry for entry in given if entry.casefold() not in known]
    if unknown or not given:
        what = f"'{unknown[0][:40]}' is none of them" if unknown else "none was given"
        raise ParameterError(f"Modalities: {what}; choose from {', '.join(known.values())}.")
    return list(dict.fromkeys(known[entry.casefold()] for entry in given))


def collect(parameters, names, context) -> list[Case]:
    """The patients of the folder, prepared, with the labels of :data:`.tumour_regions.TISSUES`."""
    _, patients = read_patients(parameters.data, names, parameters.segmentation_name)
    cases = []
    for number, patient in enumerate(patients):
        context.progress(number / len(patients), f"Preparing {patient.name}")
        labels = tissue_labels(patient.segmentation, parameters.whole, parameters.core, parameters.enhancing)
        cases.append(prepare(replace(patient, segmentation=labels), names, parameters.spacing_mm, TISSUES))
    return cases


def metric_name(figure: str) -> str:
    """Of a column of the table, as the model's card has it."""
    return figure.lower().replace(" ", "_")


def _column(values):
    return values if isinstance(values[0], str) else np.array(values, float)


def _mean(values) -> float:
    """Of those that are defined; NaN where none is."""
    values = np.asarray(values, float)
    return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else float("nan")


def _summary(table: Table, names, learnt: int, left_out: bool) -> str:
    means = {key: _mean(table.columns[key]) for key in table.columns if key not in ("case", "regions")}
    how = "each left out of its training" if left_out else "the same that it was trained on, so these are no estimates"
    figures = ", ".join(f"{key} {value:.2f}" for key, value in means.items())
    return (
        f"Learnt from {', '.join(names)} of {learnt} patients; judged on {table.rows}, {how}. Means: {figures}. "
        "So few patients show that the path works, not how well it works on others. For research only."
    )
