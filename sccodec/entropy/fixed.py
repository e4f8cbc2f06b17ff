"""Networks whose every intermediate value is an exact integer held in float64.

A range-coded stream is lost if encoder and decoder disagree on one probability, so whatever
chooses a probability is computed here: weights are multiples of 2^-12, activations multiples
of 2^-8 clamped to +-127. An activation array holds value * 2^8, a weight array value * 2^12;
their products and sums are integers far below 2^53, which float64 adds exactly in any order,
on any machine, with any BLAS and any number of threads. `formats/entropy.md` section 2 is the
specification.
"""

from __future__ import annotations

import copy

import numpy as np

from sccodec.errors import WrongModel

ACTIVATION_BITS = 8
WEIGHT_BITS = 12
LIMIT = 127 << ACTIVATION_BITS  # activations are clamped to +-LIMIT
EXACT = 2**53  # float64 holds every integer up to this
SLOPE = 0.125  # leaky ReLU; a power of two, so that the slope is exact too

_TO_ACTIVATION = 2.0**-WEIGHT_BITS


def settle(total: np.ndarray, leaky: bool) -> np.ndarray:
    """Sums of products (value * 2^20) -> activations (value * 2^8), in place.

    Leaky ReLU if asked, then one rounding to the nearest (ties up), then the clamp.
    """
    if leaky:
        np.maximum(total, total * SLOPE, out=total)
    total *= _TO_ACTIVATION
    total += 0.5
    np.floor(total, out=total)
    return np.clip(total, -LIMIT, LIMIT, out=total)


class Pointwise:
    """A 1x1 convolution: (I, h, w) activations -> (O, h, w) activations.

    weight (O, I) int16 in units of 2^-12, bias (O,) int32 in units of 2^-12.
    Raises WrongModel if a sum could pass 2^53.
    """

    def __init__(self, weight: np.ndarray, bias: np.ndarray, leaky: bool):
        self.weight = weight.astype(np.float64)
        self.bias = bias.astype(np.float64)[:, None] * 2**ACTIVATION_BITS
        self.leaky = leaky
        most = np.abs(self.weight).sum(1) * LIMIT + np.abs(self.bias[:, 0])
        if most.size and most.max() >= EXACT:
            raise WrongModel("model: the sums of an exact layer may pass 2^53")

    def rows(self, keep: np.ndarray) -> Pointwise:
        """The layer that computes only these of its outputs."""
        part = copy.copy(self)
        part.weight, part.bias = self.weight[keep], self.bias[keep]
        return part

    def __call__(self, x: np.ndarray) -> np.ndarray:
        total = self.weight @ x.reshape(len(x), -1)
        total += self.bias
        return settle(total, self.leaky).reshape(-1, *x.shape[1:])


class Depthwise:
    """A 3x3 convolution of each channel alone, zero beyond the edge: (C, h, w) -> (C, h, w).

    weight (C, 3, 3) int16 and bias (C,) int32, both in units of 2^-12.
    """

    def __init__(self, weight: np.ndarray, bias: np.ndarray):
        self.weight = weight.astype(np.float64)
        self.bias = bias.astype(np.float64)[:, None, None] * 2**ACTIVATION_BITS
        most = np.abs(self.weight).sum((1, 2)) * LIMIT + np.abs(self.bias[:, 0, 0])
        if most.size and most.max() >= EXACT:
            raise WrongModel("model: the sums of an exact layer may pass 2^53")

    def __call__(self, x: np.ndarray) -> np.ndarray:
        channels, height, width = x.shape
        padded = np.zeros((channels, height + 2, width + 2))
        padded[:, 1:-1, 1:-1] = x
        total = np.empty_like(x)
        product = np.empty_like(x)
        total[:] = self.bias
        for i in range(3):
            for j in range(3):
                shifted = padded[:, i : i + height, j : j + width]
                np.multiply(shifted, self.weight[:, i, j, None, None], out=product)
                total += product
        return settle(total, leaky=False)


def shuffle(x: np.ndarray) -> np.ndarray:
    """(4C, h, w) -> (C, 2h, 2w): channel 4c + 2i + j goes to rows i, i + 2, ..., columns j, ..."""
    channels, height, width = x.shape
    x = x.reshape(channels // 4, 2, 2, height, width).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(x).reshape(channels // 4, 2 * height, 2 * width)
