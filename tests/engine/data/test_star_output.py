"""Star files that are written: the source's own text, one set of poses, names that are found from the new place."""
import os
from dataclasses import replace

import numpy as np
import pytest
from particle_files import (
    loaded,
    noise_images,
    optics_columns,
    particle_columns,
    star_block,
    write_stack,
    write_star,
)
from vaegan_engine.contract.errors import DataError
from vaegan_engine.contract.settings import DataConfig
from vaegan_engine.data.prepared_images import ParticleCache, open_cache
from vaegan_engine.data.star_files import read_star
from vaegan_engine.data.star_subset import write_subset
from vaegan_engine.refine.output.particle_output import Table, write_stars

N = 6


def made_for(cache: ParticleCache) -> Table:
    n = len(cache)
    poses = np.arange(5.0 * n).reshape(n, 5) + 0.25
    label = np.where(np.arange(n) == 1, -1, np.arange(n) % 2)
    return Table(label, np.ones(n), poses, np.full(n, np.nan), np.ones(n))


def refined(star, out, **settings):
    """What ``states`` would write for the particles of a star file."""
    data = DataConfig(particles=str(star), box_px=8, **settings)
    cache = open_cache(data, star.parent / "cache", progress=False)
    out.mkdir(parents=True, exist_ok=True)
    write_stars(data, cache, made_for(cache), out)
    return read_star(out / "particles.star"), read_star(out / "junk.star")


@pytest.mark.parametrize("given", [False, True])
def test_refined_particles_keep_the_sources_text(tmp_path, given):
    write_stack(tmp_path / "particles.mrcs", noise_images(N, 8))
    columns = {**particle_columns(N), "rlnTomoName": [f"{i:03d}" for i in range(N)], "rlnX": ["2.5e-07"] * N,
               "rlnGroupName": [f"'a {i}'" for i in range(N)]}
    if given:
        columns["vaeParticleId"] = [2 ** 60 + 7 * i for i in range(N)]
    star = write_star(tmp_path / "p.star", columns, optics_columns())
    star.write_text(star_block("general", {"rlnTomoSubTomosAre2DStacks": [1]}) + star.read_text())
    source = read_star(star)
    kept, junk = refined(star, tmp_path / "out" / "deep")
    assert [block.name for block in kept.blocks] == ["general", "optics", "particles"]
    rows = [0, 2, 3, 4, 5]
    for name in source.particles.columns:
        if name != "rlnImageName":
            assert kept.particles.columns[name].tolist() == source.particles.columns[name][rows].tolist()
            assert junk.particles.columns[name].tolist() == source.particles.columns[name][[1]].tolist()
    assert kept.optics.columns["rlnVoltage"].tolist() == source.optics.columns["rlnVoltage"].tolist()
    ids = np.array(columns["vaeParticleId"]) if given else np.arange(1, N + 1)
    assert kept.integers("vaeParticleId").tolist() == ids[rows].tolist()
    assert kept.numbers("rlnAngleRot").tolist() == [0.25, 10.25, 15.25, 20.25, 25.25]
    assert kept.numbers("rlnOriginYAngst").tolist() == [-4.25, -14.25, -19.25, -24.25, -29.25]
    assert kept.text("rlnClassNumber") == ["1", "1", "2", "1", "2"] and junk.text("rlnClassNumber") == ["0"]
    assert loaded(tmp_path / "out/deep/particles.star").slice_index.tolist() == rows


OLD_POSES = {name: [7.0] * N for name in (
    "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnAngleTiltPrior", "rlnAnglePsiPrior", "rlnOriginX", "rlnOriginY",
    "rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst", "rlnOriginXPriorAngst", "rlnOriginYPrior")}


@pytest.mark.parametrize("is_new", [True, False])
def test_old_poses_do_not_stay_beside_the_new_ones(tmp_path, is_new):
    write_stack(tmp_path / "particles.mrcs", noise_images(N, 8))
    columns = {**OLD_POSES, **particle_columns(N)}
    if not is_new:
        del columns["rlnOpticsGroup"]
        columns |= {name: value * N for name, value in optics_columns().items() if name != "rlnOpticsGroup"}
    star = write_star(tmp_path / "p.star", columns, optics_columns() if is_new else None)
    kept, _ = refined(star, tmp_path)
    poses = {name for name in kept.particles.columns if name.startswith(("rlnOrigin", "rlnAngle"))}
    unit = "Angst" if is_new else ""
    assert poses == {"rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", f"rlnOriginX{unit}", f"rlnOriginY{unit}"}
    assert kept.numbers(f"rlnOriginX{unit}")[0] == (-3.25 if is_new else -3.25 / 2)
    text = (tmp_path / "particles.star").read_text()
    assert ("# version 30001" in text) == is_new and (kept.optics is not None) == is_new


