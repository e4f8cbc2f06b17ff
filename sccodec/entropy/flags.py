"""Flags (yes or no) and their probabilities <-> the bytes of one payload.

Flags are sorted by context, each context has one probability out of 128, and four flags of a
context, at its end fewer, make one symbol of the coder of `coder.py`. A chain of flags, each of
which is there if all before it were set, makes one symbol too. `formats/tensor.md` section 3 is the
specification.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from sccodec.entropy import coder
from sccodec.entropy.tables import TOTAL
from sccodec.errors import Damaged

CODES = 128  # probabilities that a context may have
EVEN = 64  # the code of one half
UNIT = 1 << 12
WIDTHS = 15, 9  # flags of the chains that say how many bits a long number has beyond its first

_distance = np.minimum(np.arange(CODES), CODES - np.arange(CODES))
_rarer = np.maximum(_distance**2 // 2, 1)
# P(flag) * 2^12 of each code: finer steps near 0 and 1, where they matter.
PROBABILITY = np.where(np.arange(CODES) <= EVEN, _rarer, UNIT - _rarer)

# Flags of a symbol: the first is the highest bit of its place.
_BITS = np.arange(16)[:, None] >> np.arange(3, -1, -1) & 1
_UNPACK = np.ascontiguousarray(_BITS, np.uint8).view(np.uint32).ravel()


def counts_of(code: int, flags: int = 4) -> np.ndarray:
    """(2^flags,) counts of 1 to 4 flags with this probability, which add up to 2^24."""
    yes = int(PROBABILITY[code])
    places = 1 << flags
    counts = []
    for ones in map(int.bit_count, range(places)):
        share = yes**ones * (UNIT - yes) ** (flags - ones)  # of UNIT^flags
        counts.append(max(1, (share << 24) >> 12 * flags))
    counts[0 if code <= EVEN else -1] += TOTAL - sum(counts)
    return np.array(counts)


def counts_of_chain(codes) -> np.ndarray:
    """(k + 1,) counts of how many flags of a chain of k with these codes are set, to 2^24."""
    left, counts = TOTAL, []
    for after, code in zip(range(len(codes), 0, -1), codes, strict=True):
        count = left * (UNIT - int(PROBABILITY[code])) // UNIT
        counts.append(min(max(count, 1), left - after))
        left -= counts[-1]
    return np.array([*counts, left])


def nearest_code(ones: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """The codes (T,) uint8 for contexts that met so many flags, `ones` of them set."""
    share = (ones + 0.02) / (flags + 0.04)
    rarer = np.rint(np.sqrt(2 * UNIT * np.minimum(share, 1 - share))).astype(np.int64)
    rarer = np.clip(rarer, 1, EVEN)
    return np.where(share <= 0.5, rarer, CODES - rarer).astype(np.uint8)


def cost(ones: np.ndarray, flags: np.ndarray, codes: np.ndarray) -> float:
    """Bits that these flags take with these codes."""
    yes = PROBABILITY[codes] / UNIT
    return float(-(ones * np.log2(yes) + (flags - ones) * np.log2(1 - yes)).sum())


@functools.cache
def _table(code: int, flags: int, plain: bool):
    return coder.table(counts_of(code, flags), plain)


@functools.lru_cache(4096)
def _chain_table(codes: bytes, plain: bool):
    return coder.table(counts_of_chain(codes), plain)


# Contexts (n,) uint8, and how many there are -> what `grouped` returns.
Grouping = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def grouped(context: np.ndarray, contexts: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) places in order of context (n,) uint8 and then place; (contexts,) how many of each.

    With keys of 8 bits NumPy's stable sort is a radix sort: its time depends on nothing but n.
    """
    order = np.argsort(context, kind="stable")
    every = np.arange(contexts, dtype=np.uint8)
    count = np.searchsorted(context, every, "right", sorter=order)  # so many up to each
    count[1:] -= count[:-1].copy()
    return order, count


