"""A stand-in for the engine that honours the contract in well under a second.

Called as the real one: `python -m vaegan_engine run REQUEST --out FOLDER [--resume] [--processes N]`, with the engine's
source root as PYTHONPATH. Needs numpy and the standard library. Results are functions of the
particle id alone: label = id % 3, but -1 (unassigned) when id % 10 == 0.

Environment variables ask for trouble:
VAEGAN_FAKE_EXIT  COMMAND:CODE  that command fails with this exit code and its status.json
VAEGAN_FAKE_MUTE  COMMAND:CODE  the same, without a word in status.json
VAEGAN_FAKE_DROP  COMMAND       that command leaves out the particle with the highest id
VAEGAN_FAKE_WAIT  COMMAND       that training reports a third of its images, with a checkpoint, and waits"""
import json
import os
import struct
import sys
import time
import zlib
from pathlib import Path

import fake_evaluate
import fake_fullres
import numpy as np
from fake_consensus import consensus
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.analysis_records import Classes2dSummary, CounterpartNumbers
from vaegan_engine.contract.map_records import HalvesProof, MapComparison, PlaneFigures, StateFigures
from vaegan_engine.contract.record import write_record, write_records
from vaegan_engine.contract.records import (
    Clustering,
    ClusterRow,
    ComponentRow,
    JunkGroup,
    JunkNumbers,
    Separation,
    Shells,
    StartRow,
    StatesSummary,
    SweepRow,
)
from vaegan_engine.contract.status import Failure, read_status, update_status

BOX_PX = 16


def forecast_of(run):
    """What a forecast is asked of: the box, or how many particles and numbers of each are there."""
    if run.command == "cluster":
        return "{} points of {} numbers".format(*result_files.read_npz(
            Path(run.embedding_dir) / result_files.LATENTS_NPZ)["z"].shape)
    if run.command == "embed":
        return f"{Path(run.particles).read_text().count('@')} particles"
    if run.command == "fullres":
        return f"{Path(run.states_dir).name}, {Path(run.particles).name}"
    return f"box {run.data.box_px}, {run.data.particle_radius_frac}"


def main(words):
    """Run one request, as `run REQUEST --out FOLDER`."""
    assert words[:3] == ["-m", "vaegan_engine", "run"], words
    run = run_json.read_run(words[3])
    if "--forecast" in words:
        return print(f"expected: {run.command}, {forecast_of(run)}\n  stage: 1 s")
    out_dir = Path(words[words.index("--out") + 1])
    fail_on_request(run.command, out_dir)
    if os.environ.get("VAEGAN_FAKE_WAIT") == run.command:
        wait_in_the_middle(run, out_dir)
    commands = {"train2d": train, "train3d": train, "embed": embed, "cluster": cluster, "traverse": traverse,
                "halves": halves, "states": states, "classes2d": classes2d, "report": report,
                "counterpart": counterpart, "consensus": consensus,
                "evaluate": lambda run, out_dir: fake_evaluate.evaluate(run, out_dir, write_pictures),
                "fullres": lambda run, out_dir: fake_fullres.fullres(
                    run, out_dir, write_pictures, pixel_size(read_star(run.particles)))}
    commands[run.command](run, out_dir)
    update_status(out_dir, state="finished", error=None)
    if run.command.startswith(("train", "states")):
        result_files.write_json(out_dir / "fake.json", {
            "resumed": "--resume" in words, "visible_gpus": os.environ.get("CUDA_VISIBLE_DEVICES")})
    print(f"fake {run.command} done")


def fail_on_request(command, out_dir):
    """Leave with the exit code that the environment asks for."""
    for name in ("VAEGAN_FAKE_EXIT", "VAEGAN_FAKE_MUTE"):
        asked, _, code = os.environ.get(name, "").partition(":")
        if asked != command:
            continue
        if command.startswith("train"):
            write_checkpoint(out_dir, 1600)
        if command == "states":
            update_status(out_dir, stage="divide")
            result_files.write_npz(out_dir / result_files.CHECKPOINTS / "ab_initio.npz", fake=np.zeros(1))
        if name == "VAEGAN_FAKE_EXIT":
            update_status(out_dir, state="failed",
                          error=Failure(int(code), f"fake message {code}.", "Fake hint."))
        sys.exit(int(code))


