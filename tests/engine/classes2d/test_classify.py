"""The command: its files, joined by id; going on after a stop; what it refuses."""
import csv
import json

import numpy as np
import pytest
from flat_pictures import make
from vaegan_engine.classes2d import classify as classify_module
from vaegan_engine.classes2d import rounds
from vaegan_engine.classes2d.classify import run_classes2d
from vaegan_engine.contract.drawings import scale_bar_ang
from vaegan_engine.contract.errors import DataError, StoppedError
from vaegan_engine.contract.settings import Classes2dRun, ComputeConfig, DataConfig, EvaluateRun
from vaegan_engine.data.mrc_files import write_stack
from vaegan_engine.data.star_files import read_star
from vaegan_engine.evaluation.truth.evaluate import run_evaluate

pytestmark = pytest.mark.slow

N = 120
HEADER = ("_rlnImageName", "_vaeParticleId", "_rlnOpticsGroup", "_rlnDefocusU", "_rlnDefocusV", "_rlnDefocusAngle",
          "_rlnMicrographName", "_rlnAnglePsi", "_myOwnColumn")
OPTICS = ("_rlnOpticsGroup", "_rlnVoltage", "_rlnSphericalAberration", "_rlnAmplitudeContrast", "_rlnImagePixelSize",
          "_rlnImageSize")


@pytest.fixture(scope="module")
def particles(tmp_path_factory):
    """A star file whose ids are not its rows', with a column of its own and an old pose."""
    folder, made = tmp_path_factory.mktemp("particles"), make(N, snr=0.2)
    write_stack(folder / "particles.mrcs", made.images, 6.0)
    lines = ["data_optics", "", "loop_", *OPTICS, "1 300 2.7 0.1 6.0 32", "", "data_particles", "", "loop_", *HEADER]
    lines += [f"{row + 1:06d}@particles.mrcs {1000 - 3 * row} 1 {ctf[0]:.1f} {ctf[1]:.1f} 0.0 m.mrc 12.0 kept{row}"
              for row, ctf in enumerate(made.ctf)]
    (folder / "particles.star").write_text("\n".join(lines) + "\n")
    return folder / "particles.star"


def settings(particles, **changes):
    data = DataConfig(particles=str(particles), box_px=32, particle_radius_frac=0.38)
    return Classes2dRun(data=data, n_classes=3, n_steps=3, max_shift_frac=0.08,
                        compute=ComputeConfig(threads=1), **changes)


@pytest.fixture(scope="module")
def done(particles, tmp_path_factory):
    out = tmp_path_factory.mktemp("classes")
    return out, run_classes2d(settings(particles), out)


def rows_of(out):
    with open(out / "particles.csv", newline="") as stream:
        return {int(row["particle_id"]): row for row in csv.DictReader(stream)}


def test_every_particle_has_one_row_and_its_class(done):
    out, details = done
    rows, classes = rows_of(out), json.loads((out / "clusters.json").read_text())
    assert sorted(rows) == sorted(1000 - 3 * row for row in range(N))
    for row in classes:
        assert row["n_particles"] == sum(int(own["label"]) == row["label"] for own in rows.values())
    assert details.n_junk == sum(int(own["junk"]) for own in rows.values())
    reason_of = {row["label"]: row["junk"] for row in classes} | {-1: "in no class"}
    for own in rows.values():
        assert bool(own["junk_reason"]) == bool(int(own["junk"]))
        reason = reason_of[int(own["label"])]
        assert own["junk_reason"] in ([reason] if reason else ["", "unlike", "second particle", "empty"])
    sizes = [row["n_particles"] for row in classes if not row["junk"]]
    assert sizes == sorted(sizes, reverse=True)


def test_star_files_keep_what_was_and_add_the_alignment(done, particles):
    out, _ = done
    rows, source = rows_of(out), read_star(particles)
    kept = dict(zip(source.text("vaeParticleId"), source.text("myOwnColumn"), strict=True))
    seen = []
    for name, junk in (("particles.star", 0), ("junk.star", 1)):
        if not (out / name).exists():
            continue
        star = read_star(out / name)
        ids = star.text("vaeParticleId")
        seen += ids
        for k, i in enumerate(ids):
            row = rows[int(i)]
            assert int(row["junk"]) == junk
            assert star.text("myOwnColumn")[k] == kept[i]
            assert int(star.text("rlnClassNumber")[k]) == int(row["label"]) + 1
            assert star.numbers("rlnAnglePsi")[k] == pytest.approx(float(row["psi_deg"]), abs=1e-3)
            assert star.numbers("rlnOriginXAngst")[k] == pytest.approx(-float(row["shift_x_ang"]), abs=1e-3)
            assert star.numbers("rlnOriginYAngst")[k] == pytest.approx(-float(row["shift_y_ang"]), abs=1e-3)
            assert 0 <= star.numbers("rlnMaxValueProbDistribution")[k] <= 1
    assert sorted(map(int, seen)) == sorted(rows)


