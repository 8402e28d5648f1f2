"""The build of torch for a machine, by what nvidia-smi prints there."""
import pytest
from vaegan_engine.contract import torch_builds
from vaegan_engine.contract.torch_builds import build_for, parse_gpus


@pytest.mark.parametrize(("text", "tag"), [
    ("580.65.06, 9.0, NVIDIA H100 80GB HBM3", "cu130"),
    ("580.65.06, 7.5, Tesla T4\n580.65.06, 8.0, NVIDIA A100", "cu130"),
    ("590.11, 12.0, NVIDIA GeForce RTX 5090", "cu130"),
    ("580.65.06, 7.0, Tesla V100-SXM2-32GB", "cu126"),  # CUDA 13 has no code for it
    ("580.65.06, 6.1, NVIDIA GeForce GTX 1080 Ti\n580.65.06, 8.6, NVIDIA GeForce RTX 3090", "cu126"),
    ("535.183.01, 8.0, NVIDIA A100-SXM4-40GB", "cu126"),
    ("525.60.13, 8.6, NVIDIA RTX A6000", "cu126"),
    ("570.124.06, 12.0, NVIDIA GeForce RTX 5080", "cu128"),  # 12.6 has no code for it, the driver none for 13
    ("470.57.02, 8.0, NVIDIA A100", "cpu"),
    ("580.65.06, 3.5, Tesla K40", "cpu"),
    ("550.54.15, [N/A], NVIDIA something", "cu126"),
    ("", "cpu"),
    ("NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.", "cpu"),
    ("No devices were found", "cpu"),
])
def test_build(text: str, tag: str) -> None:
    assert build_for(parse_gpus(text))[0].tag == tag


def test_reason_names_driver_and_gpu() -> None:
    build, why = build_for(parse_gpus("535.183.01, 8.0, NVIDIA A100"))
    assert why == "driver 535, NVIDIA A100: torch built with CUDA 12.6."
    assert build.pip_words.endswith("/cu126 torch==2.13.0")
    assert "no build of torch can use it" in build_for(parse_gpus("470.57.02, 8.0, NVIDIA A100"))[1]


def test_pypi_s_own_wheel_needs_no_index() -> None:
    assert torch_builds.BUILDS[0].pip_words == "torch==2.13.0"


def test_a_machine_without_nvidia_smi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert torch_builds.read_gpus() is None


def test_nvidia_smi_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\ntest \"$1\" = --query-gpu=driver_version,compute_cap,name || exit 1\n"
                       "echo '535.183.01, 8.0, NVIDIA A100'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert torch_builds.read_gpus() == torch_builds.Gpus(535, [8.0], ["NVIDIA A100"])
    program.write_text("#!/bin/sh\nexit 9\n")
    assert torch_builds.read_gpus() is None
