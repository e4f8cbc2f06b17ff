"""Integer probability tables: the only probabilities that the coder ever sees.

Table t is for latents whose scale is 2^(smallest + t / per_octave) steps. It covers the
symbols -reach..reach and, as its last entry, the escape; its entries add up to 2^24.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sccodec.entropy.fixed import ACTIVATION_BITS
from sccodec.errors import WrongModel

PRECISION = 24
TOTAL = 1 << PRECISION
MOST_TABLES = 1 << 16  # so that 16 bits hold an index
LARGEST = 1 << 20  # symbols beyond +-LARGEST are clamped by the encoder, refused by the decoder

STEPS = 512  # step indexes 0..511; log2(step) = (index - 256) / 32
STEP_BITS = 12
# step * 2^12, rounded; the specification prints the same 512 integers.
STEP_TABLE = np.array(
    [round(2 ** (STEP_BITS + (index - 256) / 32)) for index in range(STEPS)], np.int64
)


def step_size(index: int) -> float:
    """The step that `index` names, exactly as coding has it."""
    return int(STEP_TABLE[index]) / (1 << STEP_BITS)


def nearest_index(log2_step: float) -> int:
    """The index of the step nearest to 2^log2_step."""
    return round(256 + 32 * log2_step)


def log2_step(index: np.ndarray | int) -> np.ndarray | int:
    """log2 of the step that `index` names, exactly, in units of 2^-8."""
    return (index - 256) * (1 << (ACTIVATION_BITS - 5))


@dataclass(frozen=True)
class Tables:
    """The table family of one model.

    counts (sum of sizes,) uint32, one table after the other; reach (T,) int32, so that table t
    has 2 * reach[t] + 2 entries; per_octave divides 2^8; smallest in octaves.
    Raises WrongModel if they do not fit together.
    """

    counts: np.ndarray
    reach: np.ndarray
    per_octave: int
    smallest: int

    def __post_init__(self):
        sizes = 2 * self.reach.astype(np.int64) + 2
        if self.per_octave < 1 or (1 << ACTIVATION_BITS) % self.per_octave:
            raise WrongModel(f"model: {self.per_octave} tables an octave do not divide 2^8")
        if self.reach.min(initial=1) < 1 or sizes.sum() != len(self.counts) or not len(sizes):
            raise WrongModel("model: table sizes do not match their entries")
        if len(sizes) > MOST_TABLES:
            raise WrongModel(f"model: {len(sizes)} tables, at most {MOST_TABLES} can be told apart")
        if self.reach.max() > LARGEST:
            raise WrongModel(f"model: a probability table reaches beyond {LARGEST}")
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        sums = np.add.reduceat(self.counts.astype(np.int64), starts)
        if (sums != TOTAL).any() or self.counts.min() < 1:
            raise WrongModel("model: a probability table does not add up to 2^24")

    def __len__(self) -> int:
        return len(self.reach)

    @cached_property
    def starts(self) -> np.ndarray:
        """(T + 1,) int64: where each table begins in `counts`."""
        return np.concatenate([[0], np.cumsum(2 * self.reach.astype(np.int64) + 2)])

    def table(self, t: int) -> np.ndarray:
        """The entries of table t, (2 * reach + 2,) uint32."""
        return self.counts[self.starts[t] : self.starts[t + 1]]

    def index(self, log2_scale: np.ndarray, step: int) -> np.ndarray:
        """Table indexes for log2-scales (value * 2^8, exact) at a step index."""
        unit = (1 << ACTIVATION_BITS) // self.per_octave
        ratio = log2_scale - log2_step(step)
        nearest = np.floor(ratio / unit + 0.5) - self.smallest * self.per_octave
        return np.clip(nearest, 0, len(self) - 1).astype(np.int32)

    def places(self, symbols: np.ndarray, index: np.ndarray) -> np.ndarray:
        """(n,) int64: where in `counts` each of these symbols stands; escapes are the last."""
        reach = self.reach[index].astype(np.int64)
        outside = np.abs(symbols) > reach
        return np.where(outside, 2 * reach + 1, symbols + reach) + self.starts[index]

    @cached_property
    def _bits(self) -> np.ndarray:
        return PRECISION - np.log2(self.counts.astype(np.float64))

    def bits(self, symbols: np.ndarray, index: np.ndarray) -> np.ndarray:
        """What coding each of these symbols costs, (n,) bits; escapes with their extra bits."""
        reach = self.reach[index].astype(np.int64)
        outside = np.abs(symbols) > reach
        cost = self._bits[self.places(symbols, index)]
        if outside.any():
            beyond = np.abs(symbols[outside]) - reach[outside]  # at least 1
            width = np.floor(np.log2(beyond))
            cost[outside] += 6 + 8 * np.ceil(width / 8)
        return cost
