"""What is written comes back, as we read it and as others do."""

import io

import numpy as np
import pytest
from pictures import noise, smooth, unpng, untiff
from PIL import Image

from sccodec.errors import BadRequest
from sccodec.media.image import from_array, guess_format, read, supported_formats, write

SIZES = [(1, 1), (1, 9), (9, 1), (7, 5), (16, 33)]
EXACT = [
    (format, channels, dtype)
    for format in ("png", "tiff", "ppm", "bmp", "webp")
    for channels in (1, 2, 3, 4)
    for dtype in (np.uint8, np.uint16)
    if not (format in ("ppm", "bmp") and channels in (2, 4))
    and not (format in ("bmp", "webp") and dtype == np.uint16)
    and not (format == "webp" and channels < 3)
    and (format, channels, dtype) != ("tiff", 2, np.uint16)
]


def written(picture, format, **options):
    stream = io.BytesIO()
    write(picture, stream, format=format, **options)
    return stream.getvalue()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("format", "channels", "dtype"), EXACT)
def test_exact_round_trip(format, channels, dtype, size):
    array = noise(*size, channels, dtype=dtype)
    data = written(from_array(array), format)
    np.testing.assert_array_equal(read(data).stacked(), array)
    if format == "png":
        np.testing.assert_array_equal(unpng(data), array)
    if format == "tiff":
        np.testing.assert_array_equal(untiff(data).reshape(array.shape), array)
    if dtype == np.uint8:
        other = np.asarray(Image.open(io.BytesIO(data))).reshape(array.shape)
        np.testing.assert_array_equal(other, array)


def test_png_of_16_bits_is_small_for_smooth_pictures():
    ramp = np.add.outer(np.arange(64) * 300, np.arange(64) * 17).astype(np.uint16)
    array = np.dstack([ramp, ramp // 2, 65535 - ramp])
    data = written(from_array(array), "png")
    np.testing.assert_array_equal(unpng(data), array)
    assert len(data) < array.nbytes / 20


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_of_many_strips(dtype, monkeypatch):
    monkeypatch.setattr("sccodec.media.writing.STRIP_BYTES", 300)
    array = noise(50, 33, 3, dtype=dtype)
    data = written(from_array(array), "tiff")
    np.testing.assert_array_equal(untiff(data), array)
    np.testing.assert_array_equal(read(data).pixels, array)


@pytest.mark.parametrize("channels", [1, 2])
def test_gray_in_webp_comes_back_as_equal_rgb(channels):
    array = noise(7, 5, channels)
    picture = read(written(from_array(array), "webp"))
    np.testing.assert_array_equal(picture.pixels, np.repeat(array[:, :, :1], 3, axis=2))


def test_colours_below_full_transparency_stay_in_webp():
    array = noise(8, 8, 4)
    array[:, :, 3] = 0
    np.testing.assert_array_equal(read(written(from_array(array), "webp")).stacked(), array)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_jpeg_is_near(size, channels):
    array = smooth(*size, channels)
    data = written(from_array(array), "jpeg", quality=100)
    assert np.abs(read(data).pixels.astype(int) - array).max() <= 3


def test_jpeg_of_pure_noise_at_the_highest_quality():
    data = written(from_array(noise(200, 300, 3)), "jpeg", quality=100)
    assert read(data).pixels.shape == (200, 300, 3)


def test_jpeg_keeps_colour_at_full_resolution_by_default():
    image = Image.open(io.BytesIO(written(from_array(noise(16, 16, 3)), "jpg")))
    assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3


@pytest.mark.parametrize(
    ("format", "array", "words"),
    [
        ("jpeg", noise(4, 4, 4), "alpha"),
        ("bmp", noise(4, 4, 2), "alpha"),
        ("ppm", noise(4, 4, 4), "alpha"),
        ("jpeg", noise(4, 4, 3, dtype=np.uint16), "16 bits"),
        ("webp", noise(4, 4, dtype=np.uint16), "16 bits"),
        ("bmp", noise(4, 4, dtype=np.uint16), "16 bits"),
        ("tiff", noise(4, 4, 2, dtype=np.uint16), "16 bits"),
        ("webp", np.zeros((1, 16384), np.uint8), "too large"),
        ("jpeg", np.zeros((65536, 1), np.uint8), "too large"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(format, array, words):
    stream = io.BytesIO()
    with pytest.raises(BadRequest, match=words) as refused:
        write(from_array(array), stream, format=format)
    assert refused.value.hint
    assert stream.getvalue() == b""


def test_the_extension_names_the_format(tmp_path):
    picture = from_array(smooth(5, 6))
    for format, extensions in supported_formats().items():
        for extension in extensions:
            path = tmp_path / f"picture{extension.upper()}"
            write(picture, path)
            assert guess_format(path) == format
            assert read(path).pixels.shape == (5, 6, 3)


def test_unknown_names():
    with pytest.raises(BadRequest, match=r"\.xyz") as refused:
        guess_format("a.xyz")
    assert ".png" in refused.value.hint
    picture = from_array(noise(2, 2))
    with pytest.raises(BadRequest, match="unknown format"):
        write(picture, io.BytesIO(), format="xyz")
    with pytest.raises(BadRequest, match="quality"):
        write(picture, io.BytesIO(), format="jpeg", quality=0)
    with pytest.raises(BadRequest, match="must be given"):
        write(picture, io.BytesIO())
