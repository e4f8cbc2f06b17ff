"""The transform of feature planes: a cosine transform of blocks, and one of the blocks' means.

A plane is cut into h x w blocks of R x C elements, what lacks at its end repeats the last ones.
Coefficient (u, v) of block (i, j) stands at row i R + u and column j C + v. The coefficients (0, 0)
of all blocks, h x w of them, are transformed once more; frequency (i, j) of these stands where
coefficient (0, 0) of block (i, j) would. The inverse is one of integers, so that every machine
restores the same values; formats/tensor.md section 7.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from sccodec.container.tensors import RATIO, Transform
from sccodec.latents.basis import BOUND, Basis

BITS = 14  # of the numbers of a matrix
PART = 64  # a coefficient is in units of step / PART
UNIT = PART << 2 * BITS  # of restored values: step / UNIT
USUAL = 8


@functools.cache
def matrix(size: int) -> np.ndarray:
    """(size, size) int64: 2^14 times the orthonormal cosine transform, rows are frequencies."""
    u, x = np.arange(size)[:, None], np.arange(size)
    wave = np.cos(math.pi * ((2 * x + 1) * u) / (2 * size))
    scale = np.where(u == 0, math.sqrt(1 / size), math.sqrt(2 / size))
    return np.floor(wave * scale * (1 << BITS) + 0.5).astype(np.int64)


def side(length: int) -> int:
    """Elements of a block along an axis of so many: 8 at most, with little to fill up."""
    return -(-length // -(-length // USUAL))


def grid(length: int, block: int) -> int:
    """Blocks along an axis."""
    return -(-length // block)


def shape(planes: tuple[int, int, int], block: tuple[int, int]) -> tuple[int, int, int, int, int]:
    """(P, h, R, w, C) of planes (P, H, W) in blocks of (R, C)."""
    count, height, width = planes
    return count, grid(height, block[0]), block[0], grid(width, block[1]), block[1]


def forward(values: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """Planes (P, H, W) -> coefficients (P, h R, w C), float64."""
    planes, h, rows, w, columns = shape(values.shape, block)
    missing = h * rows - values.shape[1], w * columns - values.shape[2]
    wide = np.pad(values.astype(np.float64), ((0, 0), *((0, n) for n in missing)), mode="edge")
    blocks = _along(wide.reshape(planes, h, rows, w, columns), _analysis(rows), 2)
    blocks = _along(blocks, _analysis(columns), 4)
    means = _along(blocks[:, :, 0, :, 0], _analysis(h), 1)
    blocks[:, :, 0, :, 0] = _along(means, _analysis(w), 2)
    return blocks.reshape(wide.shape)


def restored(
    numbers: np.ndarray, transform: Transform, layer: int = 0, below: np.ndarray | None = None
) -> np.ndarray:
    """What the integers of a layer, any shape, stand for: int64, in 64ths of the layer's step.

    below: what those of the layer below stood for, in 64ths of its step.
    """
    own = transform.layer(layer)
    shift = np.array((0, *own.inward))[np.minimum(np.abs(numbers), 3)]
    parts = PART * numbers.astype(np.int64) + np.sign(numbers) * shift
    if below is None:
        return parts
    parts += refined(below, transform.finer[layer - 1].ratio)
    return np.clip(parts, -BOUND, BOUND, out=parts)


def refined(below: np.ndarray, ratio: int) -> np.ndarray:
    """Coefficients in 64ths of a step -> in 64ths of the finer step, both int64."""
    return below * ratio + RATIO // 2 >> RATIO.bit_length() - 1


def inverse(
    parts: np.ndarray, block: tuple[int, int], size: tuple[int, int], basis: Basis | None = None
) -> np.ndarray:
    """Coefficients (P, h R, w C) int64 as `restored` gives -> planes (P, H, W) int64 in units of
    step / UNIT. basis: that of the components which the planes are.
    """
    planes, height, width = parts.shape
    h, w = height // block[0], width // block[1]
    parts = parts.copy() if basis is None else basis.mixed(parts)
    blocks = parts.reshape(planes, h, block[0], w, block[1])
    means = _along(_along(blocks[:, :, 0, :, 0], matrix(h).T, 1), matrix(w).T, 2)
    blocks[:, :, 0, :, 0] = means + (1 << 2 * BITS - 1) >> 2 * BITS
    found = _along(_along(blocks, matrix(block[0]).T, 2), matrix(block[1]).T, 4)
    return found.reshape(parts.shape)[:, : size[0], : size[1]]


def elements(
    parts: np.ndarray, transform: Transform, basis: Basis | None, size: tuple[int, int]
) -> np.ndarray:
    """Coefficients (P, h R, w C) int64 in 64ths of the step -> elements (P, H, W), float64.

    transform: `Transform.layer` of the layer that they are of. basis: the one that it names.
    """
    whole = inverse(parts, transform.block, size, basis)
    values = whole.astype(np.float64) * (transform.step / UNIT)
    if basis is not None:
        values += basis.means(len(values))
    if transform.limits is None:
        return values
    low, high = transform.limits
    values[values < low + transform.snap * (transform.step / PART)] = low
    return np.minimum(values, high)


@functools.cache
def _analysis(size: int) -> np.ndarray:
    """(size, size) float64, what the inverse undoes: that of integers is orthonormal to four
    digits, of which a large mean would need more."""
    return np.linalg.inv(matrix(size).T / (1 << BITS))


def _along(values: np.ndarray, table: np.ndarray, axis: int) -> np.ndarray:
    """The products of a matrix with every vector along an axis."""
    return np.moveaxis(np.moveaxis(values, axis, -1) @ table.T, -1, axis)
