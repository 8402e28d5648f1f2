"""Training with poses, from particles and a pose table to posteriors; small, and on one thread."""
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_run import align_nothing
from resumed import same_after_a_resume
from shared_training import assert_same_networks, by_two, trained
from vaegan_engine.contract import presets, result_files, run_json
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.record import write_record
from vaegan_engine.contract.records import Shells, StatesSummary
from vaegan_engine.contract.run_json import read_training
from vaegan_engine.contract.settings import ClusterRun, EmbedRun, HalvesRun, TraverseRun
from vaegan_engine.contract.status import read_status
from vaegan_engine.data.particle_tables import read_latents
from vaegan_engine.data.pose_table import read_poses
from vaegan_engine.data.prepared_images import open_cache
from vaegan_engine.data.star_files import read_star
from vaegan_engine.evaluation.checks import halves
from vaegan_engine.latent.embed import run_embed
from vaegan_engine.latent.traverse import run_traverse
from vaegan_engine.networks.vae_gan import Frame
from vaegan_engine.physics.rotations import euler_to_matrix
from vaegan_engine.reconstruction.map_family import Spreads, seen
from vaegan_engine.simulation.simulate import SimulateOptions, run_simulate
from vaegan_engine.training import train
from vaegan_engine.training.decoded import load_trained
from vaegan_engine.training.posed_images import posed_particles
from vaegan_engine.training.posed_run import PosedRun
from vaegan_engine.training.posed_trainer import PosedTrainer

