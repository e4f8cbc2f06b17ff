"""Symbols and table indexes <-> the bytes of one (layer, tile) payload.

Symbols come in rounds, since later table indexes depend on earlier symbols. Within a round
they are grouped by table index, so that each table is set up once; `formats/entropy.md`
section 5 has the order to the word.
"""

from __future__ import annotations

import zlib
from functools import cached_property
from typing import NamedTuple

import numpy as np

from sccodec.entropy import ans
from sccodec.entropy.tables import LARGEST, TOTAL, Tables
from sccodec.errors import Damaged

try:
    import constriction
except ImportError:  # no wheel for this machine: slower, the same bytes
    AnsCoder = None
else:
    # Its submodules are attributes of the extension and cannot be imported by name.
    AnsCoder = constriction.stream.stack.AnsCoder
    Categorical = constriction.stream.model.Categorical

_WIDTHS, _BYTE, _SIGN = 32, 256, 2  # alphabets of an escape, all equally likely


class Models:
    """A table family in the form that the entropy coder takes, each table built on first use."""

    def __init__(self, tables: Tables, *, plain: bool = False):
        """`plain` uses the pure Python coder even where constriction is installed."""
        self.tables = tables
        self.plain = plain or AnsCoder is None
        self._built: dict[int, object] = {}

    def _build(self, counts: np.ndarray):
        return table(counts, self.plain)

    def table(self, t: int):
        if t not in self._built:
            self._built[t] = self._build(self.tables.table(t))
        return self._built[t]

    @cached_property
    def uniform(self) -> dict:
        return {n: self._build(np.full(n, TOTAL // n)) for n in (_WIDTHS, _BYTE, _SIGN)}

    def coder(self, words: np.ndarray | None = None):
        return stack(words, self.plain)


def table(counts: np.ndarray, plain: bool = False):
    """Counts (n,) that add up to 2^24, in the form that the coder takes."""
    if plain or AnsCoder is None:
        return ans.Table(counts)
    # With perfect=True constriction keeps counts of 2^-24 exactly as they are.
    return Categorical(counts / float(TOTAL), perfect=True)


def stack(words: np.ndarray | None = None, plain: bool = False):
    """An empty coder, or one that reads words (n,) uint32."""
    kind = ans.Ans if plain or AnsCoder is None else AnsCoder
    return kind() if words is None else kind(words)


def words_of(payload: bytes) -> np.ndarray:
    """The words of a payload, (n,) uint32. Raises Damaged if the bytes cannot be a payload."""
    if len(payload) % 4:
        raise Damaged(f"a payload of {len(payload)} bytes is not a number of words")
    words = np.frombuffer(payload, "<u4").astype(np.uint32)
    if len(words) and words[-1] == 0:
        raise Damaged("a payload ends with a zero word")
    return words


class Groups(NamedTuple):
    """The symbols of a round by table: each table is set up once."""

    order: np.ndarray  # (n,): positions sorted by table index
    runs: list[tuple[int, int, int]]  # table, where its symbols begin in that order, and end

    @classmethod
    def of(cls, index: np.ndarray | Groups) -> Groups:
        """From table indexes (n,) int32; groups are what they are."""
        if isinstance(index, Groups):
            return index
        order = np.argsort(index.astype(np.uint16), kind="stable")  # 16 bits: a radix sort
        counts = np.bincount(index)
        ends = np.cumsum(counts)
        return cls(
            order,
            [(t, int(ends[t] - counts[t]), int(ends[t])) for t in np.flatnonzero(counts).tolist()],
        )


def encode(models: Models, rounds: list[tuple[np.ndarray, np.ndarray | Groups]]) -> bytes:
    """Rounds of (symbols (n,) int32, table index (n,) int32 or `Groups` of it) -> payload bytes."""
    coder = models.coder()
    for symbols, index in reversed(rounds):
        order, runs = Groups.of(index)
        places, escapes = symbols[order], []
        for table, begin, end in runs:
            reach, part = int(models.tables.reach[table]), places[begin:end]
            if part.max() > reach or part.min() < -reach:
                outside = np.flatnonzero(np.abs(part) > reach)
                escapes += [(int(symbol), reach) for symbol in part[outside]]
                part[outside] = reach + 1
            part += reach
        # The coder is a stack: what is decoded last is pushed first.
        for symbol, reach in reversed(escapes):
            _push_escape(coder, models.uniform, symbol, reach)
        for table, begin, end in reversed(runs):
            coder.encode_reverse(places[begin:end], models.table(table))
    return coder.get_compressed().astype("<u4").tobytes()


def _push_escape(coder, uniform, symbol: int, reach: int) -> None:
    beyond = abs(symbol) - reach  # at least 1; its leading bit is implied by its width
    width = beyond.bit_length() - 1
    rest = beyond - (1 << width)
    for byte in range((width + 7) // 8):
        coder.encode_reverse(np.array([rest >> 8 * byte & 255], np.int32), uniform[_BYTE])
    coder.encode_reverse(np.array([width], np.int32), uniform[_WIDTHS])
    coder.encode_reverse(np.array([symbol < 0], np.int32), uniform[_SIGN])


def _pop_escape(coder, uniform, reach: int) -> int:
    negative = bool(coder.decode(uniform[_SIGN], 1)[0])
    width = int(coder.decode(uniform[_WIDTHS], 1)[0])
    if width > LARGEST.bit_length():
        raise Damaged("an escaped symbol is out of range")
    rest = 0
    for _ in range((width + 7) // 8):
        rest = rest << 8 | int(coder.decode(uniform[_BYTE], 1)[0])
    if rest >> width:
        raise Damaged("an escaped symbol is longer than its width")
    size = reach + (1 << width) + rest
    if size > LARGEST:
        raise Damaged("an escaped symbol is out of range")
    return -size if negative else size


class Decoder:
    """Reads the rounds of one payload, in the order in which they were given to `encode`.

    Raises Damaged if the bytes cannot be a payload.
    """

    def __init__(self, models: Models, payload: bytes):
        self.models = models
        self.coder = models.coder(words_of(payload))

    def decode(self, index: np.ndarray | Groups) -> np.ndarray:
        """Symbols (n,) int32 for table indexes (n,) int32, or `Groups` of them."""
        models, coder = self.models, self.coder
        order, runs = Groups.of(index)
        symbols = np.empty(len(order), np.int32)
        escapes: list[tuple[int, int]] = []  # where, and the reach of the table
        for table, begin, end in runs:
            places = coder.decode(models.table(table), end - begin)
            reach = int(models.tables.reach[table])
            np.subtract(places, reach, out=symbols[begin:end])
            if places.max() > 2 * reach:
                outside = np.flatnonzero(places > 2 * reach)
                escapes += [(begin + n, reach) for n in outside.tolist()]
        for n, reach in escapes:
            symbols[n] = _pop_escape(coder, models.uniform, reach)
        result = np.empty_like(symbols)
        result[order] = symbols
        return result

    def finish(self) -> None:
        """Raises Damaged unless exactly everything was read."""
        if not self.coder.is_empty():
            raise Damaged("a payload holds more than its symbols")


def checksum(rounds: list[np.ndarray]) -> int:
    """CRC-32 of all symbols as little-endian int32, in coding order: the same on every machine
    that decodes exactly, so `verify` can tell damage from a machine that computes differently."""
    crc = 0
    for symbols in rounds:
        crc = zlib.crc32(np.ascontiguousarray(symbols, "<i4"), crc)
    return crc