def wait_in_the_middle(run, out_dir):
    """A training that is a third done and goes on for longer than any test."""
    run_json.write_run(run, out_dir / result_files.RUN_JSON)
    write_checkpoint(out_dir, 3200)
    print("fake training: 33 %, 3200/9600 img, 80.0 img/s, 01:20 left", file=sys.stderr, flush=True)
    update_status(out_dir, state="running", stage=run.command, command=run.command, device="fake", seed=0,
                          n_particles=66, pixel_size_ang=7.0, box_px=run.data.box_px, images_seen=3200,
                          total_images=9600, images_per_second=80.0, stage_seconds_left=80.0,
                          checkpoint="ckpt_000003200.pt", error=None)
    time.sleep(600)


def train(run, out_dir):
    """Components, one log line per tick, one checkpoint."""
    star = read_star(run.data.particles)
    box_px, rate = run.data.box_px, pixel_size(star) * box_size(star) * run.data.crop_frac / run.data.box_px
    run_json.write_run(run, out_dir / result_files.RUN_JSON)
    for tick in range(1, 4):
        result_files.append_jsonl(out_dir / result_files.LOG_JSONL, {
            "kimg": 3.2 * tick, "images_per_second": 100.0, "critic_loss": 1.0 / tick, "generator_loss": tick})
    write_checkpoint(out_dir, 9600)
    volumetric, rows = run.command == "train3d", []
    for index in range(n_components := run.model.n_categories or 6):
        file = f"maps/component_{index:02d}.mrc" if volumetric else "maps/images.mrcs"
        rows.append(ComponentRow(index, np.eye(n_components)[index].tolist(), file, 1 / 6))
    write_pictures(out_dir, [row.file for row in rows], volumetric, rate)
    write_records(out_dir / result_files.COMPONENTS_JSON, rows)
    update_status(out_dir, state="finished", command=run.command, device=run.compute.device,
                          seed=run.compute.seed, n_particles=len(star["particles"]), pixel_size_ang=rate,
                          box_px=box_px, images_seen=9600, total_images=9600, images_per_second=100.0,
                          checkpoint="ckpt_000009600.pt", error=None)


def embed(run, out_dir):
    """A latent vector per particle: (id, label); with poses its precision, of standard deviations id/1000 and 1/2."""
    training = run_json.read_run(Path(run.run_dir) / result_files.RUN_JSON)
    ids = wanted_ids(run, particle_ids(run.particles or training.data.particles))
    z = np.array([[i, label_of(i)] for i in ids], np.float32)
    sure = np.array([np.diag([1e6 / i ** 2, 4]) for i in ids], np.float32)
    result_files.write_npz(out_dir / result_files.LATENTS_NPZ, particle_id=np.array(ids, np.int64), z=z,
                      half_set=np.array([i % 2 + 1 for i in ids], np.uint8),
                      **({"precision": sure} if training.data.posed else {}))


def cluster(run, out_dir):
    """Rows in falling order of id, so that nobody can join by order."""
    stored = result_files.read_npz(Path(run.embedding_dir) / result_files.LATENTS_NPZ)
    ids = wanted_ids(run, sorted(stored["particle_id"].tolist(), reverse=True))
    result_files.write_csv(out_dir / result_files.CLUSTERS_CSV,
                      ["particle_id", "label", "probability", "umap_1", "umap_2"],
                      [[i, label_of(i), 0.5, 0.25 * i, -0.5 * label_of(i)] for i in ids])
    volumetric, rate = training_of(run)
    labels = sorted({label_of(i) for i in ids}, key=lambda label: (label < 0, label))
    rows = []
    for index, label in enumerate(labels):
        count, stable = sum(label_of(i) == label for i in ids), label >= 0 and run.stability_repeats
        file = f"maps/cluster_{'unassigned' if label < 0 else f'{label:02d}'}.mrc" if volumetric else "maps/images.mrcs"
        rows.append(ClusterRow(label, count, count / len(ids), [0.0, float(label)], file, index,
                               0.9 - 0.1 * label if stable else None))
    asked = json.dumps(run_json.to_dict(run), sort_keys=True)
    write_pictures(out_dir, [row.file for row in rows], volumetric, rate, seed=zlib.crc32(asked.encode()))
    write_records(out_dir / result_files.CLUSTERS_JSON, rows)
    write_record(out_dir / result_files.CLUSTERING_JSON, Clustering(
        run.method, len(ids), 3, 0.1, 0.03, [], verdict="3 clusters, of which 1 unstable",
        sweep=[SweepRow(15, 3, 3, 0.1, 1.0), SweepRow(30, 2, 2, 0.1, 0.9)]))


