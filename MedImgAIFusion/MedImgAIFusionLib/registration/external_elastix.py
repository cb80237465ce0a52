"""What runs in elastix' process: reads images from a folder, registers, and leaves the result there as files.

Arguments: folder, kind ("rigid", "affine" or "deformable"), seed. Needs itk-elastix alone.
"""

from __future__ import annotations

import json
import os
import sys


def main(folder: str, kind: str, seed: str):
    """Write ``matrix.json`` (fixed to moving, LPS) or ``to_moving.mha`` (displacements in mm, LPS)."""
    import itk

    def read(name, kind_of_voxel):
        path = os.path.join(folder, f"{name}.mha")
        return itk.imread(path, kind_of_voxel) if os.path.exists(path) else None

    images = [read(name, itk.F) for name in ("fixed", "moving")]
    masks = {name: read(name, itk.UC) for name in ("fixed_mask", "moving_mask")}
    masks = {name: mask for name, mask in masks.items() if mask is not None}
    parameters = itk.ParameterObject.New()
    wanted = parameters.GetDefaultParameterMap("bspline" if kind == "deformable" else kind)
    wanted["RandomSeed"] = [seed]
    wanted["AutomaticTransformInitialization"] = ["false" if kind == "deformable" else "true"]
    wanted["WriteResultImage"] = ["false"]
    parameters.AddParameterMap(wanted)
    _, found = itk.elastix_registration_method(*images, parameter_object=parameters, log_to_console=False, **masks)
    if kind == "deformable":
        field = itk.transformix_deformation_field(images[1], found)
        itk.imwrite(field, os.path.join(folder, "to_moving.mha"))
        return
    values = [float(v) for v in found.GetParameter(0, "TransformParameters")]
    center = [float(v) for v in found.GetParameter(0, "CenterOfRotationPoint")]
    if kind == "rigid":
        turn = itk.Euler3DTransform[itk.D].New()
        turn.SetRotation(*values[:3])
        matrix = itk.array_from_matrix(turn.GetMatrix()).tolist()
        shift = values[3:]
    else:
        matrix = [values[row : row + 3] for row in (0, 3, 6)]
        shift = values[9:]
    offset = [
        center[row] + shift[row] - sum(matrix[row][column] * center[column] for column in range(3)) for row in range(3)
    ]
    result = [[*matrix[row], offset[row]] for row in range(3)] + [[0.0, 0.0, 0.0, 1.0]]
    with open(os.path.join(folder, "matrix.json"), "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
