"""The transform of a tensor's planes: where it may pay, and the step that it has at a size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from sccodec.codecs.tensor_design import Design
from sccodec.codecs.tensor_grid import Grid, Part, Window
from sccodec.codecs.tensor_settings import Settings
from sccodec.codecs.tensor_statistics import Statistics, finite
from sccodec.container.tensors import CODERS, MOST_BLOCK, RATIO, Finer, Transform
from sccodec.entropy import bands
from sccodec.entropy.planning import spread
from sccodec.latents import blocks
from sccodec.latents.basis import BOUND, Basis
from sccodec.latents.scalar import Embedded, Quantiser
from sccodec.media.tensor import Tensor

LAGRANGIAN = 0.1  # squared steps that a bit is worth: 0.08 to 0.12 gave the least error
HALF = 2 * RATIO  # the ratio of a layer whose step is half of that below
TRIES = 8
PER_ERROR = 11  # squared steps for an error that another coder has, to begin a search with
STRAIGHT = math.log(2)  # the logarithm of sizes up to twice as large falls with that of the step
STEEPEST = 4.0  # at most so many per cent of the step are taken for one of the size
MOST_SNAP = 128  # 64ths of a step
CLOSE = 0.003  # of a size: near enough to stop searching
WORD = 32  # bits that a payload has more than its flags, about
FAR = BOUND // blocks.PART - 2  # steps that every coefficient may have
LEAST, MOST = 1e-30, 1e30  # variance: steps and squares stay within float32
SAMPLED = 1 << 15  # elements that tell whether a transform may pay
# What coefficients may take of what values less their means do, for a search to be worth its
# time. Contexts make more of sparse values, behind a rectifier, than of their coefficients.
DENSE, SPARSE = 1.02, 0.75


def possible(grid: Grid, stats: Statistics, settings: Settings) -> bool:
    """Whether tiles hold whole planes that blocks can cover, and a transform serves what the
    settings ask for."""
    planes, rows, columns = grid.planes
    together = grid.channels if grid.whole else 1
    if not planes or not 0 < together * rows * columns <= grid.tile:
        return False
    if max(rows, columns) > MOST_BLOCK * blocks.USUAL or not LEAST < stats.variance < MOST:
        return False
    shaped = settings.offsets or settings.filter or settings.channelwise or settings.quantiser
    if shaped or settings.clip != "model" or settings.slope is not None:
        return False
    return settings.sized and settings.coder == CODERS[0]


def may_pay(
    tensor: Tensor, grid: Grid, stats: Statistics, settings: Settings, error: float
) -> bool:
    """Whether coefficients of some planes look cheaper than their values, at a mean squared
    error."""
    window, step = Window(grid, tensor.values), math.sqrt(6 * error)
    if not step:  # nothing is left to win
        return False
    _, rows, columns = grid.planes
    wanted = max(SAMPLED // (rows * columns * len(grid.parts)), 1)
    before = after = 0.0
    for part in grid.parts:
        values = finite(window.get(part), tensor, settings)
        values = values[spread(len(values), wanted)].astype(np.float64)
        after += _looks(blocks.forward(values, block_of(grid)), step)
        before += _looks(values - values.mean((1, 2), keepdims=True), step)
    return after < before * (SPARSE if stats.rectified else DENSE)


def _looks(values: np.ndarray, step: float) -> float:
    """What values seem to take in steps of this size, in units that only compare."""
    return float(np.log1p(np.square(values / step)).sum())


def rectified_limits(stats: Statistics) -> tuple[float, float] | None:
    """Of values behind a rectifier, as a file has them; None for others."""
    if not stats.rectified:
        return None
    return float(np.float32(stats.low)), float(np.float32(stats.high))


def block_of(grid: Grid) -> tuple[int, int]:
    _, rows, columns = grid.planes
    return blocks.side(rows), blocks.side(columns)


class Coefficients:
    """The coefficients of one tensor, or of its components in a basis, a tile at a time.

    Those of the last tile are kept, and what was chosen for it: most tensors have one tile, and a
    search comes back to it.
    """

    def __init__(
        self,
        tensor: Tensor,
        grid: Grid,
        settings: Settings,
        basis: Basis | None = None,
        limits: tuple[float, float] | None = None,
    ):
        """limits: those of the tensor's values, if a rectifier seems to have made them."""
        self.tensor, self.grid, self.settings, self.basis = tensor, grid, settings, basis
        self.limits = limits
        self._window = Window(grid, tensor.values)
        self._kept: tuple[tuple, np.ndarray] | None = None
        self._chosen: dict[int, tuple[tuple, np.ndarray, bands.Chosen]] = {}  # by layer

    def of(self, part: Part, block: tuple[int, int]) -> np.ndarray:
        """(P, h R, w C) float64."""
        if self._kept is None or self._kept[0] != (part, block):
            self._kept = (part, block), self._made(part, block)
        return self._kept[1]

    def values(self, part: Part) -> np.ndarray:
        """The elements of a tile (P, H, W)."""
        return finite(self._window.get(part), self.tensor, self.settings)

    def _made(self, part: Part, block: tuple[int, int]) -> np.ndarray:
        values = self.values(part)
        if self.basis is not None:
            if self.limits is not None:
                values = self.basis.completed(values, self.limits)
            values = self.basis.components(values)
        return blocks.forward(values, block)

    def chosen(
        self, part: Part, transform: Transform, layer: int = 0
    ) -> tuple[np.ndarray, bands.Chosen]:
        """What a layer has to code of the coefficients, in its steps, and the integers for that."""
        key = part, _told(transform, layer)
        kept = self._chosen.get(layer)
        if kept is None or kept[0] != key:
            values = self.of(part, transform.block) / transform.layer(layer).step
            if layer:
                below = self.restored(part, transform, layer - 1)
                ratio = transform.finer[layer - 1].ratio
                values -= blocks.refined(below, ratio) / blocks.PART
            shape = blocks.shape(part.shape, transform.block)
            kept = key, values, bands.choose(shape, values, LAGRANGIAN)
            self._chosen[layer] = kept
        return kept[1:]

    def restored(self, part: Part, transform: Transform, layer: int) -> np.ndarray:
        """What a decoder has of the coefficients with a layer, as `blocks.restored` gives it."""
        below = self.restored(part, transform, layer - 1) if layer else None
        numbers = self.chosen(part, transform, layer)[1].numbers
        return blocks.restored(numbers, transform, layer, below)

    def cut(self, transform: Transform, stats: Statistics) -> bool:
        """Whether a coefficient is larger than what can be coded, or restored.

        stats: those of the tensor's values.
        """
        # No coefficient is larger than this, by the length of what it is of.
        most = max(abs(float(stats.low)), abs(float(stats.high)))
        count = math.prod(blocks.shape((1, *self.grid.planes[1:]), transform.block))
        if self.basis is not None:
            most += float(np.abs(self.basis.mean).max())
            count *= self.basis.channels
        top = transform.layer_count - 1
        if most * math.sqrt(count) < FAR * transform.layer(top).step:
            return False
        return any(
            self._cut(part, transform, n) for part in self.grid.parts for n in range(top + 1)
        )

    def _cut(self, part: Part, transform: Transform, layer: int) -> bool:
        numbers = self.chosen(part, transform, layer)[1].numbers
        if np.abs(numbers).max(initial=0) == bands.LARGEST:
            return True
        parts = self.restored(part, transform, layer)
        if self.basis is not None:
            parts = self.basis.mixed(parts)
        elif not layer:
            return False  # which nothing bounds
        return np.abs(parts).max(initial=0) == BOUND