BOX, PER_MAP = 24, 150


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two states of the phantom; the true poses as a folder of states, one particle junk and one missing."""
    where = tmp_path_factory.mktemp("posed")
    run_simulate(SimulateOptions(phantom=2, per_map=PER_MAP, box_px=BOX, snr=0.5), where)
    truth = result_files.read_csv(where / "truth.csv")
    pixel_ang = 18.0 * 16 / BOX
    header = ["particle_id", "label", "rot_deg", "tilt_deg", "psi_deg", "shift_x_ang", "shift_y_ang", "contrast"]
    result_files.write_csv(where / "poses" / result_files.PARTICLES_CSV, header, (
        [row["id"], -1 if row["id"] == "3" else 0, row["rot_deg"], row["tilt_deg"], row["psi_deg"],
         pixel_ang * float(row["shift_x_px"]), pixel_ang * float(row["shift_y_px"]), 1]
        for row in truth[::-1] if row["id"] != "5"))
    return where


def tiny(folder, **changes):
    values = {"data": {"particles": str(folder / "particles.star"), "poses_dir": str(folder / "poses"), "box_px": BOX},
              "model": {"n_normal": 2, "n_basis": 2, "generator_width": 16, "critic_width": 4},
              "training": {"total_kimg": 3.0, "round_kimg": 1.0, "batch_size": 64, "tick_kimg": 1.0,
                           "checkpoint_kimg": 1.0, "band_shells": 8.0, "start_rounds": 3, "adversarial_batch": 8},
              "compute": {"device": "cpu", "threads": 1}}
    for part, some in changes.items():
        values[part] = {**values[part], **some}
    return presets.build_run("train3d", "posed", values)


def embedded(run, out):
    train.run_train(run, out)
    run_embed(EmbedRun(run_dir=str(out), compute=run.compute), out / "z")
    return read_latents(out / "z")


def test_two_states_lie_apart_and_particles_without_a_pose_are_left_out(folder, tmp_path):
    latents = embedded(tiny(folder), tmp_path / "run")
    truth = {int(row["id"]): int(row["map"]) for row in result_files.read_csv(folder / "truth.csv")}
    assert set(truth) - set(latents.particle_id.tolist()) == {3, 5}
    label, z = np.array([truth[i] for i in latents.particle_id]), latents.z
    one, other = z[label == 0], z[label == 1]
    assert (np.abs(one.mean(0) - other.mean(0)) / np.sqrt(0.5 * (one.var(0) + other.var(0)))).max() > 4
    precision = result_files.read_npz(tmp_path / "run" / "z" / result_files.LATENTS_NPZ)["precision"]
    assert precision.shape == (*z.shape, z.shape[1]) and np.linalg.eigvalsh(precision).min() > 0.5
    trained = load_trained(str(tmp_path / "run"), tiny(folder).compute)
    assert isinstance(trained, PosedRun)
    maps = trained.decode(np.stack([z[label == k].mean(0) for k in (0, 1)]))
    assert maps.shape == (2, BOX, BOX, BOX) and np.abs(maps[0] - maps[1]).max() > 0.1 * maps.std()
    log = result_files.read_jsonl(tmp_path / "run" / result_files.LOG_JSONL)[-1]
    assert {"negative_log_likelihood", "kl", "rotation_spread_deg"} <= log.keys() and "critic_loss" not in log


def test_a_resumed_training_is_the_same_to_the_bit(folder, tmp_path):
    """Stopped between two steps of the maps; likelihood and critic both at work."""
    run = tiny(folder, training={"adversarial_weight": 1.0, "total_kimg": 1.5, "round_kimg": 0.5, "tick_kimg": 0.4,
                                 "checkpoint_kimg": 0.4})
    assert {"generator", "encoder", "critic"} == same_after_a_resume(run, tmp_path).keys()


@pytest.mark.slow
def test_two_processes_train_what_one_trains(folder, tmp_path):
    """Principal maps, the likelihood's and the critic's steps, and steps of the maps."""
    run = tiny(folder, training={"adversarial_weight": 1.0, "total_kimg": 1.0, "round_kimg": 0.5})
    request = run_json.write_run(run, tmp_path / "request.json")
    trained(request, tmp_path / "one")
    assert by_two(request, tmp_path / "two") == 0
    assert_same_networks(tmp_path / "one", tmp_path / "two")


def test_a_training_goes_on_and_embeds_at_the_poses_it_was_begun_at_alone(folder, tmp_path):
    """States that were run again into the same folder have other poses under the same path."""
    shutil.copytree(folder / "poses", tmp_path / "poses")
    table = tmp_path / "poses" / result_files.PARTICLES_CSV
    run = tiny(folder, data={"poses_dir": str(tmp_path / "poses")},
               training={"likelihood_weight": 0.0, "adversarial_weight": 1.0, "start_rounds": 0, "total_kimg": 0.016,
                         "batch_size": 8, "tick_kimg": 0.016})
    train.run_train(run, tmp_path / "run")
    before = table.read_text()
    table.write_text(before + "\n")  # the same poses, written again
    train.run_train(run, tmp_path / "run", resume=True)
    embed = EmbedRun(run_dir=str(tmp_path / "run"), compute=run.compute)
    run_embed(embed, tmp_path / "z")
    rows = result_files.read_csv(table)
    turned = [{**row, "rot_deg": float(row["rot_deg"]) + 1.0} for row in rows]
    result_files.write_csv(table, list(rows[0]), [list(row.values()) for row in turned])
    with pytest.raises(ConfigError, match="begun at other poses"):
        train.run_train(run, tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match="begun at other poses"):
        run_embed(embed, tmp_path / "z")


def test_the_adversarial_part_alone_trains_maps_and_encoder(folder, tmp_path):
    run = tiny(folder, training={"likelihood_weight": 0.0, "adversarial_weight": 1.0, "start_rounds": 0,
                                 "total_kimg": 0.2, "batch_size": 8, "tick_kimg": 0.1})
    train.run_train(run, tmp_path)
    log = result_files.read_jsonl(tmp_path / result_files.LOG_JSONL)[-1]
    assert {"critic_loss", "generator_loss", "encoder_loss"} <= log.keys() and "kl" not in log


def test_pairs_are_turned_to_one_in_plane_angle(folder, tmp_path):
    """The mean map's projection is the same picture at every psi of one view."""
    run = tiny(folder)
    cache = open_cache(run.data, tmp_path / "cache", progress=False)
    particles = posed_particles(run, cache, torch.device("cpu"))
    trainer = PosedTrainer(run, train.Frame(BOX, 12.0), particles, torch.device("cpu"))
    n = 6
    psi = torch.linspace(0, 300, n)
    rotations = euler_to_matrix(torch.full((n,), 40.0), torch.full((n,), 60.0), psi)
    trainer.pairs.psi_rad = torch.deg2rad(psi)
    trainer.begin()
    images = particles.part(torch.arange(n))
    images = images._replace(rotations=rotations, ctf=torch.ones_like(images.ctf))
    found = seen(trainer._family(), images, torch.ones_like(particles.band.weight), Spreads())
    expected = trainer.pairs.expected(found)
    made = trainer.pairs.images(expected, expected, torch.arange(n))[:, 0]
    middle = made[:, 6:-6, 6:-6].flatten(1)
    assert float(torch.corrcoef(middle).min()) > 0.95
    noise = trainer.pairs.simulated(found, torch.zeros(n, 2), torch.Generator().manual_seed(0))
    assert noise.shape == expected.shape


