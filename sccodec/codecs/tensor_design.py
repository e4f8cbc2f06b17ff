"""Which quantiser a tensor gets: its clipping range, and designs by their entropy."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from sccodec.codecs.tensor_grid import Grid
from sccodec.codecs.tensor_settings import CLIPS, DEFAULT_LEVELS, Settings
from sccodec.codecs.tensor_statistics import Offsets, Statistics, summary
from sccodec.container.tensors import MOST_LEVELS, MOST_UNARY, LevelFilter, Transform
from sccodec.errors import BadRequest
from sccodec.latents import activation
from sccodec.latents.scalar import (
    Embedded,
    Quantiser,
    dead_zone,
    embedded_uniform,
    entropy_constrained,
    in_single,
    merged,
    uniform_children,
)

SMALL = 1 << 12  # elements of a tensor whose size hardly follows its entropy: all is tried
AMPLE = 1 << 12  # levels from which on a range hardly grows with their number
LEAKY = 0.1  # slope that is assumed below 0
LAGRANGIAN = 0.1  # of entropy-constrained designs without a rate, in squared step sizes
COUNTS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 512)
COUNTS += (1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16)
FINEST = 4096  # steps of a range with a dead zone


@dataclass(frozen=True, eq=False)
class Design:
    """What turns a tensor's values into level numbers, in each layer, and back."""

    embedded: Embedded
    channel_axis: int | None
    scales: bytes = b""  # for each channel, see `scale_of`
    offsets: Offsets | None = None
    # The first share of each plane goes through a coarser quantiser before, to save bits. Level
    # numbers are all that a file holds, so only encoders know of it.
    coarser: Quantiser | None = None
    share: float = 0.0
    filters: tuple[LevelFilter | None, ...] = ()  # for each layer, if any has one
    transform: Transform | None = None  # then coefficients are coded, and nothing else counts

    @property
    def layer_count(self) -> int:
        return self.transform.layer_count if self.transform else len(self.embedded)

    def factors(self) -> np.ndarray | None:
        """(C,) float64, by which each channel's levels are multiplied."""
        return scale_of(np.frombuffer(self.scales, np.uint8)) if self.scales else None


