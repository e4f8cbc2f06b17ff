"""The prior: for each latent of one (layer, tile), a mean and a table index, exactly.

One generator is driven by encoder, decoder and rate search alike, so they cannot disagree:
it asks for the symbols of a round, and computes the next round's means and table indexes
from the answers. `formats/entropy.md` section 4 is the specification.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

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

_FINE = STEP_BITS - ACTIVATION_BITS  # latents are multiples of 2^-12, activations of 2^-8
OFFSET_BITS = 12
KEPT = 1 << 21  # latents of the largest tiles whose `Turns` are kept
KEPT_SIZES = 8
OFFSET_EVERY = 32  # reconstruction offsets are stored for every 32nd step index


@dataclass(frozen=True)
class Ask:
    """One round: which symbols are needed, and what is known about them.

    what: 'hyper' or 'latent'; select: (C, h, w) bool, or None for all, in C order;
    mean: (n,) float64 exact; index: (n,) int32 table indexes; step: float64 exact;
    offset: (n,) float64, by how many steps the reconstruction of a symbol but 0 is nearer to
    the mean.
    """

    what: str
    select: np.ndarray | None
    mean: np.ndarray
    index: np.ndarray
    step: float
    offset: np.ndarray


@dataclass(frozen=True)
class Coded:
    """What both sides know once all rounds of a layer and tile are done.

    latent: (M, h, w) float32, the reconstruction with offsets, for the synthesis;
    seen: (M, h, w) float64 exact, in units of 2^-12, for the layers above.
    """

    latent: np.ndarray
    seen: np.ndarray


def _shift(array: np.ndarray) -> np.ndarray:
    """Shifts for which every mean stays a multiple of 2^-12, and far below 2^53."""
    if array.size and not 0 <= array.min() <= array.max() <= 16:
        raise ValueError("shift")
    return array.astype(np.int32)


def _power(exponent: np.ndarray) -> np.ndarray:
    """2^exponent; ldexp is exact everywhere, exp2 need not be."""
    return np.ldexp(1.0, exponent)


class Context:
    """One round's network: mean and log2-scale of the latents that the round codes.

    `turns` (M, 4): in which round each channel is coded at each (row % 2, column % 2), and this
    is round k. Nothing is computed from latents that are not known yet, nor for those of other
    rounds. All arrays are split by row % 2 and column % 2, see `fixed.split`.
    """

    def __init__(
        self, enter: Pointwise, spread: Depthwise, mix: Pointwise, leave: Pointwise, turns, k: int
    ):
        self.enter, self.spread, self.mix, self.leave = enter, spread, mix, leave
        latents = len(turns)
        self.known, self.coded = [], []
        for place in range(4):
            channels = np.flatnonzero(turns[:, place] < k)
            self.known.append((channels, enter.weight[:, channels]))
            channels = np.flatnonzero(turns[:, place] == k)
            both = np.concatenate([channels, channels + latents])
            self.coded.append((channels, leave.weight[both], leave.bias[both]))

    def __call__(
        self, unit: np.ndarray, features: np.ndarray, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Activations (M, 4, n) of known latents and features (D, 4, n) -> mean and log2-scale
        (M, 4, n), meaningful where the round codes."""
        n = unit.shape[2]
        around = self._around(unit, height, width)
        mixed = self.mix(np.concatenate([split(around), features]))
        mean, log2_scale = np.empty((2, len(unit), 4, n))
        for place, (channels, weight, bias) in enumerate(self.coded):
            out = settle(weight @ mixed[:, place] + bias, leaky=False)
            mean[channels, place], log2_scale[channels, place] = np.split(out, 2)
        return mean, log2_scale

    def _around(self, unit: np.ndarray, height: int, width: int) -> np.ndarray:
        """What the known latents around each place tell, (D, height, width)."""
        if not any(len(channels) for channels, _ in self.known):
            # Nothing is known: 3x3 places have all that there is, inside, at edges and corners.
            small = self.spread(self.enter(np.zeros((len(unit), 3, 3))))
            rows, columns = np.ones(height, int), np.ones(width, int)
            for each in (rows, columns):
                each[0], each[-1] = 0, 2
            return small[:, rows[:, None], columns]
        entered = np.empty((len(self.enter.weight), 4, unit.shape[2]))
        for place, (channels, weight) in enumerate(self.known):
            entered[:, place] = weight @ unit[channels, place]
        entered += self.enter.bias[:, :, None]
        return self.spread(merge(settle(entered, leaky=True), height, width))