@pytest.mark.parametrize(("changes", "word"), [
    ({"model": {"generator": "voxel"}}, "generator"), ({"model": {"n_normal": 3}}, "n_basis"),
    ({"training": {"likelihood_weight": 0.0}}, "nothing to train"), ({"data": {"input_poses": True}}, "one place"),
    ({"data": {"poses_dir": ""}}, "without poses"), ({"training": {"band_shells": 12.0}}, "band_shells"),
])
def test_settings_that_do_not_go_together_are_refused(folder, changes, word):
    with pytest.raises(ConfigError, match=word):
        tiny(folder, **changes)


def test_halves_and_traversals_take_it_as_any_training(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(halves, "align_map", align_nothing)  # the poses lay both halves in one frame
    run = tiny(folder, training={"total_kimg": 0.5})
    latents = embedded(run, tmp_path / "run")
    label = (latents.z[:, 0] > latents.z[:, 0].mean()).astype(int)
    clusters = tmp_path / "clusters"
    run_json.write_run(ClusterRun(embedding_dir=str(tmp_path / "run" / "z"), run_dir=str(tmp_path / "run")),
                       clusters / result_files.RUN_JSON)
    result_files.write_csv(clusters / result_files.CLUSTERS_CSV, ["particle_id", "label", "probability"],
                           [[i, k, 1] for i, k in zip(latents.particle_id, label, strict=True)])
    folders = {"clusters_dir": str(clusters), "run_dir": str(tmp_path / "run"), "compute": run.compute}
    run_traverse(TraverseRun(**folders, n_points=2), tmp_path / "traverse")
    assert len(result_files.read_csv(tmp_path / "traverse" / result_files.TRAVERSAL_CSV)) == 4
    halves.run_halves(HalvesRun(**folders), tmp_path / "halves")
    rows = result_files.read_json(tmp_path / "halves" / result_files.HALVES_JSON)
    assert [row["cluster"] for row in rows] == [0, 1] and min(row["correlation"] for row in rows) > 0.8
    one = result_files.read_npz(tmp_path / "halves" / "half1" / "embedding" / result_files.LATENTS_NPZ)
    assert set(one["half_set"].tolist()) == {1}


def test_the_particles_own_alignment_gives_the_same_latents(folder, tmp_path):
    """The same poses as columns of the star file."""
    star = read_star(folder / "particles.star")
    poses = result_files.read_csv(folder / "poses" / result_files.PARTICLES_CSV)
    rows = {int(row["particle_id"]): row for row in poses}
    ids = star.numbers("vaeParticleId").astype(int)
    names = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst")
    header, *body = (folder / "particles.star").read_text().split("data_particles")
    lines = body[0].splitlines()
    last = max(place for place, line in enumerate(lines) if line.startswith("_"))
    made = iter(ids)
    filled = []
    for line in lines[last + 1:]:
        row = rows.get(int(next(made))) if line.strip() else None
        values = [row["rot_deg"], row["tilt_deg"], row["psi_deg"], -float(row["shift_x_ang"]),
                  -float(row["shift_y_ang"])] if row else [0] * 5
        filled.append(f"{line} {' '.join(map(str, values))}" if line.strip() else line)
    own = folder / "own.star"
    own.write_text("\n".join([header + "data_particles", *lines[:last + 1], *(f"_{name}" for name in names), *filled]))
    cut = {"start_rounds": 1, "total_kimg": 0.064}
    here = embedded(tiny(folder, training=cut), tmp_path / "a")
    there = embedded(tiny(folder, training=cut, data={"particles": str(own), "poses_dir": "", "input_poses": True}),
                     tmp_path / "b")
    assert set(there.particle_id) - set(here.particle_id) == {3, 5}
    image = read_poses(tiny(folder, data={"particles": str(own), "poses_dir": "", "input_poses": True}).data)
    table = read_poses(tiny(folder).data)
    kept, at = table.rows_of(image.particle_id)
    assert np.allclose(image.angles_deg[kept], table.angles_deg[at]) and np.allclose(
        image.shifts_ang[kept], table.shifts_ang[at])


def test_poses_of_a_symmetric_map_are_refused(folder, tmp_path):
    """Each is one of several that show the same: what breaks the symmetry would be smeared, in silence."""
    shutil.copytree(folder / "poses", tmp_path / "poses")
    write_record(tmp_path / "poses" / result_files.STATES_JSON, StatesSummary(
        1, "one state", Shells(10, 10, 12), [], 1.0, 1.0, 0.1, 0.1, [], [], [], None, symmetry="D4"))
    with pytest.raises(DataError, match="the poses are of symmetry D4; a training has none") as caught:
        train.run_train(tiny(folder, data={"poses_dir": str(tmp_path / "poses")}), tmp_path / "out")
    assert "relax_symmetry D4" in caught.value.hint


def test_half_sets_are_those_that_the_poses_were_refined_in(folder, tmp_path):
    """States draw anew what goes with a state; the star file's half sets are then not those of its maps."""
    cache = open_cache(tiny(folder).data, tmp_path / "cache", False)
    half_of = dict(zip(cache.particle_id.tolist(), (3 - cache.half_set).tolist(), strict=True))
    rows = result_files.read_csv(folder / "poses" / result_files.PARTICLES_CSV)
    result_files.write_csv(tmp_path / "poses" / result_files.PARTICLES_CSV, [*rows[0], "half_set"],
                           [[*row.values(), half_of[int(row["particle_id"])]] for row in rows])
    own, anew = (posed_particles(tiny(folder, data={"poses_dir": str(where / "poses")}), cache, torch.device("cpu"))
                 for where in (folder, tmp_path))
    assert np.array_equal(anew.half_set, 3 - own.half_set) and anew.half_set.dtype == np.uint8
    assert anew.half_set.tolist() == [half_of[i] for i in anew.particle_id.tolist()]


def test_principal_maps_are_not_compared_with_those_of_a_handful(folder, tmp_path):
    """Directions of five images agree with nothing: where a half set has hardly any, every second image is taken."""
    cache = open_cache(tiny(folder).data, tmp_path / "cache", False)
    particles = posed_particles(tiny(folder), cache, torch.device("cpu"))
    n = len(particles)
    few = replace(particles, half_set=np.where(np.arange(n) < max(2, n // 20), 2, 1).astype(np.uint8))
    first, second = few.halves(10 ** 6)
    assert abs(len(first) - len(second)) <= 1 and len(first) + len(second) == n
    even = replace(particles, half_set=(1 + np.arange(n) // 2 % 2).astype(np.uint8))
    assert (even.half_set[even.halves(10 ** 6)[1].numpy()] == 2).all()


def test_dropout_of_a_step_does_not_depend_on_what_was_drawn_before(folder, tmp_path):
    """As a training goes on after a resume, whose global random numbers are others."""
    run = tiny(folder, model={"dropout": 0.5},
               training={"likelihood_weight": 0.0, "adversarial_weight": 1.0, "start_rounds": 0, "batch_size": 8})
    cache = open_cache(run.data, tmp_path, False)
    images, critics = posed_particles(run, cache, torch.device("cpu")), []
    for drawn in range(2):
        trainer = PosedTrainer(run, Frame(cache.box_px, cache.pixel_size_ang), images, torch.device("cpu"))
        trainer.begin()
        torch.manual_seed(drawn)
        trainer.step(torch.arange(8))
        critics.append(torch.cat([p.flatten() for p in trainer.critic.parameters()]))
    assert torch.equal(*critics)


def test_a_finished_training_is_prolonged(folder, tmp_path):
    """Whole batches end beyond the length that was asked for; no encoder was trained alone."""
    short = tiny(folder, training={"total_kimg": 0.2, "start_rounds": 1})
    train.run_train(short, tmp_path)
    assert read_status(tmp_path).images_seen > 200
    longer = replace(short, training=replace(short.training, total_kimg=0.4))
    train.run_train(longer, tmp_path, resume=True)
    assert read_status(tmp_path).images_seen >= 400 and read_training(tmp_path).training.total_kimg == 0.4
