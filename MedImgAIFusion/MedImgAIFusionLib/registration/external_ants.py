"""What runs in ANTs' process: reads images from a folder, registers, and leaves the result there as files.

Arguments: folder, kind ("rigid", "affine" or "deformable"), seed. Needs antspyx alone.
"""

from __future__ import annotations

import json
import os
import sys


def main(folder: str, kind: str, seed: str):
    """Write ``matrix.json`` (fixed to moving, LPS), or displacements in mm, LPS, as ``to_moving`` and ``to_fixed``."""
    import ants

    def read(name):
        path = os.path.join(folder, f"{name}.mha")
        return ants.image_read(path) if os.path.exists(path) else None

    images = {name: read(name) for name in ("fixed", "moving")}
    masks = {"mask": read("fixed_mask"), "moving_mask": read("moving_mask")}
    masks = {name: mask for name, mask in masks.items() if mask is not None}
    if masks:
        masks["mask_all_stages"] = True
    kinds = {"rigid": "Rigid", "affine": "Affine", "deformable": "SyNOnly"}
    start = {"initial_transform": "identity"} if kind == "deformable" else {}
    outprefix = os.path.join(folder, "ants_")
    found = ants.registration(
        **images, type_of_transform=kinds[kind], random_seed=int(seed), outprefix=outprefix, **start, **masks
    )
    if kind == "deformable":
        for name, paths in (("to_moving", found["fwdtransforms"]), ("to_fixed", found["invtransforms"])):
            (path,) = (p for p in paths if p.endswith("Warp.nii.gz"))
            ants.image_write(ants.image_read(path), os.path.join(folder, f"{name}.mha"))
        return
    (path,) = found["fwdtransforms"]
    transform = ants.read_transform(path)
    origin = transform.apply_to_point((0.0, 0.0, 0.0))
    ends = [transform.apply_to_point(axis) for axis in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))]
    rows = [[*(end[row] - origin[row] for end in ends), origin[row]] for row in range(3)]
    with open(os.path.join(folder, "matrix.json"), "w") as file:
        json.dump([*rows, [0.0, 0.0, 0.0, 1.0]], file)


if __name__ == "__main__":
    main(*sys.argv[1:])
