"""Crop, resize and normalise against closed forms and the discrete Fourier transform."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import TOLERANCES
from vaegan_engine.contract.boxes import cropped_box_px
from vaegan_engine.contract.errors import DataError
from vaegan_engine.data import image_preparation

BOXES = [(32, 32), (33, 32), (48, 32), (49, 32), (64, 24), (65, 24), (40, 24), (200, 64), (255, 64)]


def waves(d, field, seed=0, highest=7):
    """Sum of plane waves of at most ``highest`` periods per ``field`` pixels of box ``d``, centred."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((d, d)) - d // 2
    image = np.full((d, d), 0.7)
    for _ in range(6):
        kx, ky = rng.integers(-highest, highest + 1, 2)
        image += rng.normal() * np.cos(2 * np.pi * (kx * x + ky * y) / field + rng.uniform(0, 6))
    return image


@pytest.mark.parametrize(("d_in", "d_out"), BOXES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fourier_crop_of_a_band_limited_image_samples_it_at_the_new_positions(d_in, d_out, dtype):
    rtol, atol = TOLERANCES[dtype]
    image = waves(d_in, d_in).astype(dtype)
    matrix = image_preparation.fourier_matrix(d_in, d_out).astype(dtype)
    made = image_preparation.resize(image[None], matrix)[0]
    assert made.dtype == dtype
    np.testing.assert_allclose(made, waves(d_out, d_out), rtol=10 * rtol, atol=10 * atol)


@pytest.mark.parametrize(("d_in", "d_out"), BOXES)
def test_fourier_crop_agrees_with_the_discrete_fourier_transform(d_in, d_out):
    rtol, atol = TOLERANCES["float64"]
    image = np.random.default_rng(1).normal(size=(d_in, d_in))
    made = image_preparation.resize(image[None], image_preparation.fourier_matrix(d_in, d_out))[0]

    def centred_dft(array):  # phase origin at d//2, zero frequency in the middle
        return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(array))) / array.size

    half = d_out // 2
    kept = np.arange(-half + 1, half)
    old, new = centred_dft(image), centred_dft(made)
    np.testing.assert_allclose(new[np.ix_(kept + half, kept + half)],
                               old[np.ix_(kept + d_in // 2, kept + d_in // 2)], rtol=rtol, atol=atol)


@pytest.mark.parametrize("method", ["fourier", "lanczos5"])
@pytest.mark.parametrize(("d_in", "d_out"), BOXES)
def test_resizers_keep_a_constant_and_are_the_identity_for_equal_boxes(method, d_in, d_out):
    matrix = image_preparation.resize_matrix(method, d_in, d_out)
    made = image_preparation.resize(np.full((2, d_in, d_in), 3.0, np.float32), matrix)
    rtol, atol = TOLERANCES["float32"]
    np.testing.assert_allclose(made, 3.0, rtol=rtol, atol=atol)
    if d_in == d_out:
        np.testing.assert_allclose(matrix, np.eye(d_in), atol=atol)


@pytest.mark.parametrize("method", ["fourier", "lanczos5"])
@pytest.mark.parametrize(("d_in", "d_out"), BOXES)
def test_resizers_keep_the_centre_of_a_blob(method, d_in, d_out):
    """A Gaussian around pixel d//2 stays around pixel d//2, with its height and scaled width."""
    sigma = 2.0 * d_in / d_out
    y, x = np.indices((d_in, d_in)) - d_in // 2
    blob = np.exp(-(x ** 2 + y ** 2) / (2 * sigma ** 2))
    made = image_preparation.resize(blob[None], image_preparation.resize_matrix(method, d_in, d_out).astype(float))[0]
    y, x = np.indices((d_out, d_out)) - d_out // 2
    truth = np.exp(-(x ** 2 + y ** 2) / (2 * 2.0 ** 2))
    limit = 1e-4 if method == "fourier" else 5e-3  # Lanczos is no exact interpolator
    assert np.abs(made - truth).max() < limit
    assert abs((made * x).sum() / made.sum()) < 1e-3


def test_lanczos_filters_what_would_alias():
    """A wave above the new Nyquist frequency must vanish, inside the border that the kernel needs."""
    d_in, d_out = 128, 32
    x = np.arange(d_in) - d_in // 2
    high = np.cos(2 * np.pi * 28 * x / d_in)  # 28 > 16 = new Nyquist
    made = image_preparation.lanczos_matrix(d_in, d_out) @ high
    assert np.abs(made[6:-6]).max() < 0.02
    assert np.abs(high[::4]).max() > 0.9  # plain decimation keeps it


@pytest.mark.parametrize("d", [32, 33])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_background_becomes_mean_0_and_std_1(d, dtype):
    rtol, atol = TOLERANCES[dtype]
    images = (5 + 3 * np.random.default_rng(0).normal(size=(3, d, d))).astype(dtype)
    before = images.copy()
    mask = image_preparation.background_mask(d, 0.45 * d)
    made, std = image_preparation.normalize_background(images, mask)
    np.testing.assert_allclose(made[:, mask].mean(1), 0, atol=10 * atol)
    np.testing.assert_allclose(made[:, mask].std(1), 1, rtol=10 * rtol)
    np.testing.assert_allclose(std, images[:, mask].std(1), rtol=10 * rtol)
    assert made.dtype == dtype
    np.testing.assert_array_equal(images, before)


def test_thesis_normalisation_gives_background_mean_0_and_signal_mean_1():
    d = 24
    mask = image_preparation.background_mask(d, 8)
    images = np.random.default_rng(0).normal(size=(2, d, d)) + np.where(mask, 1.0, 4.0)
    made, contrast = image_preparation.normalize_thesis(images, mask)
    np.testing.assert_allclose(made[:, mask].mean(1), 0, atol=1e-10)
    np.testing.assert_allclose(made[:, ~mask].mean(1), 1, atol=1e-10)
    assert np.all(np.abs(contrast - 3) < 0.5)


@given(d=st.integers(8, 60), frac=st.floats(0.2, 1))
@settings(max_examples=60, deadline=None)
def test_centre_crop_keeps_the_centre_pixel(d, frac):
    image = np.zeros((1, d, d))
    image[0, d // 2, d // 2] = 1
    cropped = cropped_box_px(d, frac)
    made = image_preparation.crop_center(image, cropped)
    assert made.shape == (1, cropped, cropped)
    assert made[0, cropped // 2, cropped // 2] == 1


def test_field_of_view_is_kept_by_the_pixel_size():
    assert image_preparation.training_pixel_size_ang(1.31, 320, 64) * 64 == pytest.approx(1.31 * 320)


@pytest.mark.parametrize(("changes", "named"), [
    ({"box_px": 33}, "box_px is 33"), ({"box_px": 6}, "box_px is 6"), ({"box_px": 66}, "box_px is 66"),
    ({"crop_frac": 0.0}, "crop_frac is 0"), ({"crop_frac": 1.5}, "crop_frac is 1.5"),
    ({"crop_frac": 0.4}, "crop_frac 0.4"), ({"particle_radius_frac": 0.6}, "particle_radius_frac is 0.6"),
])
def test_impossible_geometry_is_refused(changes, named):
    values = {"source": "p.star", "source_box_px": 65, "box_px": 32, "crop_frac": 1.0,
              "particle_radius_frac": 0.45, **changes}
    with pytest.raises(DataError, match=named):
        image_preparation.check_geometry(**values)


# ------------------------------- hot pixels -------------------------------
def particle_images(n, d, noise=1.0, seed=0):
    """A blob of five times the noise, in noise."""
    axis = np.arange(d) - d // 2
    blob = 5 * np.exp(-(axis[:, None] ** 2 + axis ** 2) / (2 * (d / 8) ** 2))
    return (blob + noise * np.random.default_rng(seed).normal(size=(n, d, d))).astype(np.float32)


@pytest.mark.parametrize("d", [8, 17, 64])
@pytest.mark.parametrize("place", ["centre", "corner", "edge", "pair"])
@pytest.mark.parametrize("value", [300, -300, 3e4, 1e30, np.finfo(np.float32).max])
def test_hot_pixels_are_replaced_wherever_they_stand(d, place, value):
    images = particle_images(4, d)
    dirty = images.copy()
    y, x = {"centre": ([d // 2], [d // 2]), "corner": ([0], [d - 1]), "edge": ([d - 1], [d // 2]),
            "pair": ([d // 2, d // 2], [d // 2, d // 2 + 1])}[place]
    dirty[2, y, x] = value
    mended, n_hot = image_preparation.without_hot_pixels(dirty)
    assert n_hot.tolist() == [0, 0, len(y), 0]
    kept = np.ones(images.shape, bool)
    kept[2, y, x] = False
    np.testing.assert_array_equal(mended[kept], images[kept])
    assert np.abs(mended[2, y, x] - images[2, y, x]).max() < 6
    assert dirty[2, y[0], x[0]] == np.float32(value)  # the caller's array stays


@pytest.mark.parametrize("kind", ["noise", "sharp", "clean", "masked", "blank", "counts", "bead", "padded"])
def test_what_a_particle_can_be_is_left(kind):
    rng = np.random.default_rng(1)
    axis = np.arange(32) - 16
    r2 = axis[:, None] ** 2 + axis ** 2
    image = {"noise": lambda: rng.normal(size=(32, 32)), "sharp": lambda: np.exp(-r2 / (2 * 0.8 ** 2)),
             "clean": lambda: 1e4 * np.exp(-r2 / 8) + 1e-3 * rng.normal(size=(32, 32)),
             "masked": lambda: rng.normal(size=(32, 32)) * (r2 < 150), "blank": lambda: np.ones((32, 32)),
             "counts": lambda: rng.poisson(0.7, (32, 32)),
             "bead": lambda: 400.0 * (r2 < 10) + rng.normal(size=(32, 32)),
             "padded": lambda: rng.normal(size=(32, 32)) * (axis > -6)}[kind]()
    images = image[None].astype(np.float32)
    mended, n_hot = image_preparation.without_hot_pixels(images)
    assert mended is images and n_hot.tolist() == [0]


@pytest.mark.parametrize("mean", [0.0, 1e5, 3e5])
def test_a_hot_pixel_is_found_on_any_background(mean):
    """30 standard deviations above the noise; the squares of a large mean leave no digits of it in float32."""
    images = (mean + 10 * np.random.default_rng(0).standard_normal((40, 64, 64))).astype(np.float32)
    images[:, 20, 20] += 300
    mended, n_hot = image_preparation.without_hot_pixels(images)
    assert n_hot.tolist() == [1] * 40 and np.abs(mended[:, 20, 20] - mean).max() < 60


@pytest.mark.parametrize("d", [48, 49])
def test_a_gradient_is_the_plane_of_the_background(d):
    """Noise and a particle on a plane: what is left is the image without it, to the error of the noise's slopes."""
    rng, mask = np.random.default_rng(0), image_preparation.background_mask(d, 0.45 * d)
    y, x = np.indices((d, d)) - d // 2
    clean = (rng.standard_normal((40, d, d)) + 3.0 * (np.hypot(x, y) < 0.3 * d)).astype(np.float32)
    images = clean + (0.1 * x - 0.05 * y + 2.0).astype(np.float32)
    assert image_preparation.has_gradient(images, mask).all()
    made = image_preparation.without_gradient(images, mask)
    fitted = np.stack([np.linalg.lstsq(np.stack((np.ones(mask.sum()), x[mask], y[mask]), 1), image[mask], rcond=None)[0]
                       for image in images])  # the closed form, apart
    plane = fitted[:, 1, None, None] * (x - x[mask].mean()) + fitted[:, 2, None, None] * (y - y[mask].mean())
    np.testing.assert_allclose(made, images - plane, atol=1e-4)
    rest = made - clean - 2.0
    assert rest.var() < 20 / mask.sum()
    np.testing.assert_allclose(made[:, mask].mean(1), images[:, mask].mean(1), atol=1e-4)


@pytest.mark.parametrize("d", [16, 24, 25])
def test_white_noise_has_no_gradient(d):
    mask = image_preparation.background_mask(d, 0.45 * d)
    images = np.random.default_rng(1).standard_normal((5000, d, d)).astype(np.float32)
    assert not image_preparation.has_gradient(images, mask).any()
    images[7] += 0.6 * np.arange(d, dtype=np.float32)
    assert np.flatnonzero(image_preparation.has_gradient(images, mask)).tolist() == [7]
