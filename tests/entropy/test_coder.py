"""Symbols <-> bytes: round trips, pinned words, and nothing but Damaged for bad bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sccodec.entropy import coder
from sccodec.entropy.coder import LARGEST, Decoder, Models
from sccodec.entropy.tables import TOTAL, Tables
from sccodec.errors import Damaged, WrongModel


def extreme_tables() -> Tables:
    """A nearly certain table, a uniform one, one whose escape is certain, and a plain one."""
    tables = [
        [1, TOTAL - 3, 1, 1],
        [TOTAL // 8] * 8,
        [1, 1, 1, TOTAL - 3],
        [1000, 3_000_000, TOTAL - 8_502_000, 5_000_000, 1000],
    ]
    tables[3].append(TOTAL - sum(tables[3]))
    reach = [(len(table) - 2) // 2 for table in tables]
    return Tables(np.concatenate(tables).astype(np.uint32), np.array(reach, np.int32), 1, 0)


TABLES = extreme_tables()
FAST, PLAIN = Models(TABLES), Models(TABLES, plain=True)

SYMBOL = st.integers(-4, 4) | st.integers(-LARGEST, LARGEST) | st.sampled_from([-LARGEST, LARGEST])
ROUND = st.lists(st.tuples(SYMBOL, st.integers(0, len(TABLES) - 1)), max_size=30)
ROUNDS = st.lists(ROUND, max_size=4)


def arrays(rounds):
    """[(symbols, table index)] of lists of pairs."""
    pairs = [np.array(r, np.int32).reshape(-1, 2) for r in rounds]
    return [(p[:, 0].copy(), p[:, 1].copy()) for p in pairs]


def decode(models, payload, indexes):
    """All rounds, and the check that nothing is left."""
    decoder = Decoder(models, payload)
    symbols = [decoder.decode(index) for index in indexes]
    decoder.finish()
    return symbols


def check_codec(rounds, writer=FAST, reader=FAST):
    payload = coder.encode(writer, rounds)
    again = decode(reader, payload, [index for _, index in rounds])
    for (symbols, _), decoded in zip(rounds, again, strict=True):
        np.testing.assert_array_equal(decoded, symbols)
    return payload


def sample(seed=0, count=60):
    """Fixed rounds with every table and some escapes."""
    random = np.random.default_rng(seed)
    index = random.integers(0, len(TABLES), count).astype(np.int32)
    symbols = random.integers(-2, 3, count).astype(np.int32)
    symbols[7], symbols[20] = 70_000, -5
    return [(symbols[:25], index[:25]), (symbols[:0], index[:0]), (symbols[25:], index[25:])]


@given(ROUNDS)
@settings(max_examples=150, deadline=None)
def test_both_coders_give_the_same_bytes_and_read_each_other(rounds):
    rounds = arrays(rounds)
    fast, plain = check_codec(rounds, FAST, PLAIN), check_codec(rounds, PLAIN, FAST)
    assert fast == plain


@pytest.mark.parametrize("models", [FAST, PLAIN])
def test_golden_words(models):
    symbols = np.array([0, 0, 1, -1, 2, -3, 300, 0, -70_000, 1], np.int32)
    index = np.array([0, 3, 3, 1, 1, 1, 0, 2, 3, 0], np.int32)
    payload = coder.encode(models, [(symbols[:6], index[:6]), (symbols[6:], index[6:])])
    words = [f"{word:08x}" for word in np.frombuffer(payload, "<u4")]
    assert words == ["c6fca020", "f9000001", "feffffff", "456d9a8f", "00000c45"]


def test_without_constriction_the_plain_coder_is_used(monkeypatch):
    expected = coder.encode(FAST, sample())
    monkeypatch.setattr(coder, "AnsCoder", None)
    assert coder.encode(Models(TABLES), sample()) == expected


def test_no_symbols_need_no_bytes():
    assert check_codec([]) == b""
    assert check_codec(arrays([[], []])) == b""


def test_certain_symbols_cost_next_to_nothing():
    rounds = [(np.zeros(10_000, np.int32), np.zeros(10_000, np.int32))]
    assert len(check_codec(rounds)) <= 8


def test_a_table_of_the_largest_size_works():
    reach = 50_000
    counts = np.full(2 * reach + 2, TOTAL // (2 * reach + 2), np.uint32)
    counts[reach] += TOTAL - int(counts.sum())
    tables = Tables(counts, np.array([reach], np.int32), 1, 0)
    symbols = np.array([-reach, reach, 0, reach + 1, -LARGEST], np.int32)
    rounds = [(symbols, np.zeros(5, np.int32))]
    check_codec(rounds, Models(tables), Models(tables, plain=True))


def test_a_table_that_reaches_too_far_is_refused():
    counts = np.ones(2 * (LARGEST + 1) + 2, np.uint32)
    counts[0] += TOTAL - int(counts.sum())
    with pytest.raises(WrongModel, match="reaches beyond"):
        Tables(counts, np.array([LARGEST + 1], np.int32), 1, 0)


@pytest.mark.parametrize("seed", range(8))
def test_constriction_keeps_the_counts_of_any_table(seed):
    random = np.random.default_rng(seed)
    reach = int(random.integers(1, 700))
    shares = random.dirichlet(np.full(2 * reach + 2, 10.0 ** random.uniform(-2, 1)))
    counts = 1 + np.floor(shares * (TOTAL - 2 * reach - 2)).astype(np.int64)
    counts[random.integers(len(counts))] += TOTAL - counts.sum()
    tables = Tables(counts.astype(np.uint32), np.array([reach], np.int32), 1, 0)
    symbols = random.permutation(np.arange(-reach - 1, reach + 2)).astype(np.int32)
    rounds = [(symbols, np.zeros_like(symbols))]
    fast, plain = Models(tables), Models(tables, plain=True)
    assert check_codec(rounds, fast, plain) == check_codec(rounds, plain, fast)


@pytest.mark.parametrize("models", [FAST, PLAIN])
@pytest.mark.parametrize("size", [LARGEST + 1, 2**21 + 1, 2**24 - 1, 2**31 - 1])
def test_huge_escapes_are_refused(models, size):
    rounds = [(np.array([size, -size], np.int32), np.array([0, 2], np.int32))]
    payload = coder.encode(models, rounds)
    with pytest.raises(Damaged, match="out of range"):
        decode(models, payload, [rounds[0][1]])


@pytest.mark.parametrize("models", [FAST, PLAIN])
def test_an_escape_longer_than_its_width_is_refused(models):
    stack = models.coder()
    for value, alphabet in ((255, 256), (3, 32), (0, 2)):  # width 3, yet 8 bits set
        stack.encode_reverse(np.array([value], np.int32), models.uniform[alphabet])
    stack.encode_reverse(np.array([3], np.int32), models.table(0))
    payload = stack.get_compressed().astype("<u4").tobytes()
    with pytest.raises(Damaged, match="width"):
        decode(models, payload, [np.array([0], np.int32)])


def assert_noticed(models, payload, rounds):
    """Damaged is raised, or the checksum of the symbols tells."""
    try:
        symbols = decode(models, payload, [index for _, index in rounds])
    except Damaged:
        return
    assert coder.checksum(symbols) != coder.checksum([symbols for symbols, _ in rounds])


@pytest.mark.parametrize("models", [FAST, PLAIN])
def test_every_truncation_is_noticed(models):
    payload = coder.encode(models, sample())
    for length in range(len(payload)):
        assert_noticed(models, payload[:length], sample())
        assert_noticed(models, payload[length + 1 :], sample())


@pytest.mark.parametrize("models", [FAST, PLAIN])
@pytest.mark.parametrize("more", [b"\0", b"\0\0\0\0", b"\1\0\0\0", b"\xff" * 4, b"\xff" * 400])
def test_trailing_bytes_are_noticed(models, more):
    payload = coder.encode(models, sample())
    assert_noticed(models, payload + more, sample())
    assert_noticed(models, more + payload, sample())


@pytest.mark.parametrize("models", [FAST, PLAIN])
def test_every_flipped_bit_is_noticed(models):
    payload = coder.encode(models, sample())
    for bit in range(8 * len(payload)):
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        assert_noticed(models, bytes(flipped), sample())


@given(st.binary(max_size=200), ROUND)
@settings(max_examples=150, deadline=None)
def test_any_bytes_decode_alike_or_are_damaged(payload, pairs):
    ((_, index),) = arrays([pairs])

    def outcome(models):
        try:
            return [symbols.tolist() for symbols in decode(models, payload, [index])]
        except Damaged as error:
            return str(error)

    assert outcome(FAST) == outcome(PLAIN)


def test_the_checksum_depends_on_every_symbol_and_not_on_the_cut_into_rounds():
    symbols = np.arange(-5, 6, dtype=np.int32)
    whole = coder.checksum([symbols])
    assert whole == 0x41449B03
    assert coder.checksum([symbols[:3], symbols[3:3], symbols[3:]]) == whole
    assert coder.checksum([symbols[::-1]]) != whole


def test_groups_serve_for_writing_and_reading_alike():
    rounds = [(symbols, coder.Groups.of(index)) for symbols, index in sample()]
    assert check_codec(rounds) == coder.encode(FAST, sample())
    assert coder.Groups.of(rounds[0][1]) is rounds[0][1]
