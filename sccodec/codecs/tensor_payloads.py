"""The payloads of tensors: values to level numbers to bytes for each (layer, tile), and back."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace

import numpy as np

from sccodec.codecs.tensor_design import Design, scale_of
from sccodec.codecs.tensor_grid import Grid, Part, Window
from sccodec.codecs.tensor_settings import Settings
from sccodec.codecs.tensor_statistics import Offsets, finite
from sccodec.container.layout import ABSENT, TileEntry
from sccodec.container.reader import Reader
from sccodec.container.tensors import Grading, LevelFilter, TensorEntry
from sccodec.entropy import bands, planes, unary
from sccodec.entropy.flags import Orders, grouped
from sccodec.errors import CodecError, Damaged, Mismatch
from sccodec.latents import blocks
from sccodec.latents.basis import Basis
from sccodec.latents.restoration import restore
from sccodec.latents.scalar import Embedded, Quantiser
from sccodec.media.tensor import Tensor, narrowed

CODERS = {"context": planes, "unary": unary}
AT_ONCE = 1 << 15  # elements that are restored at once
HINT = "sccodec doctor tells whether this machine computes as every other does"


@dataclass(frozen=True)
class Coded:
    """One (layer, tile) as it goes into the file."""

    payload: bytes
    entry: TileEntry


@dataclass(frozen=True)
class Lost:
    """One (layer, tile) that could not be decoded; the layer below is there, or zeros."""

    tensor: str
    layer: str
    tile: int
    lower: bool  # whether a layer below stands in for it
    message: str
    error: CodecError | None = None

    def facts(self) -> dict:
        return {
            "tensor": self.tensor,
            "layer": self.layer,
            "tile": self.tile,
            "message": self.message,
        }


def checksum(levels: np.ndarray) -> int:
    """CRC-32 of level numbers (P, H, W) in C order, as bytes up to 256 levels, else as int32."""
    kind = "u1" if levels.dtype == np.uint8 else "<i4"
    return zlib.crc32(np.ascontiguousarray(levels, kind))


# -- encode ----------------------------------------------------------------------------------


class Levels:
    """The level numbers of one tensor, a tile at a time, as a design makes them."""

    def __init__(self, tensor: Tensor, grid: Grid, design: Design, settings: Settings):
        self.tensor, self.grid, self.design, self.settings = tensor, grid, design, settings
        self._window = Window(grid, tensor.values)
        self._factors = design.factors()
        self._offsets = None if design.offsets is None else design.offsets.values()

    def values(self, part: Part) -> np.ndarray:
        """(planes, rows, columns) float32 or float64, finite."""
        return finite(self._window.get(part), self.tensor, self.settings)

    def scaled(self, part: Part) -> np.ndarray:
        """The same less the offsets of their channels, over their scales."""
        values = self.values(part)
        if self._offsets is not None:
            values = values - self.grid.of_channels(part, self._offsets).astype(values.dtype)
        if self._factors is not None:
            values = values / self.grid.of_channels(part, self._factors).astype(values.dtype)
        return values

    def of(self, part: Part) -> list[np.ndarray]:
        """Level numbers in each layer, coarse to fine."""
        values = self.scaled(part)
        if self.design.coarser is not None:
            values = self._coarsened(values)
        return self.design.embedded.indexes(values)

    def _coarsened(self, values: np.ndarray) -> np.ndarray:
        """The values, but the first of each plane as the design's coarser quantiser leaves them."""
        coarser = self.design.coarser
        planes = values.reshape(len(values), math.prod(values.shape[1:])).copy()
        some = planes[:, : round(self.design.share * planes.shape[1])]
        some[:] = coarser.levels.astype(values.dtype)[coarser.index(some)]
        return planes.reshape(values.shape)


def code(
    levels: list[np.ndarray], embedded: Embedded, coder: str, *, check: bool = True
) -> list[Coded]:
    """The payloads of one tile in each layer; with `check` each is decoded before it is believed.

    Raises Mismatch if this machine could not read what it is about to write.
    """
    module, done = CODERS[coder], []
    below = None
    for n, (quantiser, numbers) in enumerate(zip(embedded.quantisers, levels, strict=True)):
        first = embedded.first[n - 1] if n else None
        count, orders = len(quantiser), Orders()
        group = orders.put if check else grouped
        payload = module.encode(numbers, count, first, below, group=group)
        if check:
            again = module.decode(payload, numbers.shape, count, first, below, group=orders.get)
            _believe(numbers, again)
        done.append(Coded(payload, TileEntry.of(payload, symbols=checksum(numbers))))
        below = numbers
    return done


