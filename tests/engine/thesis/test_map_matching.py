"""Maps against references: a motion's order is found; references in other boxes and as atoms."""
import numpy as np
import pytest
from atoms import structure
from fake_run import align_nothing
from vaegan_engine.contract import result_files
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.data.mrc_files import write_map
from vaegan_engine.simulation import atomic_models
from vaegan_engine.simulation.phantom import LOBES, blob_density, phantom_states
from vaegan_engine.thesis import map_matching
from vaegan_engine.thesis.map_matching import MatchOptions

D, VOXEL = 24, 12.0


def frames(n):
    """A lobe that moves along x in n steps."""
    core = phantom_states(3, D, VOXEL)[2]
    lobe = LOBES[0]
    return [core + blob_density(lobe._replace(center_ang=(x, *lobe.center_ang[1:])), D, VOXEL)
            for x in np.linspace(-20, 60, n)]


@pytest.fixture
def motion(tmp_path):
    rng = np.random.default_rng(0)
    references = []
    for index, array in enumerate(frames(6)):
        write_map(tmp_path / f"frame_{index}.mrc", array.astype(np.float32), VOXEL)
        references.append(str(tmp_path / f"frame_{index}.mrc"))
    maps = []
    for index, frame in enumerate((0, 2, 5)):
        array = frames(6)[frame] + 0.02 * rng.normal(size=(D, D, D))
        write_map(tmp_path / f"map_{index}.mrc", array.astype(np.float32), VOXEL)
        maps.append(str(tmp_path / f"map_{index}.mrc"))
    return tuple(maps), tuple(references)


@pytest.mark.parametrize("frame", ["shared", "own", "none"])
def test_frames_are_found_in_order(motion, tmp_path, frame, capsys, monkeypatch):
    monkeypatch.setattr(map_matching, "align_map", align_nothing)
    found = map_matching.run_match(MatchOptions(*motion, frame=frame), tmp_path / "out")
    assert found.best == [0, 2, 5]
    assert found.order == pytest.approx(1)
    assert min(np.max(found.correlation, axis=1)) > 0.99
    rows = result_files.read_csv(tmp_path / "out" / map_matching.MATCH_CSV)
    assert [row["best"] for row in rows] == ["0", "2", "5"]
    assert (tmp_path / "out/maps/aligned_02.mrc").exists() and (tmp_path / "out/match.png").exists()
    assert "map_1.mrc: best frame_2.mrc (reference 2)" in capsys.readouterr().out


@pytest.mark.slow
def test_a_turned_map_is_aligned_first(motion, tmp_path):
    from vaegan_engine.physics.map_alignment import move_map
    from vaegan_engine.physics.rotations import random_rotations

    turned = move_map(frames(6)[2].astype(np.float32), random_rotations(1)[0].numpy(), np.zeros(3), mirrored=True)
    write_map(tmp_path / "turned.mrc", turned, VOXEL)
    found = map_matching.run_match(MatchOptions((str(tmp_path / "turned.mrc"),), motion[1]), tmp_path / "out")
    assert found.best[0] in (1, 2, 3)
    assert found.mirrored == [True]


def test_order_is_undefined_for_one_place():
    assert map_matching.rank_correlation(np.array([3, 3, 3])) is None
    assert map_matching.rank_correlation(np.array([5, 3, 1])) == pytest.approx(-1)


def test_low_pass_keeps_a_slow_wave_and_stops_a_fast_one():
    x = np.arange(D)
    slow, fast = (np.cos(2 * np.pi * k * x / D) * np.ones((D, D, 1)) for k in (3, 9))
    made = map_matching.low_passed(slow + fast, VOXEL, D * VOXEL / 5)
    np.testing.assert_allclose(made, slow, atol=1e-12)


def test_atomic_models_of_one_frame_keep_their_places(tmp_path):
    rng = np.random.default_rng(2)
    fixed = rng.uniform(-25, 25, (30, 3))
    paths, maps = [], []
    for index, x in enumerate((-10.0, 10.0)):
        made = structure([*fixed, *(rng.uniform(-4, 4, (30, 3)) + [x, 0, 30])], "C" * 60)
        (tmp_path / f"model_{index}.pdb").write_text(made.make_pdb_string())
        paths.append(str(tmp_path / f"model_{index}.pdb"))
        maps.append(made)
    origin = atomic_models.center_ang(maps[0][0])
    write_map(tmp_path / "map.mrc", atomic_models.density(maps[1][0], 24, 5.0, 15.0, origin), 5.0)
    found = map_matching.run_match(
        MatchOptions((str(tmp_path / "map.mrc"),), tuple(paths), 15.0, "none"), tmp_path / "out"
    )
    assert found.best == [1]
    assert found.correlation[0][1] == pytest.approx(1, abs=1e-3)
    assert found.correlation[0][0] < 0.95


def test_wrong_boxes_and_resolutions_are_named(motion, tmp_path):
    write_map(tmp_path / "small.mrc", np.ones((16,) * 3, np.float32), VOXEL)
    with pytest.raises(DataError, match=r"small\.mrc: 16 voxels of 12 A"):
        map_matching.run_match(MatchOptions((motion[0][0], str(tmp_path / "small.mrc")), motion[1]), tmp_path / "out")
    with pytest.raises(ConfigError, match="The resolution is 20 A"):
        map_matching.run_match(MatchOptions(*motion, resolution_ang=20.0), tmp_path / "out")


def test_density_of_a_real_model_agrees_with_its_map(shared_data):
    """The 30S model against the map that others computed from it."""
    from vaegan_engine.data.mrc_files import read_map

    array, voxel = read_map(shared_data / "r30S_4ADV/maps/full.mrc")
    model = atomic_models.read_model(shared_data / "r30S_4ADV/atoms/ribosome.pdb.gz")
    made = map_matching.low_passed(atomic_models.density(model, len(array), voxel, 15.0), voxel, 15.0)
    found = map_matching.low_passed(array, voxel, 15.0)
    peak = np.fft.irfftn(np.fft.rfftn(found) * np.fft.rfftn(made).conj(), s=found.shape, axes=(0, 1, 2))
    place = np.unravel_index(peak.argmax(), peak.shape)
    assert map_matching.correlation(np.roll(made, place, (0, 1, 2)), found) > 0.9
