"""Restoration of quantised planes: what a level stands for, given the levels around it.

A level's value is the mean of all elements of its cell. Among strong neighbours the elements of
that cell are stronger than that, and in quiet planes weaker: for each level a filter with three
taps (the four neighbours beside, the four at the corners, the plane's mean) moves the value
accordingly, as the classified Wiener filters of video codecs do (Tsai et al., "Adaptive loop
filtering for video coding", IEEE J. Selected Topics in Signal Processing 2013). Neighbours and
taps are small integers, so every machine restores the same values; formats/tensor.md section 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from sccodec.container.tensors import MOST_SEEN, MOST_SHIFT, LevelFilter

TAP, CONSTANT = 127, 2**15 - 1
FEW = 24  # elements of a level below which it gets no taps


def restore(filter_: LevelFilter, levels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Level numbers (P, H, W) of levels (N,) float64 -> values (P, H, W) float64, not clamped.

    Sums of taps times neighbours are whole numbers below 2^24, so float32 holds them exactly.
    """
    if not numbers.size:
        return np.zeros(numbers.shape)
    at = numbers.astype(np.intp)

    def of_levels(values: np.ndarray) -> np.ndarray:
        return values.take(at, mode="clip")  # twice as fast as values[numbers]

    constant, *taps = np.array(filter_.taps, np.float32).T
    moved = of_levels(np.ldexp(constant, filter_.shift))
    around = surroundings(of_levels(seen(levels, filter_.unit)))
    for tap, known in zip(taps, around, strict=True):
        moved += of_levels(tap) * known
    return of_levels(levels) + moved * 2.0 ** (filter_.unit - filter_.shift)


def unit_of(levels: np.ndarray) -> int:
    """A unit in which levels span MOST_SEEN at most."""
    return math.frexp(float(levels[-1] - levels[0]) / MOST_SEEN)[1]


def seen(levels: np.ndarray, unit: int) -> np.ndarray:
    """(N,) float32 whole numbers: levels above the first one, in units of 2^unit."""
    return np.floor(np.ldexp(levels - levels[0], -unit) + 0.5).astype(np.float32)


def surroundings(known: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Planes (P, H, W) of whole numbers -> the sums over the four elements beside each and the
    four at its corners, edges repeated, and the whole part of each plane's mean (P, 1, 1)."""
    wide = np.pad(known, ((0, 0), (1, 1), (1, 1)), mode="edge")
    across = wide[:, :, :-2] + wide[:, :, 2:]
    corner = across[:, :-2] + across[:, 2:]
    beside = across[:, 1:-1] + wide[:, :-2, 1:-1]
    beside += wide[:, 2:, 1:-1]
    mean = np.floor(known.mean((1, 2), keepdims=True, dtype=np.float64))
    return beside, corner, mean.astype(np.float32)


def fit(
    levels: np.ndarray, parts: Iterable[tuple[np.ndarray, np.ndarray]], low: float, high: float
) -> tuple[LevelFilter | None, float]:
    """The filter with the least squared error over parts, each (numbers, values) (P, H, W), and
    that error as a share of the error without; (None, 1) for levels too few or too far apart.
    """
    if len(levels) < 2 or not levels[-1] > levels[0]:
        return None, 1.0
    unit = unit_of(levels)
    if not -128 <= unit <= 127:
        return None, 1.0
    k = seen(levels, unit)
    count = len(levels)
    moments = np.zeros((count, 4, 4))
    wanted = np.zeros((count, 4))
    before = 0.0
    for numbers, values in parts:
        if not numbers.size:
            continue
        error = np.ldexp(values.astype(np.float64) - levels[numbers], -unit)
        known = [np.ones(numbers.shape), *surroundings(k[numbers])]
        rows = np.stack([np.broadcast_to(one, numbers.shape).ravel() for one in known], 1)
        before += float(np.square(error).sum())
        for n in range(count):
            own = np.flatnonzero(numbers.ravel() == n)
            some = rows[own].astype(np.float64)
            moments[n] += some.T @ some
            wanted[n] += some.T @ error.ravel()[own]
    taps = np.array([_solved(m, w) for m, w in zip(moments, wanted, strict=True)])
    largest = np.abs(taps).max(initial=2.0**-MOST_SHIFT)
    shift = int(np.clip(math.floor(math.log2(TAP / largest)), 0, MOST_SHIFT))
    taps = np.clip(np.rint(np.ldexp(taps, shift)), -TAP, TAP)
    # The constant makes up for what rounding the taps has changed on average.
    rest = wanted[:, 0] - np.ldexp((moments[:, 0, 1:] * taps).sum(1), -shift)
    constant = np.clip(np.rint(rest / np.maximum(moments[:, 0, 0], 1)), -CONSTANT, CONSTANT)
    weights = np.concatenate([constant[:, None], np.ldexp(taps, -shift)], 1)
    bent = np.einsum("ni,nij,nj->n", weights, moments, weights)
    change = bent - 2 * (weights * wanted).sum(1)
    weights[change >= 0] = 0
    whole = np.concatenate([weights[:, :1], np.ldexp(weights[:, 1:], shift)], 1).astype(int)
    after = before + np.minimum(change, 0).sum()
    made = LevelFilter(unit, shift, low, high, tuple(map(tuple, whole.tolist())))
    return made, after / before if before else 1.0


def _solved(moments: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The three taps of one level; zeros if it has too few elements."""
    if moments[0, 0] < FEW:
        return np.zeros(3)
    ridge = np.diag(1e-4 * moments.diagonal() + 1e-6)
    return np.linalg.solve(moments + ridge, wanted)[1:]
