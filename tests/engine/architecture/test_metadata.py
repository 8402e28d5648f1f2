"""What a package index is told: complete, rendered without a warning, and uploaded by a tag of the version."""
from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# those of https://pypi.org/classifiers that are used: an index refuses any other
CLASSIFIERS = {
    "Development Status :: 4 - Beta", "Environment :: GPU :: NVIDIA CUDA", "Intended Audience :: Science/Research",
    "Natural Language :: English", "Operating System :: POSIX :: Linux", "Programming Language :: Python :: 3",
    "Programming Language :: Python :: 3 :: Only", "Topic :: Scientific/Engineering :: Bio-Informatics",
    "Topic :: Scientific/Engineering :: Image Processing"}


@pytest.fixture(scope="module")
def metadata():
    """``pyproject.toml``."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_fields_are_complete(metadata):
    project = metadata["project"]
    assert project["name"] == "scipion-em-vaegan" and project["description"] and project["authors"]
    assert set(project["classifiers"]) <= CLASSIFIERS  # none of a license: the expression says it
    assert len(project["keywords"]) >= 5 and len(set(project["keywords"])) == len(project["keywords"])
    assert all(url.startswith("https://") for url in project["urls"].values())
    assert project["entry-points"]["pyworkflow.plugin"] == {"vaegan_scipion": "vaegan_scipion"}
    assert 'license="GPL-3.0-or-later"' in (ROOT / "setup.py").read_text()
    assert "GNU GENERAL PUBLIC LICENSE" in (ROOT / "LICENSE").read_text()


def test_version_is_in_the_sources_and_the_changes(metadata):
    module, _, name = metadata["tool"]["setuptools"]["dynamic"]["version"]["attr"].partition(".")
    source = (ROOT / module / "__init__.py").read_text()
    version = re.search(rf'^{name} = "([\d.]+)"$', source, re.MULTILINE).group(1)  # a literal: nothing is imported
    assert (ROOT / "CHANGES.txt").read_text().startswith(f"{version}\n---")


def test_description_renders_as_an_index_renders_it(metadata):
    """No file included, nothing raw, no warning: what ``twine check --strict`` asks."""
    core = pytest.importorskip("docutils.core", reason="docutils comes with sphinx")
    readme = metadata["project"]["readme"]
    assert readme["content-type"] == "text/x-rst"
    said: list[str] = []
    made = core.publish_parts((ROOT / readme["file"]).read_text(), writer="html5", settings_overrides={
        "raw_enabled": False, "file_insertion_enabled": False, "report_level": 1, "halt_level": 5,
        "warning_stream": type("Heard", (), {"write": staticmethod(said.append)})()})
    assert said == [] and "<table" in made["body"]


def test_a_tag_of_the_version_is_built_checked_and_uploaded():
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with myst-parser")
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "publish.yml").read_text())
    assert flow[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads the key "on" as true
    build, upload = flow["jobs"]["build"], flow["jobs"]["upload"]
    commands = "\n".join(step.get("run", "") for step in build["steps"])
    for command in ("-m build", "twine check --strict dist/*", "${GITHUB_REF_NAME#v}-py3-none-any.whl"):
        assert command in commands
    assert upload["needs"] == "build" and upload["permissions"] == {"id-token": "write"}
    assert any("pypi-publish" in step["uses"] for step in upload["steps"])


def test_scipion_s_organisation_publishes_as_its_other_plugins_do():
    """And there only by this one: a tag that it makes does not start the other."""
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with myst-parser")
    folder = ROOT / ".github" / "workflows"
    flow, other = (yaml.safe_load((folder / name).read_text()) for name in ("publish_and_tag.yml", "publish.yml"))
    assert flow[True] == {"push": {"branches": ["release"]}}
    job = flow["jobs"]["publish"]
    assert job["uses"] == "scipion-em/.github/.github/workflows/publish_and_tag_toml.yml@master"
    assert job["secrets"] == "inherit" and (ROOT / job["with"]["folder"] / "__init__.py").exists()
    assert job["if"] == "github.repository_owner == 'scipion-em'"
    assert other["jobs"]["build"]["if"] == "github.repository_owner != 'scipion-em'"
