"""Layers come out and go back byte for byte, and damage is never copied."""

import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scc_samples import expected_payloads, parts, small_file, small_parts

from sccodec.container import extract, fit, from_bytes, join, layer_selection, split, to_bytes
from sccodec.errors import BadRequest, Damaged

SMALL = small_file()


def extracted(data, keep):
    out = io.BytesIO()
    length = extract(from_bytes(data), keep, out)
    assert length == len(out.getvalue())
    return out.getvalue()


def joined(*files):
    out = io.BytesIO()
    length = join([from_bytes(data, name=f"<{i}>") for i, data in enumerate(files)], out)
    assert length == len(out.getvalue())
    return out.getvalue()


@given(parts(flags=(2,)), st.data())
def test_split_and_join_is_identity(sample, data):
    whole = to_bytes(*sample)
    present = sample[0].present
    one = data.draw(st.sets(st.sampled_from(present), min_size=1))
    other = (set(present) - one) | data.draw(st.sets(st.sampled_from(present)))
    pieces = [extracted(whole, keep) for keep in (one, other) if keep]
    pieces = data.draw(st.permutations(pieces))
    assert joined(*pieces) == whole


@given(parts(), st.data())
def test_kept_layers_do_not_change(sample, data):
    header, tiles, payloads, metadata, extra = sample
    keep = data.draw(st.sets(st.sampled_from(header.present), min_size=1))
    reader = from_bytes(extracted(to_bytes(*sample), keep))
    assert reader.header == dataclasses.replace(
        header, layers=tuple(layer for layer in header.layers if layer.index in keep)
    )
    assert reader.tiles == {index: tiles[index] for index in keep}
    assert expected_payloads(reader) == {index: payloads[index] for index in keep}
    assert reader.metadata == metadata | {c.type: c.payload for c in extra if c.flags & 2}
    assert reader.check() == []


@given(parts(flags=(2,)), st.integers(0, 1000))
def test_fit_takes_the_most_that_fits(sample, max_bytes):
    whole = to_bytes(*sample)
    present = sample[0].present
    lengths = [len(extracted(whole, present[:n])) for n in range(1, len(present) + 1)]
    fitting = sum(length <= max_bytes for length in lengths)
    if fitting:
        assert fit(from_bytes(whole), max_bytes) == present[:fitting]
    else:
        with pytest.raises(BadRequest, match=f"{lengths[0]} bytes"):
            fit(from_bytes(whole), max_bytes)


def test_split_writes_both_parts():
    one, rest = io.BytesIO(), io.BytesIO()
    lengths = split(from_bytes(SMALL), [0], one, rest)
    assert lengths == (len(one.getvalue()), len(rest.getvalue()))
    assert joined(rest.getvalue(), one.getvalue()) == SMALL
    with pytest.raises(BadRequest, match="no layer would be left"):
        split(from_bytes(SMALL), [0, 1, 2], one, rest)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("all", (0, 1, 2)),
        ("base", (0,)),
        ("machine,base", (0, 2)),
        (" base , rest ", (0, 1)),
        (["rest"], (1,)),
        (("machine", "machine"), (2,)),
        ("2", (0, 1)),
        (3, (0, 1, 2)),
        (np.int64(2), (0, 1)),
    ],
)
def test_selection(spec, expected):
    assert layer_selection(small_parts()[0], spec) == expected


@pytest.mark.parametrize(
    "spec", ["human", "", "base,", "0", 4, [], "²", "-1", 1.0, None, [0, 1], "9" * 5000]
)
def test_selection_of_nothing_lists_the_layers(spec):
    with pytest.raises(BadRequest, match=r"0 \(base\), 1 \(rest\), 2 \(machine\)"):
        layer_selection(small_parts()[0], spec)


def test_base_is_a_purpose_where_it_is_no_name():
    header = small_parts()[0]
    preview = dataclasses.replace(header.layers[0], name="preview")
    named = dataclasses.replace(header, layers=(preview, *header.layers[1:]))
    assert layer_selection(named, "base") == (0,)
    with pytest.raises(BadRequest, match="no layer 'base'"):
        layer_selection(dataclasses.replace(header, layers=header.layers[1:]), "base")


def test_extract_of_a_layer_that_is_not_there():
    with pytest.raises(BadRequest, match="no layer 5; the file holds"):
        extracted(SMALL, [5])
    with pytest.raises(BadRequest):
        extracted(SMALL, [])


def flipped(data, layer, tile):
    place = next(p for p in from_bytes(data).ranges([layer]) if p.tile == tile)
    raw = bytearray(data)
    raw[place.offset] ^= 4
    return bytes(raw), place.offset


def test_damage_is_not_copied():
    bad, offset = flipped(SMALL, 1, 1)
    assert extracted(bad, [0, 2]) == extracted(SMALL, [0, 2])
    with pytest.raises(Damaged, match=rf"layer 1 \(rest\), tile 1 at byte {offset}"):
        extracted(bad, [0, 1])
    with pytest.raises(Damaged, match="layer 1"):
        joined(bad)


def test_a_sound_copy_heals_a_damaged_one():
    bad, _ = flipped(SMALL, 1, 1)
    assert joined(bad, extracted(SMALL, [1])) == SMALL
    assert joined(extracted(SMALL, [1]), bad) == SMALL


def test_layers_of_a_cut_file_can_be_saved():
    whole = from_bytes(SMALL)
    cut = SMALL[: whole.ranges([2])[0].offset]
    out = io.BytesIO()
    extract(from_bytes(cut, allow_partial=True), [0, 1], out)
    assert joined(out.getvalue(), extracted(SMALL, [2])) == SMALL


@pytest.mark.parametrize(
    ("field", "value"),
    [("width", 99), ("model", "other"), ("digest", b"digest 2"), ("total_layers", 4)],
)
def test_join_names_the_field_that_differs(field, value):
    header, tiles, payloads, metadata = small_parts()
    other = to_bytes(dataclasses.replace(header, **{field: value}), tiles, payloads, metadata)
    with pytest.raises(BadRequest, match=f"<0> and <1> are not parts of one file: {field} is"):
        joined(SMALL, other)


def test_join_compares_metadata_and_shared_layers():
    header, tiles, payloads, metadata = small_parts()
    with pytest.raises(BadRequest, match="metadata"):
        joined(SMALL, to_bytes(header, tiles, payloads, {"EXIF": b""}))
    twin = dict.fromkeys(metadata, b"other") | {"EXIF": metadata["EXIF"]}
    with pytest.raises(BadRequest, match=r"metadata \[[^E]*\] and \[[^E]*\] differ"):
        joined(SMALL, to_bytes(header, tiles, payloads, twin))
    layers = (dataclasses.replace(header.layers[0], step=9), *header.layers[1:])
    changed = dataclasses.replace(header, layers=layers)
    with pytest.raises(BadRequest, match="step of layer 0 is 256 and 9"):
        joined(SMALL, to_bytes(changed, tiles, payloads, metadata))
    entries = (tiles[0][0]._replace(symbols=5), *tiles[0][1:])
    with pytest.raises(BadRequest, match=r"layer 0 \(base\) is in both"):
        joined(SMALL, to_bytes(header, tiles | {0: entries}, payloads, metadata))
    with pytest.raises(BadRequest, match="no files"):
        joined()


def test_large_payloads_are_copied_in_blocks(monkeypatch):
    monkeypatch.setattr("sccodec.container.reader.BLOCK", 7)
    assert joined(extracted(SMALL, [2]), extracted(SMALL, [0, 1])) == SMALL
