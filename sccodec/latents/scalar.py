"""Scalar quantisers of few levels for feature tensors, and coarser ones inside finer ones.

Uniform pinned: N levels with the outer two on the clip limits. Entropy-constrained pinned:
Chou, Lookabaugh and Gray's design on clipped samples, with the outer levels kept on the limits
(Cohen, Choi and Bajić, IEEE OJCAS 2021). Embedded: each cell of a coarse quantiser is a run of
cells of the next finer one, so that levels can be sent in layers.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sccodec.errors import BadRequest

# Of a step; 1/2 would be no dead zone. 0.3 to 0.4 gave the least error at equal size once contexts
# code the levels, on ReLU, leaky ReLU and linear features alike.
ROUNDING = 1 / 3
FEW = 40  # up to so many levels, comparing with each threshold beats a binary search
STRIDE = 4  # after so many, only values above all of them are compared with the others
SINGLE = 1 / 16  # of a step: what float32 may move a level
CROWDED = 1e3  # times their range that values are from 0
PIECE = 1 << 15  # values that are compared at once, so that they stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Quantiser:
    """N levels (N,) and the N - 1 thresholds between them, float64, both ascending.

    uniform: (cmin, cmax) if thresholds and levels follow from these and N.
    """

    levels: np.ndarray
    thresholds: np.ndarray
    limits: tuple[float, float] | None = None

    def __post_init__(self):
        if len(self.thresholds) != len(self.levels) - 1:
            raise BadRequest(f"{len(self.thresholds)} thresholds for {len(self.levels)} levels")
        if (np.diff(self.levels) < 0).any() or (np.diff(self.thresholds) < 0).any():
            raise BadRequest("the levels of a quantiser must ascend")

    @classmethod
    def uniform(cls, low: float, high: float, count: int) -> Quantiser:
        """Pinned: level n is low + (high - low) (n / (N - 1)), thresholds are half way.

        n / (N - 1) is rounded once, so an embedded coarser quantiser has the very same numbers.
        """
        if count < 1 or not low <= high or not math.isfinite(high - low):
            raise BadRequest(f"no quantiser has {count} levels from {low:g} to {high:g}")
        if count == 1:
            return cls(np.array([low]), np.empty(0), (low, low))
        n = np.arange(count)
        levels = low + (high - low) * (n / (count - 1))
        levels[-1] = high
        thresholds = low + (high - low) * ((2 * n[:-1] + 1) / (2 * (count - 1)))
        return cls(levels, thresholds, (low, high))

    def __len__(self) -> int:
        return len(self.levels)

    def in_single(self) -> Quantiser:
        """The same with levels that float32 holds, so that they are the ones that a file has.

        Levels too large for it, or too near to each other, stay as they are.
        """
        gap = (self.levels[-1] - self.levels[0]) / max(len(self) - 1, 1)
        return Quantiser(in_single(self.levels, gap), self.thresholds)

    @property
    def edges(self) -> np.ndarray:
        """(N + 1,) the thresholds between minus and plus infinity."""
        return np.concatenate([[-math.inf], self.thresholds, [math.inf]])

    @cached_property
    def index_type(self) -> np.dtype:
        return np.dtype(np.uint8 if len(self) <= 256 else np.int32)

    def index(self, values: np.ndarray) -> np.ndarray:
        """Level numbers of float values of any shape: how many thresholds lie below each."""
        thresholds = self.thresholds.astype(values.dtype)
        if len(self) > FEW:
            return np.searchsorted(thresholds, values).astype(self.index_type)
        found, flat = np.zeros(values.size, np.uint8), values.ravel()
        for at in range(0, len(flat), PIECE):
            _count(flat[at : at + PIECE], thresholds, found[at : at + PIECE])
        return found.reshape(values.shape)


def in_single(levels: np.ndarray, gap: float) -> np.ndarray:
    """Levels (N,) float64, rounded to float32 if that is little of the gap between them."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = levels.astype(np.float32).astype(np.float64)
        little = np.abs(rounded - levels) <= gap * SINGLE
    return rounded if little.all() else levels


def _count(values: np.ndarray, thresholds: np.ndarray, numbers: np.ndarray) -> None:
    """Adds to numbers (n,) uint8 how many thresholds, in ascending order, lie below values (n,)."""
    for threshold in thresholds[:STRIDE]:
        numbers += values > threshold
    if len(thresholds) > STRIDE and len(above := np.flatnonzero(values > thresholds[STRIDE])):
        more = np.ones(len(above), np.uint8)
        _count(values.take(above), thresholds[STRIDE + 1 :], more)
        numbers[above] += more


# -- entropy-constrained design ------------------------------------------------------------


