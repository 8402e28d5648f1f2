"""Packaging of the Scipion plugin; the engine's sources travel as package data."""
import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
SOURCE = (HERE / "vaegan_scipion" / "__init__.py").read_text(encoding="utf-8")
# Not imported: the build environment has no Scipion.
VERSION = re.search(r'^__version__ = "([^"]+)"', SOURCE, re.MULTILINE).group(1)

setup(
    name="scipion-em-vaegan",
    version=VERSION,
    description="Scipion plugin: states, poses and maps of uncurated cryo-EM particles; a VAE-GAN without poses",
    long_description=(HERE / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    author="scipion-em-vaegan developers",
    url="https://pypi.org/project/scipion-em-vaegan",
    license="GPL-3.0-or-later",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Bio-Informatics",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
    keywords="scipion electron-microscopy cryo-em heterogeneity gan",
    python_requires=">=3.8",
    install_requires=["scipion-em>=3.11", "scipion-em-relion>=5.0"],
    packages=find_packages(include=["vaegan_scipion", "vaegan_scipion.*"]),
    package_data={"vaegan_scipion": [
        "protocols.conf", "icon.png", "templates/*", "engine/requirements.txt",
        "engine/vaegan_engine/report/assets/*",
    ]},
    entry_points={"pyworkflow.plugin": "vaegan_scipion = vaegan_scipion"},
)