def traverse(run, out_dir):
    """n_points points on each component of each cluster."""
    volumetric, rate = training_of(run)
    rows, files = [], []
    for label in range(3):
        for component in range(run.n_components):
            for point in range(run.n_points):
                file = (f"maps/map_{label:02d}_{component:02d}_{point:02d}.mrc" if volumetric
                        else "maps/images.mrcs")
                rows.append([label, component, point, float(point), 10 + point, 0.5, file, len(files), 0.0, 1.0])
                files.append(file)
    write_pictures(out_dir, files, volumetric, rate)
    result_files.write_csv(out_dir / result_files.TRAVERSAL_CSV,
                      ["cluster", "component", "point", "position", "n_near", "distance_z", "file", "index",
                       "z_1", "z_2"], rows)


def halves(run, out_dir):
    """A straight FSC from 1 at zero frequency to 0 at Nyquist, per cluster."""
    rows = []
    for label in range(3):
        for shell in range(9):
            frequency = shell / 8 * 0.05
            rows.append([label, 1 / frequency if shell else "inf", frequency, 1 - shell / 8])
    write_fsc(out_dir, rows)
    result_files.write_json(out_dir / result_files.HALVES_JSON, [{"cluster": label} for label in range(3)])


def write_fsc(out_dir, rows):
    """`fsc.csv`."""
    result_files.write_csv(out_dir / result_files.FSC_CSV, ["cluster", "resolution_ang", "spatial_frequency_per_ang",
                                                            "fsc"], rows)


def state_of(i):
    """State of a particle; -1 = set aside."""
    return -1 if i % 10 == 0 else i % 2


def pose_of(i, star, known):
    """Angles and shifts of a particle: those of the star file where they are asked for, else they tell the id."""
    if not known:
        return i % 170, 10 + i % 160, -(i % 90), 0.5 * i, -0.25 * i
    row = next(row for row in star["particles"] if int(row["vaeParticleId"]) == i)
    return (*(float(row[f"rlnAngle{name}"]) for name in ("Rot", "Tilt", "Psi")),
            *(-float(row[f"rlnOrigin{axis}Angst"]) for axis in "XY"))