def scale_of(code: np.ndarray) -> np.ndarray:
    """Channel scales: (16 + code mod 16) / 32 halved code // 16 times; exact, 31/32 at most."""
    code = np.asarray(code, np.int64)
    return np.ldexp((16.0 + code % 16) / 32, -(code // 16))


def nearest_scale(factor: np.ndarray) -> bytes:
    """The codes of the scales that are nearest to factors of 0..1."""
    every = scale_of(np.arange(256))
    order = np.argsort(every)
    at = np.searchsorted(every[order], factor)
    low, high = np.clip(at - 1, 0, 255), np.clip(at, 0, 255)
    nearer = np.abs(every[order][low] - factor) < np.abs(every[order][high] - factor)
    return order[np.where(nearer, low, high)].astype(np.uint8).tobytes()


# -- clipping --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Range:
    """A clipping range for any number of levels, and the value that it grows around."""

    limits: Callable[[int], tuple[float, float]]
    centre: float = 0.0

    def scaled(self, count: int, factor: float) -> tuple[float, float]:
        low, high = (factor * (limit - self.centre) for limit in self.limits(count))
        return self.centre + low, self.centre + high


def clipping(stats: Statistics, settings: Settings) -> Range:
    """The range that the settings ask for.

    "model" fits the activation model to mean and variance; values without a rectifier, which it
    cannot describe, get the Laplace density of "moments".
    """
    if not isinstance(settings.clip, str):
        low, high = map(float, settings.clip)
        return Range(lambda _: (low, high), min(max(0.0, low), high))
    low, high = float(stats.low), float(stats.high)
    if settings.clip == "minmax" or not math.isfinite(stats.squares):
        return Range(lambda _: (low, high), min(max(0.0, low), high))
    if settings.clip == "model" and stats.rectified and stats.variance > 0:
        slope = settings.slope
        if slope is None:
            slope = LEAKY if low < 0 else 0.0
        density = activation.fit(stats.mean, stats.variance, slope)
        least = None if slope > 0 else 0.0
        limits = functools.cache(
            lambda count: activation.optimal_clip(density, min(count, AMPLE), least)
        )
        return Range(limits)
    if stats.variance <= 0:
        return Range(lambda _: (low, high), stats.mean)
    density = activation.laplace(stats.mean, stats.variance)

    def limits(count: int) -> tuple[float, float]:
        lower, upper = activation.symmetric_clip(density, min(count, AMPLE))
        return max(lower, low), min(upper, high)

    return Range(limits, stats.mean)


def by_channel(stats: Statistics, settings: Settings) -> tuple[Statistics, bytes]:
    """What is quantised: all as it is, or each channel divided by its scale; and the scales."""
    if not settings.channelwise or stats.channels is None or stats.channels.shape[1] < 2:
        return stats, b""
    if stats.crowded:  # far from 0, around which scales are
        return stats, b""
    scales = channel_scales(stats, settings)
    if not scales:
        return stats, b""
    factors = scale_of(np.frombuffer(scales, np.uint8))
    values = np.concatenate(stats.drawn) / factors[np.concatenate(stats.drawn_channels)]
    found = summary(values)
    found.low, found.high = (stats.channels[3] / factors).min(), (stats.channels[4] / factors).max()
    return found, scales


def channel_scales(stats: Statistics, settings: Settings) -> bytes:
    """For each channel its own clipping range over the widest one, as the settings put it."""
    wanted = np.array([_reach(stats, settings, *sums) for sums in stats.channels.T])
    widest = wanted.max(initial=0.0)
    # The widest channel has the scale 31/32, the largest that there is.
    return nearest_scale(wanted / widest * 31 / 32) if 0 < widest < math.inf else b""


def _reach(
    stats: Statistics, settings: Settings, count: float, total: float, squares: float, low, high
) -> float:
    """How far from 0 the clipping range of one channel goes."""
    if not count:
        return 0.0
    if settings.clip == "minmax":
        return max(abs(low), abs(high))
    one = replace(
        stats, elements=int(count), total=total, squares=squares, below=0.0, deviations=None
    )
    if one.variance <= 1e-9 * one.mean * one.mean or settings.clip not in CLIPS[:2]:
        return math.sqrt(squares / count)
    return max(map(abs, clipping(one, settings).limits(DEFAULT_LEVELS)))


# -- designs ---------------------------------------------------------------------------------


def plain(stats: Statistics, grid: Grid, settings: Settings, kind: str) -> Design:
    """The design for a number of levels, or for an error bound."""
    axis = grid.channel_axis
    if stats.constant:
        value = float(stats.low) if stats.elements else 0.0
        return Design(Embedded((Quantiser.uniform(value, value, 1),)), axis)
    if settings.max_abs_error is not None:
        return bounded(stats, grid, settings, settings.max_abs_error, kind)
    stats, scales = by_channel(stats, settings)
    range_ = clipping(stats, settings)
    counts = settings.counts or (DEFAULT_LEVELS,)
    embedded = _of_range(stats, settings, counts, range_, 1.0, LAGRANGIAN)
    return Design(embedded, axis, scales)


def bounded(stats: Statistics, grid: Grid, settings: Settings, error: float, kind: str) -> Design:
    """Uniform levels over all values, so near to each other that no error exceeds `error`.

    Raises BadRequest if that takes more levels than a file may have.
    """
    low, high = float(stats.low), float(stats.high)
    if kind == "int8":
        error = max(error, 0.499)  # whole numbers: anything smaller is exact
    span = (high - low) / (2 * error) if error else math.inf
    if span > MOST_LEVELS - 2:
        raise BadRequest(
            f"an error of {error:g} over values from {low:g} to {high:g} takes more than "
            f"{MOST_LEVELS} levels",
            hint="allow a larger error",
        )
    fine = Quantiser.uniform(low, high, max(math.ceil(span) + 1, 2))
    return Design(_layered(fine, stats, settings, (len(fine),)), grid.channel_axis)


def _of_range(
    stats: Statistics,
    settings: Settings,
    counts: tuple[int, ...],
    range_: Range,
    factor: float,
    weight: float,
) -> Embedded:
    """Quantisers with these numbers of levels in a range, scaled, and a Lagrangian per step²."""
    low, high = range_.scaled(counts[-1], factor)
    if not high > low:
        low, high = float(stats.low), float(stats.high)
    low, high = in_single(np.array([low, high]), (high - low) / (counts[-1] - 1)).tolist()
    if settings.kind == "uniform":
        if len(counts) > 1:
            return embedded_uniform(low, high, counts)
        fine = Quantiser.uniform(low, high, counts[0])
    else:
        step = (high - low) / (counts[-1] - 1)
        fine = entropy_constrained(stats.sample, low, high, counts[-1], weight * step**2)
        fine = fine.in_single()
    return _layered(fine, stats, settings, counts)


def _layered(fine: Quantiser, stats: Statistics, settings: Settings, counts) -> Embedded:
    """A quantiser with as many coarser ones inside it as the settings ask for."""
    layers = settings.layer_count
    if layers == 1:
        return Embedded((fine,))
    if fine.limits is not None:
        nested = nested_counts(len(fine), layers)
        if nested:
            return embedded_uniform(*fine.limits, nested)
    embedded = merged(fine, stats.sample, layers)
    coarser = (quantiser.in_single() for quantiser in embedded.quantisers[:-1])
    return Embedded((*coarser, fine), embedded.first)


def nested_counts(fine: int, layers: int) -> tuple[int, ...] | None:
    """Numbers of levels of nested uniform quantisers, coarse to fine; None if there are none."""
    counts = [fine]
    for _ in range(layers - 1):
        below = [n for n in range(2, counts[0]) if uniform_children(n, counts[0]) is not None]
        if not below:
            return None
        counts.insert(0, below[-1])
    return tuple(counts)


# -- designs by their entropy ----------------------------------------------------------------


KNOBS = {"uniform": np.linspace(-2.5, 4, 20), "entropy-constrained": np.linspace(-6, 3, 10)}


class Family:
    """The designs of one tensor, by the entropy of their levels without any context.

    Uniform quantisers are widened or narrowed, entropy-constrained ones get another Lagrangian:
    a knob, which is tried at a few places for each number of levels.
    """

    def __init__(self, stats: Statistics, grid: Grid, settings: Settings):
        self.elements = stats.elements
        self._stats, self._scales = by_channel(stats, settings)
        self._axis, self._settings = grid.channel_axis, settings
        self._range = clipping(self._stats, settings)
        most = MOST_UNARY if settings.coder == "unary" else COUNTS[-1]
        self._counts = [count for count in COUNTS if count <= most]
        self._curves: dict[int, tuple[np.ndarray, ...]] = {}

    def at(self, bits: float) -> Design:
        """The one with the least error in the sample among those of about this entropy, or less."""
        best, least, worse = None, math.inf, 0
        for count in self._counts:
            if count < self._counts[-1] and math.log2(count) < bits:
                continue
            knobs, entropies, errors = self._curve(count)
            if entropies[0] > bits and best:
                break  # and all finer ones take even more
            error = float(np.interp(bits, entropies, errors))
            worse = 0 if error < least else worse + 1
            if error < least:
                best, least = (count, float(np.interp(bits, entropies, knobs))), error
            if worse == 2:
                break
        return Design(self._quantisers(*best, self._settings), self._axis, self._scales)

    def error_of(self, design: Design) -> float:
        """Mean squared error in the sample."""
        return self._stats.sample.error(design.embedded.finest)

    def every(self) -> Iterator[Design]:
        """The one with the least error in the sample, of each number of levels for few elements."""
        for count in (count for count in self._counts if count <= SMALL):
            knob = float(self._curve(count)[0][-1])
            yield Design(self._quantisers(count, knob, self._settings), self._axis, self._scales)

    def _point(self, count: int, knob: float) -> tuple[float, float, float]:
        """(knob, entropy, error)"""
        sample = self._stats.sample
        made = self._quantisers(count, float(knob), replace(self._settings, layers=None)).finest
        return knob, sample.entropy(made), sample.error(made)

    def _curve(self, count: int) -> tuple[np.ndarray, ...]:
        """(knobs, entropies, errors) of this many levels, the entropy ascending to the least error.

        Narrower quantisers beyond that take more bits for more error, of what they clip.
        """
        if count not in self._curves:
            rows = [self._point(count, knob) for knob in KNOBS[self._settings.kind][::-1]]
            end = 1 + min(range(len(rows)), key=lambda n: rows[n][2])
            knobs, entropies, errors = np.array(rows[:end]).T
            self._curves[count] = knobs, np.maximum.accumulate(entropies), errors
        return self._curves[count]

    def _quantisers(self, count: int, knob: float, settings: Settings) -> Embedded:
        uniform = settings.kind == "uniform"
        factor, weight = (math.exp(knob), 0.0) if uniform else (1.0, math.exp(knob))
        settings = replace(settings, levels=None)
        return _of_range(self._stats, settings, (count,), self._range, factor, weight)


class DeadZones:
    """The same for quantisers with a dead zone, whose step is the only knob.

    They clip nothing, unless the settings give the range as two numbers.
    """

    def __init__(self, stats: Statistics, grid: Grid, settings: Settings):
        self.elements = stats.elements
        self._stats, self._scales = by_channel(stats, settings)
        self._axis, self._settings = grid.channel_axis, settings
        sample = self._stats.sample
        if not isinstance(settings.clip, str):
            sample = sample.clipped(*settings.clip)
        self._sample = sample
        low, high = float(sample.values[0]), float(sample.values[-1])
        self._centre = 0.0 if low <= 0 <= high else sample.mean
        self._range = high - low
        self._most = MOST_UNARY if settings.coder == "unary" else FINEST
        self._full = not self._range  # there is no finer step
        self._entropies, self._steps = [0.0], [2 * self._range]

    def at(self, bits: float) -> Design:
        """The one of about this entropy, the finest if that is more than any has."""
        if not self._range:
            value = float(self._sample.values[0])
            return Design(Embedded((Quantiser.uniform(value, value, 1),)), self._axis)
        while self._entropies[-1] < bits and not self._full:
            self._refine()
        step = np.exp(np.interp(bits, self._entropies, np.log(self._steps)))
        fine = self._fine(float(step)).in_single()
        embedded = _layered(fine, self._stats, self._settings, (len(fine),))
        return Design(embedded, self._axis, self._scales)

    def error_of(self, design: Design) -> float:
        """Mean squared error in the sample."""
        return self._sample.error(design.embedded.finest)

    def error(self, bits: float) -> float:
        """That of the design of this entropy."""
        return self.error_of(self.at(bits))

    def every(self) -> Iterator[Design]:
        """Those of the curve so far."""
        return map(self.at, self._entropies[1:])

    def _refine(self) -> None:
        """One more point of the curve; steps with fewer levels than layers are passed over."""
        step = self._steps[-1] * 2**-0.5
        made = self._fine(step)
        if len(made) > self._most:
            self._full = True
            return
        if len(made) <= self._settings.layer_count:
            self._steps[-1] = step
            self._full = step <= self._range / FINEST
            return
        self._steps.append(step)
        self._entropies.append(max(self._sample.entropy(made), self._entropies[-1]))
        self._full = step <= self._range / FINEST

    def _fine(self, step: float) -> Quantiser:
        return dead_zone(self._sample, step, self._centre)
