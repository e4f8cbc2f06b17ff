"""The prior: for each latent of one (layer, tile), a mean and a table index, exactly.

One generator is driven by encoder, decoder and rate search alike, so they cannot disagree:
it asks for the symbols of a round, and computes the next round's means and table indexes
from the answers. `formats/entropy.md` section 4 is the specification.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from sccodec.entropy.fixed import (
    ACTIVATION_BITS,
    LIMIT,
    Depthwise,
    Pointwise,
    merge,
    settle,
    shuffle,
    split,
)
from sccodec.entropy.tables import STEP_BITS, STEP_TABLE, STEPS, Tables
from sccodec.errors import WrongModel
from sccodec.spans import Span, spans
from sccodec.threads import at_once

_FINE = STEP_BITS - ACTIVATION_BITS  # latents are multiples of 2^-12, activations of 2^-8
OFFSET_BITS = 12
KEPT = 1 << 21  # latents of the largest tiles whose `Turns` are kept
KEPT_SIZES = 8
OFFSET_EVERY = 32  # reconstruction offsets are stored for every 32nd step index


@dataclass(frozen=True)
class Ask:
    """One round: which symbols are needed, and what is known about them.

    what: 'hyper' or 'latent'; turn: what of the latents is asked for, or None: all
    hyper-latents, in C order; mean: (n,) float64 exact; index: (n,) int32 table indexes;
    step: float64 exact; offsets: (tables,) float64, by how many steps the reconstruction of a
    symbol but 0 is nearer to the mean.
    """

    what: str
    turn: Turn | None
    mean: np.ndarray
    index: np.ndarray
    step: float
    offsets: np.ndarray


class Coded:
    """What both sides know once all rounds of a layer and tile are done.

    latent: (M, h, w) float32, the reconstruction with offsets, for the synthesis;
    seen: (M, h, w) float64 exact, in units of 2^-12, for the layers above. Each is made when it is
    first asked for, since not every caller wants both.
    """

    def __init__(self, rounds: list[_Round], step: int, offsets: np.ndarray):
        """`rounds` of latents, at least one; step in units of 2^-12; `offsets` by table."""
        self._rounds, self._step, self._offsets = rounds, float(step), offsets

    @cached_property
    def latent(self) -> np.ndarray:
        def values(done: _Round) -> np.ndarray:
            shrunk = done.symbols - np.sign(done.symbols) * self._offsets[done.index]
            return (shrunk * self._step + done.mean) / (1 << STEP_BITS)

        return self._merged(values, np.float32)

    @cached_property
    def seen(self) -> np.ndarray:
        return self._merged(lambda done: done.seen(self._step), np.float64)

    def _merged(self, values: Callable[[_Round], np.ndarray], kind: type) -> np.ndarray:
        latents, height, width = self._rounds[0].turn.shape
        out = np.zeros((latents, 4, height * width // 4), kind)
        for done in self._rounds:
            turn = done.turn
            out[turn.channels, turn.places] = turn.rows(values(done))
        return merge(out, height, width)


def _shift(array: np.ndarray) -> np.ndarray:
    """Shifts for which every mean stays a multiple of 2^-12, and far below 2^53."""
    if array.size and not 0 <= array.min() <= array.max() <= 16:
        raise ValueError("shift")
    return array.astype(np.int32)


def _power(exponent: np.ndarray) -> np.ndarray:
    """2^exponent; ldexp is exact everywhere, exp2 need not be."""
    return np.ldexp(1.0, exponent)


class Turn:
    """Which latents of `height` x `width` one round codes, and the order of its symbols.

    `turns` (M, 4): in which round each channel is coded at each place (row % 2, column % 2); this
    is round k. Arrays of the round have a row for each channel and place that it codes, with all
    latents there in raster order.
    """

    def __init__(self, turns: np.ndarray, k: int, height: int, width: int):
        self.shape = len(turns), height, width
        self.cells = height * width // 4
        self.channels, self.places = _coded(turns, k)
        once = (np.diff(self.channels) > 0).all()
        # Symbols are in C order, which with one place for each channel is that of the rows.
        self.order = slice(None) if once else self._order()

    def _order(self) -> np.ndarray:
        _, height, width = self.shape
        at = split(np.arange(height * width).reshape(1, height, width))[0]
        return np.argsort(self.channels[:, None] * height * width + at[self.places], axis=None)

    def symbols(self, rows: np.ndarray) -> np.ndarray:
        """The values of rows, in the order of the symbols."""
        return rows.ravel()[self.order]

    def rows(self, symbols: np.ndarray) -> np.ndarray:
        """The opposite of `symbols`."""
        found = np.empty_like(symbols)
        found[self.order] = symbols
        return found.reshape(len(self.channels), self.cells)


def _coded(turns: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Channel and place of each row of round k."""
    return np.nonzero(turns == k)