def _told(transform: Transform, layer: int) -> tuple:
    """What of a transform the integers of a layer depend on."""
    inward = [one.inward for one in (transform, *transform.finer)[:layer]]
    return transform.block, transform.step, *inward, *(one.ratio for one in transform.finer[:layer])


@dataclass(frozen=True)
class Found:
    """A design, the bytes of its payloads, and its mean squared error, both nearly."""

    design: Design
    bytes: float
    error: float


def design(source: Coefficients, stats: Statistics) -> Design:
    """A coarse one to begin with."""
    step, none = float(np.float32(2 * math.sqrt(stats.variance))), (0, 0, 0)
    digest = b"" if source.basis is None else source.basis.digest
    finer = (Finer(HALF, none),) * (source.settings.layer_count - 1)
    transform = Transform(step, none, block_of(source.grid), source.limits, digest, finer=finer)
    return _design(source.grid, transform)


def _design(grid: Grid, transform: Transform) -> Design:
    nothing = Embedded((Quantiser.uniform(0.0, 0.0, 1),))
    return Design(nothing, grid.channel_axis, transform=transform)


def search(
    source: Coefficients, stats: Statistics, size: float, error: float | None = None
) -> Found:
    """The transform whose payloads come nearest to `size` bytes; for max_bytes none that has
    more, if one has less. error: the mean squared error of another coder at this size."""
    start, within = design(source, stats), source.settings.max_bytes is not None
    aim = max(size * (1 - CLOSE if within else 1), 1.0)
    step = math.sqrt(PER_ERROR * error) if error else start.transform.step
    step *= math.prod(one.ratio / RATIO for one in start.transform.finer)
    fine, coarse = None, None  # the nearest on both sides
    tried: list[Found] = []
    for _ in range(TRIES):
        found = at_step(source, replace(start.transform, step=float(np.float32(step))))
        tried.append(found)
        if abs(found.bytes - aim) <= CLOSE * aim:
            break
        fine, coarse = (found, coarse) if found.bytes > aim else (fine, found)
        if fine and coarse:
            step = _between(fine, coarse, aim)
        else:
            step *= min(max((found.bytes / aim) ** _pace(tried), 0.1), 10)
    best = min(tried, key=lambda one: (within and one.bytes > size, abs(one.bytes - aim)))
    return best if best.design.transform.limits is None else _snapped(source, best)