class Sample:
    """Values of a tensor, sorted, with running sums: a cell's moments cost two look-ups."""

    def __init__(self, values: np.ndarray, *, ordered: bool = False):
        """Values of any shape; `ordered` if they ascend already."""
        self.values = (values if ordered else np.sort(values, axis=None)).astype(np.float64)
        self._origin = self._crowd()
        self._sums = np.zeros((3, len(self.values) + 1))
        with np.errstate(over="ignore"):
            for row, power in zip(self._sums, (0, 1, 2), strict=True):
                np.cumsum((self.values - self._origin) ** power, out=row[1:])

    def __len__(self) -> int:
        return len(self.values)

    def clipped(self, low: float, high: float) -> Sample:
        return Sample(np.clip(self.values, low, high), ordered=True)

    def _crowd(self) -> float:
        """Around what sums are taken: 0, or the middle of values that are far from it and near to
        each other, whose squares would have no digits left for what they differ by."""
        low, high = self.values[0], self.values[-1]
        return float(low / 2 + high / 2) if CROWDED * (high - low) < max(low, -high) else 0.0

    @property
    def mean(self) -> float:
        return float(self._origin + self._sums[1, -1] / len(self))

    @property
    def variance(self) -> float:
        return float(np.var(self.values))

    def cells(self, thresholds: np.ndarray) -> np.ndarray:
        """(2, N): how many values are in each cell, and their sum."""
        count, first, _ = self._cells(thresholds)
        return np.stack([count, first + self._origin * count])

    def _cells(self, thresholds: np.ndarray) -> np.ndarray:
        """(3, N): for each cell the count, and sums of its values and of their squares from the
        origin."""
        cuts = np.searchsorted(self.values, thresholds, side="right")
        return np.diff(self._sums[:, [0, *cuts, len(self)]], axis=1)

    def error(self, quantiser: Quantiser) -> float:
        """Mean squared error of quantising the sample."""
        count, first, second = self._cells(quantiser.thresholds)
        levels = quantiser.levels - self._origin
        with np.errstate(over="ignore", invalid="ignore"):  # the largest of float64
            total = float((second - 2 * levels * first + levels**2 * count).sum())
        return max(total, 0.0) / len(self)

    def entropy(self, quantiser: Quantiser) -> float:
        """Bits per element of the levels, without any context."""
        share = self.cells(quantiser.thresholds)[0] / len(self)
        share = share[share > 0]
        return float(-(share * np.log2(share)).sum())


def entropy_constrained(
    sample: Sample, low: float, high: float, count: int, weight: float, *, rounds: int = 40
) -> Quantiser:
    """The pinned entropy-constrained quantiser of at most `count` levels.

    weight: the Lagrangian, squared units of the values for one bit. Cells that become empty are
    deleted, the outer two never. Minimises MSE + weight x entropy of the clipped sample.
    """
    inside = sample.clipped(low, high)
    start = Quantiser.uniform(low, high, count)
    levels, thresholds = start.levels, start.thresholds
    bits = -np.log2(np.maximum(inside.cells(thresholds)[0], 0.5) / len(inside))
    best = math.inf
    for _ in range(rounds):
        levels, bits, thresholds = _cells_of(levels, bits, weight)
        cells = inside.cells(thresholds)
        keep = cells[0] > 0
        keep[[0, -1]] = True
        levels, cells = levels[keep], cells[:, keep]
        thresholds = _between(thresholds, keep)
        share = np.maximum(cells[0], 0.5) / len(inside)
        bits = -np.log2(share)
        middle = slice(1, len(levels) - 1)
        levels[middle] = cells[1, middle] / cells[0, middle]
        found = Quantiser(levels.copy(), thresholds)
        cost = inside.error(found) + weight * inside.entropy(found)
        if cost >= best * (1 - 1e-5):
            break
        best = cost
    return Quantiser(levels, thresholds)


def _cells_of(levels: np.ndarray, bits: np.ndarray, weight: float):
    """Levels that win some interval, their bits, and the thresholds between them."""
    least = 1e-12 * (levels[-1] - levels[0]) or 1.0

    def cuts(low, high) -> np.ndarray:
        """Where the cost of the levels `high` becomes less than that of the levels `low`."""
        gap = np.maximum(levels[high] - levels[low], least)
        return (levels[low] + levels[high]) / 2 + weight * (bits[high] - bits[low]) / (2 * gap)

    found = cuts(slice(0, -1), slice(1, None))
    if (np.diff(found) > 0).all():
        return levels, bits, found
    kept, places = [0], []
    for n in range(1, len(levels)):
        at = cuts(kept[-1], n)
        while places and at <= places[-1]:  # the level before never wins
            kept.pop()
            places.pop()
            at = cuts(kept[-1], n)
        kept.append(n)
        places.append(at)
    return levels[kept], bits[kept], np.array(places)


