"""Junk among simulated particles: what each kind holds, and that the particles stay as they were."""
import mrcfile
import numpy as np
import pytest
import torch
from vaegan_engine.contract import result_files
from vaegan_engine.contract.errors import ConfigError
from vaegan_engine.data import mrc_files
from vaegan_engine.physics.projection import project
from vaegan_engine.physics.rotations import random_rotations
from vaegan_engine.simulation import junk_images, simulate
from vaegan_engine.simulation.junk_images import KINDS, Junk, JunkImages, draw_junk
from vaegan_engine.simulation.phantom import PHANTOM_BOX_ANG, phantom_states

BOX_PX = 32
NO_CTF = torch.tensor([0.0, 0.0, 0.0, 300.0, 0.0, 1.0, 0.0])  # amplitude contrast alone: the CTF is -1 or +1 throughout


def blob(width_px=2.0):
    x = np.arange(BOX_PX) - BOX_PX // 2
    r2 = x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None, :] ** 2
    return torch.from_numpy(np.exp(-0.5 * r2 / width_px ** 2).astype(np.float32))[None]


def parts(maps, rotations, shifts, kind=1):
    """One image of junk with these parts."""
    n = len(maps)
    return Junk(np.array([kind]), np.zeros(n, np.int64), np.array(maps), rotations,
                torch.tensor(shifts, dtype=torch.float32))


def test_an_off_centre_particle_lies_where_it_should():
    maker = JunkImages(parts([0], torch.eye(3)[None], [[9.0, -6.0]]), blob(), 5.0)
    image = maker.clean(0, NO_CTF).abs().numpy()
    y, x = np.mgrid[:BOX_PX, :BOX_PX] - BOX_PX // 2
    assert (image * x).sum() / image.sum() == pytest.approx(9.0, abs=0.02)
    assert (image * y).sum() / image.sum() == pytest.approx(-6.0, abs=0.02)