class Turns:
    """Which latents of `height` x `width` each round codes, in the order of its symbols."""

    def __init__(self, pattern: np.ndarray, latents: int, height: int, width: int):
        group = np.arange(latents) % len(pattern)
        turns = np.tile(pattern[group], (1, height // 2, width // 2))
        place = split(np.arange(height * width).reshape(1, height, width)).ravel()
        inverse = np.empty_like(place)
        inverse[place] = np.arange(len(place))
        self.rounds = []
        for k in range(int(pattern.max()) + 1):
            now = turns == k
            channel, at = np.nonzero(now.reshape(latents, -1))
            self.rounds.append((now, channel, channel * len(place) + inverse[at]))


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
        self._kept: dict[tuple[int, int], Turns] = {}
        self.scale = _power(-shift - _FINE)  # 2^-12 units -> activations
        self.mean_scale = _power(shift + _FINE)  # activations -> 2^-12 units
        self.contexts = [
            Context(
                pointwise(f"context.{k}.enter", True),
                depthwise(f"context.{k}.spread"),
                pointwise(f"context.{k}.mix", True),
                pointwise(f"context.{k}.leave", False),
                self.pattern[np.arange(self.latents) % len(self.pattern)].reshape(-1, 4),
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
        self, height: int, width: int, step_index: int, lower: np.ndarray | None
    ) -> Generator[Ask, np.ndarray, Coded]:
        """Drives the coding of `height` x `width` latents (multiples of 4) at a step index.

        `lower` (L, height, width) is what the layers below left as `Coded.seen`, if this layer
        sees them. Yields `Ask`, wants the symbols (n,) int32 back, returns `Coded`.
        """
        z = yield from self._hyper(height // 4, width // 4, step_index)
        features = split(self._features(z, lower))
        turns = self.turns(height, width)
        step, one = int(STEP_TABLE[step_index]), 1 << STEP_BITS
        shape = (self.latents, 4, height * width // 4)
        seen, unit, latent = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.float32)
        offsets = self.offsets_at(step_index)
        for context, (now, channel, order) in zip(self.contexts, turns.rounds, strict=True):
            mean, log2_scale = context(unit, features, height, width)
            mean = mean.ravel()[order] * self.mean_scale[channel]
            index = self.tables.index(log2_scale.ravel()[order], step_index)
            offset = offsets[index]
            symbols = yield Ask("latent", now, mean / one, index, step / one, offset)
            q = symbols.astype(np.float64)
            known = q * step + mean
            seen.ravel()[order] = known
            shrunk = q - np.sign(q) * offset
            latent.ravel()[order] = (shrunk * step + mean) / one
            known *= self.scale[channel]
            unit.ravel()[order] = np.clip(np.floor(known + 0.5), -LIMIT, LIMIT)
        return Coded(merge(latent, height, width), merge(seen, height, width))

    def _hyper(self, height: int, width: int, step_index: int):
        hyper_step = int(self.hyper_steps[step_index])
        step = int(STEP_TABLE[hyper_step])
        each = self.tables.index(self.hyper_log2, hyper_step)
        cells = height * width
        mean = np.repeat(self.hyper_mean * (1 << _FINE), cells)
        unit = 1 << STEP_BITS
        index = np.repeat(each, cells)
        symbols = yield Ask("hyper", None, mean / unit, index, step / unit, np.zeros(len(index)))
        z = symbols.astype(np.float64) * step + mean
        z = np.floor(z / (1 << _FINE) + 0.5)
        return np.clip(z, -LIMIT, LIMIT).reshape(self.hyper, height, width)

    def _features(self, z: np.ndarray, lower: np.ndarray | None) -> np.ndarray:
        for mix, spread in self.ups:
            z = spread(shuffle(mix(z)))
        if self.lower:
            low = np.floor(lower * self.lower_scale[:, None, None] + 0.5)
            low = self.lower_spread(self.lower_mix(np.clip(low, -LIMIT, LIMIT)))
            z = np.concatenate([z, low])
        return self.join(z)

    def offsets_at(self, step_index: int) -> np.ndarray:
        """(tables,) float64: the reconstruction offset of each table at a step index."""
        column = (step_index + OFFSET_EVERY // 2) // OFFSET_EVERY
        return self.offsets[:, min(column, self.offsets.shape[1] - 1)]

    def turns(self, height: int, width: int) -> Turns:
        """Kept for the few sizes that the tiles of a picture have, unless they are large."""
        found = self._kept.get((height, width))
        if found is None:
            found = Turns(self.pattern, self.latents, height, width)
            if self.latents * height * width <= KEPT:
                if len(self._kept) >= KEPT_SIZES:
                    self._kept = {}
                self._kept[height, width] = found
        return found
