"""The density of a network's activations, and where to clip them.

A pre-activation X follows an asymmetric Laplace density with rate lambda, mode mu and asymmetry
kappa,

    f(x) = C exp(-a (x - mu)) for x >= mu,  C exp(b (x - mu)) for x < mu,
    a = lambda kappa,  b = lambda / kappa,  C = lambda / (kappa + 1 / kappa),

and the activation is Y = X for X >= 0, slope X below: a ReLU (slope 0), a leaky ReLU, or none at
all (slope 1). It is fitted from the mean and the variance of Y alone. The model and the optimal
clipping are those of Cohen, Choi and Bajić, "Lightweight compression of intermediate neural
network features" (IEEE OJCAS 2021).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sccodec.errors import BadRequest
from sccodec.latents.scalar import Quantiser

KAPPA = 0.5  # the asymmetry that the papers keep fixed
PLACES, ZOOMS = 25, 7  # of a search for the least error, which it finds to 3e-8 of its interval


@dataclass(frozen=True)
class Activation:
    """An asymmetric Laplace density seen through a (leaky) rectifier."""

    rate: float  # lambda, 1 / units of X
    mode: float  # mu
    slope: float = 0.0  # of the rectifier below 0: 0 ReLU, 0.1 leaky ReLU, 1 none
    kappa: float = KAPPA

    @functools.cached_property
    def pieces(self) -> tuple[np.ndarray, ...]:
        """(begin, end, factor, exponent) arrays: the density of Y is exp(factor + exponent y)."""
        a, b = self.rate * self.kappa, self.rate / self.kappa
        top = self.rate / (self.kappa + 1 / self.kappa)
        rows = []
        for begin, end, exponent in ((-math.inf, self.mode, b), (self.mode, math.inf, -a)):
            factor = math.log(top) - exponent * self.mode
            if end > 0:
                rows.append((max(begin, 0.0), end, factor, exponent))
            if begin < 0 and self.slope > 0:
                s = self.slope
                rows.append((s * begin, s * min(end, 0.0), factor - math.log(s), exponent / s))
        return tuple(np.array(rows).T)

    @property
    def atom(self) -> float:
        """The probability of exactly 0, which only a ReLU has."""
        if self.slope > 0:
            return 0.0
        begin, end, factor, exponent = self.pieces
        return 1.0 - float(_integral(begin, end, factor, exponent, 0.0, 0).sum())

    def moment(self, order: int) -> float:
        """E[Y^order] for order 0, 1 or 2."""
        total = float(_integral(*self.pieces, 0.0, order).sum())
        return total + (self.atom if order == 0 else 0.0)

    @property
    def mean(self) -> float:
        return self.moment(1)

    @property
    def variance(self) -> float:
        return self.moment(2) - self.mean**2

    def cells(self, edges: np.ndarray) -> np.ndarray:
        """(N,) probability of each cell between N + 1 edges, the outer ones infinite."""
        return self._over_cells(edges, np.zeros(len(edges) - 1), 0)

    def error(self, quantiser: Quantiser) -> float:
        """e_tot of the papers: mean squared error of quantising and of clipping together."""
        return float(self._over_cells(quantiser.edges, quantiser.levels, 2).sum())

    def uniform_errors(self, low: np.ndarray, high: np.ndarray, levels: int) -> np.ndarray:
        """(K,) the same of uniform pinned quantisers from low (K,) to high (K,)."""
        low, span = low[:, None], (high - low)[:, None]
        n = np.arange(levels)
        thresholds = low + span * ((2 * n[:-1] + 1) / (2 * (levels - 1)))
        outer = np.full_like(low, math.inf)
        edges = np.concatenate([-outer, thresholds, outer], axis=1)
        return self._over_cells(edges, low + span * (n / (levels - 1)), 2).sum(1)

    def entropy(self, quantiser: Quantiser) -> float:
        """Bits per element of the quantised levels, without any context."""
        share = self.cells(quantiser.edges)
        share = share[share > 0]
        return float(-(share * np.log2(share)).sum())

    def _over_cells(self, edges: np.ndarray, centres: np.ndarray, order: int) -> np.ndarray:
        """(..., N), for each cell between edges (..., N + 1) the integral of (y - centre)^order
        times the density."""
        begin, end, factor, exponent = (p.reshape(-1, *[1] * edges.ndim) for p in self.pieces)
        low = np.clip(edges[..., :-1], begin, end)
        high = np.clip(edges[..., 1:], begin, end)
        total = _integral(low, high, factor, exponent, centres, order).sum(0)
        if self.atom:
            cell = (edges[..., 1:-1] < 0).sum(-1, keepdims=True)
            centre = np.take_along_axis(centres, cell, -1)
            at = np.take_along_axis(total, cell, -1) + self.atom * (0.0 - centre) ** order
            np.put_along_axis(total, cell, at, -1)
        return total


def _integral(low, high, factor, exponent, centre, order: int) -> np.ndarray:
    """Integral of (y - centre)^order exp(factor + exponent y) from low to high, order 0 to 2."""

    def primitive(y):
        inside = np.where(np.isfinite(y), y, 0.0)  # an infinite end adds nothing
        d = inside - centre
        value = np.where(np.isfinite(y), np.exp(factor + exponent * inside), 0.0) / exponent
        if order == 1:
            value = value * (d - 1 / exponent)
        if order == 2:
            value = value * (d**2 - 2 * d / exponent + 2 / exponent**2)
        return value

    return primitive(high) - primitive(low)


def moments(mode: float, slope: float, kappa: float = KAPPA) -> tuple[float, float]:
    """(E[Y], E[Y^2]) at rate 1, in closed form."""
    a, b, m = kappa, 1 / kappa, mode
    top = 1 / (a + b)
    if m <= 0:
        e = math.exp(a * m)
        first = e / a**2
        second = 2 * e / a**3
        left = m / a + 1 / a**2 - e / a**2 + m / b - 1 / b**2
        spread = m**2 / a + 2 * m / a**2 + 2 / a**3 - 2 * e / a**3
        spread += m**2 / b - 2 * m / b**2 + 2 / b**3
    else:
        e = math.exp(-b * m)
        first = m / a + 1 / a**2 + m / b - 1 / b**2 + e / b**2
        second = m**2 / a + 2 * m / a**2 + 2 / a**3
        second += m**2 / b - 2 * m / b**2 + 2 / b**3 - 2 * e / b**3
        left, spread = -e / b**2, 2 * e / b**3
    return top * (first + slope * left), top * (second + slope**2 * spread)


def fit(mean: float, variance: float, slope: float, kappa: float = KAPPA) -> Activation:
    """The density with this mean and variance.

    Raises BadRequest where there is none, as for a mean that is not positive.
    """
    if not (mean > 0 and variance > 0):
        raise BadRequest(
            f"no rectified density has the mean {mean:g} and the variance {variance:g}",
            hint="clip by 'moments', by 'minmax' or by two numbers",
        )
    wanted = 1 + variance / mean**2  # does not change with the rate, and falls as the mode grows

    def spread(mode: float) -> float:
        first, second = moments(mode, slope, kappa)
        return second / first**2 if first > 0 else math.inf

    low, high = -1.0, 1.0
    while spread(low) < wanted and low > -256:
        low *= 2
    while spread(high) > wanted and high < 1e6:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if spread(middle) > wanted else (low, middle)
    scale = mean / moments(high, slope, kappa)[0]
    return Activation(1 / scale, high * scale, slope, kappa)


def laplace(mean: float, variance: float) -> Activation:
    """A symmetric Laplace density without a rectifier, as ACIQ (Banner et al.) assumes."""
    return Activation(math.sqrt(2 / variance), mean, slope=1.0, kappa=1.0)


@functools.cache
def tail_factor(levels: int) -> float:
    """t_N: where cmin is 0 and mu <= 0, the best cmax is t_N / (lambda kappa).

    Only the exponential tail decides: slope and mode add errors that no cmax changes.
    """
    tail = Activation(1.0, 0.0, slope=0.0, kappa=1.0)
    return _lowest(lambda top: tail.uniform_errors(0 * top, top, levels), 0.5, 4 * levels)


@functools.lru_cache(maxsize=1 << 12)  # of channels: each is asked about with every design
def optimal_clip(density: Activation, levels: int, low: float | None = None) -> tuple[float, float]:
    """(cmin, cmax) of the N-level uniform pinned quantiser with the least total error.

    low: a fixed cmin; None optimises both. Closed form for low = 0 and a mode of at most 0.
    Raises BadRequest for fewer than two levels.
    """
    if levels < 2:
        raise BadRequest(f"{levels} levels have no clipping range")
    a, b = density.rate * density.kappa, density.rate / density.kappa
    if low == 0 and density.mode <= 0:
        return 0.0, tail_factor(levels) / a
    reach = tail_factor(levels) / a + max(density.mode, 0.0)
    depth = density.slope * (tail_factor(levels) / b + max(-density.mode, 0.0))

    def best_high(low: float, least: float, most: float) -> float:
        errors = density.uniform_errors
        return _lowest(lambda high: errors(np.full_like(high, low), high, levels), least, most)

    def best_low(high: float, least: float, most: float) -> float:
        errors = density.uniform_errors
        return _lowest(lambda low: errors(low, np.full_like(low, high), levels), least, most)

    if low is not None:
        return low, best_high(low, low + reach / 100, low + 3 * reach)
    gain = 1e-6 if levels <= 64 else 1e-3  # many levels have many valleys, about as deep
    found, least, high, before = (0.0, reach), math.inf, reach, math.inf
    for _ in range(20):
        low = best_low(high, -3 * depth - reach / 10, 0.9 * high)
        high = best_high(low, max(low, 0) + reach / 100, 3 * reach)
        (error,) = density.uniform_errors(np.array([low]), np.array([high]), levels)
        if error < least:
            found, least = (low, high), error
        if not error < (1 - gain) * before:
            break
        before = error
    return found


def symmetric_clip(density: Activation, levels: int) -> tuple[float, float]:
    """The best (cmin, cmax) as far below the mode as above it, for a symmetric density."""
    unit = Activation(1.0, 0.0, slope=1.0, kappa=1.0)
    reach = _symmetric_factor(unit, levels) / density.rate
    return density.mode - reach, density.mode + reach


@functools.cache
def _symmetric_factor(unit: Activation, levels: int) -> float:
    return _lowest(lambda c: unit.uniform_errors(-c, c, levels), 0.3, 3 * levels)


def _lowest(function: Callable[[np.ndarray], np.ndarray], low: float, high: float) -> float:
    """Where a function is lowest, which is given many places at a time: in the valley that a scan
    finds lowest, if there are several."""
    for _ in range(ZOOMS):
        grid = np.linspace(low, high, PLACES)
        at = int(np.argmin(function(grid)))
        low, high = grid[max(at - 1, 0)], grid[min(at + 1, PLACES - 1)]
    return float((low + high) / 2)
