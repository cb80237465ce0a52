"""``python -m Benchmarks.segmentation_accuracy``: every case of every method, for docs/segmentation-accuracy.md.

What was trained had not seen the case. The benchmark itself gives the means.
"""

from __future__ import annotations

from . import segmentation_classical, segmentation_models


def main():
    """Print the tables in Markdown."""
    for method in (*segmentation_models.METHODS, *segmentation_classical.METHODS):
        print("\n| data | case | structure | method | Dice | HD95 | NSD |\n" + "| --- " * 7 + "|")
        for a in method():
            what = f"| {a.data} | {a.case} | {a.structure} | {a.method}"
            print(f"{what} | {a.dice:.3f} | {a.hd95:.2f} | {a.nsd:.3f} |", flush=True)


if __name__ == "__main__":
    main()
