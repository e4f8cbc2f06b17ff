"""A network in two parts: what the edge computes, what the cloud makes of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
from PIL import Image


class SplitNetwork(Protocol):
    """A network that can be cut after some of its layers; both parts take and give batches."""

    splits: tuple[str, ...]  # the names of the places where a single tensor passes

    def head(self, pictures: np.ndarray, split: str) -> np.ndarray:
        """float32 (N, 3, H, W) -> float32 features (N, C, h, w)."""
        ...

    def tail(self, features: np.ndarray, split: str) -> np.ndarray:
        """float32 features (N, C, h, w) -> float32 outputs (N, ...)."""
        ...


def in_batches(
    function: Callable[[np.ndarray, str], np.ndarray],
    arrays: np.ndarray,
    split: str,
    size: int = 16,
) -> np.ndarray:
    """`head` or `tail` of a network over (N, ...), at most `size` of them at once."""
    parts = [function(arrays[i : i + size], split) for i in range(0, len(arrays), size)]
    return np.concatenate(parts)


def prepared(
    paths: Iterable[str | os.PathLike], prepare: Callable[[Image.Image], np.ndarray]
) -> np.ndarray:
    """Picture files as inputs of a network, (N, ...)."""
    found = []
    for path in paths:
        with Image.open(path) as picture:
            found.append(prepare(picture))
    return np.stack(found)


def relative_error(decoded: np.ndarray, original: np.ndarray) -> float:
    """Squared error over the variance of the original: 0 is exact, 1 is its mean for all."""
    wide = original.astype(np.float64)
    return float(np.square(decoded - wide).mean() / wide.var())