class Orders:
    """Keeps how a payload's contexts were grouped, so that reading it back need not sort again.

    `get` recalls an order only for contexts that equal those it was made of, in the sequence in
    which `put` met them, and else sorts: what is read never depends on what was kept.
    """

    def __init__(self):
        self._kept: deque = deque()

    def put(self, context: np.ndarray, contexts: int) -> tuple[np.ndarray, np.ndarray]:
        """`grouped`, for a writer."""
        found = grouped(context, contexts)
        self._kept.append((context, *found))
        return found

    def get(self, context: np.ndarray, contexts: int) -> tuple[np.ndarray, np.ndarray]:
        """`grouped`, for a reader."""
        if self._kept:
            known, order, count = self._kept.popleft()
            if len(count) == contexts and np.array_equal(known, context):
                return order, count
        return grouped(context, contexts)


def _back(found: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(n,) uint8: what was found in the order of contexts, in the order of places."""
    result = np.empty(len(order), np.uint8)
    result[order] = found
    return result


def _runs(count: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(context, first flag, flags, first symbol) of each context that is met."""
    runs, begin, place = [], 0, 0
    for context, number in enumerate(count.tolist()):
        if number:
            runs.append((context, begin, number, place))
            begin += number
            place += (number + 3) // 4
    return runs


def _places(runs: list[tuple[int, int, int, int]]) -> Iterator[tuple[slice, slice]]:
    """Which flags of all runs stand where, among four places for each symbol."""
    for _, begin, number, place in runs:
        whole, rest, at = number & ~3, number & 3, 4 * place
        yield slice(begin, begin + whole), slice(at, at + whole)
        if rest:  # the last flags of a run, fewer than four, stand in the low bits
            end, last = begin + number, at + whole + 4
            yield slice(end - rest, end), slice(last - rest, last)


class Arranged:
    """Flags in order of context and then place, ready to be counted and coded."""

    def __init__(
        self, context: np.ndarray, flags: np.ndarray, contexts: int, group: Grouping = grouped
    ):
        """context (n,) uint8 below `contexts`, flags (n,) uint8, 0 or 1."""
        order, self.count = group(context, contexts)
        self.bits = flags.take(order)

    @property
    def ones(self) -> np.ndarray:
        """(contexts,) how many flags are set in each context."""
        found, met = np.zeros(len(self.count), np.int64), np.flatnonzero(self.count)
        begin = (np.cumsum(self.count) - self.count)[met]
        found[met] = np.add.reduceat(self.bits, begin, dtype=np.int32)
        return found


class Chains:
    """Chains in order of context, length and place, ready to be counted and coded."""

    def __init__(
        self,
        context: np.ndarray,
        length: int | np.ndarray,
        values: np.ndarray,
        group: Grouping = grouped,
    ):
        """context (n,) uint8, 0..15; length, 1..15, and values, so many set flags: (n,) uint8."""
        order, self.runs = _by_length(context, length, group)
        self.values = values.take(order)

    def met(self, contexts: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """(contexts, longest) each: how many flags of each place in a chain are set, and are."""
        ones = np.zeros((contexts, longest + 1), np.int64)
        count = np.zeros((contexts, longest + 1), np.int64)
        rows = np.repeat(np.arange(0, 16 * len(self.runs), 16), [run[-1] for run in self.runs])
        found = np.bincount(rows + self.values, minlength=16 * len(self.runs)).reshape(-1, 16)
        reached = np.cumsum(found[:, ::-1], 1)[:, ::-1]  # chains with so many set flags at least
        for (context, length, _, _), row in zip(self.runs, reached, strict=True):
            ones[context, :length] += row[1 : length + 1]
            count[context, :length] += row[:length]
        return ones[:, :longest], count[:, :longest]


def _by_length(
    context: np.ndarray, length, group: Grouping
) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """The order (n,) of chains, and their runs: (context, length, first, chains)."""
    key = context << np.uint8(4) | np.asarray(length, np.uint8)
    order, count = group(key, 256)
    met = np.flatnonzero(count)
    begin = np.cumsum(count[met]) - count[met]
    columns = (met >> 4, met & 15, begin, count[met])
    runs = zip(*(column.tolist() for column in columns), strict=True)
    return order, list(runs)


def width_of(values: np.ndarray) -> np.ndarray:
    """Bits beyond the first of numbers from 1 on."""
    return np.frexp(values)[1] - 1


def _met(width: np.ndarray) -> list[int]:
    """The widths above 0 that there are."""
    return [bits for bits, met in enumerate(np.bincount(width).tolist()) if bits and met]


class Writer:
    """Collects what a payload holds, in the order in which a `Reader` will ask for it."""

    def __init__(self, plain: bool = False):
        self.plain = plain or coder.AnsCoder is None
        self._parts: list[tuple[object, np.ndarray]] = []  # a table, and places of it

    def flags(self, arranged: Arranged, codes: np.ndarray) -> None:
        """Flags of one round; codes (T,) of their contexts."""
        self._runs(arranged.bits, [(int(codes[n]), *run) for n, *run in _runs(arranged.count)])

    def _runs(self, bits: np.ndarray, runs: list[tuple[int, int, int, int]]) -> None:
        """Runs of flags: (code, first flag, flags, first symbol)."""
        if not runs:
            return
        _, _, number, place = runs[-1]
        padded = np.zeros(4 * (place + (number + 3) // 4) + 4, np.uint8)
        for flags, at in _places(runs):
            padded[at] = bits[flags]
        places = _packed(padded)
        for code, _, number, place in runs:
            self._add(_table(code, 4, self.plain), places[place : place + number // 4])
            if number % 4:
                last = place + number // 4
                self._add(_table(code, number % 4, self.plain), places[last : last + 1])

    def _add(self, table, places: np.ndarray) -> None:
        if len(places):
            self._parts.append((table, places))

    def chains(self, chains: Chains, codes: np.ndarray) -> None:
        """Chains of one round; codes (contexts, longest) of their flags."""
        places = chains.values.astype(np.int32)
        for context, length, begin, number in chains.runs:
            table = _chain_table(codes[context, :length].tobytes(), self.plain)
            self._add(table, places[begin : begin + number])

    def raw(self, bits: np.ndarray) -> None:
        """Bits (n,) that are as likely 0 as 1."""
        self._runs(bits, [(EVEN, 0, len(bits), 0)] if len(bits) else [])

    def bits(self, values: np.ndarray, width: int) -> None:
        """The lowest bits of numbers (n,), the highest first."""
        self.raw((values[:, None] >> np.arange(width - 1, -1, -1) & 1).astype(np.uint8).ravel())

    def long(self, values: np.ndarray) -> None:
        """Numbers (n,) from 1 to 2^25 - 1, small ones the cheapest."""
        width = width_of(values)
        rest = width
        for most in WIDTHS:
            self._add(_chain_table(bytes([EVEN] * most), self.plain), np.minimum(rest, most))
            rest = rest[rest >= most] - most
        for bits in _met(width):
            self.bits(values[width == bits], bits)

    def numbers(self, values: np.ndarray, nibbles: int) -> None:
        """Unsigned numbers (n,), each of so many groups of four bits, the highest first."""
        shifts = 4 * np.arange(nibbles - 1, -1, -1)
        places = np.asarray(values, np.int64).reshape(-1, 1) >> shifts & 15
        self._add(_table(EVEN, 4, self.plain), places.astype(np.int32).ravel())

    def payload(self) -> bytes:
        ans = coder.stack(plain=self.plain)
        for table, places in reversed(self._parts):  # a stack: last out, first in
            ans.encode_reverse(places, table)
        return ans.get_compressed().astype("<u4").tobytes()


def _packed(padded: np.ndarray) -> np.ndarray:
    """Flags, four to a symbol -> symbols int32; trailing ones to a whole byte may be cut."""
    whole = np.packbits(padded)
    places = np.empty((len(whole), 2), np.int32)
    places[:, 0] = whole >> 4
    places[:, 1] = whole & 15
    return places.ravel()


class Reader:
    """Reads one payload. Raises Damaged if the bytes cannot be one."""

    def __init__(self, payload: bytes, plain: bool = False, group: Grouping = grouped):
        self.plain, self._group = plain or coder.AnsCoder is None, group
        self._ans = coder.stack(coder.words_of(payload), self.plain)

    def flags(self, context: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """(n,) uint8 flags, 0 or 1, of these contexts."""
        order, count = self._group(context, len(codes))
        found = np.empty(len(context), np.uint8)
        self._runs(found, [(int(codes[n]), *run) for n, *run in _runs(count)])
        return _back(found, order)

    def chains(self, context: np.ndarray, length, codes: np.ndarray) -> np.ndarray:
        """(n,) uint8: how many flags are set in chains of these contexts and lengths.

        context (n,) uint8, 0..15; length 1..15, one or (n,) uint8; codes (contexts, longest) uint8.
        """
        order, runs = _by_length(context, length, self._group)
        found = np.empty(len(context), np.uint8)
        for which, long, begin, number in runs:
            table = _chain_table(codes[which, :long].tobytes(), self.plain)
            found[begin : begin + number] = self._ans.decode(table, number)
        return _back(found, order)

    def raw(self, count: int) -> np.ndarray:
        """(count,) uint8 bits."""
        found = np.empty(count, np.uint8)
        self._runs(found, [(EVEN, 0, count, 0)] if count else [])
        return found

    def bits(self, count: int, width: int) -> np.ndarray:
        """(count,) int32 numbers of so many bits."""
        found = self.raw(count * width).reshape(count, width).astype(np.int32)
        return (found << np.arange(width - 1, -1, -1)).sum(1, dtype=np.int32)

    def long(self, count: int) -> np.ndarray:
        """(count,) int32: what `Writer.long` was given."""
        width, rest = np.zeros(count, np.int32), np.arange(count)
        for most in WIDTHS:
            if not len(rest):
                break
            table = _chain_table(bytes([EVEN] * most), self.plain)
            width[rest] += self._ans.decode(table, len(rest))
            rest = rest[width[rest] >= most]
        values = 1 << width
        for bits in _met(width):
            some = np.flatnonzero(width == bits)
            values[some] += self.bits(len(some), bits)
        return values

    def _runs(self, out: np.ndarray, runs: list[tuple[int, int, int, int]]) -> None:
        """Fills `out` with runs of flags: (code, first flag, flags, first symbol)."""
        if not runs:
            return
        _, _, number, place = runs[-1]
        symbols = np.empty(place + (number + 3) // 4, np.int32)
        for code, _, number, place in runs:
            whole, rest = divmod(number, 4)
            if whole:
                table = _table(code, 4, self.plain)
                symbols[place : place + whole] = self._ans.decode(table, whole)
            if rest:
                table = _table(code, rest, self.plain)
                symbols[place + whole] = self._ans.decode(table, 1)[0]
        padded = _UNPACK.take(symbols, mode="clip").view(np.uint8)
        for flags, at in _places(runs):
            out[flags] = padded[at]

    def numbers(self, count: int, nibbles: int) -> np.ndarray:
        """(count,) int64 unsigned numbers."""
        symbols = self._ans.decode(_table(EVEN, 4, self.plain), count * nibbles)
        shifts = 4 * np.arange(nibbles - 1, -1, -1)
        return (symbols.reshape(count, nibbles).astype(np.int64) << shifts).sum(1)

    def finish(self) -> None:
        """Raises Damaged unless exactly everything was read."""
        if not self._ans.is_empty():
            raise Damaged("a payload holds more than its flags")
