"""Damaged, truncated and boastful files end in our own errors, and soon."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import noise, one_of_each, png16, tiff

from sccodec.errors import CodecError, Damaged, LimitExceeded
from sccodec.media.image import read

FILES = one_of_each()
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def outcome(data):
    """The picture, or None for an error of the family; anything else fails the test."""
    try:
        return read(data, name="the file")
    except CodecError as error:
        if "the file" not in str(error):
            raise AssertionError("the message does not name the file") from error
        return None


@pytest.mark.parametrize("kind", FILES)
def test_whole_files_are_read(kind):
    assert outcome(FILES[kind]) is not None


@pytest.mark.parametrize("kind", FILES)
def test_cut_anywhere(kind):
    data = FILES[kind]
    lengths = {*range(0, min(len(data), 64)), *np.linspace(0, len(data) - 1, 40).astype(int)}
    for length in sorted(lengths):
        outcome(data[:length])


@pytest.mark.parametrize("kind", [kind for kind in FILES if "plain" not in kind])
def test_half_a_picture_is_damaged(kind):
    data = FILES[kind]
    with pytest.raises(Damaged, match="photo"):
        read(data[: len(data) // 2], name="photo")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_wrong_bytes(kind, draw):
    data = bytearray(FILES[kind])
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, min(len(data) - 1, 300)))
        data[at] = draw.draw(st.integers(0, 255))
    outcome(bytes(data))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([data[:12] for data in FILES.values()]), st.binary(max_size=200))
def test_nonsense_behind_a_good_start(start, rest):
    outcome(start + rest)


HUGE = 40_000


def huge_png(bits):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", HUGE, HUGE, bits, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def huge_tiff(bits):
    data = tiff(noise(3, 5, 3, dtype=np.dtype(f"u{bits // 8}")), photometric="rgb")
    for tag, side in ((256, 5), (257, 3)):
        for kind in (3, 4):  # a short or a long number
            entry = struct.pack("<HHI", tag, kind, 1)
            data = data.replace(entry + struct.pack("<I", side), entry + struct.pack("<I", HUGE))
    return data


def huge_jpeg():
    data = FILES["jpeg"]
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", HUGE, HUGE) + data[at + 9 :]


BOASTFUL = {
    "png": huge_png(8),
    "png 16 bit": huge_png(16),
    "jpeg": huge_jpeg(),
    "tiff": huge_tiff(8),
    "tiff 16 bit": huge_tiff(16),
    "bmp": FILES["bmp"][:18] + struct.pack("<ii", HUGE, HUGE) + FILES["bmp"][26:],
    "ppm": b"P6 40000 40000 255\n123",
    "pgm 16 bit": b"P5 40000 40000 65535\n123",
    "gif": FILES["gif"][:6] + struct.pack("<HH", HUGE, HUGE) + FILES["gif"][10:],
}


@pytest.mark.parametrize("kind", BOASTFUL)
def test_a_size_over_the_limit_is_refused_from_the_header(kind, monkeypatch):
    from PIL import ImageFile

    def no_decoding(*_):
        raise AssertionError("the size was not checked before decoding")

    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", no_decoding)
    with pytest.raises(LimitExceeded, match="40000 x 40000") as refused:
        read(BOASTFUL[kind])
    assert refused.value.hint


@pytest.mark.parametrize("kind", FILES)
def test_the_limit_can_be_set(kind):
    picture = read(FILES[kind])
    pixels = picture.height * picture.width
    assert read(FILES[kind], max_pixels=pixels).pixels.shape == picture.pixels.shape
    with pytest.raises(LimitExceeded):
        read(FILES[kind], max_pixels=pixels - 1)


def test_pillows_own_limit_does_not_interfere(monkeypatch):
    from PIL import Image

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    refused = {kind.split()[0] for kind, data in FILES.items() if outcome(data) is None}
    assert refused <= {"webp", "tiff"}  # there Pillow checks once more, as it sets up the canvas
    for kind in refused:
        with pytest.raises(LimitExceeded, match="Pillow"):
            read(FILES[kind])


def test_samples_above_the_stated_maximum():
    for data in (b"P5 1 1 1000\n\xff\xff", b"P2 1 1 1000\n1001\n"):
        with pytest.raises(Damaged, match="1000"):
            read(data)


def test_missing_samples_of_16_bits():
    data = png16(noise(30, 30, 3, dtype=np.uint16))
    with pytest.raises(Damaged):
        read(data[:2000] + data[-12:])
