"""What ``scripts/same_bits.py`` calls equal: every array and table, but for wall times, dates and folders."""
import importlib.util
import json
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from matplotlib.image import imsave

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


def load(name):
    """A script as a module; the scripts' folder is on the path only meanwhile."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(SCRIPTS))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPTS))
    return module


same_bits = load("same_bits")
Words = same_bits.Words


def write_star(path, date, angle="1.5"):
    path.write_text(f"# Created at {date}\n\ndata_optics\n\n_rlnVoltage 300.0\n\ndata_particles\n\nloop_\n"
                    f"_rlnImageName #1\n_rlnAngleRot #2\n000001@a.mrcs\t{angle}\n000002@a.mrcs\t2.5\n")


def write_map(path, array, label, voxel_size_ang=3.0):
    with mrcfile.new(path, overwrite=True) as stored:
        stored.set_data(array)
        stored.voxel_size = voxel_size_ang
        stored.add_label(label)


def write_outputs(out, seconds=1.0, date="10:00:00"):
    """A folder with a file of every kind."""
    out.mkdir()
    rng = np.random.default_rng(0)
    array = rng.normal(size=(3, 4)).astype(np.float32)
    np.savez(out / "latents.npz", z=array, particle_id=np.arange(3))
    np.save(out / "images.npy", array.astype(np.float16))
    torch.save({"modules": {"critic": {"layer.weight": torch.from_numpy(array)}}, "images_seen": 64},
               out / "ckpt.pt")
    write_map(out / "map.mrc", rng.normal(size=(4, 4, 4)).astype(np.float32), date)
    imsave(out / "map.png", rng.random((4, 4, 3)), metadata={"Creation Time": date})
    (out / "clusters.csv").write_text(f"id,label,seconds\n1,0,{seconds}\n2,1,{seconds}\n")
    (out / "status.json").write_text(json.dumps(
        {"state": "finished", "seconds_left": seconds, "run_dir": str(out / "train"), "clusters": [{"label": 0}],
         "command": "cluster"}))
    (out / "log.jsonl").write_text(f'{{"kimg": 0.5, "images_per_second": {seconds}}}\n{{"kimg": 1.0}}\n')
    (out / "report.html").write_text(f"<tr><td>images per second</td><td>{seconds}</td></tr><tr><td>seed</td>"
                                     "<td>1</td></tr>")
    (out / "table.txt").write_text("score 1\n")
    write_star(out / "particles.star", date)
    (out / "printed").mkdir()
    (out / "printed" / "01-embed.txt").write_text(f"{seconds} s")
    return out


def contents(out, **renamed):
    return same_bits.contents_of_folder(out, Words(renamed, (str(out),)))


@pytest.fixture
def two(tmp_path):
    """Outputs of two runs that differ in wall times, dates and folders alone."""
    return write_outputs(tmp_path / "one"), write_outputs(tmp_path / "two", 7.25, "23:59:59")


def test_wall_times_dates_and_folders_do_not_count(two, capsys):
    one, other = map(contents, two)
    assert set(one) == {"latents.npz", "images.npy", "ckpt.pt", "map.mrc", "map.png", "clusters.csv", "status.json",
                        "log.jsonl", "report.html", "table.txt", "particles.star"}
    assert {Path(name).suffix for name in one} == set(load("file_digests").READERS) - {".mrcs"}
    assert same_bits.compare(one, other) == 0
    assert "11 of 11 files are equal" in capsys.readouterr().out


def change_npz(out):
    np.savez(out / "latents.npz", z=np.nextafter(np.load(out / "latents.npz")["z"], np.float32(9)),
             particle_id=np.arange(3))


def change_dtype(out):
    np.save(out / "images.npy", np.load(out / "images.npy").astype(np.float32))


def change_tensor(out):
    stored = torch.load(out / "ckpt.pt", weights_only=True)
    stored["modules"]["critic"]["layer.weight"][0, 0] += 1e-6
    torch.save(stored, out / "ckpt.pt")


def change_voxel_size(out):
    with mrcfile.open(out / "map.mrc", "r+") as stored:
        stored.voxel_size = 3.001


def change_voxel(out):
    with mrcfile.open(out / "map.mrc", "r+") as stored:
        stored.data[0, 0, 0] += 1e-6


def change_pixel(out):
    imsave(out / "map.png", np.zeros((4, 4, 3)))


def change_text(name, old, new):
    def change(out):
        text = (out / name).read_text()
        assert old in text
        (out / name).write_text(text.replace(old, new))
    return change


@pytest.mark.parametrize(("change", "name", "entries"), [
    (change_npz, "latents.npz", {"z"}),
    (change_dtype, "images.npy", {""}),
    (change_tensor, "ckpt.pt", {"modules.critic.layer.weight"}),
    (change_voxel_size, "map.mrc", {"voxel_size_ang", "header.cella"}),
    (change_voxel, "map.mrc", {"data"}),
    (change_pixel, "map.png", {""}),
    (change_text("clusters.csv", "2,1", "2,0"), "clusters.csv", {"label"}),
    (change_text("clusters.csv", "id,label", "id,lapel"), "clusters.csv", {"(columns)", "label", "lapel"}),
    (change_text("status.json", '"label": 0', '"label": 0.0'), "status.json", {"clusters.0.label"}),
    (change_text("status.json", '[{"label": 0}]', "[]"), "status.json", {"clusters.0.label", "clusters"}),
    (change_text("log.jsonl", "1.0}", "1.5}"), "log.jsonl", {"1.kimg"}),
    (change_text("report.html", "<td>1</td>", "<td>2</td>"), "report.html", {"text"}),
    (change_text("table.txt", "1", "2"), "table.txt", {"text"}),
    (change_text("particles.star", "1.5", "1.6"), "particles.star", {"data_particles._rlnAngleRot"}),
    (change_text("particles.star", "300.0", "200.0"), "particles.star", {"data_optics._rlnVoltage"}),
])
def test_a_change_is_found_where_it_is(two, capsys, change, name, entries):
    one, other = contents(two[0]), contents(two[1])
    assert one == other
    change(two[1])
    other = contents(two[1])
    assert [file for file in one if one[file] != other[file]] == [name]
    assert {entry for entry in one[name] | other[name] if one[name].get(entry) != other[name].get(entry)} == entries
    assert same_bits.compare(one, other) == 1
    printed = capsys.readouterr().out
    assert f"1 differ: {name}" in printed and all(f"    {entry}\n" in printed for entry in entries)


def test_a_file_that_is_not_there_differs(two, capsys):
    (two[1] / "map.png").unlink()
    assert same_bits.compare(*map(contents, two)) == 1
    assert "none" in next(line for line in capsys.readouterr().out.splitlines() if line.endswith(" map.png"))


def test_columns_of_one_name_all_count(two):
    for out, last in zip(two, "34", strict=True):
        (out / "clusters.csv").write_text(f"z,z\n1,{last}\n")
    one, other = map(contents, two)
    assert one["clusters.csv"]["z"] == other["clusters.csv"]["z"]
    assert one["clusters.csv"]["z'"] != other["clusters.csv"]["z'"]


def test_nothing_at_all_is_not_equal():
    assert same_bits.compare({}, {}) == 1


def test_renamed_files_keys_columns_and_texts_are_the_same(two):
    for old, new in (("clusters.csv", "states.csv"), ("log.jsonl", "journal.jsonl")):
        (two[1] / old).rename(two[1] / new)
    change_text("states.csv", "label", "state")(two[1])
    change_text("journal.jsonl", "kimg", "images_k")(two[1])
    for old, new in (('"label"', '"state"'), ('"cluster"', '"states"')):
        change_text("status.json", old, new)(two[1])
    names = {"clusters.csv": "states.csv", "log.jsonl": "journal.jsonl", "label": "state", "kimg": "images_k",
             "cluster": "states"}
    assert same_bits.compare(contents(two[0]), contents(two[1])) == 1
    assert same_bits.compare(contents(two[0], **names), contents(two[1])) == 0
    change_text("states.csv", "2,1", "2,0")(two[1])
    assert same_bits.compare(contents(two[0], **names), contents(two[1])) == 1


def test_every_preset_is_run_with_its_encoder_or_poses():
    listed = "fast      train3d  the default\nposed train3d  with poses\nthesis-2d train2d  the thesis in 2D\n"
    fast, posed, thesis = same_bits.preset_lines(listed)
    assert "--poses states " in posed and "--poses" not in fast + thesis
    assert fast.startswith("train3d --preset fast ") and "training.encoder_kimg=" in fast
    assert thesis.startswith("train2d --preset thesis-2d ") and "encoder_kimg" not in thesis + posed
    lines = same_bits.recipe_lines(listed, "all")
    assert lines[0].startswith("simulate") and lines[1:3] == [fast, thesis] and lines[-1] == posed
    assert {"train3d", "embed", "cluster", "states", "traverse", "report"} <= {line.split()[0] for line in lines}


def test_the_part_of_states_needs_no_training():
    lines = same_bits.recipe_lines("fast  train3d  the default\n", "states")
    assert {line.split()[0] for line in lines} == {"simulate", "states"}
    assert same_bits.made_with("states") != same_bits.made_with("all")


@pytest.mark.parametrize("words", [[], ["only-one"], ["no-folder", "no-folder"]])
def test_wrong_usage_exits_with_2(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        same_bits.main(words)
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_a_list_of_renamed_names_must_be_an_object(tmp_path, capsys):
    (tmp_path / "names.json").write_text('["a"]')
    checkout = str(SCRIPTS.parent)
    with pytest.raises(SystemExit) as stopped:
        same_bits.main([checkout, checkout, "--renamed", str(tmp_path / "names.json")])
    assert stopped.value.code == 2
    assert "old name to new name" in capsys.readouterr().err


ENGINE_OF_ONE_NUMBER = """
import json, sys
if sys.argv[1] == "presets":
    print("only train3d words")