@pytest.mark.parametrize("place", ["beside", "below", "project", "absolute", "linked", "marked"])
@pytest.mark.parametrize("to", ["same", "below", "elsewhere"])
def test_names_are_found_from_where_the_star_file_is_written(tmp_path, monkeypatch, place, to):
    """Whatever the current folder is then; a name that means the same file stays as it is."""
    job = tmp_path / "project/Extract/job1"
    job.mkdir(parents=True)
    stack = {"beside": job / "s.mrcs", "below": job / "sub/s.mrcs", "project": tmp_path / "project/Extract/job1/s.mrcs",
             "absolute": tmp_path / "x/s.mrcs", "linked": job / "s.mrcs", "marked": job / "s.mrcs"}[place]
    name = {"beside": "s.mrcs", "below": "sub/s.mrcs", "project": "Extract/job1/s.mrcs", "absolute": str(stack),
            "linked": "s.mrcs", "marked": ">s.mrcs:mrcs"}[place]
    write_stack(stack, noise_images(N, 8))
    star = write_star(job / "p.star", particle_columns(N, name), optics_columns())
    if place == "linked":
        star = tmp_path / "view.star"
        star.symlink_to(job / "p.star")
    target = {"same": job, "below": job / "refined", "elsewhere": tmp_path / "other/deep"}[to] / "out.star"
    monkeypatch.chdir(tmp_path / "project")
    table = read_star(star)
    assert write_subset(table, np.array([2, 5]), target) == 2
    monkeypatch.chdir("/")
    again = loaded(target)
    assert again.headers[0].path.samefile(stack) and again.slice_index.tolist() == [1, 4]
    if place != "marked" and (to != "elsewhere" or place == "absolute"):
        assert read_star(target).text("rlnImageName") == [f"00000{i}@{name}" for i in (2, 5)]


def test_names_of_one_given_stack_are_written_for_it(tmp_path):
    stack = write_stack(tmp_path / "all.mrcs", noise_images(4, 8))
    columns = particle_columns(4)
    columns["rlnImageName"] = ["1@a.mrcs", "2@a.mrcs", "1@b.mrcs", "2@b.mrcs"]
    star = write_star(tmp_path / "p.star", columns, optics_columns())
    kept, junk = refined(star, tmp_path / "out", stack=str(stack))
    assert kept.text("rlnImageName") == [f"00000{i}@../all.mrcs" for i in (1, 3, 4)]
    assert junk.text("rlnImageName") == ["000002@../all.mrcs"]


def test_a_stack_that_is_gone_keeps_its_name(tmp_path):
    star = write_star(tmp_path / "p.star", particle_columns(N, "gone.mrcs"), optics_columns())
    write_subset(read_star(star), np.array([1]), tmp_path / "sub/s.star")
    assert read_star(tmp_path / "sub/s.star").text("rlnImageName") == ["000001@gone.mrcs"]


def test_every_stack_is_looked_for_once(tmp_path, monkeypatch):
    """Not once per particle: 100,000 of them took 9 s."""
    n = 3000
    write_stack(tmp_path / "s.mrcs", np.zeros((1, 8, 8), np.float32))
    columns = {"rlnImageName": [f"{i + 1}@s.mrcs" for i in range(n)]}
    table = read_star(write_star(tmp_path / "p.star", columns))
    calls, real = [], os.stat
    monkeypatch.setattr(os, "stat", lambda *args, **kwargs: calls.append(args) or real(*args, **kwargs))
    write_subset(table, np.arange(1, n + 1), tmp_path / "out/q.star")
    assert len(calls) < 100


@pytest.mark.parametrize(("before", "symmetry", "after"), [
    (None, "C1", None), (None, "D4", "D4"), ("D4", "C1", "C1"), ("C4", "O", "O")])
def test_the_symmetry_of_the_poses_is_a_column(tmp_path, before, symmetry, after):
    """No column where neither the particles nor the maps have a symmetry; C1 where it was relaxed."""
    write_stack(tmp_path / "particles.mrcs", noise_images(N, 8))
    columns = {**particle_columns(N), **({"rlnSymmetryGroup": [before] * N} if before else {})}
    data = DataConfig(particles=str(write_star(tmp_path / "p.star", columns, optics_columns())), box_px=8)
    cache = open_cache(data, tmp_path / "cache", progress=False)
    write_stars(data, cache, replace(made_for(cache), symmetry=symmetry), tmp_path)
    for name in ("particles.star", "junk.star"):
        star = read_star(tmp_path / name)
        assert (set(star.text("rlnSymmetryGroup")) if star.has("rlnSymmetryGroup") else {None}) == {after}


def test_a_star_file_that_changed_is_refused_at_the_end(tmp_path):
    """Row numbers are ids there; the table of the run would be joined with other rows."""
    write_stack(tmp_path / "particles.mrcs", noise_images(N, 8))
    columns = particle_columns(N)
    star = write_star(tmp_path / "p.star", columns, optics_columns())
    data = DataConfig(particles=str(star), box_px=8)
    cache = open_cache(data, tmp_path / "cache", progress=False)
    write_star(star, {name: values[::-1] for name, values in columns.items()}, optics_columns())
    with pytest.raises(DataError, match=r"p\.star: the star file is not the one.*row number") as caught:
        write_stars(data, cache, made_for(cache), tmp_path)
    assert "Bring the old star file back" in caught.value.hint
    assert not (tmp_path / "particles.star").exists()
