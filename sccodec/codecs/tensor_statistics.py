"""What one pass over a tensor tells of its values, all of them and by channel."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import numpy as np

from sccodec.codecs.tensor_grid import AUTO, Grid, Part, Window, default_channel_axis
from sccodec.codecs.tensor_settings import Settings
from sccodec.entropy.planning import spread
from sccodec.errors import BadRequest
from sccodec.latents.scalar import Sample
from sccodec.media.tensor import Tensor

SAMPLED = 1 << 15  # values of a tensor that designs look at
WHOLE = 1 << 20  # elements of a tensor with some far from all others of which they look at all
LINEAR = 0.1  # share of the energy below 0 from which on there is no rectifier
CLEAR = 2.0  # standard deviations of room above 0 that no rectifier leaves
WILD = 64.0  # standard deviations from the least to the largest value
NARROW = 1e-6  # variance over squared mean below which both need a second look


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
