"""Segmentation by a TorchScript network, which can run code: in the worker process only, after consent."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from ..core import BooleanParameter, ModelError, ParameterError
from ..core.model_files import FILES, TORCHSCRIPT
from ..core.model_package import ModelPackage
from .installed import find_package
from .network_task import NetworkSegmentation


class TorchScriptSegmentation(NetworkSegmentation):
    """As :class:`NetworkSegmentation`, for packages whose network is TorchScript."""

    id = "segment.torchscript"
    title = "Network from TorchScript"
    summary = (
        "Applies a TorchScript segmentation network; such a file can run any code, so only run those that you trust."
    )
    references = (
        "Paszke A, Gross S, Massa F, et al. PyTorch: an imperative style, high-performance deep learning library. "
        "Adv Neural Inf Process Syst 2019; 32.",
    )
    keywords = ("deep learning", "inference", "model", "jit", "TorchScript")

    parameters = (
        *NetworkSegmentation.parameters,
        BooleanParameter(
            "trust", "I trust this file", False,
            "TorchScript can run any code with your rights, and nothing can check it; agree only if you know where it "
            "comes from.",
        ),
    )  # fmt: skip
    requirements = ("torch>=2.2",)
    isolated = True

    def validate(self, inputs, parameters):
        super().validate(inputs, parameters)
        if not find_package(parameters.model).runs_code:
            raise ModelError("The model is no TorchScript; use the task 'Network from a model package'.")
        if not parameters.trust:
            raise ParameterError("I trust this file: TorchScript can run any code; agree to that or use another model.")

    def example(self):
        from ..core.examples import example_volume

        return {"images": [example_volume()]}, {"model": str(_example_package()), "trust": True}


_example_folder: tempfile.TemporaryDirectory | None = None


def _example_package() -> Path:
    """The example of the other task as TorchScript."""
    global _example_folder
    if _example_folder is None:
        import torch

        from .network_task import _example_package as plain_example

        plain = ModelPackage.load(plain_example())
        folder = tempfile.TemporaryDirectory(prefix="medimgai-example-")
        path = Path(folder.name) / FILES[TORCHSCRIPT]
        torch.jit.trace(plain.network(), torch.zeros(1, 1, 16, 16, 16)).save(str(path))
        card = replace(plain.card, architecture=TORCHSCRIPT, arguments={})
        ModelPackage.create(Path(folder.name) / "model", card, path)
        _example_folder = folder
    return Path(_example_folder.name) / "model"
