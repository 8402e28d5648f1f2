"""Examples of images that were set aside: the right ones, by id, in the right stack."""
from types import SimpleNamespace

import mrcfile
import numpy as np
from vaegan_engine.contract import result_files
from vaegan_engine.contract.record import read_records
from vaegan_engine.contract.records import JunkGroup
from vaegan_engine.data.junk_examples import MAX_EXAMPLES, example_rows, write_junk_examples


def prepared(n, box_px=16):
    """Images that tell their row, ids that do not."""
    images = np.repeat(np.arange(n, dtype=np.float16), box_px * box_px).reshape(n, box_px, box_px)
    return SimpleNamespace(images=images, particle_id=1000 - 3 * np.arange(n), box_px=box_px, pixel_size_ang=4.5)


def test_examples_are_named_by_id_and_place(tmp_path):
    reasons = ["", "empty", "", "misfit", "empty", ""]
    cache = prepared(6)
    write_junk_examples(cache, reasons, tmp_path)
    groups = read_records(JunkGroup, tmp_path / result_files.JUNK_EXAMPLES_JSON, "states")
    assert [(group.reason, group.n_images) for group in groups] == [("empty", 2), ("misfit", 1), ("", 3)]
    with mrcfile.open(tmp_path / result_files.MAPS / result_files.JUNK_EXAMPLES_MRCS) as stack:
        assert abs(stack.voxel_size.x - 4.5) < 1e-4
        for group in groups:
            for particle_id, index in zip(group.particle_ids, group.indices, strict=True):
                row = (1000 - particle_id) // 3
                assert reasons[row] == group.reason and np.allclose(stack.data[index], row)


def test_no_junk_no_files(tmp_path):
    write_junk_examples(prepared(4), ["", "empty", "", ""], tmp_path)
    write_junk_examples(prepared(4), [""] * 4, tmp_path)
    assert not (tmp_path / result_files.JUNK_EXAMPLES_JSON).exists()
    assert not list((tmp_path / result_files.MAPS).iterdir())


def test_examples_are_spread_over_the_set():
    rows = example_rows(["empty"] * 95 + [""] * 5, "empty")
    assert len(rows) == MAX_EXAMPLES and rows[0] == 0 and rows[-1] == 94 and (np.diff(rows) >= 10).all()
