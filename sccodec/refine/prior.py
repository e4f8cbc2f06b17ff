"""The exact prior once more, smooth: bits and latents that gradients can follow.

The same networks with the same integer weights as `sccodec.latents.prior`, without its
roundings, and the same probability tables, between whose entries bits are interpolated. What
it finds is only proposed: files are coded with the exact one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from sccodec.entropy.fixed import ACTIVATION_BITS, LIMIT, SLOPE, WEIGHT_BITS, Depthwise, Pointwise
from sccodec.entropy.tables import STEP_BITS, Tables, step_size
from sccodec.latents.prior import LayerPrior

UNIT = 1 << ACTIVATION_BITS
FINE = 1 << (STEP_BITS - ACTIVATION_BITS)
MOST = LIMIT / UNIT  # activations are clamped to

# Values in steps -> (symbols as float, of which the fraction is how likely the upper one is).
Rounding = Callable[[torch.Tensor], torch.Tensor]


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


class _Layer:
    """A pointwise or depthwise layer: (1, I, h, w) activations -> (1, O, h, w)."""

    def __init__(self, exact: Pointwise | Depthwise):
        one = 2.0**WEIGHT_BITS
        weight, self.groups = _tensor(exact.weight / one), 1
        if isinstance(exact, Depthwise):
            self.weight, self.groups, self.leaky = weight[:, None], len(weight), False
        else:
            self.weight, self.leaky = weight[:, :, None, None], exact.leaky
        self.bias = _tensor(exact.bias.ravel() / (one * UNIT))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x = F.conv2d(
            x, self.weight, self.bias, padding=self.weight.shape[2] // 2, groups=self.groups
        )
        return (F.leaky_relu(x, SLOPE) if self.leaky else x).clamp(-MOST, MOST)


class SmoothTables:
    """Bits of a symbol at a scale, both real numbers, interpolated between tables' entries."""

    def __init__(self, tables: Tables):
        self.tables, self.reach = tables, int(tables.reach.max())
        symbols = np.arange(-self.reach, self.reach + 1)
        rows = [tables.bits(symbols, np.full(len(symbols), t)) for t in range(len(tables))]
        self.bits_of = _tensor(np.stack(rows))

    def index(self, log2_ratio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Table below, int64, and how far from it to the next, 0..1, for log2(scale / step)."""
        place = (log2_ratio - self.tables.smallest) * self.tables.per_octave
        place = place.clamp(0, len(self.tables) - 1)
        below = place.detach().floor().clamp(max=len(self.tables) - 2)
        return below.long(), place - below

    def bits(self, symbol: torch.Tensor, at: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """What coding `symbol` is expected to take."""
        below, along = at
        symbol = symbol.clamp(-self.reach, self.reach)
        lower = symbol.detach().floor().clamp(max=self.reach - 1)
        up = symbol - lower
        flat, width = self.bits_of.ravel(), self.bits_of.shape[1]
        first = below * width + (lower.long() + self.reach)
        found = [torch.lerp(flat[first + row], flat[first + row + 1], up) for row in (0, width)]
        return torch.lerp(*found, along)


class SmoothPrior:
    """The prior of one layer; see `LayerPrior`."""

    def __init__(self, exact: LayerPrior, tables: SmoothTables):
        self.exact, self.tables = exact, tables
        self.ups = [(_Layer(mix), _Layer(spread)) for mix, spread in exact.ups]
        self.join = _Layer(exact.join)
        if exact.lower:
            self.lower_mix, self.lower_spread = _Layer(exact.lower_mix), _Layer(exact.lower_spread)
            self.lower_unit = _tensor(exact.lower_scale * FINE)[:, None, None]
        self.unit = _tensor(exact.scale * FINE)[:, None, None]
        self.contexts = [
            [_Layer(part) for part in (one.enter, one.spread, one.mix, one.leave)]
            for one in exact.contexts
        ]
        self.hyper_mean = _tensor(exact.hyper_mean / UNIT)[:, None, None]
        self.hyper_log2 = _tensor(exact.hyper_log2 / UNIT)[:, None, None]

    def hyper_step(self, step_index: int) -> float:
        """The step of the hyper-latents."""
        return step_size(int(self.exact.hyper_steps[step_index]))

    def __call__(
        self, y, z, lower, step_index: int, rounded: Rounding
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Bits in all (), latents as a synthesis sees them, and as layers above see them.

        y (1, M, h, w), z (1, Z, h/4, w/4), lower (1, L, h, w) or None: what the layers below
        left as the third result.
        """
        step, hyper_step = step_size(step_index), self.hyper_step(step_index)
        q = rounded((z - self.hyper_mean) / hyper_step)
        ratio = (self.hyper_log2 - np.log2(hyper_step)).expand_as(q)
        bits = self.tables.bits(q, self.tables.index(ratio)).sum()
        features = self._features(q * hyper_step + self.hyper_mean, lower)
        offsets = _tensor(self.exact.offsets_at(step_index))
        turns = self.exact.turns(*y.shape[2:])
        known, latent = torch.zeros_like(y), torch.zeros_like(y)
        for (enter, spread, mix, leave), turn in zip(self.contexts, turns, strict=True):
            around = spread(enter((known * self.unit).clamp(-MOST, MOST)))
            mean, log2_scale = leave(mix(torch.cat([around, features], 1))).chunk(2, 1)
            now = torch.from_numpy(turn.select)[None]
            mean, log2_scale, value = (mean / self.unit)[now], log2_scale[now], y[now]
            q = rounded((value - mean) / step)
            at = self.tables.index(log2_scale - np.log2(step))
            bits = bits + self.tables.bits(q, at).sum()
            below, along = at
            offset = torch.lerp(offsets[below], offsets[below + 1], along) * q.clamp(-1, 1)
            known = known.masked_scatter(now, q * step + mean)
            latent = latent.masked_scatter(now, (q - offset) * step + mean)
        return bits, latent, known

    def _features(self, z_hat, lower):
        u = z_hat.clamp(-MOST, MOST)
        for mix, spread in self.ups:
            u = spread(F.pixel_shuffle(mix(u), 2))
        if self.exact.lower:
            low = (lower * self.lower_unit).clamp(-MOST, MOST)
            u = torch.cat([u, self.lower_spread(self.lower_mix(low))], 1)
        return self.join(u)
