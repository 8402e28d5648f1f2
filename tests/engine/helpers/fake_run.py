"""A trained model by formula: z = one-hot of phantom states, and the folders around it."""
from types import SimpleNamespace

import numpy as np
import torch
from vaegan_engine.contract import result_files, run_json
from vaegan_engine.contract.settings import ClusterRun, ModelConfig, TrainRun
from vaegan_engine.simulation.phantom import PHANTOM_BOX_ANG, phantom_states

BOX_PX = 16


class FakeTrained:
    """Decodes z (n, 3) as a mixture of three phantom states; encodes an image as its block means."""

    def __init__(self, is_3d=True, n_categories=3, box_px=BOX_PX):
        self.is_3d, self.box_px, self.z_dim = is_3d, box_px, 3
        self.pixel_size_ang = PHANTOM_BOX_ANG / box_px
        self.run = TrainRun(model=ModelConfig(n_categories=n_categories, n_normal=3 - n_categories))
        self.states = phantom_states(3, box_px, self.pixel_size_ang)
        if not is_3d:
            self.states = self.states.sum(axis=1)

    def decode(self, z):
        return np.tensordot(np.asarray(z, np.float32), self.states, 1).astype(np.float32)

    def encode(self, images, ctf):
        assert len(images) == len(ctf)
        return torch.stack((images.mean((1, 2)), images.amax((1, 2)), ctf[:, 0]), 1)


def soft_one_hot(state, rng, sharpness=4.0):
    """Probabilities (n, 3) of an encoder that is fairly sure of ``state`` (n,)."""
    logits = sharpness * np.eye(3)[state] + rng.normal(size=(len(state), 3))
    share = np.exp(logits)
    return (share / share.sum(1, keepdims=True)).astype(np.float32)


def write_embedding(folder, z, particle_id=None, half_set=None):
    """An embed folder."""
    ids = np.arange(1, len(z) + 1) if particle_id is None else particle_id
    halves = np.arange(len(z)) % 2 + 1 if half_set is None else half_set
    result_files.write_npz(folder / result_files.LATENTS_NPZ, particle_id=np.asarray(ids, np.int64),
                      z=np.asarray(z, np.float32), half_set=np.asarray(halves, np.uint8))
    return folder


def write_clusters(folder, labels, particle_id=None, umap=None, embedding_dir="", with_maps=True):
    """A cluster folder whose labels are given."""
    from vaegan_engine.data.mrc_files import write_map

    labels = np.asarray(labels)
    ids = np.arange(1, len(labels) + 1) if particle_id is None else particle_id
    points = np.zeros((len(labels), 2)) if umap is None else umap
    result_files.write_csv(
        folder / result_files.CLUSTERS_CSV,
        ["particle_id", "label", "probability", "umap_1", "umap_2"],
        [[i, label, 1.0, x, y] for i, label, (x, y) in zip(ids, labels, points, strict=True)],
    )
    fake, rows = FakeTrained(), []
    for label in sorted(set(labels.tolist())):
        z = np.eye(3)[max(label, 0) % 3]
        file = f"maps/cluster_{label:02d}.mrc" if label >= 0 else "maps/cluster_unassigned.mrc"
        if with_maps:
            write_map(folder / file, fake.decode(z[None])[0], fake.pixel_size_ang)
        count = int((labels == label).sum())
        rows.append({"label": label, "n_particles": count, "fraction": count / len(labels), "z": z.tolist(),
                     "file": file, "index": 0})
    result_files.write_json(folder / result_files.CLUSTERS_JSON, rows)
    run_json.write_run(ClusterRun(embedding_dir=str(embedding_dir or folder)), folder / result_files.RUN_JSON)
    return folder


def write_truth(path, states, particle_id=None, names=None):
    """A truth.csv with the columns of ``simulate`` that are read."""
    ids = np.arange(1, len(states) + 1) if particle_id is None else particle_id
    names = names or [f"phantom_{i}" for i in range(max(states) + 1)]
    result_files.write_csv(path, ["id", "map", "map_file"],
                      [[i, s, names[s]] for i, s in zip(ids, states, strict=True)])
    return path


def align_nothing(moving, reference, voxel_size_ang, allow_mirror=True):
    """An alignment of maps that are aligned already."""
    correlation = np.corrcoef(moving.ravel(), reference.ravel())[0, 1]
    return SimpleNamespace(map=moving, rotation=np.eye(3), shift_px=np.zeros(3), mirrored=False,
                           correlation=correlation)
