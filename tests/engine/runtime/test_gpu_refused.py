"""A GPU that cannot be used: one sentence with the driver, this torch, and the build that fits the machine."""
import pytest
import torch
from vaegan_engine.contract import torch_builds
from vaegan_engine.contract.errors import ConfigError
from vaegan_engine.contract.settings import ComputeConfig
from vaegan_engine.contract.torch_builds import Gpus
from vaegan_engine.runtime import compute

NO_KERNEL = "CUDA error: no kernel image is available for execution on the device\nCompile with TORCH_USE_CUDA_DSA"
OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 12020)."


def refusal(monkeypatch, gpus, error=None, count=1):
    """What a run on the GPU says on a machine with these GPUs whose first kernel ends in an error."""
    monkeypatch.setattr(torch_builds, "read_gpus", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    def ones(*_, **__):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(torch, "ones", ones)
        with pytest.raises(ConfigError) as refused:
            compute.prepare_device(ComputeConfig(device="cuda"))
    return str(refused.value)


@pytest.mark.parametrize("error", [RuntimeError(NO_KERNEL), torch.AcceleratorError(NO_KERNEL)])
def test_a_build_without_code_for_the_gpu(monkeypatch, error):
    text = refusal(monkeypatch, Gpus(580, [6.1], ["NVIDIA GTX 1080"]), error)
    for words in ("no kernel image is available for execution on the device)", f"torch {torch.__version__}",
                  "driver 580", "NVIDIA GTX 1080", "scipion3 installb vaegan", "use device cpu",
                  f"VAEGAN_TORCH_SPEC='--index-url {torch_builds.PYTORCH_INDEX}/cu126 torch=="):
        assert words in text, text
    assert "DSA" not in text


def test_a_driver_that_is_too_old(monkeypatch):
    text = refusal(monkeypatch, Gpus(535, [8.0], ["NVIDIA A100"]), RuntimeError(OLD_DRIVER))
    assert "driver on your system is too old" in text
    assert "driver 535" in text
    assert "cu126" in text


def test_no_gpu_at_all(monkeypatch):
    text = refusal(monkeypatch, None, count=0)
    assert "this process sees 0 GPUs" in text
    assert "nvidia-smi finds no GPU" in text
