"""Structures pack and unpack; a value that no reader accepts is not written either."""

import dataclasses
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scc_samples import parts, small_parts

from sccodec.container import ABSENT, Header, LayerEntry, Limits, TileEntry, layout
from sccodec.errors import BadRequest, CodecError, Damaged, LimitExceeded, Unsupported

SPECIFICATION = Path(__file__).parents[2] / "formats/container.md"


@given(parts())
def test_header_survives(sample):
    header = sample[0]
    assert layout.unpack_header(layout.pack_header(header)) == header


@given(parts())
def test_directory_survives(sample):
    header, tiles = sample[:2]
    raw = layout.pack_directory(header, tiles)
    assert layout.unpack_directory(raw, header) == tiles
    assert len(raw) == layout.directory_size(header)


@given(st.binary(max_size=200))
def test_random_header_raises_only_codec_errors(raw):
    with pytest.raises(CodecError):
        layout.unpack_header(raw)
    with pytest.raises(CodecError):
        layout.unpack_header(b"\x01" + raw)


@given(st.data(), parts())
def test_changed_header_raises_codec_error_or_is_valid(data, sample):
    raw = bytearray(layout.pack_header(sample[0]))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        header = layout.unpack_header(bytes(raw))
    except CodecError:
        return
    assert layout.pack_header(header) == raw


