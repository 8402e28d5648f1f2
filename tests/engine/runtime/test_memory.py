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
    assert memory.free_gb(cgroup=tmp_path, own=tmp_path / "none") == free


def test_files_that_a_container_has_read_are_free(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_kilobytes", lambda *_: 100 * 2 ** 20)
    (tmp_path / "memory.max").write_text(f"{64 * memory.GB}")
    (tmp_path / "memory.current").write_text(f"{62 * memory.GB}")
    (tmp_path / "memory.stat").write_text(f"anon {2 * memory.GB}\ninactive_file {59 * memory.GB}\n")
    assert memory.free_gb(cgroup=tmp_path, own=tmp_path / "none") == pytest.approx(61)


@pytest.mark.parametrize(("own", "top", "names"), [
    ("0::/system.slice/job_7/step_0/task_0\n", "system.slice", memory._V2),
    ("9:cpuset:/x\n4:cpu,memory:/slurm/job_7/step_0/task_0\n0::/\n", "memory/slurm", memory._V1),
    ("4:memory:/docker/3f/job_7/step_0\n", "memory", memory._V1)])  # of the machine, which a container does not see
def test_the_job_of_a_queue_may_have_less(own, top, names, tmp_path, monkeypatch):
    """SLURM limits the job, steps above this process's own group; the machine around it has hundreds of GB."""
    monkeypatch.setattr(memory, "_kilobytes", lambda *_: 500 * 2 ** 20)
    (tmp_path / "own").write_text(own)
    job = tmp_path / top / ("job_7" if "docker" not in own else "")
    (job / "step_0/task_0").mkdir(parents=True)
    for folder, limit in ((job, str(16 * memory.GB)), (job / "step_0", "max" if names is memory._V2 else str(2 ** 63))):
        (folder / names.limit).write_text(limit)
        (folder / names.used).write_text(f"{6 * memory.GB}")
    (job / "memory.stat").write_text(f"anon 5\n{names.given_back} {2 * memory.GB}\n")
    assert memory.free_gb(cgroup=tmp_path, own=tmp_path / "own") == pytest.approx(12)
