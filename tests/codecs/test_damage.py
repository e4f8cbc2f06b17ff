"""Small files cut at every length and with every bit flipped: what is shown, and what is said."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from conftest import picture

import sccodec
from sccodec.codecs import image
from sccodec.codecs.verify import verify
from sccodec.container import from_bytes
from sccodec.errors import CodecError, Damaged, NotOurFile
from sccodec.media.image import Picture, from_array
from tests.fuzz.fuzz import signed

MOST = 64 << 20  # bytes of memory, whatever a small file says


def peak() -> int:
    """The most memory that this process has held so far, in bytes."""
    resource = pytest.importorskip("resource")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used


def small_file(array, extra=None, **options) -> bytes:
    full = from_array(array, metadata=extra or {})
    return sccodec.encode(full, profile="tiny-1", tile=64, step=380, **options)


@pytest.fixture(scope="module")
def files(tiny_model) -> dict[str, bytes]:
    """Different kinds of small files, of some hundred bytes each."""
    two_tiles = small_file(picture(20, 100))
    return {
        "two tiles": two_tiles,
        "one pixel": small_file(picture(1, 1)),
        "gray and alpha": small_file(picture(9, 7, channels=2), {"exif": b"II*\0\x08\0\0\0\0\0"}),
        "16 bits": small_file(picture(10, 12, channels=1).astype(np.uint16) * 257),
        "base alone": sccodec.extract(two_tiles, "base"),
        "rest alone": sccodec.extract(two_tiles, "enhancement"),
    }


def verdict(data: bytes) -> str:
    """What `sccodec verify` says of these bytes."""
    try:
        return verify(from_bytes(data, allow_partial=True)).verdict
    except CodecError as error:
        return type(error).__name__


NAMES = ("two tiles", "one pixel", "gray and alpha", "16 bits", "base alone", "rest alone")


# -- cut ----------------------------------------------------------------------------------


def test_a_prefix_of_any_length_shows_what_it_holds(files):
    """Every (layer, tile) that is whole, the layer below for others, and a list of those."""
    data = files["two tiles"]
    places = from_bytes(data).ranges()
    ends = [place.offset + place.length for place in places]
    assert [(place.layer, place.tile) for place in places] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    front = places[0].offset - 1 - 9  # index and chunk head of the first layer stand between
    seen: dict[int, tuple[np.ndarray, list]] = {}
    for length in range(len(data)):
        cut = data[:length]
        if length < front:
            with pytest.raises(NotOurFile if length == 0 else Damaged):
                from_bytes(cut, allow_partial=True)
            continue
        with pytest.raises(Damaged):
            from_bytes(cut)
        shown, report = image.decode(from_bytes(cut, allow_partial=True), allow_partial=True)
        whole = sum(end <= length for end in ends)
        missing = [(found.layer, found.tile, found.lower) for found in report.damaged]
        pixels, told = seen.setdefault(whole, (shown.pixels, missing))
        assert np.array_equal(shown.pixels, pixels), length
        assert missing == told, length
    tiles = {
        0: [("base", 0, False), ("base", 1, False)],
        1: [("enhancement", 0, True), ("base", 1, False)],
        2: [("enhancement", 0, True), ("enhancement", 1, True)],
        3: [("enhancement", 1, True)],
        4: [],
    }
    assert {whole: told for whole, (_, told) in seen.items()} == tiles
    base = sccodec.decode(data, "base").astype(float)  # by its own synthesis
    assert np.abs(seen[2][0] - base).mean() < 6
    assert np.array_equal(seen[4][0], sccodec.decode(data))


# -- flipped ------------------------------------------------------------------------------


def flips(data: bytes, every: int = 1):
    for bit in range(0, 8 * len(data), every):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(flipped)


@pytest.mark.parametrize("name", NAMES)
def test_verify_notices_every_flipped_bit(files, name):
    data = files[name]
    assert verdict(data) == "ok"
    unseen = [bit for bit, flipped in flips(data) if verdict(flipped) == "ok"]
    assert unseen == []


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_shows_a_picture_or_is_refused(files, name):
    """With checksums made right again too, so that the bit reaches what lies behind them."""
    data = files[name]
    ends = set()
    sccodec.decode(files["two tiles"])  # loads the model
    before = peak()
    for _, flipped in flips(data, every=29):
        for given in (flipped, signed(flipped)):
            try:
                reader = from_bytes(given, allow_partial=True)
                shown, _ = image.decode(reader, allow_partial=True)
                ends.add(type(shown))
            except CodecError as error:
                ends.add(type(error))
    assert peak() - before < MOST
    assert Damaged in ends
    assert name == "rest alone" or Picture in ends
