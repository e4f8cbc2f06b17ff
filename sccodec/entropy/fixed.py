"""Networks whose every intermediate value is an exact integer, most of them held in float64.

A range-coded stream is lost if encoder and decoder disagree on one probability, so whatever
chooses a probability is computed here: weights are multiples of 2^-12, activations multiples
of 2^-8 clamped to +-127. An activation array holds value * 2^8, a weight array value * 2^12;
their products and sums are integers far below 2^53, which float64 adds exactly in any order,
on any machine, with any BLAS and any number of threads. `formats/entropy.md` section 2 is the
specification.
"""

from __future__ import annotations

import numpy as np

from sccodec.errors import WrongModel

ACTIVATION_BITS = 8
WEIGHT_BITS = 12
LIMIT = 127 << ACTIVATION_BITS  # activations are clamped to +-LIMIT
EXACT = 2**53  # float64 holds every integer up to this
BLOCK = 1 << 17  # bytes that a depthwise layer works on at once
SLOPE = 0.125  # leaky ReLU; a power of two, so that the slope is exact too

HALF = 1 << WEIGHT_BITS - 1  # of what a sum of products counts for one of an activation

_TO_ACTIVATION = 2.0**-WEIGHT_BITS


def settle(total: np.ndarray, leaky: bool = False) -> np.ndarray:
    """Sums of products (value * 2^20) -> activations (value * 2^8), in place.

    Leaky ReLU if asked, then one rounding to the nearest (ties up), then the clamp.
    """
    if leaky:
        np.maximum(total, total * SLOPE, out=total)
    total *= _TO_ACTIVATION
    total += 0.5
    np.floor(total, out=total)
    return np.clip(total, -LIMIT, LIMIT, out=total)


def _settle_whole(total: np.ndarray) -> np.ndarray:
    """`settle` of int32 that HALF can be added to, without leaky ReLU."""
    total += HALF
    total >>= WEIGHT_BITS  # rounds down, negative numbers too
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

    def __call__(self, x: np.ndarray) -> np.ndarray:
        total = self.weight @ x.reshape(len(x), -1)
        total += self.bias
        return settle(total, self.leaky).reshape(-1, *x.shape[1:])


class Depthwise:
    """A 3x3 convolution of each channel alone, zero beyond the edge: (C, h, w) -> (C, h, w).

    weight (C, 3, 3) int16 and bias (C,) int32, both in units of 2^-12. Sums that always fit into 32
    bits are added there, which takes half the time.
    """

    def __init__(self, weight: np.ndarray, bias: np.ndarray):
        weight = weight.astype(np.float64)
        bias = bias.astype(np.float64)[:, None] * 2**ACTIVATION_BITS
        most = np.abs(weight).sum((1, 2)) * LIMIT + np.abs(bias[:, 0])
        if most.size and most.max() >= EXACT:
            raise WrongModel("model: the sums of an exact layer may pass 2^53")
        small = most.max(initial=0) + HALF < 2**31
        self.kind = np.dtype(np.int32 if small else np.float64)
        self.weight, self.bias = weight.astype(self.kind), bias.astype(self.kind)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        channels, height, width = x.shape
        # With a frame of zeros around it a shifted plane is one run of memory; what lands in the
        # frame is thrown away. A few channels at a time stay in the processor's cache.
        stride = width + 2
        run = height * stride
        block = max(1, min(channels, BLOCK // max(run * self.kind.itemsize, 1)))
        framed = np.zeros((block, height + 3, stride), self.kind)
        flat = framed.reshape(block, -1)
        total, product = np.empty((2, block, run), self.kind)
        out = np.empty((channels, height, width))
        settle_sums = _settle_whole if self.kind == np.int32 else settle
        for begin in range(0, channels, block):
            some = slice(begin, min(begin + block, channels))
            part = x[some]
            n = len(part)
            framed[:n, 1 : height + 1, 1 : width + 1] = part
            total[:n] = self.bias[some]
            for i, j in np.ndindex(3, 3):
                at = i * stride + j
                weight = self.weight[some, i, j, None]
                total[:n] += np.multiply(flat[:n, at : at + run], weight, out=product[:n])
            settled = settle_sums(total[:n])
            out[some] = settled.reshape(n, height, stride)[:, :, :width]
        return out


def shuffle(x: np.ndarray) -> np.ndarray:
    """(4C, h, w) -> (C, 2h, 2w): channel 4c + 2i + j goes to rows i, i + 2, ..., columns j, ..."""
    channels, height, width = x.shape
    x = x.reshape(channels // 4, 2, 2, height, width).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(x).reshape(channels // 4, 2 * height, 2 * width)


def split(x: np.ndarray) -> np.ndarray:
    """(C, h, w) -> (C, 4, hw/4): by row % 2 and column % 2, each in raster order."""
    channels, height, width = x.shape
    x = x.reshape(channels, height // 2, 2, width // 2, 2).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(x).reshape(channels, 4, -1)


def merge(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """The opposite of `split`: (C, 4, hw/4) -> (C, h, w)."""
    x = x.reshape(len(x), 2, 2, height // 2, width // 2).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(x).reshape(len(x), height, width)
