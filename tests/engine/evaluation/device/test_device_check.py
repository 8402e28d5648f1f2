"""The check of a device at toy size on a CPU, its rows when measures fail, and kernels on a device that is none."""
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from second_device import NAME, SecondDevice
from vaegan_engine.contract.settings import ComputeConfig
from vaegan_engine.evaluation.benchmark.result_rows import read_rows
from vaegan_engine.evaluation.device import kernels, measures
from vaegan_engine.runtime.journal import Journal

SCRIPT = Path(__file__).resolve().parents[4] / "scripts" / "device_check.py"
spec = importlib.util.spec_from_file_location("device_check", SCRIPT)
device_check = importlib.util.module_from_spec(spec)
path_before = list(sys.path)
sys.modules["device_check"] = device_check  # dataclasses look it up
spec.loader.exec_module(device_check)
sys.path[:] = path_before


def measured(name, folder):
    """The figures of one measure at toy size."""
    found = {}
    place = measures.Place(ComputeConfig(device="cpu", threads=1), folder, 0.3, measures.TOY)

    def report(figure, value):
        found[figure] = value
        (folder / "figures.json").write_text(json.dumps(found))

    measures.MEASURES[name].run(place, report)
    return found


@pytest.mark.parametrize(("name", "figure"), [
    ("e-step", "images_per_second_3_maps"), ("train-fast", "images_per_second"),
    ("train-thesis-3d", "images_per_second"), ("train-posed", "images_per_second")])
def test_a_measure_at_toy_size(name, figure, tmp_path):
    found = measured(name, tmp_path)
    assert found[figure] > 0, found


def test_states_that_run_out_of_time_say_how_far_they_came(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt  # as after SIGTERM

    monkeypatch.setattr(Journal, "note", stop)
    with pytest.raises(measures.StoppedError):
        measured("states-64px", tmp_path)
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["images"] == 120 and "minutes_until_stopped" in found and "minutes" not in found


def test_kernels_agree_on_another_device():
    with SecondDevice():
        found = kernels.differences(torch.device(NAME))
    assert [difference.text() for difference in found if not difference.is_small] == []
    assert max(difference.value for difference in found) > 0  # they are not the same code


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_kernels_agree_on_a_gpu():
    found = kernels.differences(torch.device("cuda"))
    assert [difference.text() for difference in found if not difference.is_small] == []


def test_a_difference_that_is_no_number_is_not_small():
    assert not kernels.relative("map", torch.ones(3), torch.full((3,), torch.nan)).is_small


def test_what_a_killed_or_failed_measure_reported_is_kept(tmp_path):
    report = f"import json; json.dump({{'images_per_second': 5.0}}, open({str(tmp_path / 'a.json')!r}, 'w'))"
    failed = device_check.run_apart([sys.executable, "-c", f"{report}; raise SystemExit('no memory')"],
                                    tmp_path / "a.json", 30)
    assert failed.figures == {"images_per_second": 5.0} and failed.problem == "no memory"
    (tmp_path / "a.json").unlink()
    killed = device_check.run_apart([sys.executable, "-c", f"{report}; import time; time.sleep(60)"],
                                    tmp_path / "a.json", 1.0, ending_seconds=0.0)
    assert killed.figures == {"images_per_second": 5.0} and killed.problem == "killed after 1 s"


def test_rows_are_whole_when_a_measure_fails_and_the_exit_code_says_so(tmp_path, monkeypatch):
    ends = {"kernels": device_check.Ended({"slices_difference": 1e-6, "machine": "GPU"}, 2.0, ""),
            "e-step": device_check.Ended({}, 3.0, "RuntimeError: no")}
    monkeypatch.setattr(device_check, "run_apart", lambda command, figures, seconds: ends[figures.stem])
    words = ["--out", str(tmp_path), "--only", "kernels", "--only", "e-step", "--beside", "nothing"]
    assert device_check.main(words) == 1
    failed, whole = read_rows(tmp_path / "rows")
    assert (failed.task, failed.figures["whole"], failed.note) == ("device-e-step", 0, "RuntimeError: no")
    assert whole.figures == {"slices_difference": 1e-6, "whole": 1, "seconds": 2.0}
    assert whole.machine.startswith("GPU, ") and whole.beside == "nothing"
    assert device_check.main(words[:4]) == 0


@pytest.mark.slow
def test_a_measure_in_its_own_process(tmp_path):
    words = ["--out", str(tmp_path), "--toy", "--threads", "1", "--only", "kernels", "--device", "cpu",
             "--seconds", "400"]  # a busy machine is slow
    assert device_check.main(words) == 0
    assert read_rows(tmp_path / "rows")[0].figures["slices_difference"] == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_a_sentence(tmp_path, capsys):
    words = ["--measure", "kernels", "--figures", str(tmp_path / "kernels.json"), "--device", "cuda"]
    assert device_check.main(words) == 1
    assert "'cuda'" in capsys.readouterr().out.splitlines()[-1]
