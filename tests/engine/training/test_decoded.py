"""Maps and images of latents, written one after the other."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from vaegan_engine.contract.settings import ModelConfig
from vaegan_engine.data.mrc_files import read_map
from vaegan_engine.data.stacks import read_header, read_images
from vaegan_engine.figures.drawing import as_picture
from vaegan_engine.training.decoded import write_components, write_decoded

D = 8


def made_at(z, ndim):
    return np.random.default_rng(int(z[0])).normal(size=(D,) * ndim).astype(np.float32)


@pytest.mark.parametrize("ndim", [2, 3])
def test_one_latent_is_decoded_at_a_time(tmp_path, ndim):
    """So that a path of a thousand maps is not held in memory: only their sections are."""
    asked = []

    def decode(z):
        asked.append(len(z))
        return np.stack([made_at(row, ndim) for row in z])

    z = np.arange(5, dtype=np.float32)[:, None]
    decoder = SimpleNamespace(is_3d=ndim == 3, box_px=D, pixel_size_ang=2.0, decode=decode)
    made = write_decoded(decoder, z, [f"map_{i}" for i in range(5)], tmp_path)
    assert asked == [1] * 5 and [one.index for one in made] == ([0] * 5 if ndim == 3 else [*range(5)])
    for row, one in zip(z, made, strict=True):
        array = (read_map(tmp_path / one.file)[0] if ndim == 3 else
                 read_images([read_header(tmp_path / one.file)], np.zeros(1, int), np.array([one.index]))[0])
        np.testing.assert_array_equal(array, made_at(row, ndim))
        np.testing.assert_array_equal(one.picture, as_picture(array))


@pytest.mark.parametrize("ndim", [2, 3])
def test_components_are_decoded_one_at_a_time(tmp_path, ndim):
    """All at once they took as many maps of memory as there are components."""
    asked = []

    def decode(z):
        asked.append(len(z))
        return torch.from_numpy(np.stack([made_at(row.argmax()[None], ndim) for row in z.numpy()]))

    run = SimpleNamespace(model=ModelConfig(n_categories=4))
    rows = write_components(SimpleNamespace(run=run, pixel_size_ang=2.0, decode=decode), tmp_path)
    assert asked == [1] * 4 and [row.index for row in rows] == [0, 1, 2, 3]
    for index, row in enumerate(rows):
        array = (read_map(tmp_path / row.file)[0] if ndim == 3 else
                 read_images([read_header(tmp_path / row.file)], np.zeros(1, int), np.array([index]))[0])
        np.testing.assert_array_equal(array, made_at(np.array([index]), ndim))