def code_transformed(shape, layers: list[np.ndarray], *, check: bool = True) -> list[Coded]:
    """The same for the coefficients (P, h R, w C) of one tile; shape is (P, h, R, w, C)."""
    done = []
    for numbers in layers:
        orders = Orders()
        payload = bands.encode(shape, numbers, group=orders.put if check else grouped)
        if check:
            _believe(numbers, bands.decode(shape, payload, group=orders.get))
        done.append(Coded(payload, TileEntry.of(payload, symbols=checksum(numbers))))
    return done


def _believe(numbers: np.ndarray, again: np.ndarray) -> None:
    if not np.array_equal(again, numbers):
        raise Mismatch("the coder does not read back what it wrote", hint=HINT)


def absent() -> Coded:
    """For a layer that a tensor does not have, in a file that has it for others."""
    return Coded(b"", ABSENT)


# -- the quantisers in the file ----------------------------------------------------------------


def gradings(design: Design) -> tuple[Grading, ...]:
    """What a file says of a design's quantisers."""
    quantisers = design.embedded.quantisers
    filters = design.filters or [None] * len(quantisers)
    return tuple(map(grading, quantisers, filters))


def grading(quantiser: Quantiser, filter_: LevelFilter | None) -> Grading:
    """What a file says of a quantiser: limits if it is uniform, else every level."""
    uniform = quantiser.limits is not None
    values = quantiser.limits if uniform else tuple(quantiser.levels.tolist())
    with np.errstate(over="ignore"):
        wide = any(float(np.float32(value)) != value for value in values)
    return Grading(len(quantiser), tuple(map(float, values)), uniform, wide, filter_)


def restored(entry: TensorEntry) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(levels of each layer (N,) float64, cells below each level of each layer but the last)."""
    levels = []
    for layer in entry.layers:
        if layer.uniform:
            levels.append(Quantiser.uniform(*layer.values, layer.count).levels)
        else:
            levels.append(np.array(layer.values))
    first = [np.cumsum([0, *counts]) for counts in entry.children]
    return levels, first


# -- decode ----------------------------------------------------------------------------------


class Values:
    """Level numbers of one tensor back to its elements, in the type that it had."""

    def __init__(
        self, entry: TensorEntry, grid: Grid, basis: Basis | None = None, *, store: bool = True
    ):
        """basis: that of the entry's transform. Without `store` there is no array to put values
        into."""
        self.entry, self.grid, self._basis = entry, grid, basis
        self._factors = self._offsets = None
        if entry.scales:
            self._factors = scale_of(np.frombuffer(entry.scales, np.uint8))
        if entry.offsets:
            self._offsets = Offsets(entry.offset_unit, entry.offsets).values()
        self._levels, self.first = restored(entry)
        self.dtype = np.dtype(np.uint16 if entry.kind == "bfloat16" else entry.kind)
        if store:
            self.array = np.zeros(entry.shape, self.dtype)
            self._window = Window(grid, self.array)

    def of(self, part: Part, layer: int, numbers: np.ndarray) -> np.ndarray:
        """The values of level numbers (planes, rows, columns), or of coefficients."""
        if self.entry.transform is not None:
            return typed(self._transformed(part, layer, numbers), self.entry.kind)
        levels, filter_ = self._levels[layer], self.entry.layers[layer].filter
        if filter_ is not None:
            return self._filtered(part, levels, filter_, numbers)
        if self._factors is None and self._offsets is None:
            return typed(levels, self.entry.kind)[numbers]
        each = typed(self._in_channels(part, levels), self.entry.kind)
        return each[np.arange(len(numbers))[:, None, None], 0, numbers]

    def _filtered(self, part: Part, levels, filter_: LevelFilter, numbers) -> np.ndarray:
        """Restored values of level numbers, a few planes at a time so that they stay in a cache."""
        found = np.empty(numbers.shape, self.dtype)
        few = max(AT_ONCE // max(numbers[0].size, 1), 1)
        for begin in range(0, len(numbers), few):
            some = numbers[begin : begin + few]
            first = part.planes.start + begin
            piece = replace(part, planes=slice(first, first + len(some)))
            values = self._in_channels(piece, restore(filter_, levels, some))
            np.clip(values, filter_.low, filter_.high, out=values)
            found[begin : begin + few] = typed(values, self.entry.kind)
        return found

    def _in_channels(self, part: Part, values: np.ndarray) -> np.ndarray:
        """Values of planes times their channels' scales, with their offsets."""
        if self._factors is not None:
            values = values * self.grid.of_channels(part, self._factors)
        if self._offsets is not None:
            values = values + self.grid.of_channels(part, self._offsets)
        return values

    def _transformed(self, part: Part, layer: int, parts: np.ndarray) -> np.ndarray:
        """(planes, rows, columns) float64 of coefficients."""
        transform = self.entry.transform.layer(layer)
        return blocks.elements(parts, transform, self._basis, part.shape[1:])

    def joined(self, layer: int, numbers: np.ndarray, below: np.ndarray | None) -> np.ndarray:
        """What `of` takes, of what a layer's payload has and what it was for the layer below."""
        if self.entry.transform is None:
            return numbers
        return blocks.restored(numbers, self.entry.transform, layer, below)

    def put(self, part: Part, layer: int, numbers: np.ndarray) -> None:
        self._window.put(part, self.of(part, layer, numbers))