def test_what_passes_the_edge_is_cut_and_does_not_come_back():
    maker = JunkImages(parts([0], torch.eye(3)[None], [[15.0, 0.0]]), blob(3.0), 5.0)
    image = maker.clean(0, NO_CTF).abs().numpy()
    assert image[:, BOX_PX - 1].max() > 0.9 * image.max()
    assert image[:, :BOX_PX // 2].max() < 1e-2 * image.max()


def test_an_aggregate_is_the_sum_of_its_particles():
    maps = torch.from_numpy(phantom_states(2, BOX_PX, PHANTOM_BOX_ANG / BOX_PX))
    rotations, shifts = random_rotations(2, torch.Generator().manual_seed(1)), [[0.5, 1.0], [-8.0, 3.0]]
    both = JunkImages(parts([0, 1], rotations, shifts), maps, 5.0).clean(0, NO_CTF)
    single = [JunkImages(parts([k], rotations[k:k + 1], shifts[k:k + 1]), maps, 5.0).clean(0, NO_CTF) for k in (0, 1)]
    assert torch.allclose(both, single[0] + single[1], atol=1e-5 * float(both.abs().max()))


def test_a_centred_particle_is_the_plain_projection():
    maps = torch.from_numpy(phantom_states(1, BOX_PX, PHANTOM_BOX_ANG / BOX_PX))
    rotations = random_rotations(1, torch.Generator().manual_seed(2))
    made = JunkImages(parts([0], rotations, [[0.0, 0.0]]), maps, 5.0).clean(0, NO_CTF).abs()
    expected = project(maps, torch.zeros(1, dtype=torch.long), rotations)[0].abs()
    # the wide box samples the map's transform twice as finely: equal up to its interpolation
    assert float((made - expected).norm() / expected.norm()) < 0.02


def test_numbers_and_distances():
    junk = draw_junk(40, n_maps=(3, 2), box_px=50, max_shift_px=2.0, rng=np.random.default_rng(0))
    assert np.bincount(junk.kind).tolist() == [10, 10, 10, 10]
    distance = junk.shift_px.norm(dim=1).numpy()
    by_kind = {name: np.flatnonzero(junk.kind[junk.owner] == k) for k, name in enumerate(KINDS)}
    assert len(by_kind["noise"]) == 0
    assert len(by_kind["off-centre"]) == len(by_kind["other"]) == 10
    assert ((distance[by_kind["off-centre"]] >= 12.5 - 1e-4) & (distance[by_kind["off-centre"]] <= 20 + 1e-4)).all()
    assert (distance[by_kind["other"]] <= 2 * np.sqrt(2)).all()
    assert (junk.map_index[by_kind["other"]] >= 3).all()
    counts = np.bincount(junk.owner[by_kind["aggregate"]])
    assert set(counts[counts > 0]) == {2, 3}
    assert set(draw_junk(30, (1, 0), 50, 2.0, np.random.default_rng(0)).kind) == {0, 1, 2}


def test_particles_stay_as_they_were(tmp_path):
    options = {"phantom": 2, "per_map": 30, "box_px": BOX_PX, "device": "cpu", "snr": 1e8}
    other = tmp_path / "other.mrc"
    mrc_files.write_map(other, blob()[0].numpy(), 14.0)  # coarser voxels than the set's 9 A
    plain = simulate.run_simulate(simulate.SimulateOptions(**options), tmp_path / "plain")
    mixed = simulate.run_simulate(simulate.SimulateOptions(**options, junk_frac=0.25, junk_maps=(str(other),)),
                                  tmp_path / "mixed")
    assert (mixed.n_images, mixed.n_junk, plain.n_junk) == (80, 20, 0)
    assert mixed.noise_variance == pytest.approx(plain.noise_variance, rel=1e-6)
    rows = {name: result_files.read_csv(tmp_path / name / simulate.TRUTH_CSV) for name in ("plain", "mixed")}
    kept = [row for row in rows["mixed"] if row["junk"] == ""]
    assert [{**row, "id": ""} for row in kept] == [{**row, "id": ""} for row in rows["plain"]]
    junk = [row for row in rows["mixed"] if row["junk"]]
    assert {row["map"] for row in junk} == {"-1"} and {row["rot_deg"] for row in junk} == {"nan"}
    assert {row["junk"] for row in junk} == set(KINDS)
    images = {}
    for name in rows:
        with mrcfile.open(tmp_path / name / simulate.STACK) as stack:
            images[name] = stack.data.copy()
    particle = np.array([row["junk"] == "" for row in rows["mixed"]])
    assert np.allclose(images["mixed"][particle], images["plain"], atol=1e-3 * images["plain"].std())
    variance = images["mixed"].var(axis=(1, 2))
    noise = np.array([row["junk"] == "noise" for row in rows["mixed"]])
    assert variance[noise].max() < 1e-6 * variance[particle].min()


def test_other_molecules_are_as_strong_as_the_sets(tmp_path):
    maps = phantom_states(2, BOX_PX, PHANTOM_BOX_ANG / BOX_PX)
    for size_ang in (4.5, 9.0, 18.0):
        path = tmp_path / f"{size_ang}.mrc"
        mrc_files.write_map(path, blob()[0].numpy(), size_ang)
        made = junk_images.load_others((str(path),), maps, 9.0)
        assert made.shape == (1, BOX_PX, BOX_PX, BOX_PX)
        assert junk_images.projection_variance(made) == pytest.approx(junk_images.projection_variance(maps), rel=1e-4)
        # the blob keeps its width in A
        x = np.arange(BOX_PX) - BOX_PX // 2
        profile = made[0].sum((0, 1))
        width_ang = 9.0 * np.sqrt((profile * x ** 2).sum() / profile.sum())
        assert width_ang == pytest.approx(2.0 * size_ang, rel=0.12)


def test_limits(tmp_path):
    with pytest.raises(ConfigError, match=r"junk_frac is 0.95"):
        simulate.run_simulate(simulate.SimulateOptions(phantom=1, junk_frac=0.95), tmp_path)
    with pytest.raises(ConfigError, match=r"junk_frac is 0"):
        simulate.run_simulate(simulate.SimulateOptions(phantom=1, junk_maps=("a.mrc",)), tmp_path)