elif NUMBER is None:
    sys.exit("it failed")
else:
    with open("made.jsonl", "a") as stream:
        stream.write(json.dumps({"command": sys.argv[1], "number": NUMBER}) + "\\n")
"""


def make_checkout(folder, number):
    """A checkout whose engine writes one number per command."""
    package = folder / same_bits.ENGINE / "vaegan_engine"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text(f"NUMBER = {number}{ENGINE_OF_ONE_NUMBER}")
    return folder


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(same_bits, "stay_on_one_core", lambda: None)  # the other tests keep their cores
    monkeypatch.setattr(same_bits, "RECIPE", "simulate --out particles\nembed --out embed")


@pytest.mark.parametrize(("numbers", "code"), [((1, 1), 0), ((1, 2), 1), ((1, None), 1)])
def test_two_checkouts_are_run_and_compared(tmp_path, few_steps, capfd, numbers, code):
    folders = [make_checkout(tmp_path / name, number) for name, number in zip("ab", numbers, strict=True)]
    assert same_bits.main(list(map(str, folders))) == code
    assert ("it failed" in capfd.readouterr().err) == (None in numbers)


def test_outputs_of_a_clean_commit_are_kept_and_used_again(tmp_path, few_steps, monkeypatch, capsys):
    folders = [make_checkout(tmp_path / name, 1) for name in "ab"]
    commits = {folders[0]: "a" * 40, folders[1]: ""}
    monkeypatch.setattr(same_bits, "commit_of", commits.get)
    words = [*map(str, folders), "--keep", str(tmp_path / "kept")]
    assert same_bits.main(words) == 0 == same_bits.main(words)
    printed = capsys.readouterr().out
    assert printed.count("BASE: outputs of aaaaaaaaaaaa are there") == 1 and "HEAD: outputs" not in printed
    monkeypatch.setattr(same_bits, "RECIPE", "simulate --out particles")  # another recipe: all is made again
    assert same_bits.main(words) == 0
    assert "outputs of" not in capsys.readouterr().out


def test_an_older_checkout_is_asked_in_its_own_words(tmp_path):
    line = next(line for line in same_bits.RECIPE.splitlines() if line.startswith("states"))
    settings = tmp_path / same_bits.ENGINE / "vaegan_engine" / "contract" / "settings.py"
    settings.parent.mkdir(parents=True)
    settings.write_text("    n_starts: int = 4\n    n_maps: int = 3\n")
    assert same_bits.spelt_for(tmp_path, line) == line
    settings.write_text("    n_starts: int = 3\n    n_tries: int = 4\n")
    assert "--n-tries 1 --n-starts 3" in same_bits.spelt_for(tmp_path, line)
    settings.write_text("class RefineRun:\n    n_starts: int = 4\n    n_maps: int = 3\n")
    assert same_bits.spelt_for(tmp_path, line) == line.replace("states --run", "refine --run")
