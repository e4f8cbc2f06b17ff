"""Limits from the environment, and what they keep from being allocated."""

from __future__ import annotations

from dataclasses import fields

import pytest
from scc_samples import small_file

from sccodec.container import Header, LayerEntry, from_bytes, to_bytes
from sccodec.container.layout import ABSENT
from sccodec.container.rules import NO_LIMIT, Limits, environment_limits
from sccodec.errors import BadRequest, LimitExceeded

LAYER = LayerEntry(0, "base", 0, 0, 256, 1, 1, 0)


def file(side: int, tile: int) -> bytes:
    header = Header(side, side, 3, tile, "none", bytes(8), 1, (LAYER,))
    return to_bytes(header, {0: [ABSENT]}, {0: [b""]}, limits=Limits(max_tile=NO_LIMIT))


def test_variables_set_limits_and_zero_lifts_one():
    limits = environment_limits({"SCCODEC_MAX_PIXELS": "99", "SCCODEC_MAX_TILES": "0"})
    assert limits == Limits(max_pixels=99, max_tiles=NO_LIMIT)
    assert environment_limits({}) == Limits()


def test_a_variable_that_is_no_number_is_named():
    with pytest.raises(BadRequest, match="SCCODEC_MAX_CHUNK is 'much', not a number"):
        environment_limits({"SCCODEC_MAX_CHUNK": "much"})


def test_readers_obey_the_environment(monkeypatch):
    data = file(64, 64)
    monkeypatch.setenv("SCCODEC_MAX_PIXELS", "4095")
    with pytest.raises(LimitExceeded, match="pixels: 4096 is above the limit of 4095"):
        from_bytes(data)
    monkeypatch.setenv("SCCODEC_MAX_PIXELS", "4096")
    assert from_bytes(data).header.width == 64


def test_a_huge_tile_is_refused_from_the_header():
    side = 8192
    with pytest.raises(LimitExceeded, match="pixels of a tile: 67108864"):
        from_bytes(file(side, side))


def test_a_tile_size_beyond_a_small_picture_is_no_huge_tile():
    assert from_bytes(file(64, 2**20)).header.tile_size == 2**20


# Just below what the small file needs: 100 x 120 pixels, three layers of four tiles, 16 bytes.
TOO_LITTLE = {
    "PIXELS": 11_999,
    "DIMENSION": 119,
    "TILE": 4_095,
    "LAYERS": 2,
    "TILES": 11,
    "CHUNK": 100,
    "METADATA": 15,
}


@pytest.mark.parametrize("name", TOO_LITTLE)
def test_every_variable_is_obeyed_before_anything_is_read_for_it(monkeypatch, name):
    data = small_file()
    monkeypatch.setenv(f"SCCODEC_MAX_{name}", str(TOO_LITTLE[name]))
    with pytest.raises(LimitExceeded):
        from_bytes(data)
    enough = 10**6 if name == "CHUNK" else TOO_LITTLE[name] + 1
    monkeypatch.setenv(f"SCCODEC_MAX_{name}", str(enough))
    assert from_bytes(data).header.width == 100
    assert set(TOO_LITTLE) == {field.name[4:].upper() for field in fields(Limits)}
