"""Maps of nested assembly states, and the tasks that are made of them."""
import gzip
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from atoms import structure
from vaegan_engine.contract.errors import DataError
from vaegan_engine.contract.settings import ComputeConfig
from vaegan_engine.data.mrc_files import read_map
from vaegan_engine.evaluation.benchmark import benchmark
from vaegan_engine.evaluation.benchmark.assembly import DROPPED_JSON, Assembly, lost_in_order, write_assembly
from vaegan_engine.evaluation.benchmark.scores import true_maps
from vaegan_engine.evaluation.benchmark.tasks import TASKS, Task
from vaegan_engine.simulation import atomic_models
from vaegan_engine.simulation.simulate import TRUTH_CSV

PLACES = {"one:A": (30, 40, 48), "one:B": (30, 56, 48), "two:A": (60, 40, 40), "two:B": (60, 56, 60)}
ASSEMBLY = Assembly("atoms", 96.0, 3, (0, 2, 2))
BOX = 24


@pytest.fixture
def data(tmp_path):
    """Two files of two chains, an atom each; two groups lack two:A, one lacks one:B, none the others."""
    folder = tmp_path / "atoms"
    folder.mkdir()
    for stem in ("one", "two"):
        made = structure([PLACES[f"{stem}:A"]], "C")
        made[0].add_chain(structure([PLACES[f"{stem}:B"]], "C")[0][0])
        made[0][1].name = "B"
        with gzip.open(folder / f"{stem}.pdb.gz", "wt") as file:
            file.write(made.make_pdb_string())
    (folder / DROPPED_JSON).write_text(json.dumps({"1": ["two:A"], "2": ["one:B", "two:A"]}))
    return tmp_path


def of_atoms(names):
    voxel = ASSEMBLY.box_ang / BOX
    return atomic_models.density(structure([PLACES[name] for name in names], "CCCC")[0], BOX, voxel, 2.2 * voxel,
                                 np.full(3, 48.0))


def test_what_most_groups_lack_is_lost_first():
    assert lost_in_order({"1": ["x:B", "x:C"], "2": ["x:C", "x:A"], "3": ["x:C"]}) == ["x:C", "x:A", "x:B"]


def test_states_are_the_molecule_without_the_chains_that_were_lost(data, tmp_path):
    assembly = replace(ASSEMBLY, states=(0, 1, 2))
    write_assembly(assembly, data, tmp_path / "out", BOX)
    for file, left in zip(assembly.files(tmp_path / "out"), (tuple(PLACES), ("one:A", "one:B", "two:B"),
                                                             ("one:A", "two:B")), strict=True):
        made, voxel_size_ang = read_map(file)
        assert voxel_size_ang == pytest.approx(4.0)
        truth = of_atoms(left)
        assert np.abs(made - truth).max() < 0.01 * truth.max()


def test_a_chain_that_is_not_there_is_named(data, tmp_path):
    (data / "atoms" / DROPPED_JSON).write_text(json.dumps({"1": ["two:Z"]}))
    with pytest.raises(DataError, match="'two:Z'"):
        write_assembly(ASSEMBLY, data, tmp_path / "out", BOX)


def test_a_task_of_atoms_is_simulated_from_the_states_that_it_names(data, tmp_path):
    task = Task((), 5, 2, box_px=BOX, assembly=ASSEMBLY)
    benchmark.simulated(task, data, tmp_path / "out", ComputeConfig(device="cpu", threads=1))
    assert [path.name for path in true_maps(task, data, tmp_path / "out")] == [
        "state_00.mrc", "state_02.mrc", "state_02.mrc"]
    rows = benchmark.true_table(tmp_path / "out" / TRUTH_CSV).values()
    assert Counter(row["map_file"].rsplit("/")[-1] for row in rows) == {"state_00.mrc": 5, "state_02.mrc": 10}
    with pytest.raises(DataError, match="atoms"):
        benchmark.run_task("few", task, benchmark.Place(tmp_path / "other", tmp_path / "new", ComputeConfig()), False)


def test_sixteen_states_in_the_published_shares():
    assembly = TASKS["assembly16"].assembly
    counts = np.bincount(assembly.states)
    published = np.array([9076, 14378, 23547, 44366, 30647, 38500, 3915, 3980, 12740, 11975, 17988, 5001, 35367, 37448,
                          40540, 5772])
    assert len(counts) == assembly.n_states == 16 and counts.sum() * TASKS["assembly16"].per_map == 30000
    assert np.abs(counts / counts.sum() - published / published.sum()).max() < 0.01
