"""What pyproject.toml cannot say: models lie in a folder that Slicer wants; a wheel holds them within a package."""

from setuptools import find_namespace_packages, find_packages, setup

LIBRARIES = {
    "MedImgAILib": "MedImgAI",
    "MedImgAIReconstructLib": "MedImgAIReconstruct",
    "MedImgAIFusionLib": "MedImgAIFusion",
}
RESOURCES = "MedImgAILib.Resources"

code = [p for name, folder in LIBRARIES.items() for p in find_packages(folder, include=[f"{name}*"])]
models = [f"{RESOURCES}.{p}" for p in find_namespace_packages("MedImgAI/Resources", include=["Models*"])]
setup(
    packages=[*code, *models],
    package_dir={RESOURCES: "MedImgAI/Resources", **{name: f"{folder}/{name}" for name, folder in LIBRARIES.items()}},
    package_data={"": ["*.json"], **{name: ["*"] for name in models}},
)
