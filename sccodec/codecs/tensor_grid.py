"""How a tensor is seen by its coder: planes of rows and columns, cut into tiles of elements."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

TILE = 1 << 20  # elements; larger tensors are cut, so that memory is bounded and threads have work
AUTO = "auto"


def default_channel_axis(axes: int) -> int | None:
    """Where channels are by convention: (..., C, H, W), or (tokens, features)."""
    if axes >= 3:
        return axes - 3
    return 1 if axes == 2 else None


@dataclass(frozen=True)
class Part:
    """A tile: some planes, rows and columns of a tensor."""

    planes: slice
    rows: slice
    columns: slice

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(s.stop - s.start for s in (self.planes, self.rows, self.columns))


@dataclass(frozen=True)
class Grid:
    """Axes in the order (batch..., channel, row, column), and the cut into tiles.

    The last two axes other than the channels are rows and columns; a plane is one channel of one
    item of the batch.
    """

    shape: tuple[int, ...]
    channel_axis: int | None
    tile: int = TILE  # elements at most, if a tile is more than a part of a row
    whole: bool = False  # tiles hold all channels of an item, or of several

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The tensor's axes as the coder sees them."""
        rest = [n for n in range(len(self.shape)) if n != self.channel_axis]
        if self.channel_axis is None:
            return tuple(rest)
        at = max(len(rest) - 2, 0)
        return (*rest[:at], self.channel_axis, *rest[at:])

    @cached_property
    def channels(self) -> int:
        return 1 if self.channel_axis is None else self.shape[self.channel_axis]

    @cached_property
    def canonical(self) -> tuple[int, int, int, int]:
        """(batch, channels, rows, columns)"""
        sizes = [self.shape[n] for n in self.order if n != self.channel_axis]
        columns = sizes.pop() if sizes else 1
        rows = sizes.pop() if sizes else 1
        return math.prod(sizes), self.channels, rows, columns

    @cached_property
    def planes(self) -> tuple[int, int, int]:
        """(planes, rows, columns)"""
        batch, channels, rows, columns = self.canonical
        return batch * channels, rows, columns

    @cached_property
    def parts(self) -> list[Part]:
        """The tiles in raster order; one without elements for a tensor without any."""
        planes, rows, columns = self.planes
        whole = slice(0, planes), slice(0, rows), slice(0, columns)
        if rows * columns <= self.tile:
            step = self.tile // max(rows * columns, 1)
            if self.whole:
                step = max(step // max(self.channels, 1), 1) * self.channels
            return [Part(s, *whole[1:]) for s in _cuts(planes, step)]
        if columns <= self.tile:
            steps = _cuts(rows, self.tile // columns)
            return [Part(slice(p, p + 1), s, whole[2]) for p in range(planes) for s in steps]
        return [
            Part(slice(p, p + 1), slice(r, r + 1), s)
            for p in range(planes)
            for r in range(rows)
            for s in _cuts(columns, self.tile)
        ]

    def channel_of(self, part: Part) -> np.ndarray:
        """(planes,) integers: the channel of each plane of a part."""
        return np.arange(part.planes.start, part.planes.stop) % self.channels

    def of_channels(self, part: Part, values: np.ndarray) -> np.ndarray:
        """Values of the channels (C,), for each plane of a part: (planes, 1, 1)."""
        return values[self.channel_of(part)][:, None, None]

    def pieces(self, part: Part) -> list[tuple[int, slice, slice]]:
        """(batch item, its channels, their place among the part's planes)."""
        found, first = [], part.planes.start
        while first < part.planes.stop:
            item, channel = divmod(first, self.channels)
            count = min(self.channels - channel, part.planes.stop - first)
            at = first - part.planes.start
            found.append((item, slice(channel, channel + count), slice(at, at + count)))
            first += count
        return found


def _cuts(length: int, step: int) -> list[slice]:
    step = max(step, 1)
    return [slice(n, min(n + step, length)) for n in range(0, length, step)] or [slice(0, 0)]


class Window:
    """An array behind a grid: parts of it are read or filled one after the other."""

    def __init__(self, grid: Grid, values: np.ndarray):
        """`values` is never copied, so what is put lies in it; zero axes are one element."""
        self.grid, self.dtype = grid, values.dtype
        ordered = values.transpose(grid.order)
        if grid.channel_axis is None:
            ordered = np.expand_dims(ordered, max(values.ndim - 2, 0))
        while ordered.ndim < 3:  # the channels are first, rows come before columns
            ordered = np.expand_dims(ordered, 1)
        self._ordered = ordered

    def _item(self, item: int) -> np.ndarray:
        """(channels, rows, columns) of one item of the batch, a view."""
        return self._ordered[np.unravel_index(item, self._ordered.shape[:-3])]

    def get(self, part: Part) -> np.ndarray:
        """(planes, rows, columns) of a part; a view if it lies within one item."""
        pieces = self.grid.pieces(part)
        if len(pieces) == 1:
            item, channels, _ = pieces[0]
            return self._item(item)[channels, part.rows, part.columns]
        out = np.empty(part.shape, self.dtype)
        for item, channels, at in pieces:
            out[at] = self._item(item)[channels, part.rows, part.columns]
        return out

    def put(self, part: Part, values: np.ndarray) -> None:
        for item, channels, at in self.grid.pieces(part):
            self._item(item)[channels, part.rows, part.columns] = values[at]
