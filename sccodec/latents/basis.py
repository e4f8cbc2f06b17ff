"""A basis of channels: what the channels of a layer have in common, learnt once for many tensors.

Channels that no rectifier separates often say the same in different mixtures. The Karhunen-Loève
transform along the channels, from the covariance of examples, codes what they share once. A basis
is known to both sides and not in the file, which names it by its digest; formats/tensor.md
section 9. Of channels behind a rectifier it is that of what they were before, see `rectified`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sccodec.container.tensors import BASIS_SIZE
from sccodec.errors import BadRequest
from sccodec.latents import rectified
from sccodec.latents.rectified import Components, Limits

BITS = 14  # of a matrix's fractions
MOST_CHANNELS = 2048
LARGEST = 1e30  # mean: a float32, and far from its end
BOUND = 1 << 22  # of coefficients in 64ths of a step, mixed or refined
EXAMPLES = 16  # elements of a channel, for each channel, that tell what a rectifier cut off
MOST_EXAMPLES = 1 << 22  # elements of all channels


@dataclass(frozen=True, eq=False)
class Basis:
    """Means of channels and the matrix that leads from components back to channels."""

    mean: np.ndarray  # (C,) float32
    matrix: np.ndarray  # (C, C) int16 of 2^-14: in row c the shares of the components in channel c
    # (C,) float64, of the components before a rectifier; None if there is none. For encoders alone.
    variances: np.ndarray | None = None

    @property
    def channels(self) -> int:
        return len(self.mean)

    @cached_property
    def digest(self) -> bytes:
        """The name that files have for it."""
        raw = self.mean.astype("<f4").tobytes() + self.matrix.astype("<i2").tobytes()
        return hashlib.sha256(raw).digest()[:BASIS_SIZE]

    @cached_property
    def _undone(self) -> np.ndarray:
        try:
            return np.linalg.inv(self.matrix / (1 << BITS))
        except np.linalg.LinAlgError:
            raise BadRequest("the basis of a calibration cannot be undone") from None

    def components(self, values: np.ndarray) -> np.ndarray:
        """Planes (n C, H, W) of n items -> those of their components, float64."""
        channels = _items(values.astype(np.float64), self.channels) - self.mean[:, None]
        return (self._undone @ channels).reshape(values.shape)

    def completed(self, values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
        """Planes (n C, H, W) of n items, with what a rectifier cut off at the limits, float64;
        as they are if the basis knows of no rectifier."""
        if self.variances is None or not values.size:
            return values
        mean = self.mean.astype(np.float64)[:, None]
        known = Components(mean, self.matrix / (1 << BITS), self.variances)
        items = _items(values.astype(np.float64), self.channels)
        found = [rectified.completed(item, known, Limits(*limits)) for item in items]
        return np.stack(found).reshape(values.shape)

    def mixed(self, parts: np.ndarray) -> np.ndarray:
        """Coefficients of components (n C, h, w), integers -> those of the channels, int64.

        Products and sums stay below 2^53, so float64 holds them exactly in any order.
        """
        found = self.matrix.astype(np.float64) @ _items(parts.astype(np.float64), self.channels)
        found = np.floor((found + (1 << BITS - 1)) / (1 << BITS))
        return np.clip(found, -BOUND, BOUND).astype(np.int64).reshape(parts.shape)

    def means(self, planes: int) -> np.ndarray:
        """(planes, 1, 1) float64: the mean of the channel of each plane."""
        return np.resize(self.mean.astype(np.float64), planes)[:, None, None]


def _items(planes: np.ndarray, channels: int) -> np.ndarray:
    """(n, C, elements of a plane)"""
    return planes.reshape(len(planes) // channels, channels, math.prod(planes.shape[1:]))


class Covariance:
    """Gathers what a basis is made of, one tensor after the other."""

    def __init__(self, channels: int):
        self.count = 0
        self.total = np.zeros(channels)
        self.products = np.zeros((channels, channels))
        self.examples = Examples(channels)

    def add(self, planes: np.ndarray) -> None:
        """Planes (n C, H, W) of n items, finite."""
        for item in _items(planes, len(self.total)):
            item = item.astype(np.float64)
            self.count += item.shape[1]
            self.total += item.sum(1)
            with np.errstate(over="ignore", invalid="ignore"):  # `basis` looks at what comes out
                self.products += item @ item.T
            self.examples.add(item)

    def basis(self) -> Basis:
        """The Karhunen-Loève basis; components of much come first.

        Raises BadRequest if there is too little to learn from, or numbers are too large.
        """
        if self.count < 2:
            raise BadRequest("too few elements for a basis of channels")
        mean = self.total / self.count
        examples = self.examples.all()
        finite = np.isfinite(self.products).all() and np.isfinite(examples).all()
        if not (finite and np.abs(mean).max() < LARGEST):
            raise BadRequest("the elements are too large for a basis of channels")
        limits = Limits(examples.min(), examples.max())
        if limits.clipped(examples) and len(mean) <= rectified.MOST_CHANNELS:
            mean, vectors, variances = rectified.learn(examples, limits)
            return _basis(mean[:, 0], vectors, variances)
        _, vectors = np.linalg.eigh(self.products / self.count - np.outer(mean, mean))
        return _basis(mean, vectors[:, ::-1])


def _basis(mean: np.ndarray, vectors: np.ndarray, variances: np.ndarray | None = None) -> Basis:
    # Either sign would do: the same one on every machine.
    largest = np.abs(vectors).argmax(0)
    vectors = vectors * np.where(vectors[largest, np.arange(len(mean))] < 0, -1, 1)
    matrix = np.rint(vectors * (1 << BITS)).astype(np.int16)
    return Basis(mean.astype(np.float32), matrix, variances)


class Examples:
    """Some of the places of many tensors, evenly drawn, float32."""

    def __init__(self, channels: int):
        self.most = max(min(EXAMPLES * channels, MOST_EXAMPLES // channels), 2)
        self.one_of = 1
        self._kept = [np.zeros((channels, 0), np.float32)]  # joined only when there are too many
        self._count = 0
        self._draw = np.random.default_rng(0)

    def add(self, item: np.ndarray) -> None:
        """(C, elements of a plane)"""
        drawn = self._draw.random(item.shape[1]) * self.one_of < 1
        with np.errstate(over="ignore"):  # `basis` refuses what is too large
            self._kept.append(item[:, drawn].astype(np.float32))
        self._count += self._kept[-1].shape[1]
        while self._count > 2 * self.most:
            joined = np.concatenate(self._kept, 1)
            self._kept, self.one_of = [joined[:, ::2].copy()], 2 * self.one_of
            self._count = self._kept[0].shape[1]

    def all(self) -> np.ndarray:
        """(C, N)"""
        kept = np.concatenate(self._kept, 1)
        return kept[:, :: -(-kept.shape[1] // self.most)]
