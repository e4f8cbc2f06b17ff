"""Files that match another: the largest within some bytes, the smallest as good as some PSNR.

Between the settings that an adapter lists, which rise in bytes, places are numbers: 1.5 is half
way from the second to the third. Codecs with whole settings round them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sccodec.evaluate.adapters import Adapter
from sccodec.evaluate.quality import psnr

SEARCH = 7  # halvings between two settings that stand side by side: finer than whole ones


class Match(NamedTuple):
    """A file, and whether it is what was asked for: not, where the settings do not reach."""

    data: bytes
    met: bool


def largest_within(codec: Adapter, pixels: np.ndarray, most: int) -> Match:
    """The codec's largest file of at most `most` bytes; its smallest if even that is larger."""
    data = _encode(codec, pixels, 0.0)
    if len(data) > most:
        return Match(data, False)
    found = _last(codec, pixels, lambda candidate: len(candidate) <= most)
    return Match(found or data, True)


def smallest_as_good(codec: Adapter, pixels: np.ndarray, quality: float) -> Match:
    """The codec's smallest file of at least `quality` dB of PSNR.

    Not met: its smallest file, if that is better already, or else its largest.
    """

    def value(data: bytes) -> float:
        return psnr(pixels, codec.decode(data, 1))

    smallest = _encode(codec, pixels, 0.0)
    if value(smallest) >= quality:
        return Match(smallest, False)
    largest = _encode(codec, pixels, float(len(codec.settings) - 1))
    if value(largest) < quality:
        return Match(largest, False)
    best = [largest]

    def too_poor(data: bytes) -> bool:
        poor = value(data) < quality
        if not poor:
            best[0] = data
        return poor

    _last(codec, pixels, too_poor)
    return Match(best[0], True)


def _encode(codec: Adapter, pixels: np.ndarray, place: float) -> bytes:
    if len(codec.settings) == 1:
        return codec.encode(pixels, codec.settings[0], 1)
    n = min(int(place), len(codec.settings) - 2)
    low, high = codec.settings[n : n + 2]
    return codec.encode(pixels, low + (high - low) * (place - n), 1)


def _last(codec: Adapter, pixels: np.ndarray, fits: Callable[[bytes], bool]) -> bytes | None:
    """The file at the highest place that fits, by halving; None if none was met on the way."""
    low, high = 0.0, float(len(codec.settings) - 1)
    found = None
    for _ in range(SEARCH + math.ceil(math.log2(max(high, 1)))):
        middle = (low + high) / 2
        data = _encode(codec, pixels, middle)
        if fits(data):
            low, found = middle, data
        else:
            high = middle
    return found
