"""The same map, angles, shifts and CTFs through ``relion_project`` and through this engine.

This settles by another program: the sense of the angles, the hand, the sign of shifts and CTF, the
astigmatism angle, the phase shift and the scale.
"""
import os
import shutil
import subprocess

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
import torch
from vaegan_engine.data import mrc_files
from vaegan_engine.data.optics import CTF_RELION
from vaegan_engine.physics import ctf, projection, rotations
from vaegan_engine.simulation.phantom import phantom_states

PROGRAM = "relion_project"
pytestmark = pytest.mark.skipif(shutil.which(PROGRAM) is None,
                                reason=f"needs {PROGRAM} (Debian package relion)")
N, PIXEL_SIZE_ANG = 12, 9.0


def draw(d):
    """Poses with corners (tilt 0, 90, 180), shifts in pixels and astigmatic CTFs with phase shifts."""
    generator = torch.Generator().manual_seed(7)
    A = rotations.random_rotations(N, generator, dtype=torch.float64)
    corners = torch.tensor([[0.0, 0.0, 0.0], [30, 0, 20], [10, 90, 0], [40, 180, 15]], dtype=torch.float64)
    A[:4] = rotations.euler_to_matrix(*corners.unbind(1))
    shifts_px = (torch.rand(N, 2, generator=generator, dtype=torch.float64) - 0.5) * d / 4
    uniform = torch.rand(3, N, generator=generator, dtype=torch.float64)
    fixed = [torch.full((N,), value, dtype=torch.float64) for value in (300.0, 2.7, 0.1)]
    params = torch.stack((14000 + 12000 * uniform[0], 11000 + 3000 * uniform[1], 180 * uniform[2], *fixed,
                          torch.linspace(0, 120, N, dtype=torch.float64)), 1)
    return A, shifts_px, params


def relion_images(folder, map_, A, shifts_px, params, *options):
    """What relion_project makes of them."""
    mrc_files.write_map(folder / "map.mrc", map_, PIXEL_SIZE_ANG)
    rot, tilt, psi = (angle.numpy() for angle in rotations.matrix_to_euler(A))
    columns = dict(zip(CTF_RELION[:7], params.numpy().T, strict=True))
    shared = {name: [columns.pop(name)[0]] for name in CTF_RELION[3:6]}
    optics = pd.DataFrame({"rlnOpticsGroup": [1], "rlnOpticsGroupName": ["opticsGroup1"], **shared,
                           "rlnImagePixelSize": [PIXEL_SIZE_ANG], "rlnImageSize": [len(map_)],
                           "rlnImageDimensionality": [2], "rlnMicrographOriginalPixelSize": [PIXEL_SIZE_ANG]})
    # RELION's origin is the shift that brings the particle back to the centre
    rows = pd.DataFrame({"rlnImageName": [f"{row:06d}@none.mrcs" for row in range(1, N + 1)],
                         "rlnOpticsGroup": 1, "rlnAngleRot": rot, "rlnAngleTilt": tilt, "rlnAnglePsi": psi,
                         "rlnOriginXAngst": -shifts_px[:, 0] * PIXEL_SIZE_ANG,
                         "rlnOriginYAngst": -shifts_px[:, 1] * PIXEL_SIZE_ANG, **columns})
    starfile.write({"optics": optics, "particles": rows}, folder / "angles.star")
    command = [PROGRAM, "--i", "map.mrc", "--ang", "angles.star", "--o", "out", "--angpix",
               str(PIXEL_SIZE_ANG), "--pad", "2", *options]
    # an MPI build may refuse to start as root, as in a container
    mpi = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120,
                          env={**os.environ, **mpi})
    assert done.returncode == 0, done.stderr
    with mrcfile.open(folder / "out.mrcs") as stack:
        return stack.data.copy()


@pytest.mark.parametrize("d", [32, 48])
@pytest.mark.parametrize("with_ctf", [False, True])
def test_images_equal_relions(tmp_path, d, with_ctf):
    map_ = phantom_states(1, d, PIXEL_SIZE_ANG * 32 / d)[0]
    A, shifts_px, params = draw(d)
    expected = relion_images(tmp_path, map_, A, shifts_px, params, *(["--ctf"] if with_ctf else []))
    map_ft = projection.map_to_fourier(torch.from_numpy(map_)[None])
    planes = projection.extract_slices(map_ft, torch.zeros(N, dtype=torch.long), A.float(), d)
    if with_ctf:
        planes = planes * ctf.ctf_2d(params.float(), d, PIXEL_SIZE_ANG)
    made = projection.slices_to_images(projection.shift_slices(planes, shifts_px.float())).numpy()
    assert made.shape == expected.shape
    for ours, relions in zip(made.astype(np.float64), expected.astype(np.float64), strict=True):
        assert np.corrcoef(ours.ravel(), relions.ravel())[0, 1] > 0.99999
        assert (ours * relions).sum() / np.square(relions).sum() == pytest.approx(1, abs=1e-3)
        assert np.abs(ours - relions).max() < 2e-3 * np.abs(relions).max()


def test_a_wrong_convention_would_be_seen(tmp_path):
    """The same comparison fails for a transposed pose, a turned shift, the other hand."""
    d = 32
    map_ = phantom_states(1, d)[0]
    A, shifts_px, params = draw(d)
    expected = relion_images(tmp_path, map_, A, shifts_px, params)[4:].reshape(N - 4, -1)

    def correlations(array, poses, shifts):
        map_ft = projection.map_to_fourier(torch.from_numpy(array.copy())[None])
        planes = projection.extract_slices(map_ft, torch.zeros(N, dtype=torch.long), poses.float(), d)
        made = projection.slices_to_images(projection.shift_slices(planes, shifts.float()))[4:]
        return [np.corrcoef(a.ravel(), b)[0, 1] for a, b in zip(made.numpy(), expected, strict=True)]

    assert min(correlations(map_, A, shifts_px)) > 0.999
    wrong = {"transposed": (map_, A.mT, shifts_px), "shift": (map_, A, -shifts_px),
             "swapped axes": (map_, A, shifts_px.flip(1)), "hand": (map_[::-1], A, shifts_px)}
    for name, arguments in wrong.items():
        assert np.median(correlations(*arguments)) < 0.98, name
