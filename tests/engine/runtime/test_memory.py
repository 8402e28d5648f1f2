"""The limit of memory: as asked, or half of what is free."""
import pytest
from vaegan_engine.contract.settings import ComputeConfig
from vaegan_engine.physics import memory_limit
from vaegan_engine.runtime import compute, memory


def test_the_limit_is_what_was_asked_for_or_half_of_what_is_free(monkeypatch):
    monkeypatch.setattr(memory_limit, "_limit_bytes", float("inf"))
    monkeypatch.setattr(compute, "free_gb", lambda: 6.0)
    compute.prepare_device(ComputeConfig(device="cpu", threads=1))
    assert memory_limit.share_bytes(0.5) == 1.5 * 2 ** 30
    compute.prepare_device(ComputeConfig(device="cpu", threads=1, memory_gb=2.0))
    assert memory_limit.share_bytes(0.5) == 2 ** 30


def test_memory_of_process_and_machine():
    assert 0 < memory.resident_gb() <= memory.peak_gb() + 0.01
    assert memory.free_gb() > 0
    assert memory._kilobytes("/nowhere", "VmRSS") is None


@pytest.mark.parametrize(("limit", "used", "free"), [("4294967296", "1073741824", 3.0), ("max", "1", 8.0)])
def test_a_container_may_have_less(limit, used, free, tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text(used)
    monkeypatch.setattr(memory, "_kilobytes", lambda *_: 8 * 2 ** 20)
    assert memory.free_gb(cgroup=tmp_path) == free


def test_files_that_a_container_has_read_are_free(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_kilobytes", lambda *_: 100 * 2 ** 20)
    (tmp_path / "memory.max").write_text(f"{64 * memory.GB}")
    (tmp_path / "memory.current").write_text(f"{62 * memory.GB}")
    (tmp_path / "memory.stat").write_text(f"anon {2 * memory.GB}\ninactive_file {59 * memory.GB}\n")
    assert memory.free_gb(cgroup=tmp_path) == pytest.approx(61)