def _snapped(source: Coefficients, found: Found) -> Found:
    """The same where each layer has the reach of its lower limit that leaves the least error; it
    tells that of the finest."""
    transform = found.design.transform
    for layer in range(transform.layer_count):
        snap, error = _snap(source, transform, layer)
        transform = _changed(transform, layer, snap=snap)
    return replace(found, design=_design(source.grid, transform), error=error)


def _snap(source: Coefficients, transform: Transform, layer: int) -> tuple[int, float]:
    """The best reach of the lower limit, and the mean squared error with it.

    What a rectifier has set to zero comes back a little above or below, and is far more often
    that than a small value.
    """
    squares, own = 0.0, transform.layer(layer)
    low, unit = own.limits[0], own.step / blocks.PART
    gains = np.zeros(MOST_SNAP + 1)  # if elements so many units from the limit are put there
    for part in source.grid.parts:
        parts = source.restored(part, transform, layer)
        values = source.values(part).astype(np.float64)
        again = blocks.elements(parts, own, source.basis, part.shape[1:])
        lost = np.square(again - values)
        squares += lost.sum()
        near = again < low + MOST_SNAP * unit
        place = ((again[near] - low) / unit).astype(int) + 1
        gain = lost[near] - np.square(values[near] - low)
        gains += np.bincount(place, gain, minlength=MOST_SNAP + 1)[: MOST_SNAP + 1]
    gains = np.cumsum(gains)
    snap = int(gains.argmax())
    return snap, (squares - gains[snap]) / source.tensor.values.size


def _changed(transform: Transform, layer: int, **values) -> Transform:
    """The same with other values of a layer."""
    if not layer:
        return replace(transform, **values)
    finer = list(transform.finer)
    finer[layer - 1] = replace(finer[layer - 1], **values)
    return replace(transform, finer=tuple(finer))


def _pace(tried: list[Found]) -> float:
    """How many per cent the step has to change for a per cent of the size, as the last two tell;
    the finer steps are, the more."""
    if len(tried) < 2:
        return 1.0
    steps, sizes = zip(*((one.design.transform.step, one.bytes) for one in tried[-2:]), strict=True)
    if sizes[0] == sizes[1]:
        return 1.0
    pace = math.log(steps[1] / steps[0]) / math.log(sizes[0] / sizes[1])
    return min(max(pace, 1.0), STEEPEST)


def _between(fine: Found, coarse: Found, aim: float) -> float:
    """A step between two that lead to more and to fewer bytes: that of so many on the line through
    both in logarithms, or the middle if they are too far apart for a line."""
    high, low = math.log(fine.bytes / aim), math.log(aim / coarse.bytes)
    share = high / (high + low) if max(high, low) < STRAIGHT else 0.5
    share = min(max(share, 0.1), 0.9)
    first, last = (one.design.transform.step for one in (fine, coarse))
    return first * (last / first) ** share


def at_step(source: Coefficients, transform: Transform) -> Found:
    """What a transform leads to, with the values that suit each layer's magnitudes best."""
    bits = 0.0
    for layer in range(transform.layer_count):
        sums = np.zeros((3, 4))  # of each magnitude: coefficients, gaps and their squares
        for part in source.grid.parts:
            values, chosen = source.chosen(part, transform, layer)
            magnitude = np.abs(chosen.numbers)
            gap = (np.abs(values) - magnitude).ravel()
            kind = np.minimum(magnitude, 3).ravel()
            sums += [np.bincount(kind, gap**power, minlength=4) for power in range(3)]
            bits += chosen.bits + WORD
        inward, left = _inward(sums)
        transform = _changed(transform, layer, inward=inward)
    error = left * transform.layer(layer).step ** 2 / source.tensor.values.size
    return Found(_design(source.grid, transform), bits / 8, error)


def _inward(sums: np.ndarray) -> tuple[tuple[int, int, int], float]:
    """By how many 64ths of a step magnitudes stand for more, and the squared error that leaves."""
    count, total, squares = sums[:, 1:]
    inward = np.rint(blocks.PART * total / np.maximum(count, 1)).astype(int)
    inward = np.clip(inward, -blocks.PART // 2, blocks.PART // 2)
    moved = inward / blocks.PART
    left = sums[2, 0] + (squares - 2 * moved * total + moved**2 * count).sum()
    return tuple(inward.tolist()), left
