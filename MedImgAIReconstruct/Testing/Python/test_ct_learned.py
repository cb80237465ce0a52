"""Noise2Inverse: learns from the scan alone, keeps a checked model package."""

import numpy as np
import pytest
from ct_testing import run
from MedImgAILib.core import InputError, Projections, ScanGeometry
from MedImgAILib.core.model_package import ModelPackage
from MedImgAIReconstructLib.ct import quality
from MedImgAIReconstructLib.ct.fbp import FilteredBackProjection
from MedImgAIReconstructLib.ct.grid import automatic_grid
from MedImgAIReconstructLib.ct.noise2inverse import Noise2Inverse
from MedImgAIReconstructLib.ct.phantoms import project, sample, shepp_logan
from MedImgAIReconstructLib.ct.simulation import noisy

for package in ("torch", "monai", "safetensors"):
    pytest.importorskip(package)


def low_dose(views=120):
    scan = ScanGeometry("parallel", np.pi * np.arange(views) / views)
    phantom = shepp_logan(24.0, scale=0.02)
    line = noisy(project(phantom, scan, 4, 48), 2e3, np.random.default_rng(0))
    return Projections(line, scan, "head"), sample(phantom, automatic_grid(scan, 4, 48), 2)


def test_noise_falls_and_the_network_is_kept(tmp_path):
    data, truth = low_dose()
    folder = tmp_path / "model"
    settings = {"steps": 60, "batch": 4, "patch": 32, "model_folder": str(folder)}
    result = run(Noise2Inverse, {"projections": data}, **settings)["volume"]
    plain = run(FilteredBackProjection, {"projections": data})["volume"].array
    assert quality.rmse(result.array, truth) < 0.97 * quality.rmse(plain, truth)
    package = ModelPackage.load(folder)
    package.network()
    assert result.provenance["models"]["noise2inverse"] == package.card.weights_sha256


def test_too_few_views_are_refused():
    data, _ = low_dose(20)
    with pytest.raises(InputError, match="splits need 32"):
        run(Noise2Inverse, {"projections": data})
