"""Filters of a tensor's quantisers: whether they pay, and what they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sccodec.codecs.tensor_design import DeadZones, Design
from sccodec.codecs.tensor_grid import Grid
from sccodec.codecs.tensor_payloads import Levels
from sccodec.codecs.tensor_settings import Settings
from sccodec.codecs.tensor_statistics import Statistics
from sccodec.container.tensors import FILTER, TAPS, LevelFilter
from sccodec.entropy.planning import spread
from sccodec.latents import restoration
from sccodec.media.tensor import Tensor

MOST = float(np.finfo(np.float32).max)
FITTED = 1 << 18  # elements that a filter is fitted to
MOST_LEVELS = 64  # of a quantiser with a filter; neighbours tell little about fine levels


def size(design: Design) -> int:
    """Bytes that a filter for each of a design's quantisers takes in the file; see
    `with_filters`."""
    counts = [len(quantiser) for quantiser in design.embedded.quantisers]
    if max(counts) > MOST_LEVELS:
        return 0
    return sum(FILTER.size + TAPS.size * count for count in counts if count > 1)


def pay(
    tensor: Tensor, grid: Grid, design: Design, stats: Statistics, settings: Settings, bits: float
) -> bool:
    """Whether filters lower the error of a design of so many bits per element by more than a
    finer quantiser would for the bytes that they take."""
    fewer = bits - 8 * size(design) / tensor.values.size
    if fewer <= 0:
        return False
    zones = DeadZones(stats, grid, settings)
    share = with_filters(tensor, grid, design, settings)[1]
    return share * zones.error(fewer) < zones.error(bits)


def with_filters(
    tensor: Tensor,
    grid: Grid,
    design: Design,
    settings: Settings,
    limits: tuple[float, float] = (-MOST, MOST),
) -> tuple[Design, float]:
    """The design with filters fitted to the tensor, which keep to the limits, and the squared
    error with the finest of them as a share of that without.

    Layers of one level have no filter, and designs of very many levels none at all.
    """
    quantisers = design.embedded.quantisers
    if max(map(len, quantisers)) > MOST_LEVELS:
        return design, 1.0
    numbers, values = _sample(Levels(tensor, grid, design, settings), grid)
    filters: list[LevelFilter | None] = []
    for n, quantiser in enumerate(quantisers):
        pairs = zip((layers[n] for layers in numbers), values, strict=True)
        found, share = restoration.fit(quantiser.levels, pairs, *limits)
        filters.append(found)
    return replace(design, filters=tuple(filters)), share


def _sample(levels: Levels, grid: Grid) -> tuple[list[list[np.ndarray]], list[np.ndarray]]:
    """Level numbers in each layer and values of some planes, evenly spread over the tensor."""
    numbers, values = [], []
    tiles = spread(len(grid.parts), max(FITTED // grid.tile, 1))
    for tile in tiles:
        part = grid.parts[tile]
        planes, rows, columns = part.shape
        most = FITTED // len(tiles) // max(rows * columns, 1)
        some = np.sort(spread(planes, max(most, 1)))
        numbers.append([layer[some] for layer in levels.of(part)])
        values.append(levels.scaled(part)[some])
    return numbers, values


def limits_of(stats: Statistics) -> tuple[float, float] | None:
    """Of elements with these statistics, as float32 has them, none outside; None if it cannot."""
    if max(-stats.low, stats.high) > MOST:
        return None
    low, high = np.float32(stats.low), np.float32(stats.high)
    low = np.nextafter(low, np.float32(-MOST)) if low > stats.low else low
    high = np.nextafter(high, np.float32(MOST)) if high < stats.high else high
    return float(low), float(high)


def open_ended(low: float) -> tuple[float, float]:
    """Limits that hold nothing back but negative values where there were none."""
    return (0.0 if low >= 0 else -MOST), MOST