@given(parts(), st.data())
def test_every_cut_header_is_damaged(sample, data):
    raw = layout.pack_header(sample[0])
    with pytest.raises(Damaged):
        layout.unpack_header(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(Damaged, match="too many"):
        layout.unpack_header(raw + b"x")


HEADER_FAULTS = {
    "width": ({"width": 0}, Damaged),
    "frames of a picture": ({"frames": 2}, Damaged),
    "modality": ({"modality": 3}, Unsupported),
    "channels": ({"channels": 4}, Unsupported),
    "bit depth": ({"bit_depth": 10}, Unsupported),
    "colour": ({"colour": 1}, Unsupported),
    "tile size 0": ({"tile_size": 0}, Damaged),
    "tile size": ({"tile_size": 100}, Damaged),
    "tile grid": ({"tile_size": 128}, Damaged),
    "model path": ({"model": "../secret"}, Damaged),
    "model empty": ({"model": ""}, Damaged),
    "model control": ({"model": "x\x1b[2J"}, Damaged),
    "total layers": ({"total_layers": 2}, Damaged),
    "too many layers": ({"total_layers": 33}, LimitExceeded),
    "no layers": ({"layers": ()}, Damaged),
    "dimension": ({"width": 65536}, LimitExceeded),
    "pixels": ({"width": 65535, "height": 65535}, LimitExceeded),
}
LAYER_FAULTS = {
    "name empty": ({"name": ""}, Damaged),
    "name all": ({"name": "all"}, Damaged),
    "name digit": ({"name": "2nd"}, Damaged),
    "name comma": ({"name": "a,b"}, Damaged),
    "name twice": ({"name": "machine"}, Damaged),
    "index": ({"index": 2}, Damaged),
    "needs itself": ({"needs": 2}, Damaged),
    "needs a higher layer": ({"needs": 4}, Damaged),
    "no tiles": ({"tile_columns": 0}, Damaged),
    "grid": ({"tile_rows": 3}, Damaged),
    "bytes": ({"bytes": 2**31 - 1}, LimitExceeded),
}


def faulty_header(changes):
    return dataclasses.replace(small_parts()[0], **changes)


def faulty_layer(changes):
    header = small_parts()[0]
    base, rest, machine = header.layers
    return dataclasses.replace(header, layers=(base, dataclasses.replace(rest, **changes), machine))


FAULTS = {name: (faulty_header(changes), error) for name, (changes, error) in HEADER_FAULTS.items()}
FAULTS |= {name: (faulty_layer(changes), error) for name, (changes, error) in LAYER_FAULTS.items()}


def packed_unchecked(header):
    values = {name: getattr(header, name) for name in layout.HEAD.names}
    return layout.HEAD.pack(values) + b"".join(
        layout.LAYER.pack(vars(layer)) for layer in header.layers
    )


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_header_is_refused_both_ways(name):
    header, error = FAULTS[name]
    with pytest.raises(error):
        layout.unpack_header(packed_unchecked(header))
    with pytest.raises(BadRequest if error is Damaged else error):
        layout.pack_header(header)


def test_value_too_large_for_its_field_names_it():
    header, _, _, _ = small_parts()
    with pytest.raises(BadRequest, match="frames cannot hold"):
        layout.pack_header(dataclasses.replace(header, modality=1, frames=2**32))


def test_limits_can_be_raised_and_lowered():
    header = dataclasses.replace(small_parts()[0], tile_size=65536 * 2, width=70000)
    one = tuple(dataclasses.replace(e, tile_columns=1, tile_rows=1) for e in header.layers)
    header = dataclasses.replace(header, layers=one)
    wide = Limits(max_dimension=70000)
    assert layout.unpack_header(layout.pack_header(header, wide), wide) == header
    for limits in (Limits(max_tiles=11), Limits(max_layers=2), Limits(max_chunk=20)):
        with pytest.raises(LimitExceeded):
            layout.unpack_header(layout.pack_header(small_parts()[0]), limits)


def test_directory_faults():
    header, tiles, _, _ = small_parts()
    good = layout.pack_directory(header, tiles)
    with pytest.raises(Damaged, match="directory of"):
        layout.unpack_directory(good[:-1], header)
    absent_at = layout.TILE_STRUCT.size * 4  # layer 1, tile 0
    for position, value, error in (
        (0, 3, Unsupported),  # an unknown flag
        (absent_at + 1, 1, Damaged),  # an absent tile with a step offset
        (2, 99, Damaged),  # a length that breaks the sum
    ):
        raw = bytearray(good)
        raw[position] = value
        with pytest.raises(error):
            layout.unpack_directory(bytes(raw), header)
    with pytest.raises(BadRequest):
        layout.pack_directory(header, {0: tiles[0]})
    with pytest.raises(BadRequest):
        layout.pack_directory(header, tiles | {0: tiles[0][:3]})
    with pytest.raises(BadRequest):
        layout.pack_directory(
            header, tiles | {0: (tiles[0][0]._replace(symbols=-1), *tiles[0][1:])}
        )


def test_geometry():
    header, _, _, _ = small_parts()
    assert [header.tile_box(t) for t in range(4)] == [
        (0, 0, 64, 64), (64, 0, 100, 64), (0, 64, 64, 120), (64, 64, 100, 120),
    ]  # fmt: skip
    with pytest.raises(BadRequest):
        header.tile_box(4)


def test_missing_follows_needs_through_layers():
    header, _, _, _ = small_parts()
    entry = dataclasses.replace(header.layers[2], needs=0b10)
    both = dataclasses.replace(header, layers=(header.layers[1], entry))
    assert both.missing(2) == (0,)
    assert header.missing(2) == ()
    assert entry.needed == (1,)
    with pytest.raises(BadRequest, match=r"0 \(base\), 1 \(rest\)"):
        header.layer(7)


def test_purpose_without_a_word_is_shown_as_number():
    layer = small_parts()[0].layers[2]
    assert layer.purpose_name == "machine"
    assert dataclasses.replace(layer, purpose=77).purpose_name == "77"


def test_fields_are_those_of_the_specification():
    text = SPECIFICATION.read_text()
    for record in (layout.CHUNK, layout.HEAD, layout.LAYER, layout.TILE, layout.DONE):
        section = re.search(rf"^### {record.title}$(.*?)(?=^##|\Z)", text, re.M | re.S)
        assert section, f"formats/container.md has no section for the {record.title}"
        rows = re.findall(r"^(\w+) +(text|[ui]\d+|\d bytes) ", section[1], re.M)
        kinds = {"B": "u8", "b": "i8", "H": "u16", "I": "u32", "Q": "u64",
                 "4s": "4 bytes", "8s": "8 bytes", "text": "text"}  # fmt: skip
        assert rows == [(name, kinds[kind]) for name, kind in record.fields], record.title


def test_dataclasses_hold_the_fields_of_the_tables():
    assert {f.name for f in dataclasses.fields(LayerEntry)} == set(layout.LAYER.names)
    assert TileEntry._fields == layout.TILE.names
    names = {f.name for f in dataclasses.fields(Header)}
    assert names - {"layers"} == set(layout.HEAD.names) - {"present_layers"}
    assert struct.calcsize("<BbIII") == layout.TILE_STRUCT.size == 14
    assert not ABSENT.present