def _between(thresholds: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The thresholds that stay when some cells, not the outer ones, are deleted."""
    kept = np.flatnonzero(keep)
    return thresholds[kept[1:] - 1]


# -- dead zones ----------------------------------------------------------------------------


def dead_zone(sample: Sample, step: float, centre: float = 0.0) -> Quantiser:
    """Equal steps with a wider cell around the centre; each level is the mean of its cell.

    As good as the entropy-constrained design for peaked densities (Sullivan, IEEE Trans.
    Information Theory 1996), without its search: nothing is clipped, the step alone sets the
    rate. Cells without a value of the sample are left out.
    """
    low, high = sample.values[0] - centre, sample.values[-1] - centre
    above = np.arange(1, math.floor(high / step + ROUNDING) + 1)
    below = np.arange(1, math.floor(-low / step + ROUNDING) + 1)[::-1]
    thresholds = centre + step * np.concatenate([ROUNDING - below, above - ROUNDING])
    count, total = sample.cells(thresholds)
    kept = np.flatnonzero(count)
    return Quantiser(total[kept] / count[kept], thresholds[kept[1:] - 1])


# -- embedded quantisers -------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Embedded:
    """Quantisers of one tensor, coarse to fine; each coarse cell is a run of finer ones.

    first[l] (N_l + 1,): cell n of quantiser l is made of the cells first[l][n] up to, not
    including, first[l][n + 1] of quantiser l + 1.
    """

    quantisers: tuple[Quantiser, ...]
    first: tuple[np.ndarray, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.quantisers)

    @property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """For each quantiser but the last, of how many finer cells each of its cells is made."""
        return tuple(tuple(np.diff(first).tolist()) for first in self.first)

    @property
    def finest(self) -> Quantiser:
        return self.quantisers[-1]

    def indexes(self, values: np.ndarray) -> list[np.ndarray]:
        """Level numbers of the values in each layer, coarse to fine."""
        found = [self.finest.index(values)]
        for layer in range(len(self) - 2, -1, -1):
            cells = np.arange(len(self.quantisers[layer]))
            parent = np.repeat(cells, np.diff(self.first[layer]))
            found.append(parent.astype(self.quantisers[layer].index_type)[found[-1]])
        return found[::-1]


def uniform_children(coarse: int, fine: int) -> np.ndarray | None:
    """`first` of two uniform quantisers over the same limits; None if they are not embedded.

    They are if (fine - 1) / (coarse - 1) is an odd whole number: then each coarse threshold is a
    fine one. A coarse quantiser of one level holds every other.
    """
    if coarse == 1:
        return np.array([0, fine])
    ratio, rest = divmod(fine - 1, coarse - 1)
    if rest or ratio % 2 == 0:
        return None
    first = ratio * np.arange(coarse + 1) - (ratio - 1) // 2
    return np.clip(first, 0, fine)


def embedded_uniform(low: float, high: float, counts: tuple[int, ...]) -> Embedded:
    """Uniform quantisers with these numbers of levels. Raises BadRequest if they do not nest."""
    first = []
    for coarse, fine in itertools.pairwise(counts):
        children = uniform_children(coarse, fine) if fine > coarse else None
        if children is None:
            raise BadRequest(
                f"{fine} levels do not refine {coarse}: "
                f"{fine} - 1 must be an odd multiple of {coarse} - 1",
                hint="such as --levels 2,4,10 or --levels 3,7",
            )
        first.append(children)
    quantisers = tuple(Quantiser.uniform(low, high, count) for count in counts)
    return Embedded(quantisers, tuple(first))


def merged(fine: Quantiser, sample: Sample, layers: int) -> Embedded:
    """A quantiser below coarser ones made of its cells, merged two and two.

    The outer cells stay alone as long as there are others, so that their levels stay pinned; a
    merged cell has the mean of the clipped sample in it as its level. Two levels become one.
    """
    quantisers, first = [fine], []
    low, high = float(fine.levels[0]), float(fine.levels[-1])
    inside = sample.clipped(low, high)
    for _ in range(layers - 1):
        finer = quantisers[0]
        children = np.array([*_starts(len(finer)), len(finer)])
        thresholds = finer.thresholds[children[1:-1] - 1]
        cells = inside.cells(thresholds)
        levels = np.where(cells[0] > 0, cells[1] / np.maximum(cells[0], 1), 0)
        # A cell without values, and rounding, must not put levels out of order.
        levels = np.clip(levels, finer.levels[children[:-1]], finer.levels[children[1:] - 1])
        quantisers.insert(0, Quantiser(levels, thresholds))
        first.insert(0, children)
    return Embedded(tuple(quantisers), tuple(first))


def _starts(count: int) -> list[int]:
    """Where merged cells begin among `count` cells."""
    if count <= 3:
        return [0, 1] if count == 3 else [0]
    return [0, *range(1, count - 1, 2), count - 1]
