"""imageio as the only door: read, write, iterate, properties and metadata."""

from __future__ import annotations

import io
import os
import threading
import zipfile

import imageio.v2 as iio2
import imageio.v3 as iio
import numpy as np
import pytest
from conftest import picture
from http_samples import serving

import sccodec.imageio

# One tag, orientation: 1, upright.
EXIF = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x01\0\0\0\0\0\0\0"
SHAPES = [(70, 90), (70, 90, 2), (70, 90, 3), (70, 90, 4)]


def sample(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    pixels = picture(shape[0], shape[1], channels=(*shape, 1)[2]).reshape(shape)
    return pixels.astype(dtype) * (257 if dtype == "uint16" else 1)


@pytest.fixture(scope="module")
def scc(tiny_model) -> bytes:
    return sccodec.encode(picture(130, 200), profile=tiny_model.id, tile=64)


@pytest.fixture
def path(scc, tmp_path):
    path = tmp_path / "photo.scc"
    path.write_bytes(scc)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_written_is_read(tmp_path, shape, dtype):
    path, pixels = tmp_path / "photo.scc", sample(shape, dtype)
    iio.imwrite(path, pixels, profile="tiny-1")
    again = iio.imread(path)
    assert (again.shape, again.dtype) == (shape, dtype)
    np.testing.assert_array_equal(again, sccodec.decode(path))
    properties = iio.improps(path)
    assert (properties.shape, properties.dtype) == (shape, np.dtype(dtype))
    assert (properties.n_images, properties.is_batch) == (None, False)


def test_every_kind_of_source(scc, path, tmp_path):
    whole = sccodec.decode(scc)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("photo.scc", scc)
    (tmp_path / "photo").write_bytes(scc)
    nameless, archived = tmp_path / "photo", tmp_path / "a.zip" / "photo.scc"
    for source in (path, str(path), scc, io.BytesIO(scc), archived, nameless):
        np.testing.assert_array_equal(iio.imread(source), whole)
        np.testing.assert_array_equal(iio.imread(source, plugin="sccodec"), whole)


def test_an_open_file_is_read(scc, path):
    with open(path, "rb") as file:
        np.testing.assert_array_equal(iio.imread(file), sccodec.decode(scc))


def test_pictures_come_through_pipes(scc):
    png = iio.imwrite("<bytes>", sample((70, 90, 3)), extension=".png")
    for data, wanted in ((png, sample((70, 90, 3))), (scc, sccodec.decode(scc))):
        reading, writing = os.pipe()
        with open(reading, "rb") as pipe:
            sender = threading.Thread(target=_send, args=(writing, data))
            sender.start()
            np.testing.assert_array_equal(iio.imread(pipe), wanted)
            sender.join()


def _send(descriptor: int, data: bytes) -> None:
    with open(descriptor, "wb") as file:
        file.write(data)


def test_a_tensor_file_is_refused(tmp_path):
    path = tmp_path / "features.scc"
    path.write_bytes(sccodec.encode({"a": np.zeros((4, 8, 3), np.float32)}))
    for function in (iio.imread, iio.improps, iio.immeta):
        with pytest.raises(OSError, match=r"features\.scc: not a still picture"):
            function(path)


def test_a_file_holds_one_picture(tmp_path):
    path, pixels = tmp_path / "photo.scc", sample((70, 90))
    with iio.imopen(path, "w") as file:
        file.write(pixels, profile="tiny-1")
        with pytest.raises(ValueError, match="holds one picture, and that is written"):
            file.write(pixels, profile="tiny-1")
    written = iio.imread(path)
    iio2.mimwrite(path, [pixels], profile="tiny-1")
    np.testing.assert_array_equal(iio.imread(path), written)


def test_layers_and_regions(scc, path):
    np.testing.assert_array_equal(iio.imread(path, layers="base"), sccodec.decode(scc, "base"))
    part = iio.imread(path, region=(50, 60, 20, 10))
    np.testing.assert_array_equal(part, sccodec.decode(scc, region=(50, 60, 20, 10)))


def test_an_address_is_read_in_part(scc, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with serving(scc) as server:
        base = iio.imread(server.url, layers="base")
        assert server.asked[0] == "bytes=0-16383"
    np.testing.assert_array_equal(base, sccodec.decode(scc, "base"))


def test_one_picture_by_index_and_by_iteration(path):
    whole = iio.imread(path)
    np.testing.assert_array_equal(iio.imread(path, index=0), whole)
    np.testing.assert_array_equal(iio.imread(path, index=...), whole[None])
    assert iio.improps(path, index=...).shape == (1, 130, 200, 3)
    (only,) = iio.imiter(path, layers="base")
    np.testing.assert_array_equal(only, iio.imread(path, layers="base"))
    for call in (iio.imread, iio.improps, iio.immeta):
        with pytest.raises(ValueError, match="no picture 1"):
            call(path, index=1)


def test_metadata(tmp_path):
    from sccodec.media.image import Picture

    given = {"icc": b"profile", "exif": b"II*\0", "xmp": b"<x/>"}
    path = tmp_path / "photo.scc"
    full = Picture(sample((70, 90, 3)), metadata=given, dpi=(300, 300))
    path.write_bytes(sccodec.encode(full, profile="tiny-1"))
    found = iio.immeta(path)
    assert found["icc_profile"] == b"profile"
    assert (found["exif"], found["xmp"], found["dpi"]) == (b"II*\0", b"<x/>", (300, 300))
    assert [layer["name"] for layer in found["layers"]] == ["base", "enhancement"]
    assert (found["model"], found["bytes"]) == ("tiny-1", path.stat().st_size)


def test_metadata_of_writing(tmp_path):
    """What immeta gives, imwrite takes."""
    given = {"icc_profile": b"profile", "exif": EXIF, "xmp": b"<x/>", "dpi": (300.0, 150.0)}
    path, pixels = tmp_path / "photo.scc", sample((70, 90, 3))
    iio.imwrite(path, pixels, profile="tiny-1", **given)
    found = iio.immeta(path)
    assert {name: found[name] for name in given} == given
    again = tmp_path / "again.scc"
    iio.imwrite(again, pixels, profile="tiny-1", **{name: found[name] for name in given})
    assert again.read_bytes() == path.read_bytes()
    iio.imwrite(again, pixels, profile="tiny-1", metadata="dpi", **given)
    assert {"icc_profile", "exif", "xmp"} & set(iio.immeta(again)) == set()


def test_the_orientation_of_what_is_written_is_applied_once(tmp_path):
    turned = EXIF[:18] + b"\x06" + EXIF[19:]
    path, pixels = tmp_path / "photo.scc", sample((70, 90, 3))
    iio.imwrite(path, pixels, profile="tiny-1", exif=b"Exif\0\0" + turned, dpi=(300, 150))
    found = iio.immeta(path)
    assert (found["exif"], found["dpi"]) == (EXIF, (150, 300))
    upright = np.ascontiguousarray(pixels[::-1].swapaxes(0, 1))
    again = sccodec.decode(sccodec.encode(upright, profile="tiny-1"))
    np.testing.assert_array_equal(iio.imread(path), again)


def test_options_of_writing(tmp_path):
    pixels = picture(130, 200)
    small = iio.imwrite("<bytes>", pixels, extension=".scc", profile="tiny-1", quality=0)
    large = iio.imwrite("<bytes>", pixels, extension=".scc", profile="tiny-1", quality=100)
    assert len(small) < len(large)
    rate = 8 * (len(small) + len(large)) / 2 / (130 * 200)
    iio.imwrite(tmp_path / "a.scc", pixels, profile="tiny-1", rate=rate)
    assert len(small) < (tmp_path / "a.scc").stat().st_size < len(large)
    out = io.BytesIO()
    iio.imwrite(out, [pixels], extension=".scc", profile="tiny-1")
    assert out.getvalue() == sccodec.encode(pixels, profile="tiny-1")
    iio.imwrite(out, pixels[None], extension=".scc", profile="tiny-1")


@pytest.mark.parametrize(
    ("pixels", "options", "kind", "words"),
    [
        (np.zeros((9, 9)), {}, OSError, "float64"),
        (np.zeros((9, 9), np.uint8), {"quality": 101}, OSError, "quality 101"),
        (np.zeros((2, 9, 9, 3), np.uint8), {}, ValueError, "one picture, not 2"),
        ([np.zeros((9, 9), np.uint8)] * 3, {}, ValueError, "one picture, not 3"),
        (np.zeros((9, 9), np.uint8), {"speed": 1}, TypeError, "speed"),
    ],
)
def test_what_cannot_be_written_leaves_no_file(tmp_path, pixels, options, kind, words):
    with pytest.raises(kind, match=words):
        iio.imwrite(tmp_path / "a.scc", pixels, profile="tiny-1", **options)
    assert not list(tmp_path.iterdir())


def test_other_files_are_left_to_others(tmp_path):
    iio.imwrite(tmp_path / "a.png", sample((70, 90)))
    (tmp_path / "a.png").rename(tmp_path / "really_png.scc")
    assert iio.imread(tmp_path / "really_png.scc").shape == (70, 90)
    with pytest.raises(OSError, match="can not handle"):
        iio.imread(tmp_path / "really_png.scc", plugin="sccodec")
    with pytest.raises(OSError, match="can not handle"):
        iio.imwrite(tmp_path / "b.png", sample((70, 90)), plugin="sccodec")


def test_damage_is_named(scc, path):
    place = sccodec.open(scc).reader.ranges([1])[3]
    at = place.offset + 1
    path.write_bytes(scc[:at] + bytes([scc[at] ^ 1]) + scc[at + 1 :])
    with pytest.raises(OSError, match=r"layer 1 .*, tile 3 .*checksum"):
        iio.imread(path)
    assert iio.imread(path, layers="base").shape == (130, 200, 3)
    path.write_bytes(scc[:100])
    with pytest.raises(OSError, match="file ends at byte 100"):
        iio.imread(path)


def test_files_are_closed(path):
    with iio.imopen(path, "r") as opened:
        file = opened.request.get_file()
        opened.read()
    assert file.closed