def typed(values: np.ndarray, kind: str) -> np.ndarray:
    """float64 -> the nearest value of an element type, and never beyond its largest."""
    if kind == "bfloat16":
        return narrowed(values.astype(np.float32))
    if kind == "int8":
        return np.clip(np.rint(values), -128, 127).astype(np.int8)
    most = np.finfo(kind).max
    return np.clip(values, -most, most).astype(kind)


def decode_tile(
    reader: Reader,
    values: Values,
    part: Part,
    tile: int,
    chain: list[int],
    *,
    tolerant: bool,
    store: bool = True,
) -> Lost | None:
    """Decodes the layers of `chain` of one tile and stores the finest that there is.

    If `tolerant`, what cannot be decoded is returned; if not, raises Damaged or Mismatch.
    """
    entry, numbers, done = values.entry, None, -1
    lost = None
    for n in chain:
        name, place = reader.header.layer(n).name, reader.tiles[n][tile]
        if not place.present:
            where = f"{reader.name}: layer {n} ({name}), tile {tile}"
            lost = Lost(entry.name, name, tile, numbers is not None, f"{where} is absent")
            if numbers is not None:
                lost = None
            break
        try:
            first = values.first[n - 1] if n and values.first else None
            coded = _decode(reader, entry, n, tile, part.shape, first, numbers)
            numbers = values.joined(n, coded, numbers)
            done = n
        except (Damaged, Mismatch) as error:
            if not tolerant:
                raise
            lost = Lost(entry.name, name, tile, numbers is not None, str(error), error)
            break
    if store and numbers is not None:
        values.put(part, done, numbers)
    return lost


def _decode(reader: Reader, entry: TensorEntry, layer: int, tile: int, shape, first, below):
    """Level numbers of one (layer, tile), or coefficients; its bytes and these are checked."""
    where = f"{reader.name}: layer {layer} ({reader.header.layer(layer).name}), tile {tile}"
    payload = reader.payload(layer, tile)
    try:
        if entry.transform is not None:
            numbers = bands.decode(blocks.shape(shape, entry.transform.block), payload)
        else:
            count, module = entry.layers[layer].count, CODERS[entry.coder]
            numbers = module.decode(payload, shape, count, first, below)
    except Damaged as error:
        raise Mismatch(f"{where}: the bytes are whole, but {error}", hint=HINT) from None
    if checksum(numbers) != reader.tiles[layer][tile].symbols:
        raise Mismatch(
            f"{where}: the bytes are whole, but decode to other levels than were written",
            hint=HINT,
        )
    return numbers
