"""The TENS chunk: what is packed is unpacked, and nonsense is refused before it costs anything."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sccodec.container.tensors import (
    KINDS,
    Finer,
    Grading,
    LevelFilter,
    TensorEntry,
    Transform,
    pack,
    unpack,
)
from sccodec.errors import BadRequest, CodecError, Damaged, LimitExceeded, Unsupported

PLAIN = TensorEntry(
    "x",
    "float32",
    (4, 5, 6),
    0,
    (Grading(2, (0.0, 1.5), True), Grading(4, (0.0, 0.1, 0.7, 1.5), False, True)),
    ((1, 3),),
    bytes(4),
)


FILTERED = replace(
    PLAIN,
    offset_unit=-3,
    offsets=(1, -128, 127, 0),
    layers=(
        PLAIN.layers[0],
        replace(
            PLAIN.layers[1],
            filter=LevelFilter(-9, 7, -0.5, 2.5, ((1, -2, 3, 4), (300, 0, 0, 1), *[(0,) * 4] * 2)),
        ),
    ),
)


@given(
    name=st.text(max_size=20),
    kind=st.sampled_from(KINDS),
    shape=st.lists(st.integers(0, 2**40), max_size=5).map(tuple),
    coder=st.sampled_from(["context", "unary"]),
)
def test_entries_come_back(name, kind, shape, coder):
    entry = replace(PLAIN, name=name, kind=kind, shape=shape, coder=coder)
    entry = replace(entry, channel_axis=None, scales=b"")
    other = replace(PLAIN, name=name + "!")
    assert unpack(pack([entry, other])) == (entry, other)


TRANSFORMED = TensorEntry(
    "y",
    "float16",
    (300, 0, 2**40),
    0,
    (),
    (),
    coder="transform",
    transform=Transform(0.25, (-3, 0, 5), (7, 8), (-1.5, 2.0), b"12345678", 23),
)


REFINED = replace(
    TRANSFORMED,
    transform=replace(TRANSFORMED.transform, finer=(Finer(40, (0, 1, 2), 5),)),
)


@pytest.mark.parametrize(
    "change",
    [
        *({}, {"limits": None, "snap": 0}, {"limits": (0.0, 0.0)}, {"snap": 0}, {"basis": b""}),
        {"finer": (Finer(17, (1, -2, 3), 200), Finer(255, (0, 0, 0)))},
        {"finer": (Finer(32, (0, 0, 0)),), "limits": None, "snap": 0},
    ],
    ids=str,
)
def test_transforms_come_back(change):
    entry = replace(TRANSFORMED, transform=replace(TRANSFORMED.transform, **change))
    assert unpack(pack([entry, PLAIN])) == (entry, PLAIN)


def test_a_basis_is_one_of_channels():
    with pytest.raises(Damaged, match="channels that it has not"):
        unpack(pack([replace(TRANSFORMED, channel_axis=None)]))


@pytest.mark.parametrize(
    "change",
    [
        *({"step": 0.0}, {"step": -1.0}, {"step": float("inf")}, {"block": (0, 8)}),
        *({"block": (8, 33)}, {"limits": (1.0, 0.0)}, {"limits": (0.0, float("nan"))}),
        *({"limits": None}, {"finer": (Finer(16, (0, 0, 0)),)}),
        *({"limits": None, "snap": 0, "finer": (Finer(32, (0, 0, 0), 1),)},),
        {"finer": (Finer(32, (0, 0, 0)),) * 32},
    ],
    ids=str,
)
def test_transforms_that_make_no_sense_are_damage(change):
    entry = replace(TRANSFORMED, transform=replace(TRANSFORMED.transform, **change))
    with pytest.raises(Damaged):
        unpack(pack([entry]))


@pytest.mark.parametrize("size", [b"\x80\x00", b"\xff" * 10])
def test_sizes_are_written_in_one_way_only(size):
    raw = pack([replace(TRANSFORMED, shape=(77,))])
    with pytest.raises(Damaged, match="longer than it needs"):
        unpack(raw.replace(bytes([77]), size, 1))


def test_a_transform_of_another_form_is_unsupported():
    raw = bytearray(pack([replace(TRANSFORMED, shape=(77,))]))
    raw[raw.index(77) + 1] |= 16
    with pytest.raises(Unsupported, match="form 23"):
        unpack(bytes(raw))


def test_a_transform_that_says_that_it_has_layers_has_two():
    raw = bytearray(pack([REFINED]))
    raw[-len(REFINED.transform.finer) * 5 - 1] = 1
    with pytest.raises(Damaged, match="in 1 layers"):
        unpack(bytes(raw))


def test_every_cut_of_a_transform_is_damage():
    raw = pack([REFINED])
    for end in range(len(raw)):
        with pytest.raises(Damaged):
            unpack(raw[:end])


def test_filters_and_offsets_come_back():
    assert unpack(pack([FILTERED])) == (FILTERED,)


@pytest.mark.parametrize(
    "change",
    [{"shift": 9}, {"unit": -10}, {"low": 3.0}, {"high": float("inf")}, {"low": float("nan")}],
    ids=str,
)
def test_filters_whose_sums_have_no_bounds_are_damage(change):
    coarse, fine = FILTERED.layers
    wrong = replace(fine, filter=replace(fine.filter, **change))
    with pytest.raises(Damaged, match="filter"):
        unpack(pack([replace(FILTERED, layers=(coarse, wrong))]))


def _read(raw: bytes) -> tuple[TensorEntry, ...] | None:
    """The tensors, or None if they are refused."""
    try:
        return unpack(raw)
    except CodecError:
        return None


@given(st.integers(0, 200), st.integers(0, 255))
def test_any_other_byte_is_refused_or_means_something(at, value):
    raw = bytearray(pack([FILTERED]))
    raw[at % len(raw)] = value
    found = _read(bytes(raw))
    assert found is None or len(found) in (0, 1)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_mean_something(raw):
    found = _read(raw)
    assert found is None or pack(found) == raw


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"layers": ()}, Damaged),
        ({"children": ((2, 3),)}, Damaged),
        ({"children": ((0, 4),)}, Damaged),
        ({"channel_axis": 3}, Damaged),
        ({"scales": bytes(3)}, Damaged),
        ({"shape": (1,) * 33}, Damaged),
        ({"layers": (Grading(1, (2.0, 1.0), True),), "children": ()}, Damaged),
        ({"layers": (Grading(1, (float("nan"),) * 2, True),), "children": ()}, Damaged),
        ({"layers": (Grading(0, (1.0, 1.0), True),), "children": ()}, Damaged),
    ],
    ids=str,
)
def test_contradictions_are_damage(change, error):
    with pytest.raises(error, match="TENS"):
        unpack(pack([replace(PLAIN, **change)]))


def test_offsets_belong_to_channels():
    with pytest.raises(Damaged, match="offsets"):
        unpack(pack([replace(FILTERED, channel_axis=None, scales=b"")]))
    empty = replace(FILTERED, shape=(0, 5, 6), scales=b"")
    with pytest.raises(Damaged, match="offsets"):
        unpack(pack([empty]))


def test_the_unary_coder_has_few_levels():
    """A decoder takes as many steps for an element, whatever the file's length."""
    many = replace(PLAIN, layers=(Grading(256, (0.0, 1.0), True),), children=())
    assert unpack(pack([replace(many, coder="unary")]))[0].coder == "unary"
    more = replace(many, layers=(Grading(257, (0.0, 1.0), True),))
    with pytest.raises(LimitExceeded, match="levels of the unary coder: 257"):
        pack([replace(more, coder="unary")])
    raw = bytearray(pack([more]))
    raw[raw.index(b"x") + 2] = 1  # the coder
    with pytest.raises(LimitExceeded, match="levels of the unary coder: 257"):
        unpack(bytes(raw))


def test_names_are_unique_and_bytes_are_counted():
    raw = pack([FILTERED])
    with pytest.raises(Damaged, match="too many"):
        unpack(raw + b"\0")
    for length in range(len(raw)):
        with pytest.raises(Damaged):
            unpack(raw[:length])
    with pytest.raises(Damaged, match="repeat"):
        unpack(pack([PLAIN, PLAIN]))
    with pytest.raises(BadRequest, match="cannot hold"):
        pack([replace(PLAIN, name="x" * 256)])


def test_what_a_later_version_may_have_is_unsupported():
    raw = bytearray(pack([PLAIN]))
    for at, word in ((4, "kind"), (5, "coder")):
        wrong = bytearray(raw)
        wrong[at] = 77
        with pytest.raises(Unsupported, match=word):
            unpack(bytes(wrong))


def test_a_table_of_levels_is_not_made_because_a_few_bytes_ask_for_it():
    huge = replace(PLAIN, layers=(Grading(2**24 - 1, (0.0, 1.0), True),), children=(), scales=b"")
    raw = pack([huge])
    with pytest.raises(LimitExceeded, match="levels"):
        unpack(struct.pack("<H", 2) + raw[2:] + raw[2:].replace(b"\1x", b"\1y"))
