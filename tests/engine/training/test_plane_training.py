"""A 2D training at the turns of class averages: one frame for all classes, z of the pictures, and what comes after."""
import shutil

import numpy as np
import pytest
import shared_training
import torch
from fake_run import write_clusters
from flat_pictures import PICTURES, blobs, make
from particle_files import optics_columns, star_block
from resumed import same_after_a_resume
from vaegan_engine.contract import presets, result_files, run_json
from vaegan_engine.contract.errors import ConfigError, DataError
from vaegan_engine.contract.settings import EmbedRun, TraverseRun
from vaegan_engine.data.mrc_files import write_stack
from vaegan_engine.data.particle_tables import read_latents
from vaegan_engine.latent.embed import run_embed
from vaegan_engine.latent.traverse import run_traverse
from vaegan_engine.training import train
from vaegan_engine.training.decoded import load_trained
from vaegan_engine.training.plane_frames import common_turns_deg
from vaegan_engine.training.plane_images import read_frame

BOX, N, PIXEL_ANG = 32, 240, 6.0
EXTRA = (-0.02, -0.2, 0.05, 1.0)  # a blob that the second state of the first view has
STATES = (PICTURES[0], (*PICTURES[0], EXTRA), PICTURES[1])  # two states of a view, and another view
OF_CLASS = (20.0, 140.0, -75.0, 60.0)  # by which each class's average is turned from the picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Particles, and a folder of classes2d: four classes at their own angles; a particle of junk and one missing."""
    where, made = tmp_path_factory.mktemp("flat"), make(N, BOX, STATES, snr=1.0, max_shift_px=1.5)
    write_stack(where / "particles.mrcs", made.images, PIXEL_ANG)
    ids = [1000 - 2 * row for row in range(N)]
    (where / "particles.star").write_text(star_block("optics", optics_columns(PIXEL_ANG)) + star_block("particles", {
        "rlnImageName": [f"{row + 1:06d}@particles.mrcs" for row in range(N)], "vaeParticleId": ids,
        "rlnDefocusU": made.ctf[:, 0], "rlnDefocusV": made.ctf[:, 1], "rlnDefocusAngle": [0.0] * N,
        "rlnOpticsGroup": [1] * N}))
    label = np.where(made.picture == 2, 2 + np.arange(N) % 2, np.arange(N) // 7 % 2)  # states share their classes
    averages = np.stack([blobs(STATES[0 if k < 2 else 2], BOX, -OF_CLASS[k]) for k in range(4)])
    classes = where / "classes"
    (classes / result_files.MAPS).mkdir(parents=True)
    write_stack(classes / result_files.MAPS / result_files.CLASSES_MRCS, averages.astype(np.float32), PIXEL_ANG)
    result_files.write_json(classes / result_files.CLASSES2D_JSON, {})
    result_files.write_csv(
        classes / result_files.PARTICLES_CSV,
        ["particle_id", "label", "junk", "psi_deg", "shift_x_ang", "shift_y_ang", "contrast", "half_set"],
        ([i, k, int(row == 3), psi + OF_CLASS[k], *(PIXEL_ANG * shift), 1, 1 + row % 2] for row, (i, k, psi, shift)
         in enumerate(zip(ids, label, made.psi_deg, made.shift_px, strict=True)) if row != 5))
    return where, made, ids


def tiny(folder, **changes):
    values = {"data": {"particles": str(folder[0] / "particles.star"), "poses_dir": str(folder[0] / "classes"),
                       "box_px": BOX},
              "model": {"n_normal": 4, "n_basis": 4, "generator_width": 16, "critic_width": 4},
              "training": {"total_kimg": 2.0, "round_kimg": 1.0, "batch_size": 64, "tick_kimg": 0.5,
                           "checkpoint_kimg": 0.5, "band_shells": 8.0, "start_rounds": 4, "adversarial_batch": 8},
              "compute": {"device": "cpu", "threads": 1}}
    for part, some in changes.items():
        values[part] = {**values[part], **some}
    return presets.build_run("train2d", "posed", values)


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    run = tiny(folder)
    train.run_train(run, out)
    run_embed(EmbedRun(run_dir=str(out), compute=run.compute), out / "z")
    return out


@pytest.mark.slow
def test_two_processes_find_the_frame_and_train_what_one_does(folder, tmp_path):
    request = run_json.write_run(tiny(folder, training={"total_kimg": 1.2}), tmp_path / "request.json")
    shared_training.trained(request, tmp_path / "one")
    assert shared_training.by_two(request, tmp_path / "two") == 0
    assert read_frame(tmp_path / "one") == read_frame(tmp_path / "two")
    shared_training.assert_same_networks(tmp_path / "one", tmp_path / "two")


def test_averages_of_one_view_are_turned_alike():
    angles = torch.tensor([0.0, 35.0, -110.0, 170.0])
    averages = torch.stack([torch.from_numpy(blobs(PICTURES[1], BOX, float(angle))).float() for angle in angles])
    found = common_turns_deg(averages)
    assert torch.allclose((found - found[0] + angles - angles[0] + 180) % 360, torch.tensor(180.0), atol=3.0)


def test_all_classes_lie_in_one_frame(folder, trained):
    """An image's turn in the frame is its turn to the picture but for one angle for each view."""
    _, made, ids = folder
    frame = read_frame(trained)
    assert len(frame) == N - 2 and not {ids[3], ids[5]} & set(frame)
    for view in ((0, 1), (2,)):
        off = [np.exp(1j * np.radians(frame[i] - psi)) for i, psi, k in
               zip(ids, made.psi_deg, made.picture, strict=True) if i in frame and k in view]
        assert abs(np.mean(off)) > 0.97


def test_z_tells_view_and_state_and_not_the_turn(folder, trained):
    _, made, ids = folder
    latents, where = read_latents(trained / "z"), {i: row for row, i in enumerate(ids)}
    rows = np.array([where[i] for i in latents.particle_id])
    assert len(rows) == N - 2
    for one, other in (((0,), (1,)), ((0, 1), (2,))):
        a, b = (latents.z[np.isin(made.picture[rows], some)] for some in (one, other))
        along = np.linalg.solve(np.cov(a.T) + np.cov(b.T), a.mean(0) - b.mean(0))
        apart = (a.mean(0) - b.mean(0)) @ along / np.sqrt(0.5 * ((a @ along).var() + (b @ along).var()))
        assert apart > 2.5
    run = load_trained(str(trained), tiny(folder).compute)
    images = run.decode(np.stack([latents.z[made.picture[rows] == k].mean(0) for k in range(3)]))
    assert images.shape == (3, BOX, BOX) and not run.is_3d
    difference = images[1] - images[0]
    assert np.abs(difference).max() > 0.3 * np.abs(images[0]).max()
    log = result_files.read_jsonl(trained / result_files.LOG_JSONL)[-1]
    assert {"negative_log_likelihood", "kl"} <= log.keys()
    assert (trained / result_files.MAPS / result_files.IMAGES_MRCS).exists()


def test_traversals_take_it_as_any_2d_training(folder, trained, tmp_path):
    latents = read_latents(trained / "z")
    label = (latents.z[:, 0] > latents.z[:, 0].mean()).astype(int)
    clusters = write_clusters(tmp_path / "clusters", label, latents.particle_id, embedding_dir=str(trained / "z"),
                              with_maps=False) or tmp_path / "clusters"
    run_traverse(TraverseRun(clusters_dir=str(clusters), run_dir=str(trained), n_points=2,
                             compute=tiny(folder).compute), tmp_path / "traverse")
    assert len(result_files.read_csv(tmp_path / "traverse" / result_files.TRAVERSAL_CSV)) == 4


@pytest.mark.slow
def test_a_resumed_training_is_the_same_to_the_bit(folder, tmp_path):
    """Likelihood and critic both at work; the frame is that of the beginning."""
    run = tiny(folder, training={"adversarial_weight": 1.0, "total_kimg": 1.5, "round_kimg": 0.5, "tick_kimg": 0.4,
                                 "checkpoint_kimg": 0.4})
    same_after_a_resume(run, tmp_path)
    log = result_files.read_jsonl(tmp_path / "whole" / result_files.LOG_JSONL)[-1]
    assert {"critic_loss", "generator_loss", "kl"} <= log.keys()


def test_networks_of_another_training_are_of_its_frame(folder, trained, tmp_path):
    further = tiny(folder, training={"continue_from": str(tmp_path / "run"), "total_kimg": 0.5})
    shutil.copytree(trained, tmp_path / "run")
    train.run_train(further, tmp_path / "other")
    assert read_frame(tmp_path / "other") == read_frame(trained)
    train.run_train(further, tmp_path / "run")  # in its own folder
    assert read_frame(tmp_path / "run") == read_frame(trained)


def test_what_is_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match="takes the alignment of classes2d"):
        tiny(folder, data={"poses_dir": "", "input_poses": True})
    with pytest.raises(ConfigError, match="without poses"):
        tiny(folder, data={"poses_dir": ""})
    shutil.copytree(folder[0] / "classes", tmp_path / "classes")
    (tmp_path / "classes" / result_files.CLASSES2D_JSON).unlink()
    with pytest.raises(DataError, match="a 2D training takes poses in the plane"):
        train.run_train(tiny(folder, data={"poses_dir": str(tmp_path / "classes")}), tmp_path / "out")


def test_a_training_that_cannot_begin_leaves_the_one_before_as_it_was(folder, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    kept = {name: (tmp_path / "run" / name).read_bytes() for name in (result_files.RUN_JSON,
                                                                      result_files.PLANE_POSES_CSV)}
    shutil.copytree(folder[0] / "classes", tmp_path / "classes")
    (tmp_path / "classes" / result_files.CLASSES2D_JSON).unlink()
    with pytest.raises(DataError):
        train.run_train(tiny(folder, data={"poses_dir": str(tmp_path / "classes")}), tmp_path / "run")
    assert {name: (tmp_path / "run" / name).read_bytes() for name in kept} == kept