def test_averages_lie_in_one_stack(done):
    import mrcfile

    out, details = done
    with mrcfile.open(out / "maps" / "classes.mrcs", permissive=True) as file:
        assert file.data.shape == (details.classes, 32, 32)
        assert float(file.voxel_size.x) == pytest.approx(6.0)
    assert (out / "classes.png").stat().st_size > 1000
    assert not list((out / "checkpoints").glob("*.npz"))
    logged = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert details.shells == [row["shells"] for row in logged if row["stage"] == "near"][-1]


@pytest.mark.parametrize("stage", ["search_together", "near_round"])
def test_a_stop_changes_nothing(done, particles, tmp_path, monkeypatch, stage):
    whole, _ = done
    calls, real = [], getattr(rounds, stage)

    def stopping(*arguments):
        calls.append(1)
        if len(calls) == (1 if stage == "search_together" else 3):
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(rounds, stage, stopping)
    with pytest.raises(StoppedError):
        run_classes2d(settings(particles), tmp_path)
    monkeypatch.setattr(rounds, stage, real)
    run_classes2d(settings(particles), tmp_path, resume=True)
    for name in ("particles.csv", "clusters.json", "maps/classes.mrcs"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes(), name


def test_too_few_particles(particles, tmp_path):
    run = settings(particles)
    few = Classes2dRun(data=DataConfig(particles=str(particles), box_px=32, max_images=20), compute=run.compute)
    with pytest.raises(DataError, match="too few"):
        run_classes2d(few, tmp_path)


def test_half_sets_of_which_one_is_tiny_are_drawn_anew(particles, tmp_path, monkeypatch, capsys):
    """By the average of five images no class is reproduced, and all of it would be junk."""
    uneven = tmp_path / "uneven.star"
    rows = particles.read_text().replace("@particles.mrcs", f"@{particles.parent / 'particles.mrcs'}").splitlines()
    at = rows.index(HEADER[-1])
    rows[at + 1:] = [f"{row} {1 + (number < 5)}" for number, row in enumerate(rows[at + 1:])]
    uneven.write_text("\n".join([*rows[:at + 1], "_rlnRandomSubset", *rows[at + 1:]]) + "\n")
    seen = []

    def stop(problem, journal, steps):
        seen.append(problem.half_set)
        raise DataError("enough")

    monkeypatch.setattr(classify_module, "classify", stop)
    with pytest.raises(DataError, match="enough"):
        run_classes2d(settings(uneven), tmp_path / "out")
    assert 0.4 < (seen[0] == 1).mean() < 0.6
    assert "NOT USED, both halves are drawn anew" in capsys.readouterr().out


@pytest.mark.parametrize("width_ang", [30.0, 192.0, 314.0, 1000.0])
def test_scale_bar_is_round_and_fits(width_ang):
    length = scale_bar_ang(width_ang)
    assert width_ang / 7.5 < length <= width_ang / 3  # steps of at most 2.5
    assert float(f"{length:e}".split("e")[0]) in (1.0, 2.0, 5.0)
    assert np.isfinite(length)


def test_evaluate_reads_classes_and_junk(done, tmp_path):
    out, details = done
    rows = rows_of(out)
    truth = tmp_path / "truth.csv"
    truth.write_text("id,label\n" + "".join(f"{i},{'junk' if int(row['junk']) else row['label']}\n"
                                            for i, row in rows.items()))
    run_evaluate(EvaluateRun(clusters_dir=str(out), truth_csv=str(truth)), tmp_path)
    values = json.loads((tmp_path / "evaluation.json").read_text())
    assert values["nmi"] == pytest.approx(1.0)
    assert values.get("junk_recall", 1.0) == 1.0 and values["maps"] == []
    assert details.n_junk == sum(int(row["junk"]) for row in rows.values())
