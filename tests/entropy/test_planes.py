"""Coders of level numbers: what goes in comes out, with either backend, and damage is noticed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sccodec.entropy import planes, unary
from sccodec.entropy.flags import (
    Arranged,
    Chains,
    Orders,
    Reader,
    Writer,
    cost,
    counts_of_chain,
    grouped,
    nearest_code,
)
from sccodec.entropy.tables import TOTAL
from sccodec.errors import Damaged

SHAPES = st.tuples(st.integers(1, 20), st.integers(1, 9), st.integers(1, 9))
COUNTS = st.sampled_from([2, 3, 4, 7, 16, 40, 300, 70_000])


@st.composite
def tiles(draw):
    """(levels, count, first, parents): a tile, and a coarser one that it refines."""
    shape, count = draw(SHAPES), draw(COUNTS)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = np.uint8 if count <= 256 else np.int32
    style = draw(st.sampled_from(["zero", "few", "wild", "middle"]))
    if style == "zero":
        levels = np.zeros(shape)
    elif style == "few":
        levels = np.minimum(random.geometric(0.6, shape) - 1, count - 1)
    elif style == "wild":
        levels = random.integers(0, count, shape)
    else:
        levels = np.clip(np.rint(random.normal(count / 2, count / 8, shape)), 0, count - 1)
    cuts = draw(st.sets(st.integers(1, count - 1), max_size=3))
    first = np.array([0, *sorted(cuts), count])
    levels = levels.astype(kind)
    parents = (np.searchsorted(first, levels, side="right") - 1).astype(np.uint8)
    return levels, count, first, parents


@given(tile=tiles())
@settings(max_examples=60, deadline=None)
def test_planes_come_back(tile):
    levels, count, first, parents = tile
    payload = planes.encode(levels, count)
    again = planes.decode(payload, levels.shape, count)
    np.testing.assert_array_equal(again, levels)
    assert again.dtype == levels.dtype
    payload = planes.encode(levels, count, first, parents)
    again = planes.decode(payload, levels.shape, count, first, parents)
    np.testing.assert_array_equal(again, levels)


@given(tile=tiles().filter(lambda tile: tile[1] <= 300))
@settings(max_examples=30, deadline=None)
def test_unary_codes_come_back(tile):
    levels, count, first, parents = tile
    for below in ((), (first, parents)):
        payload = unary.encode(levels, count, *below)
        again = unary.decode(payload, levels.shape, count, *below)
        np.testing.assert_array_equal(again, levels)


def features(planes_=48, size=20, seed=1):
    """Sparse levels 0..3 of planes that are alike, near to one another, and of all densities."""
    random = np.random.default_rng(seed)
    cells = -(-size // 2)
    shared = np.repeat(np.repeat(random.normal(size=(6, cells, cells)), 2, 1), 2, 2)
    values = shared[random.integers(0, 6, planes_), :size, :size]
    values = values + random.normal(size=(planes_, size, size)) * 0.7
    values += random.normal(size=(planes_, 1, 1)) - 0.8
    return np.clip(np.rint(values), 0, 3).astype(np.uint8)


def test_contexts_take_fewer_bytes_than_the_papers_coder():
    levels = features()
    ours, theirs = planes.encode(levels, 4), unary.encode(levels, 4)
    assert len(ours) < 0.9 * len(theirs)
    share = np.bincount(levels.ravel()) / levels.size
    entropy = -(share * np.log2(share)).sum() / 8 * levels.size
    assert len(theirs) < 1.03 * entropy  # which is what contexts for each bin can reach


def test_an_empty_plane_costs_four_bits_and_an_empty_tile_next_to_nothing():
    levels = np.zeros((64, 16, 16), np.uint8)
    assert len(planes.encode(levels, 4)) <= 4 * -(-(64 + 6) // 8) + 4
    some = levels.copy()
    some[3] = features(1, 16)[0]
    assert len(planes.encode(some, 4)) < len(planes.encode(some[3:4], 4)) + 64 // 2 + 8


@pytest.mark.parametrize("groups", [1, 4])
def test_both_backends_write_the_same_bytes(groups):
    levels = features(20, 20 if groups == 4 else 10)
    fast, plain = planes.encode(levels, 4), planes.encode(levels, 4, plain=True)
    assert fast == plain
    again = planes.decode(fast, levels.shape, 4, plain=True)
    np.testing.assert_array_equal(again, levels)


@given(flags=st.integers(1, 300), contexts=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_flags_cost_what_their_probabilities_say(flags, contexts, seed):
    random = np.random.default_rng(seed)
    context = random.integers(0, contexts, flags).astype(np.uint8)
    bits = (random.random(flags) < context / contexts).astype(np.uint8)
    arranged = Arranged(context, bits, contexts)
    np.testing.assert_array_equal(arranged.ones, np.bincount(context, bits, contexts))
    codes = nearest_code(arranged.ones, arranged.count)
    writer = Writer()
    writer.flags(arranged, codes)
    writer.raw(bits)
    payload = writer.payload()
    expected = cost(arranged.ones, arranged.count, codes) + flags
    assert 8 * len(payload) <= expected + 66
    reader = Reader(payload)
    np.testing.assert_array_equal(reader.flags(context, codes), bits)
    np.testing.assert_array_equal(reader.raw(flags), bits)
    reader.finish()


@given(chains=st.integers(0, 200), longest=st.integers(1, 15), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_chain_costs_what_its_flags_cost(chains, longest, seed):
    random = np.random.default_rng(seed)
    context = random.integers(0, 16, chains).astype(np.uint8)
    length = random.integers(1, longest + 1, chains).astype(np.uint8)
    values = np.minimum(random.geometric(0.4, chains) - 1, length).astype(np.uint8)
    arranged = Chains(context, length, values)
    ones, count = arranged.met(16, longest)
    flags = [
        (c, n, n < set_)
        for c, long, set_ in zip(*(a.tolist() for a in (context, length, values)), strict=True)
        for n in range(min(set_ + 1, long))
    ]
    assert ones.sum() == sum(flag for *_, flag in flags)
    assert count.sum() == len(flags)
    codes = nearest_code(ones, count)
    writer = Writer()
    writer.chains(arranged, codes)
    payload = writer.payload()
    assert 8 * len(payload) <= 1.001 * cost(ones, count, codes) + 66
    for plain in (False, True):
        reader = Reader(payload, plain)
        np.testing.assert_array_equal(reader.chains(context, length, codes), values)
        reader.finish()


def test_an_order_is_recalled_for_equal_contexts_only():
    context = np.array([2, 0, 2, 1, 0], np.uint8)
    other = np.array([0, 2, 1, 2, 0], np.uint8)
    orders = Orders()
    order, _ = orders.put(context, 3)
    assert orders.get(context.copy(), 3)[0] is order
    for asked, contexts in ((other, 3), (context, 4), (context[:4], 3)):
        orders.put(context, 3)
        order, count = orders.get(asked, contexts)
        np.testing.assert_array_equal(order, np.argsort(asked, kind="stable"))
        np.testing.assert_array_equal(count, np.bincount(asked, minlength=contexts))
    np.testing.assert_array_equal(orders.get(other, 3)[0], grouped(other, 3)[0])


@given(tile=tiles())
@settings(max_examples=30, deadline=None)
def test_what_is_written_and_read_does_not_depend_on_the_orders_that_are_kept(tile):
    levels, count, first, parents = tile
    orders = Orders()
    payload = planes.encode(levels, count, first, parents, group=orders.put)
    assert payload == planes.encode(levels, count, first, parents)
    stale = Orders()
    planes.encode(levels[::-1], count, group=stale.put)
    for group in (orders.get, stale.get):
        again = planes.decode(payload, levels.shape, count, first, parents, group=group)
        np.testing.assert_array_equal(again, levels)


def test_counts_of_a_chain_add_up_and_leave_none_out():
    for code in (0, 1, 64, 126, 127):
        counts = counts_of_chain([code] * 15)
        assert counts.sum() == TOTAL
        assert counts.min() >= 1


@given(values=st.lists(st.integers(1, 2**25 - 1), max_size=60))
def test_long_numbers_come_back(values):
    writer = Writer()
    writer.long(np.array(values, np.int32))
    reader = Reader(writer.payload())
    assert reader.long(len(values)).tolist() == values
    reader.finish()


@pytest.mark.parametrize("coder", [planes, unary])
def test_wrong_payloads_are_damaged_or_other_levels_and_nothing_else(coder):
    levels = features(6, 9)
    payload = coder.encode(levels, 4)
    random, refused = np.random.default_rng(0), 0
    for _ in range(150):
        wrong = bytearray(payload)
        for _ in range(random.integers(1, 4)):
            wrong[random.integers(0, len(wrong))] ^= 1 << random.integers(0, 8)
        count = int(random.choice([2, 4, 5, 300]))
        try:
            again = coder.decode(bytes(wrong), levels.shape, count)
        except Damaged:
            refused += 1
        else:
            assert again.max() < count
    assert refused > 30


def test_payloads_where_none_belongs_are_refused():
    for coder in (planes, unary):
        with pytest.raises(Damaged, match="needs none"):
            coder.decode(b"\0\0\0\1", (2, 2, 2), 1)
        assert coder.decode(b"", (0, 4, 4), 5).shape == (0, 4, 4)
    with pytest.raises(Damaged, match="words"):
        planes.decode(b"\1\2\3", (2, 2, 2), 3)
    with pytest.raises(Damaged, match="more than its levels"):
        unary.decode(bytes(20) + b"\1", (1, 1, 1), 2)
