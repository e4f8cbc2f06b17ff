"""What lies where in an .scc file: the structures of formats/container.md, in its order.

Each structure is one `Record`; the same table packs and unpacks it, and a test compares
its field names with those of the specification. All integers are little-endian.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sccodec.container.record import Record
from sccodec.container.rules import (
    DEFAULT_LIMITS,
    MAX_CHUNK,
    MAX_NAMED_LAYERS,
    MODALITIES,
    PRESENT,
    Limits,
    check_header,
    check_limit,
    check_tiles,
    tile_grid,
)
from sccodec.errors import BadRequest, Damaged, Unsupported

# 0x89 shows a stripped eighth bit, CR LF and LF changed line ends, 0x1A stops `type` on Windows.
SIGNATURE = b"\x89SCC\r\n\x1a\n"
VERSION = 1
CRITICAL, SAFE_TO_COPY = 1, 2  # bits of a chunk's flags
PURPOSES = ("base", "enhancement", "machine", "human", "clean")  # open: others are shown as numbers
QUALITY_UNKNOWN = 65535
MAX_HEAD = 65536  # of every version, so that an old reader can always reach the version byte
CHUNK_TYPE = re.compile(rb"[A-Z0-9_]{4}")


CHUNK = Record("chunk", ("type", "4s"), ("flags", "B"), ("length", "I"))
HEAD = Record(
    "header",
    ("version", "B"),
    ("modality", "B"),
    ("width", "I"),
    ("height", "I"),
    ("channels", "B"),
    ("bit_depth", "B"),
    ("colour", "B"),
    ("frames", "I"),
    ("tile_size", "I"),
    ("model", "text"),
    ("digest", "8s"),
    ("total_layers", "B"),
    ("present_layers", "B"),
)
LAYER = Record(
    "layer entry",
    ("index", "B"),
    ("name", "text"),
    ("purpose", "B"),
    ("needs", "I"),
    ("step", "H"),
    ("tile_columns", "H"),
    ("tile_rows", "H"),
    ("bytes", "Q"),
    ("quality", "H"),
)
TILE = Record(
    "tile entry",
    ("flags", "B"),
    ("step_offset", "b"),
    ("length", "I"),
    ("crc32", "I"),
    ("symbols", "I"),
)
DONE = Record("end", ("total_length", "Q"))

CHUNK_HEAD_SIZE, CHUNK_CRC_SIZE = 9, 4
CHUNK_OVERHEAD = CHUNK_HEAD_SIZE + CHUNK_CRC_SIZE
LAYER_HEAD_SIZE = CHUNK_HEAD_SIZE + 1  # head of LAYR and the layer's index
END_SIZE = CHUNK_OVERHEAD + 8  # the whole DONE chunk
TILE_STRUCT = struct.Struct("<" + "".join(kind for _, kind in TILE.fields))  # 14 bytes


@dataclass(frozen=True)
class LayerEntry:
    """One layer that the file holds."""

    index: int  # place in the full stream, 0 first
    name: str
    purpose: int  # see PURPOSES
    needs: int  # bit i: layer i must be decoded first; only lower layers
    step: int  # quantiser step index
    tile_columns: int
    tile_rows: int
    bytes: int  # of all its tile payloads
    quality: int = QUALITY_UNKNOWN  # 1/100 dB PSNR of the picture decoded up to this layer

    @property
    def tiles(self) -> int:
        """Number of tiles, absent ones included."""
        return self.tile_columns * self.tile_rows

    @property
    def purpose_name(self) -> str:
        """The word for the purpose, or its number if this version has no word for it."""
        return PURPOSES[self.purpose] if self.purpose < len(PURPOSES) else str(self.purpose)

    @property
    def needed(self) -> tuple[int, ...]:
        """Indexes of the layers that must be decoded first."""
        return tuple(i for i in range(MAX_NAMED_LAYERS) if self.needs >> i & 1)


@dataclass(frozen=True)
class Header:
    """What the file holds: canvas, model, and the layers that are present."""

    width: int  # pixels
    height: int  # pixels
    channels: int  # 1 gray, 3 RGB
    tile_size: int  # pixels along a side, a multiple of 64
    model: str
    digest: bytes  # first 8 bytes of the model's SHA-256
    total_layers: int  # of the full stream
    layers: tuple[LayerEntry, ...]  # ascending index
    modality: int = 0  # index of MODALITIES
    bit_depth: int = 8
    colour: int = 0  # 0: sRGB, or as the ICCP chunk says
    frames: int = 1
    version: int = VERSION

    @property
    def kind(self) -> str:
        """One of MODALITIES, or the number of one that is not known."""
        known = self.modality < len(MODALITIES)
        return MODALITIES[self.modality] if known else str(self.modality)

    @property
    def present_layers(self) -> int:
        """Number of layers in this file."""
        return len(self.layers)

    @property
    def present(self) -> tuple[int, ...]:
        """Indexes of the layers in this file, ascending."""
        return tuple(layer.index for layer in self.layers)

    def layer(self, index: int) -> LayerEntry:
        """The entry of one layer; BadRequest lists those that are here."""
        for layer in self.layers:
            if layer.index == index:
                return layer
        raise BadRequest(f"no layer {index}; the file holds {self.layer_list()}")

    def layer_list(self) -> str:
        """The layers by index and name, for messages: "0 (base), 1 (human)"."""
        return ", ".join(f"{layer.index} ({layer.name})" for layer in self.layers)

    def missing(self, index: int) -> tuple[int, ...]:
        """Layers that layer `index` needs, directly or through others, and that are not here."""
        wanted = self.layer(index).needs
        for layer in reversed(self.layers):  # needs point down, so one pass from the top is enough
            if wanted >> layer.index & 1:
                wanted |= layer.needs
        absent = wanted & ~sum(1 << i for i in self.present)
        return tuple(i for i in range(MAX_NAMED_LAYERS) if absent >> i & 1)

    def tile_box(self, tile: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of a picture's tile in pixels; the last may be smaller."""
        columns, rows = tile_grid(self.width, self.height, self.tile_size)
        if not 0 <= tile < columns * rows:
            raise BadRequest(f"no tile {tile}; the picture has {columns} x {rows} tiles")
        left, top = tile % columns * self.tile_size, tile // columns * self.tile_size
        right, bottom = left + self.tile_size, top + self.tile_size
        return left, top, min(right, self.width), min(bottom, self.height)


