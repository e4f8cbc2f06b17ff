"""Which quantiser a tensor gets: its statistics, its clipping range, and the search for a rate."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from sccodec.codecs.tensor_grid import AUTO, Grid, Part, Window, default_channel_axis
from sccodec.codecs.tensor_settings import CLIPS, DEFAULT_LEVELS, Settings
from sccodec.container.tensors import MOST_LEVELS, MOST_UNARY, LevelFilter, Transform
from sccodec.entropy.planning import spread
from sccodec.errors import BadRequest
from sccodec.latents import activation
from sccodec.latents.scalar import (
    Embedded,
    Quantiser,
    Sample,
    dead_zone,
    embedded_uniform,
    entropy_constrained,
    in_single,
    merged,
    uniform_children,
)
from sccodec.media.tensor import Tensor

SMALL = 1 << 12  # elements of a tensor whose size hardly follows its entropy: all is tried
WORDS = 128  # bits: payloads are whole words, so tiny tensors cannot be nearer to a rate
AMPLE = 1 << 12  # levels from which on a range hardly grows with their number
SAMPLED = 1 << 15  # values of a tensor that designs look at
WHOLE = 1 << 20  # elements of a tensor with some far from all others of which they look at all
LEAKY = 0.1  # slope that is assumed below 0
LINEAR = 0.1  # share of the energy below 0 from which on there is no rectifier
CLEAR = 2.0  # standard deviations of room above 0 that no rectifier leaves
WILD = 64.0  # standard deviations from the least to the largest value
NARROW = 1e-6  # variance over squared mean below which both need a second look
LAGRANGIAN = 0.1  # of entropy-constrained designs without a rate, in squared step sizes
COUNTS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 512)
COUNTS += (1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16)
FINE = 2.5  # bits per element above which uniform levels are as good as any
CLOSE = 0.005  # of a rate: near enough to stop searching
TRIES = 8
MIXED = 6  # tries between two designs
FINEST = 4096  # steps of a range with a dead zone


@dataclass(frozen=True)
class Offsets:
    """For each channel what is taken from its values first: code * 2^unit."""

    unit: int
    codes: tuple[int, ...]

    def values(self) -> np.ndarray:
        """(C,) float64, exact."""
        return np.ldexp(np.array(self.codes, np.float64), self.unit)

    @classmethod
    def nearest(cls, means: np.ndarray) -> Offsets | None:
        """For channels with these means; None if they have no unit."""
        exponent = math.frexp(float(np.abs(means).max(initial=0)) / 127)[1]
        if not -128 <= exponent <= 127:
            return None
        codes = np.rint(np.ldexp(means, -exponent)).astype(int)
        return cls(exponent, tuple(codes.tolist())) if codes.any() else None


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


# -- statistics ------------------------------------------------------------------------------


@dataclass
class Statistics:
    """What one pass over a tensor tells; several add up."""

    elements: int = 0
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0
    squares: float = 0.0
    below: float = 0.0  # sum of squares of what is negative
    drawn: list[np.ndarray] = field(default_factory=list)
    drawn_channels: list[np.ndarray] = field(default_factory=list)  # of each, if channels are
    # (5, C): elements, sums, sums of squares, least and largest value.
    channels: np.ndarray | None = None
    complete: bool = False  # whether all values are drawn
    # Squares of what values are off their mean, if that is so little that it would be lost in the
    # difference of large numbers.
    deviations: float | None = None

    @property
    def mean(self) -> float:
        return self.total / self.elements

    @property
    def variance(self) -> float:
        if self.deviations is not None:
            return self.deviations / self.elements
        return max(self.squares / self.elements - self.mean * self.mean, 0.0)

    @property
    def crowded(self) -> bool:
        """Whether the values are so near to each other that sums do not tell how near."""
        return self.variance < NARROW * self.mean * self.mean

    @property
    def constant(self) -> bool:
        return self.elements == 0 or self.low == self.high

    @property
    def wild(self) -> bool:
        """Whether a few values are so far from all others that a range for these clips them badly,
        and one for all has hardly a level where most are."""
        if not self.elements:
            return False
        return float(self.high) - float(self.low) > WILD * math.sqrt(self.variance)

    @property
    def rectified(self) -> bool:
        """True if a (leaky) rectifier seems to stand in front of the values: what is positive but
        clear of 0 has none."""
        clear = self.low > CLEAR * math.sqrt(self.variance)
        return self.mean > 0 and self.below <= LINEAR * self.squares and not clear

    @functools.cached_property
    def sample(self) -> Sample:
        """The drawn values; looked at only when all are there.

        If all of these are the same, or others far away, the least and the largest of all are among
        them too.
        """
        drawn = np.concatenate(self.drawn) if self.drawn else np.zeros(1)
        if not self.constant and not self.complete and (self.wild or (drawn == drawn[0]).all()):
            drawn = np.append(drawn, np.array([self.low, self.high], drawn.dtype))
        return Sample(drawn)


def grid_of(tensor: Tensor, settings: Settings) -> Grid:
    """Raises BadRequest for an axis that the tensor does not have."""
    axis, axes = settings.channel_axis, tensor.values.ndim
    if axis == AUTO:
        axis = default_channel_axis(axes)
    elif axis is not None:
        if not -axes <= axis < axes:
            raise BadRequest(f"channels in axis {axis} of a tensor of shape {tensor.shape}")
        axis %= axes
    return Grid(tensor.shape, axis, settings.tile)


def finite(part: np.ndarray, tensor: Tensor, settings: Settings) -> np.ndarray:
    """Floats of a part; what is not finite is refused or replaced, as the settings say.

    Raises BadRequest that names the tensor and how many of all its elements are not finite.
    """
    values = tensor.floats(part)
    # A sum is finite if all terms are, unless it overflows; then they are looked at one by one.
    with np.errstate(all="ignore"):
        if tensor.kind == "int8" or math.isfinite(float(values.sum(dtype=np.float32))):
            return values
    if np.isfinite(values).all():
        return values
    if settings.nonfinite == "clamp":
        low, high = tensor.finite_range
        return np.nan_to_num(values, nan=0.0, posinf=high, neginf=low)
    count = _nonfinite(tensor)
    raise BadRequest(
        f"{tensor.called}: {count} of {tensor.values.size} elements are NaN or infinite",
        hint="--nonfinite clamp replaces NaN by 0 and infinities by the nearest finite value",
    )


def _nonfinite(tensor: Tensor) -> int:
    grid = Grid(tensor.shape, None)
    window = Window(grid, tensor.values)
    return sum(int((~np.isfinite(tensor.floats(window.get(p)))).sum()) for p in grid.parts)


def may_shift(grid: Grid, settings: Settings, wanted: float) -> bool:
    """Whether offsets are asked for, or may pay at a rate of `wanted` bits per element."""
    if settings.offsets is not None:
        return settings.offsets
    usual = settings.kind == "dead-zone" and isinstance(settings.clip, str)
    return usual and grid.channels > 1 and wanted <= FINE


def channel_offsets(tensor: Tensor, settings: Settings) -> Offsets | None:
    """Offsets at the means of the channels; None if there are no channels, or no offsets."""
    grid = grid_of(tensor, settings)
    if grid.channel_axis is None or not tensor.values.size:
        return None
    window, sums = Window(grid, tensor.values), _no_channels(grid)
    for part in grid.parts:
        _add_channels(sums, grid, part, finite(window.get(part), tensor, settings))
    return Offsets.nearest(sums[1] / sums[0])


def gather(
    tensor: Tensor,
    settings: Settings,
    into: Statistics | None = None,
    offsets: Offsets | None = None,
) -> Statistics:
    """One pass over a tensor less the offsets of its channels, a tile at a time; another one over
    values that are `crowded` or `wild`."""
    found = into or Statistics()
    grid = grid_of(tensor, settings)
    window = Window(grid, tensor.values)
    stride = max(tensor.values.size // SAMPLED, 1)
    if settings.channelwise and found.channels is None:
        found.channels = _no_channels(grid)

    def read(part: Part) -> np.ndarray:
        values = finite(window.get(part), tensor, settings)
        if offsets is not None:
            values = values - grid.of_channels(part, offsets.values()).astype(values.dtype)
        return values

    def channels_of(part: Part) -> np.ndarray:
        return np.repeat(grid.channel_of(part), math.prod(part.shape[1:]))

    for part in grid.parts:
        values = read(part)
        if not values.size:
            continue
        flat = values.ravel()
        found.elements += flat.size
        found.low, found.high = min(found.low, flat.min()), max(found.high, flat.max())
        wide = flat.astype(np.float64, copy=False) if flat.dtype == np.float64 else flat
        found.total += float(wide.sum(dtype=np.float64))
        found.squares += _energy(wide)
        if found.low < 0:
            found.below += _energy(np.minimum(wide, 0))
        drawn = spread(flat.size, max(flat.size // stride, 1))
        found.drawn.append(flat[drawn])
        if found.channels is not None:
            _add_channels(found.channels, grid, part, values)
            found.drawn_channels.append(channels_of(part)[drawn])
    found.deviations, found.complete = None, False  # of several tensors nobody looks twice
    if into is None and not found.constant and found.crowded:
        # In float64 even of float32: the mean has digits that the values have not.
        found.deviations = sum(
            _energy(read(part).astype(np.float64) - found.mean) for part in grid.parts
        )
    if into is None and found.elements <= WHOLE and found.wild:
        # Each far value needs a level near it, which only those that are drawn get.
        found.drawn, found.complete = [read(part).ravel() for part in grid.parts], True
        if found.channels is not None:
            found.drawn_channels = list(map(channels_of, grid.parts))
    return found


def summary(values: np.ndarray) -> Statistics:
    """The statistics of a few values."""
    return Statistics(
        elements=values.size,
        low=values.min(),
        high=values.max(),
        total=float(values.sum()),
        squares=_energy(values),
        below=_energy(np.minimum(values, 0)),
        drawn=[values],
    )


def _energy(values: np.ndarray) -> float:
    with np.errstate(over="ignore"):  # the largest of float64 have no square
        return float(np.square(values, dtype=np.float64).sum())


def _no_channels(grid: Grid) -> np.ndarray:
    """(5, C): the sums of no elements, and what is above and below all others."""
    sums = np.zeros((5, grid.channels))
    sums[3], sums[4] = math.inf, -math.inf
    return sums


def _add_channels(sums: np.ndarray, grid: Grid, part: Part, values: np.ndarray) -> None:
    """Adds a part to the sums of its channels."""
    channel = grid.channel_of(part)
    flat = values.reshape(len(values), -1).astype(np.float64)
    np.add.at(sums[0], channel, flat.shape[1])
    np.add.at(sums[1], channel, flat.sum(1))
    np.add.at(sums[2], channel, np.square(flat).sum(1))
    np.minimum.at(sums[3], channel, flat.min(1))
    np.maximum.at(sums[4], channel, flat.max(1))


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


# -- searching for a rate --------------------------------------------------------------------


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


class Found(NamedTuple):
    """A design, the bits per element that it was coded with, and whether more and fewer exist."""

    design: Design
    bits: float
    between: bool = False


def search(
    wanted: float,
    stats: Statistics,
    grid: Grid,
    settings: Settings,
    bits_of: Callable[[Design], float],
) -> Found:
    """The design whose coded size comes nearest to `wanted` bits per element.

    bits_of codes with a design and tells the bits per element, side information and all. For
    max_bytes nothing above `wanted` is taken as long as something below was found. Where
    levels with a dead zone leave a gap and none were asked for, uniform ones are tried too.
    """
    within = settings.max_bytes is not None
    # Where levels of one distance would be few among most values, or too far for some: see `wild`.
    uneven = stats.wild and stats.complete
    if settings.quantiser is None and wanted > FINE and not uneven:
        settings = replace(settings, quantiser="uniform")
    family = DeadZones if settings.kind == "dead-zone" else Family
    found = _nearest(wanted, family(stats, grid, settings), bits_of, within)
    if settings.quantiser is None and abs(found.bits / wanted - 1) > 4 * CLOSE:
        family = Family(stats, grid, replace(settings, quantiser="uniform"))
        other = _nearest(wanted, family, bits_of, within)
        between = found.between or other.between
        found = min(found, other, key=lambda one: _miss(one.bits, wanted, within))
        return found._replace(between=between)
    return found


def _miss(bits: float, wanted: float, within: bool) -> float:
    over = bits > wanted and within
    return abs(bits - wanted) + (1e6 if over else 0)


def _nearest(wanted: float, family: Family | DeadZones, bits_of, within: bool) -> Found:
    """The coded size is nearly proportional to the entropy, so a few tries are enough."""
    tried: list[Found] = []
    low, high = 0.0, math.inf  # entropies that are known to be too small and too large
    aim = wanted * (1 - CLOSE if within else 1)
    entropy, streak = min(aim, math.log2(family.elements) + 1), 0
    for _ in range(TRIES):
        design = family.at(entropy)
        tried.append(Found(design, bits_of(design)))
        bits = tried[-1].bits
        if _miss(bits, wanted, within) < 2 * CLOSE * wanted:
            break
        below = bits < wanted
        low, high = (entropy, high) if below else (low, entropy)
        # Where sizes do not follow the entropy, longer and longer steps get to the other side.
        streak = streak + 1 if len(tried) > 1 and below == (tried[-2].bits < wanted) else 1
        entropy *= (aim / bits) ** streak
        if not low < entropy < high:
            entropy = (low + high) / 2 if math.isfinite(high) else 2 * low
    else:
        if low > 0 and math.isfinite(high):
            tried += _mixtures(aim, tried, bits_of)
    found = min(tried, key=lambda one: _miss(one.bits, wanted, within))
    if family.elements <= SMALL:
        near = WORDS / family.elements
        for design in family.every():
            tried.append(Found(design, bits_of(design)))
            if min(one.bits for one in tried[-2:]) > wanted + near:
                break  # finer ones are even larger
        fit = [one for one in tried if _miss(one.bits, wanted, within) <= near]
        found = min(fit, key=lambda one: family.error_of(one.design), default=found)
    return found._replace(between=low > 0 and math.isfinite(high))


def _mixtures(aim: float, tried: list[Found], bits_of) -> Iterator[Found]:
    """Designs between the two nearest ones: a share of each plane is coded as the coarser would.

    They fill the gap that many elements of one value leave, which change level together.
    """
    below = max((one for one in tried if one.bits <= aim), key=lambda one: one.bits)
    above = min((one for one in tried if one.bits > aim), key=lambda one: one.bits)
    few, many = (0.0, above.bits), (1.0, below.bits)
    for _ in range(MIXED):
        part = (few[1] - aim) / (few[1] - many[1])
        share = few[0] + part * (many[0] - few[0])
        coarser = below.design.embedded.finest
        mixed = replace(above.design, coarser=coarser, share=share)
        found = Found(mixed, bits_of(mixed))
        yield found
        if abs(found.bits - aim) < CLOSE * aim:
            return
        if found.bits > aim:
            few = share, found.bits
        else:
            many = share, found.bits
