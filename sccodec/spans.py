"""Parts of an axis that are worked on apart, each with what it sees beyond its ends."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """One window along one axis: [begin, end) is kept of what [outer_begin, outer_end) gives."""

    begin: int
    end: int
    outer_begin: int
    outer_end: int

    @property
    def inside(self) -> tuple[int, int]:
        """Where what is kept begins and ends in what is given."""
        return self.begin - self.outer_begin, self.end - self.outer_begin


def spans(begin: int, end: int, size: int, halo: int, limit: int) -> Iterator[Span]:
    """Windows of `size` over [begin, end), each with `halo` on both sides inside [0, limit)."""
    for at in range(begin, end, size):
        stop = min(at + size, end)
        yield Span(at, stop, max(0, at - halo), min(limit, stop + halo))


def even(begin: int, end: int, about: int, halo: int, limit: int, unit: int = 1) -> Iterator[Span]:
    """As `spans`, but of about the given size, 1.5 times as much at most, and nearly the same.

    Sizes are multiples of `unit`, but for the last.
    """
    count = max(1, math.ceil((end - begin) / about - 0.5))
    size = -(-(end - begin) // (count * unit)) * unit
    return spans(begin, end, size, halo, limit)
