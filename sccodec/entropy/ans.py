"""The entropy coder itself in plain Python: asymmetric numeral systems on 32-bit words.

Laid out like section 5 of `formats/entropy.md`. constriction's AnsCoder writes and reads the
same words many times faster; this one is for machines without constriction, and for tests.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

import numpy as np

from sccodec.entropy.tables import PRECISION, TOTAL

WORD = 32
MASK = (1 << WORD) - 1


class Table:
    """One probability table, ready for coding: counts and where each begins."""

    def __init__(self, counts: np.ndarray):
        self.counts = [int(c) for c in counts]
        self.begins = [0, *accumulate(self.counts)][:-1]


class Ans:
    """A stack of symbols in one 64-bit state and a list of 32-bit words.

    Encoding pushes and decoding pops, so symbols are encoded last first.
    """

    def __init__(self, words: np.ndarray | None = None):
        """An empty coder, or one that reads `words` (n,) uint32."""
        self.words = [] if words is None else [int(w) for w in words]
        self.state = 0
        while self.words and self.state >> WORD == 0:
            self.state = self.state << WORD | self.words.pop()

    def encode_reverse(self, symbols: np.ndarray, table: Table) -> None:
        """Pushes symbols (n,) so that `decode` gives them back in their order."""
        for symbol in symbols[::-1]:
            count = table.counts[symbol]
            if self.state >> (2 * WORD - PRECISION) >= count:
                self.words.append(self.state & MASK)
                self.state >>= WORD
            quotient, rest = divmod(self.state, count)
            self.state = quotient << PRECISION | table.begins[symbol] + rest

    def decode(self, table: Table, count: int) -> np.ndarray:
        """Pops `count` symbols, (count,) int32."""
        symbols = np.empty(count, np.int32)
        for n in range(count):
            place = self.state & (TOTAL - 1)
            symbol = bisect_right(table.begins, place) - 1
            begin = table.begins[symbol]
            self.state = (self.state >> PRECISION) * table.counts[symbol] + place - begin
            if self.state >> WORD == 0 and self.words:
                self.state = self.state << WORD | self.words.pop()
            symbols[n] = symbol
        return symbols

    def get_compressed(self) -> np.ndarray:
        """All words, (n,) uint32: those written, then the state, low word first."""
        words, state = list(self.words), self.state
        while state:
            words.append(state & MASK)
            state >>= WORD
        return np.array(words, np.uint32)

    def is_empty(self) -> bool:
        return not self.words and self.state == 0
