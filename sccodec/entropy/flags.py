"""Flags (yes or no) and their probabilities <-> the bytes of one payload.

Flags are sorted by context, each context has one probability out of 128, and four flags of a
context, at its end fewer, make one symbol of the coder of `coder.py`. `formats/tensor.md`
section 3 is the specification.
"""

from __future__ import annotations

import functools

import numpy as np

from sccodec.entropy import coder
from sccodec.entropy.tables import TOTAL
from sccodec.errors import Damaged

CODES = 128  # probabilities that a context may have
EVEN = 64  # the code of one half
UNIT = 1 << 12
_POSITION = 25  # bits for a flag's place in a round
MOST = 1 << _POSITION

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


def _sorted(context: np.ndarray, flags: np.ndarray | None) -> np.ndarray:
    """Keys (n,) uint32 in order of context and then place: place * 2 + flag in the low bits.

    Sorting such keys takes a third of the time of a stable argsort.
    """
    keys = np.arange(0, 2 * len(context), 2, dtype=np.uint32)
    keys |= context.astype(np.uint32) << np.uint32(_POSITION + 1)
    if flags is not None:
        keys |= flags
    keys.sort()
    return keys


def _counted(keys: np.ndarray, contexts: int) -> np.ndarray:
    """(contexts,) how many of the sorted keys each context has."""
    starts = np.arange(contexts + 1, dtype=np.uint64) << np.uint64(_POSITION + 1)
    starts = np.minimum(starts, 2**32 - 1).astype(np.uint32)
    return np.diff(np.searchsorted(keys, starts))


def _runs(count: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(context, first flag, flags, first symbol) of each context that is met."""
    met = np.flatnonzero(count)
    flags = count[met]
    begin = np.cumsum(flags) - flags
    symbols = -(-flags // 4)
    place = np.cumsum(symbols) - symbols
    columns = (met, begin, flags, place)
    return list(zip(*(column.tolist() for column in columns), strict=True))


class Arranged:
    """Flags in order of context and then place, ready to be counted and coded."""

    def __init__(self, context: np.ndarray, flags: np.ndarray, contexts: int):
        """context (n,) uint8 below `contexts`, flags (n,) uint8, 0 or 1."""
        keys = _sorted(context, flags)
        self.count = _counted(keys, contexts)
        self.bits = keys.astype(np.uint8) & 1

    @property
    def ones(self) -> np.ndarray:
        """(contexts,) how many flags are set in each context."""
        found, set_ = np.zeros(len(self.count), np.int64), self.bits.view(bool)
        for which, begin, number, _ in _runs(self.count):
            found[which] = np.count_nonzero(set_[begin : begin + number])
        return found


class Writer:
    """Collects what a payload holds, in the order in which a `Reader` will ask for it."""

    def __init__(self, plain: bool = False):
        self.plain = plain or coder.AnsCoder is None
        self._parts: list[tuple[int, int, np.ndarray]] = []

    def flags(self, arranged: Arranged, codes: np.ndarray) -> None:
        """Flags of one round; codes (T,) of their contexts."""
        self._runs(arranged.bits, [(int(codes[n]), *run) for n, *run in _runs(arranged.count)])

    def _runs(self, bits: np.ndarray, runs: list[tuple[int, int, int, int]]) -> None:
        """Runs of flags: (code, first flag, flags, first symbol)."""
        if not runs:
            return
        _, _, number, place = runs[-1]
        padded = np.zeros(4 * (place - (-number // 4)) + 4, np.uint8)
        for _, begin, number, place in runs:
            # The last flags of a run, fewer than four, stand in the low bits of their symbol.
            whole, at = number & ~3, 4 * place
            padded[at : at + whole] = bits[begin : begin + whole]
            if number > whole:
                at += 4 * -(-number // 4) - (number - whole)
                padded[at : at + number - whole] = bits[begin + whole : begin + number]
        places = _packed(padded)
        for code, _, number, place in runs:
            self._parts.append((code, 4, places[place : place + number // 4]))
            if number % 4:
                last = place + number // 4
                self._parts.append((code, number % 4, places[last : last + 1]))

    def raw(self, bits: np.ndarray) -> None:
        """Bits (n,) that are as likely 0 as 1."""
        self._runs(bits, [(EVEN, 0, len(bits), 0)] if len(bits) else [])

    def numbers(self, values: np.ndarray, nibbles: int) -> None:
        """Unsigned numbers (n,), each of so many groups of four bits, the highest first."""
        shifts = 4 * np.arange(nibbles - 1, -1, -1)
        places = np.asarray(values, np.int64).reshape(-1, 1) >> shifts & 15
        self._parts.append((EVEN, 4, places.astype(np.int32).ravel()))

    def payload(self) -> bytes:
        ans = coder.stack(plain=self.plain)
        for code, flags, places in reversed(self._parts):  # a stack: last out, first in
            if len(places):
                ans.encode_reverse(places, _table(code, flags, self.plain))
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

    def __init__(self, payload: bytes, plain: bool = False):
        self.plain = plain or coder.AnsCoder is None
        self._ans = coder.stack(coder.words_of(payload), self.plain)

    def flags(self, context: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """(n,) uint8 flags, 0 or 1, of these contexts."""
        keys = _sorted(context, None)
        count = _counted(keys, len(codes))
        found = np.empty(len(context), np.uint8)
        for which, begin, number, _ in _runs(count):
            self._run(int(codes[which]), found[begin : begin + number])
        keys &= np.uint32(2 * MOST - 1)
        keys >>= np.uint32(1)
        result = np.empty(len(context), np.uint8)
        result[keys.astype(np.intp)] = found
        return result

    def raw(self, count: int) -> np.ndarray:
        """(count,) uint8 bits."""
        found = np.empty(count, np.uint8)
        self._run(EVEN, found)
        return found

    def _run(self, code: int, out: np.ndarray) -> None:
        """Fills `out` with flags of one probability."""
        whole, rest = divmod(len(out), 4)
        if whole:
            symbols = self._ans.decode(_table(code, 4, self.plain), whole)
            out[: 4 * whole] = _UNPACK[symbols].view(np.uint8)
        if rest:
            (symbol,) = self._ans.decode(_table(code, rest, self.plain), 1)
            out[4 * whole :] = _BITS[symbol, 4 - rest :]

    def numbers(self, count: int, nibbles: int) -> np.ndarray:
        """(count,) int64 unsigned numbers."""
        symbols = self._ans.decode(_table(EVEN, 4, self.plain), count * nibbles)
        shifts = 4 * np.arange(nibbles - 1, -1, -1)
        return (symbols.reshape(count, nibbles).astype(np.int64) << shifts).sum(1)

    def finish(self) -> None:
        """Raises Damaged unless exactly everything was read."""
        if not self._ans.is_empty():
            raise Damaged("a payload holds more than its flags")