class _Round(NamedTuple):
    """One round of latents whose symbols are known."""

    turn: Turn
    symbols: np.ndarray  # (n,) int32, as `Turn` has their order
    mean: np.ndarray  # (n,) float64 exact, in units of 2^-12
    index: np.ndarray  # (n,) int32

    def seen(self, step: float) -> np.ndarray:
        """Their values, (n,) float64 exact; these and `step` in units of 2^-12."""
        return self.symbols * step + self.mean


class Context:
    """One round's network: mean and log2-scale of the latents that the round codes.

    Round k of `turns`, see `Turn`. Nothing is computed from latents that are not known yet, nor
    for those of other rounds. All arrays are split by row % 2 and column % 2, see `fixed.split`.
    """

    def __init__(
        self, enter: Pointwise, spread: Depthwise, mix: Pointwise, leave: Pointwise, turns, k: int
    ):
        self.enter, self.spread, self.mix, self.leave = enter, spread, mix, leave
        latents = len(turns)
        self.known, self.coded = [], []
        channels, places = _coded(turns, k)
        self.count = len(channels)
        for place in range(4):
            known = np.flatnonzero(turns[:, place] < k)
            self.known.append((known, enter.weight[:, known]))
            rows = np.flatnonzero(places == place)
            both = np.concatenate([channels[rows], channels[rows] + latents])
            self.coded.append((rows, leave.weight[both], leave.bias[both]))

    def __call__(
        self, unit: np.ndarray, features: np.ndarray, width: int, pairs: Span
    ) -> tuple[np.ndarray, np.ndarray]:
        """Activations (M, 4, n) of known latents and features (D, 4, n) -> mean and log2-scale of
        the latents that the round codes in some pairs of rows, (rows of `Turn`, m)."""
        inside = _columns(pairs.begin, pairs.end, width)
        around = self._around(unit, width, pairs)
        mixed = self.mix(np.concatenate([around, features[:, :, inside]]))
        mean, log2_scale = np.empty((2, self.count, mixed.shape[2]))
        for place, (rows, weight, bias) in enumerate(self.coded):
            out = settle(weight @ mixed[:, place] + bias, leaky=False)
            mean[rows], log2_scale[rows] = np.split(out, 2)
        return mean, log2_scale

    def _around(self, unit: np.ndarray, width: int, pairs: Span) -> np.ndarray:
        """What the known latents around each place tell, (D, 4, m)."""
        if not any(len(channels) for channels, _ in self.known):
            # Nothing is known: 3x3 places have all that there is, inside, at edges and corners.
            small = self.spread(self.enter(np.zeros((len(unit), 3, 3))))
            rows = np.ones(unit.shape[2] * 4 // width, int)
            columns = np.ones(width, int)
            for ends in (rows, columns):
                ends[0], ends[-1] = 0, 2
            return split(small[:, rows[2 * pairs.begin : 2 * pairs.end, None], columns])
        outside = _columns(pairs.outer_begin, pairs.outer_end, width)
        entered = np.empty((len(self.enter.weight), 4, outside.stop - outside.start))
        for place, (channels, weight) in enumerate(self.known):
            entered[:, place] = weight @ unit[channels, place, outside]
        entered += self.enter.bias[:, :, None]
        height = 2 * (pairs.outer_end - pairs.outer_begin)
        around = split(self.spread(merge(settle(entered, leaky=True), height, width)))
        return around[:, :, _columns(*pairs.inside, width)]


def _columns(begin: int, end: int, width: int) -> slice:
    """Where pairs of rows are in arrays that are split by row % 2 and column % 2."""
    return slice(begin * width // 2, end * width // 2)


class LayerPrior:
    """The exact networks of one layer, from the integer arrays of a model's `prior.npz`.

    `arrays` holds this layer's arrays by name; `lower` is the number of latents of the layers
    below that it sees, `pattern` (groups, 2, 2) the round of each channel group and position.
    """

    def __init__(self, arrays: dict[str, np.ndarray], tables: Tables, lower: int):
        self.tables = tables
        try:
            self._build(arrays, lower)
        except (KeyError, ValueError, IndexError) as error:
            raise WrongModel(
                f"model: an array of the prior is missing or misshapen: {error}"
            ) from None

    def _build(self, arrays: dict[str, np.ndarray], lower: int) -> None:
        for name, array in arrays.items():
            if array.dtype.kind not in "iu":
                raise ValueError(f"{name} is {array.dtype}, not integer")

        def pointwise(name: str, leaky: bool) -> Pointwise:
            return Pointwise(arrays[f"{name}.weight"], arrays[f"{name}.bias"], leaky)

        def depthwise(name: str) -> Depthwise:
            return Depthwise(arrays[f"{name}.weight"], arrays[f"{name}.bias"])

        self.ups = [(pointwise(f"up{n}.mix", True), depthwise(f"up{n}.spread")) for n in (1, 2)]
        self.lower = lower
        if lower:
            self.lower_mix = pointwise("lower_mix", True)
            self.lower_spread = depthwise("lower_spread")
            self.lower_scale = _power(-_shift(arrays["lower_shift"]) - _FINE)
            if len(self.lower_scale) != lower:
                raise ValueError("lower_shift")
        self.join = pointwise("join", True)
        self.pattern = arrays["pattern"].astype(np.int64)
        shift = _shift(arrays["shift"])
        self.latents = len(shift)
        self._kept: dict[tuple[int, int], list[Turn]] = {}
        self.scale = _power(-shift - _FINE)  # 2^-12 units -> activations
        self.mean_scale = _power(shift + _FINE)  # activations -> 2^-12 units
        group = np.arange(self.latents) % len(self.pattern)
        self._turns = self.pattern[group].reshape(-1, 4)
        self.contexts = [
            Context(
                pointwise(f"context.{k}.enter", True),
                depthwise(f"context.{k}.spread"),
                pointwise(f"context.{k}.mix", True),
                pointwise(f"context.{k}.leave", False),
                self._turns,
                k,
            )
            for k in range(int(self.pattern.max()) + 1)
        ]
        self.hyper_mean = arrays["hyper_mean"].astype(np.float64)
        self.hyper_log2 = arrays["hyper_log2"].astype(np.float64)
        self.hyper = len(self.hyper_mean)
        self.hyper_steps = arrays["hyper_steps"].astype(np.int64)
        self.offsets = arrays["offsets"].astype(np.float64) / (1 << OFFSET_BITS)
        if len(self.hyper_steps) != STEPS or len(self.offsets) != len(self.tables):
            raise ValueError("hyper_steps or offsets")
        if self.hyper_steps.min() < 0 or self.hyper_steps.max() >= STEPS:
            raise ValueError("hyper_steps")

    def rounds(
        self, height: int, width: int, step_index: int, lower: np.ndarray | None, jobs: int = 1
    ) -> Generator[Ask, np.ndarray, Coded]:
        """Drives the coding of `height` x `width` latents (multiples of 4) at a step index.

        `lower` (L, height, width) is what the layers below left as `Coded.seen`, if this layer
        sees them. Yields `Ask`, wants the symbols (n,) int32 back, returns `Coded`. The networks
        run on `jobs` threads.
        """
        z = yield from self._hyper(height // 4, width // 4, step_index)
        features = self._features(z, lower, jobs)
        step, one = int(STEP_TABLE[step_index]), 1 << STEP_BITS
        unit = np.zeros((self.latents, 4, height * width // 4))
        done: list[_Round] = []
        offsets = self.offsets_at(step_index)
        strips = _strips(height // 2, jobs)
        for context, turn in zip(self.contexts, self.turns(height, width), strict=True):
            if done:
                last = done[-1]
                channels, places = last.turn.channels, last.turn.places
                known = last.turn.rows(last.seen(float(step)))
                known *= self.scale[channels, None]
                known += 0.5
                np.floor(known, out=known)
                unit[channels, places] = np.clip(known, -LIMIT, LIMIT, out=known)

            def foretell(pairs: Span, context=context, turn=turn):
                mean, log2_scale = context(unit, features, width, pairs)
                mean *= self.mean_scale[turn.channels, None]
                return mean, self.tables.index(log2_scale, step_index)

            parts = zip(*at_once(foretell, strips), strict=True)
            mean, index = (turn.symbols(np.concatenate(part, 1)) for part in parts)
            symbols = yield Ask("latent", turn, mean / one, index, step / one, offsets)
            done.append(_Round(turn, symbols, mean, index))
        return Coded(done, step, offsets)

    def _hyper(self, height: int, width: int, step_index: int):
        hyper_step = int(self.hyper_steps[step_index])
        step = int(STEP_TABLE[hyper_step])
        each = self.tables.index(self.hyper_log2, hyper_step)
        cells = height * width
        mean = np.repeat(self.hyper_mean * (1 << _FINE), cells)
        unit = 1 << STEP_BITS
        index = np.repeat(each, cells)
        symbols = yield Ask(
            "hyper", None, mean / unit, index, step / unit, np.zeros(len(self.tables))
        )
        z = symbols.astype(np.float64) * step + mean
        z = np.floor(z / (1 << _FINE) + 0.5)
        return np.clip(z, -LIMIT, LIMIT).reshape(self.hyper, height, width)

    def _features(self, z: np.ndarray, lower: np.ndarray | None, jobs: int) -> np.ndarray:
        """Of all latents, (D, 4, n), split by row % 2 and column % 2."""

        def work(rows: Span) -> np.ndarray:
            # One row of hyper-latents more on each side is as far as three depthwise layers see.
            found = z[:, rows.outer_begin : rows.outer_end]
            for mix, spread in self.ups:
                found = spread(shuffle(mix(found)))
            if self.lower:
                low = lower[:, 4 * rows.outer_begin : 4 * rows.outer_end]
                low = np.floor(low * self.lower_scale[:, None, None] + 0.5)
                low = self.lower_spread(self.lower_mix(np.clip(low, -LIMIT, LIMIT)))
                found = np.concatenate([found, low])
            begin, end = rows.inside
            return split(self.join(found[:, 4 * begin : 4 * end]))

        return np.concatenate(at_once(work, _strips(z.shape[1], jobs)), 2)

    def offsets_at(self, step_index: int) -> np.ndarray:
        """(tables,) float64: the reconstruction offset of each table at a step index."""
        column = (step_index + OFFSET_EVERY // 2) // OFFSET_EVERY
        return self.offsets[:, min(column, self.offsets.shape[1] - 1)]

    def turns(self, height: int, width: int) -> list[Turn]:
        """Those of each round; kept for the few sizes that the tiles of a picture have, unless
        they are large."""
        found = self._kept.get((height, width))
        if found is None:
            found = [Turn(self._turns, k, height, width) for k in range(len(self.contexts))]
            if self.latents * height * width <= KEPT:
                if len(self._kept) >= KEPT_SIZES:
                    self._kept = {}
                self._kept[height, width] = found
        return found


def _strips(rows: int, jobs: int) -> list[Span]:
    """Rows as so many threads share them, with one more on each side."""
    return list(spans(0, rows, -(-rows // jobs), 1, rows))