class TileEntry(NamedTuple):
    """Where the payload of one (layer, tile) is; a tuple because there may be a million."""

    flags: int
    step_offset: int  # added to the layer's step, -128..127
    length: int  # bytes
    crc32: int  # of the payload
    symbols: int  # CRC-32 of the decoded symbols; means nothing to the container

    @property
    def present(self) -> bool:
        """False where the encoder wrote nothing, as outside a region of interest."""
        return bool(self.flags & PRESENT)

    @classmethod
    def of(cls, payload: bytes, *, step_offset: int = 0, symbols: int = 0) -> TileEntry:
        """The entry of a payload."""
        return cls(PRESENT, step_offset, len(payload), zlib.crc32(payload), symbols)


ABSENT = TileEntry(0, 0, 0, 0, 0)


class Chunk(NamedTuple):
    """An ancillary chunk, kept as it is."""

    type: str  # four of A-Z 0-9 _
    flags: int
    payload: bytes


def pack_chunk(kind: str, flags: int, payload: bytes) -> bytes:
    """A whole chunk: head, payload, CRC-32 of both."""
    head = CHUNK.pack({"type": kind.encode(), "flags": flags, "length": len(payload)})
    return head + payload + struct.pack("<I", zlib.crc32(payload, zlib.crc32(head)))


def unpack_chunk_head(raw: bytes, limits: Limits = DEFAULT_LIMITS) -> tuple[str, int, int]:
    """(type, flags, payload length); flags are judged later, when the checksum is known."""
    values, _ = CHUNK.unpack(raw, 0)
    if not CHUNK_TYPE.fullmatch(values["type"]):
        raise Damaged(f"chunk type {values['type']!r} is not four of A-Z, 0-9 and _")
    check_limit("bytes of a chunk", values["length"], limits.max_chunk, MAX_CHUNK)
    return values["type"].decode(), values["flags"], values["length"]


