"""Parts of the report by themselves: pictures that are read, what the methods claim, views."""
from __future__ import annotations

import numpy as np
from made_records import comparison, proof, state_row, states_summary
from vaegan_engine.contract import presets, result_files, run_json
from vaegan_engine.contract.record import write_record, write_records
from vaegan_engine.contract.result_files import read_picture
from vaegan_engine.contract.settings import StatesRun
from vaegan_engine.contract.status import update_status
from vaegan_engine.data.mrc_files import write_stack
from vaegan_engine.report import methods_section, page, states_section


def test_a_stack_of_one_image(tmp_path):
    """It is an image for mrcfile: the first of it is not its first row."""
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    write_stack(tmp_path / "one.mrcs", image, 3.0)
    np.testing.assert_array_equal(read_picture(tmp_path / "one.mrcs"), image[0])


def test_the_methods_claim_what_is_proven(tmp_path):
    run_json.write_run(StatesRun(), tmp_path / result_files.RUN_JSON)
    write_records(tmp_path / result_files.CLUSTERS_JSON, [
        state_row(label, 100, 0.3, comparison(resolution_0143_ang=11.0 + label), proof(proven_0143=label != 1))
        for label in range(3)])
    write_record(tmp_path / result_files.STATES_JSON, states_summary())
    text = methods_section.states_text(str(tmp_path))
    assert text.endswith(" 3 states. Half maps of state 1, state 3 agree to 11.0, 13.0 Å (FSC 0.143). Of state 2 no "
                         "resolution is proven.")
    write_record(tmp_path / result_files.STATES_JSON, states_summary(verdict="poses are <not>", has_states=False))
    assert methods_section.states_text(str(tmp_path)).endswith(" is proven. Verdict: poses are &lt;not&gt;.")


def test_the_methods_of_states_of_a_training_name_its_box_and_its_clusters(tmp_path):
    """Their own request has no box: the images are those of the training."""
    run_json.write_run(StatesRun(run_dir=str(tmp_path / "run"), clusters_dir=str(tmp_path / "clusters")),
                       tmp_path / result_files.RUN_JSON)
    write_records(tmp_path / result_files.CLUSTERS_JSON, [state_row(0, 100, 1.0, comparison(), proof())])
    write_record(tmp_path / result_files.STATES_JSON, states_summary())
    update_status(tmp_path, state="finished", n_particles=100, box_px=64, versions={"vaegan_engine": "7.1"})
    text = methods_section.states_text(str(tmp_path))
    assert "States and poses of 100 of 100 particles (box 64 px of " in text
    assert ('over poses (<a href="https://doi.org/10.1016/j.jsb.2012.09.006">Scheres 2012</a>) as implemented in '
            "scipion-em-vaegan (vaegan_engine 7.1), starting" in text)
    assert "starting from random maps and those of clusters, seed" in text
    assert "Half maps of the state agree to" in text


def test_the_methods_name_the_networks_that_were_trained(tmp_path):
    """With a critic or without, and with what the latent vector is made of."""
    for command, changes, words in (
            ("train3d", {}, "A 3D VAE-GAN ("),
            ("train2d", {"model": {"n_categories": 0, "n_normal": 5}}, "5 latent coordinates) was trained without"),
            ("train3d", {"data": {"poses_dir": "states"}}, "At the poses of the states a variational autoencoder ("),
            ("train3d", {"data": {"poses_dir": "states"}, "training": {"adversarial_weight": 0.5}},
             "At the poses of the states a VAE-GAN (")):
        preset = "posed" if "data" in changes else "fast"
        run_json.write_run(presets.build_run(command, preset, changes), tmp_path / result_files.RUN_JSON)
        assert words in methods_section.training_text(str(tmp_path))


def test_losses_of_a_critic_are_not_said_to_fall(tmp_path):
    for row, words in (({"kimg": 1.0, "critic_loss": 0.5}, "Adversarial losses do not fall"),
                       ({"kimg": 1.0, "likelihood": 0.5}, "<p class=\"note\">The losses should fall")):
        result_files.write_jsonl(tmp_path / result_files.LOG_JSONL, [row])
        assert words in page.training_section(str(tmp_path)).body


def test_junk_has_no_view(tmp_path):
    result_files.write_csv(tmp_path / result_files.PARTICLES_CSV, ["particle_id", "label", "rot_deg", "tilt_deg"],
                      [[1, 0, -10.0, 60.0], [2, -1, 0.0, 0.0], [3, 1, 200.0, 90.0]])
    labels, rot_deg, tilt_deg = states_section.read_views(str(tmp_path))
    assert (labels.tolist(), rot_deg.tolist(), tilt_deg.tolist()) == ([0, 1], [-10, 200], [60, 90])
