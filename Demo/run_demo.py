"""The headless demo: raw data to report, through all three modules, on real images.

``python Demo/run_demo.py [--input FILE [--spacing-mm MM]] [--output FOLDER]``; ``make demo`` sets up what it needs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "Demo"), *(str(ROOT / m) for m in ("MedImgAI", "MedImgAIReconstruct", "MedImgAIFusion"))]

from MedImgAILib.core import MedImgAIError, Segmentation, Volume  # noqa: E402
from MedImgAILib.hosts.files import write_file  # noqa: E402
from MedImgAILib.hosts.mrml import new_scene, save_scene, write_node  # noqa: E402
from pipeline import Pipeline, relative  # noqa: E402
from report import Report  # noqa: E402


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description="Run the MedImgAI pipeline on real images.")
    parser.add_argument("--input", type=Path, help="an image of your own instead of the demo's")
    parser.add_argument("--spacing-mm", metavar="MM", help="size of a pixel of a picture, as 0.2 or 0.2,0.3")
    parser.add_argument("--output", type=Path, default=ROOT / "demo-output")
    arguments = parser.parse_args(argv)
    from demo_data import FetchError

    try:
        run(arguments.input, arguments.output.resolve(), arguments.spacing_mm)
    except (MedImgAIError, FetchError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def run(own_image: Path | None, output: Path, spacing_mm: str | None = None):
    """Run the story and replace ``output`` with its results once everything has succeeded."""
    start = time.perf_counter()
    if own_image is None:
        from demo_data import fetch

        files = fetch(ROOT / "build/demo-data")
        cases, pipeline, report = _demo_story(files)
    else:
        cases, pipeline, report = _own_story(own_image, spacing_mm)
    work = Path(tempfile.mkdtemp(prefix=".demo-", dir=output.parent))
    try:
        with pipeline.step("Write volumes, segmentations, scene and report", "files"):
            _write_files(cases, work)
            _write_scene(cases, work / "scene.mrb")
        report.chapter("How long it took", f"In all {time.perf_counter() - start:.0f} s on this machine.")
        report.table(pipeline.timing_table())
        for case, results in cases.items():
            made = {value.name: value.provenance for value in results.values() if value.provenance.get("task")}
            report.details(f"Provenance of the {case.lower()} results", made)
        report.write(work / "report.html")
        timings = {"total_s": time.perf_counter() - start, "steps": pipeline.timings, "warnings": pipeline.warnings}
        (work / "timings.json").write_text(json.dumps(timings, indent=1))
        old = output.with_name(f".{output.name}-old")
        shutil.rmtree(old, ignore_errors=True)
        if output.exists():
            output.rename(old)
        work.chmod(0o755)
        work.rename(output)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for warning in pipeline.warnings:
        print(f"Note: {warning}")
    print(f"Done in {timings['total_s']:.0f} s. Open {relative(output / 'report.html')} in a browser, ", end="")
    print(f"{relative(output / 'scene.mrb')} in 3D Slicer.")


def _demo_story(files):
    import chest
    import head

    pipeline = Pipeline(head.STEPS + chest.STEPS + 1)
    report = Report(
        "MedImgAI: from raw data to findings",
        "A volunteer's head and a patient's chest went through reconstruction, enhancement, segmentation, "
        "registration, fusion and comparison with a reference, without a mouse click. Every picture below comes from "
        "this run.",
    )
    cases = {"Head": head.run(files, pipeline, report), "Chest": chest.run(files, pipeline, report)}
    return cases, pipeline, report


def _own_story(path: Path, spacing_mm: str | None = None):
    import own_image

    pipeline = Pipeline(own_image.STEPS + 1)
    report = Report(
        f"MedImgAI on {path.name}",
        "Your image went through reconstruction of simulated raw data, enhancement, segmentation, registration of a "
        "moved copy, fusion and comparison. Every picture below comes from this run.",
    )
    return {path.name.split(".")[0] or "Image": own_image.run(path, pipeline, report, spacing_mm)}, pipeline, report


def _write_files(cases: dict, folder: Path):
    for results in cases.values():
        for value in results.values():
            stem = value.name.replace(",", "").replace(" ", "-").lower()
            if isinstance(value, Volume):
                write_file(value, folder / f"{stem}.nii.gz")
            elif isinstance(value, Segmentation):
                write_file(value, folder / f"{stem}.seg.nrrd")


def _write_scene(cases: dict, path: Path):
    """All results in one scene, a subject hierarchy folder per case."""
    import slicer

    scene = new_scene()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    for case, results in cases.items():
        folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), case)
        for value in results.values():
            node = write_node(value, scene)
            item = hierarchy.GetItemByDataNode(node)  # Slicer itself makes one for each node, slicer-core none
            if item:
                hierarchy.SetItemParent(item, folder)
            else:
                hierarchy.CreateItem(folder, node)
    save_scene(scene, path)


if __name__ == "__main__":
    sys.exit(main())