def pack_header(header: Header, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Payload of HEAD; BadRequest or LimitExceeded if no reader would accept it."""
    check_header(header, limits, wrong=BadRequest)
    values = {name: getattr(header, name) for name in HEAD.names}
    return HEAD.pack(values) + b"".join(LAYER.pack(vars(layer)) for layer in header.layers)


def unpack_header(raw: bytes, limits: Limits = DEFAULT_LIMITS) -> Header:
    """Header from the payload of HEAD, every field checked."""
    if raw and raw[0] != VERSION:
        raise Unsupported(
            f"format version {raw[0]}, this program reads {VERSION}",
            hint="a newer sccodec reads it" if raw[0] > VERSION else None,
        )
    values, at = HEAD.unpack(raw, 0)
    count = values.pop("present_layers")
    check_limit("layers", count, limits.max_layers, MAX_NAMED_LAYERS)
    layers = []
    for _ in range(count):
        entry, at = LAYER.unpack(raw, at)
        layers.append(LayerEntry(**entry))
    if at != len(raw):
        raise Damaged(f"header holds {len(raw) - at} bytes too many")
    header = Header(layers=tuple(layers), **values)
    check_header(header, limits, wrong=Damaged)
    return header


def pack_directory(header: Header, tiles: Mapping[int, Sequence[TileEntry]]) -> bytes:
    """Payload of DIRE; `tiles` maps a layer's index to its entries in raster order."""
    check_tiles(header, tiles, wrong=BadRequest)
    entries = (entry for layer in header.layers for entry in tiles[layer.index])
    try:
        return b"".join(TILE_STRUCT.pack(*entry) for entry in entries)
    except struct.error as error:
        raise BadRequest(f"tile entry holds a value out of range: {error}") from error


def unpack_directory(raw: bytes, header: Header) -> dict[int, tuple[TileEntry, ...]]:
    """Tile entries of each layer from the payload of DIRE, every field checked."""
    if len(raw) != directory_size(header):
        raise Damaged(f"directory of {len(raw)} bytes, not {directory_size(header)}")
    entries: Iterator[TileEntry] = map(TileEntry._make, TILE_STRUCT.iter_unpack(raw))
    tiles = {
        layer.index: tuple(next(entries) for _ in range(layer.tiles)) for layer in header.layers
    }
    check_tiles(header, tiles, wrong=Damaged)
    return tiles


def directory_size(header: Header) -> int:
    """Bytes of the payload of DIRE."""
    return TILE_STRUCT.size * sum(layer.tiles for layer in header.layers)


def layer_chunk_size(layer: LayerEntry) -> int:
    """Bytes of one whole LAYR chunk."""
    return CHUNK_OVERHEAD + 1 + layer.bytes


def layer_chunk_head(layer: LayerEntry) -> bytes:
    """The first bytes of a LAYR chunk: its head and the layer's index."""
    head = {"type": b"LAYR", "flags": CRITICAL, "length": 1 + layer.bytes}
    return CHUNK.pack(head) + bytes([layer.index])


def end_chunk(length: int) -> bytes:
    """The whole DONE chunk of a file of so many bytes."""
    return pack_chunk("DONE", CRITICAL, DONE.pack({"total_length": length}))


def file_length(header: Header, chunks: Sequence[Chunk], limits: Limits = DEFAULT_LIMITS) -> int:
    """Bytes of the file that these would make."""
    start = len(SIGNATURE) + CHUNK_OVERHEAD + len(pack_header(header, limits))
    ancillary = sum(CHUNK_OVERHEAD + len(chunk.payload) for chunk in chunks)
    directory = CHUNK_OVERHEAD + directory_size(header)
    layers = sum(map(layer_chunk_size, header.layers))
    return start + ancillary + directory + layers + END_SIZE