def states(run, out_dir):
    """Two states by the parity of the id, every tenth set aside; angles, shifts and motion tell the id."""
    star, ids = read_star(run.data.particles), used_ids(run.data)
    rate = pixel_size(star) * box_size(star) * run.data.crop_frac / run.data.box_px
    result_files.write_csv(out_dir / result_files.CLUSTERS_CSV, ["particle_id", "label", "probability"],
                      [[i, state_of(i), 0.75] for i in ids])
    result_files.write_csv(out_dir / result_files.PARTICLES_CSV,
                      ["particle_id", "label", "probability", "rot_deg", "tilt_deg", "psi_deg", "shift_x_ang",
                       "shift_y_ang", "half_set", "motion", "motion_std", "contrast", "junk_reason"],
                      [[i, state_of(i), 0.75, *pose_of(i, star, run.data.input_poses), i % 2 + 1,
                        *((i / 1000, i / 2000) if state_of(i) == 1 else ("", "")), 1 + i / 100,
                        "empty" * (state_of(i) < 0)] for i in ids])
    write_junk_examples(out_dir, {i: "empty" * (state_of(i) < 0) for i in ids}, rate)
    rows, falling = [], [1 - k / 8 for k in range(9)]
    for label in range(2):
        files = [f"maps/cluster_{label:02d}{suffix}.mrc" for suffix in ("", "_half1", "_half2")]
        write_pictures(out_dir, files, True, rate)
        count = sum(state_of(i) == label for i in ids)
        motions = [f"maps/cluster_01_motion_{k:02d}.mrc" for k in range(3)] if label == 1 else []
        write_pictures(out_dir, motions, True, rate)
        halves = MapComparison(falling, 20.0 + label, 0.7, True, 30.0, 0.5, True)
        proof = HalvesProof(falling, falling, 1, 60.0, 19.0, 25.0, [0.0, 0.0, 1.0], True, 21.0)
        rows.append(ClusterRow(label, count, count / len(ids), [], files[0], label, state=StateFigures(
            files[1:], rate, 1.0, False, 0.1 + 0.8 * label, motions, halves, proof, 0.75, 0.0)))
    write_records(out_dir / result_files.CLUSTERS_JSON, rows)
    update_status(out_dir, n_particles=len(ids))
    write_record(out_dir / result_files.STATES_JSON, StatesSummary(
        states=2, verdict="2 states", shells=Shells(6.0, 8.0, 10.0), unseen_log_evidence=50.0, least_log_evidence=3.0,
        starts=[StartRow("alone", [30.0, 40.0], 50.0, kept=True)], masks=[], restarts=[],
        contrast_spread=0.25, least_contrast_spread=0.08,
        pairs=[Separation([0, 1], len(ids), len(ids) // 2, 0.95, 0.1, 42.0, 0.0, 9.0)],
        junk=JunkNumbers(sum(state_of(i) < 0 for i in ids), 0.1, 1, 1.6, 1.0, 1, 0, 3.0)))
    write_fsc(out_dir, [[label, "inf", k / 160, 1 - k / 8] for label in range(2) for k in range(9)])


def classes2d(run, out_dir):
    """Three classes by id % 3, the last one of junk, every tenth particle junk too; angles and shifts tell the id."""
    star, ids = read_star(run.data.particles), used_ids(run.data)
    rate = pixel_size(star) * box_size(star) * run.data.crop_frac / run.data.box_px
    junk = {i: int(i % 3 == 2 or i % 10 == 0) for i in ids}
    result_files.write_csv(out_dir / result_files.PARTICLES_CSV,
                      ["particle_id", "label", "junk", "probability", "psi_deg", "shift_x_ang", "shift_y_ang",
                       "contrast", "gain", "half_set", "junk_reason"],
                      [[i, i % 3, junk[i], 0.75, i % 170, 0.5 * i, -0.25 * i, 1 + i / 100, 0.1 * i, i % 2 + 1,
                        reason_of(i)] for i in ids])
    result_files.write_csv(out_dir / result_files.CLUSTERS_CSV, ["particle_id", "label", "probability"],
                      [[i, -1 if junk[i] else i % 3, 0.75] for i in ids])
    figures = [PlaneFigures(why, 1, rate, [1.0, 0.5, 0.0], 2.0, frc, 20.0)
               for why, frc in (("", 15.0), ("", 16.0), ("off centre", 17.0))]
    rows = [ClusterRow(label, sum(i % 3 == label for i in ids), 0.3, [], "maps/classes.mrcs", label,
                       in_plane=figures[label]) for label in range(3)]
    write_pictures(out_dir, ["maps/classes.mrcs"] * 3, False, rate)
    write_records(out_dir / result_files.CLUSTERS_JSON, rows)
    write_junk_examples(out_dir, {i: reason_of(i) for i in ids}, rate)
    write_record(out_dir / result_files.CLASSES2D_JSON, Classes2dSummary(
        "2 classes of particles", 3, 2, len(ids), sum(junk.values()), 1.5, 6.0, 15.0))


def reason_of(i):
    """Why an image is junk in the plane; "" = it is not."""
    return "off centre" if i % 3 == 2 else "unlike" if i % 10 == 0 else ""


def write_junk_examples(out_dir, reasons, pixel_size_ang):
    """Two images of each reason, whose values tell the particle."""
    groups, images = [], []
    for reason in sorted(set(reasons.values()), reverse=True):
        ids = sorted(i for i, own in reasons.items() if own == reason)
        groups.append(JunkGroup(reason, len(ids), ids[:2], list(range(len(images), len(images) + len(ids[:2])))))
        images += [np.full((BOX_PX, BOX_PX), float(i), np.float32) for i in ids[:2]]
    (out_dir / result_files.MAPS).mkdir(parents=True, exist_ok=True)
    write_mrc(out_dir / result_files.MAPS / result_files.JUNK_EXAMPLES_MRCS, np.stack(images), pixel_size_ang, 0)
    write_records(out_dir / result_files.JUNK_EXAMPLES_JSON, groups)


def report(run, out_dir):
    """A page that names what it was asked to show."""
    folders = [getattr(run, f"{name}_dir") for name in (
        "run", "clusters", "traverse", "halves", "states", "fullres", "classes", "consensus", "evaluation")]
    assert all(Path(folder).is_dir() for folder in folders if folder), folders
    (out_dir / result_files.REPORT_HTML).write_text("\n".join(["<p>" + run.title, *folders]))


def counterpart(run, out_dir):
    """Three images whose values tell the particle: id, id + 1, id + 2."""
    stored = result_files.read_npz(Path(run.embedding_dir) / result_files.LATENTS_NPZ)
    assert run.particle_id in stored["particle_id"]
    images = np.arange(3, dtype=np.float32)[:, None, None] + np.full((3, BOX_PX, BOX_PX), run.particle_id, np.float32)
    write_mrc(out_dir / result_files.COUNTERPART_MRCS, images, 1.0, 0)
    write_record(out_dir / result_files.COUNTERPART_JSON, CounterpartNumbers(run.particle_id, [0.0, 0.0], 0.25))


def label_of(particle_id):
    """Cluster of a particle."""
    return -1 if particle_id % 10 == 0 else particle_id % 3


def wanted_ids(run, ids):
    """All ids, but for the highest where the environment asks for that."""
    if os.environ.get("VAEGAN_FAKE_DROP") == run.command:
        return [i for i in ids if i != max(ids)]
    return ids


def training_of(run):
    """(is it 3D, pixel size in A) of the training behind a request."""
    status = read_status(run.run_dir)
    return status.command == "train3d", status.pixel_size_ang


def write_checkpoint(out_dir, images_seen):
    """Something that looks like a checkpoint."""
    folder = out_dir / result_files.CHECKPOINTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"ckpt_{images_seen:09d}.pt").write_bytes(b"fake")


def write_pictures(out_dir, files, volumetric, pixel_size_ang, seed=0):
    """Maps, or one stack, of seeded noise."""
    (out_dir / result_files.MAPS).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    if volumetric:
        for file in files:
            write_mrc(out_dir / file, rng.normal(size=(BOX_PX,) * 3).astype(np.float32), pixel_size_ang, 1)
    elif files:
        stack = rng.normal(size=(len(files), BOX_PX, BOX_PX)).astype(np.float32)
        write_mrc(out_dir / files[0], stack, pixel_size_ang, 0)


def write_mrc(path, data, pixel_size_ang, space_group):
    """Minimal MRC2014, mode 2, little-endian."""
    nz, ny, nx = data.shape
    header = bytearray(1024)
    struct.pack_into("<10i", header, 0, nx, ny, nz, 2, 0, 0, 0, nx, ny, nz if space_group else 1)
    struct.pack_into("<6f", header, 40, *(n * pixel_size_ang for n in (nx, ny, nz if space_group else 1)), 90, 90, 90)
    struct.pack_into("<3i", header, 64, 1, 2, 3)
    struct.pack_into("<3fi", header, 76, float(data.min()), float(data.max()), float(data.mean()), space_group)
    header[208:216] = b"MAP DA\0\0"
    Path(path).write_bytes(bytes(header) + data.astype("<f4").tobytes())


def read_star(path):
    """{table: rows as dictionaries of strings} of a star file with loops only."""
    tables, rows, columns = {}, None, []
    for line in Path(path).read_text().splitlines():
        line = line.strip()
        if line.startswith("data_"):
            rows, columns = tables.setdefault(line[5:], []), []
        elif line.startswith("_"):
            columns.append(line.split()[0][1:])
        elif line and not line.startswith(("#", "loop_")):
            rows.append(dict(zip(columns, line.split())))
    return tables


def particle_ids(path):
    """Ids in the order of the star file."""
    return [int(row["vaeParticleId"]) for row in read_star(path)["particles"]]


def used_ids(data):
    """Ids of the images that are used, the first ones where not all are; falling."""
    return sorted(particle_ids(data.particles)[:data.max_images or None], reverse=True)


def pixel_size(star):
    """Pixel size of the images in A."""
    return float(star["optics"][0]["rlnImagePixelSize"])


def box_size(star):
    """Box of the images in px."""
    return int(star["optics"][0]["rlnImageSize"])


if __name__ == "__main__":
    main(sys.argv[1:])
