"""Which values a header and a directory may hold, and the limits that keep reading safe.

A value that contradicts another is the file's fault (`Damaged`) or the caller's
(`BadRequest`), as told by `wrong`; a value that has no meaning yet is `Unsupported`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from sccodec.errors import BadRequest, CodecError, LimitExceeded, Unsupported

if TYPE_CHECKING:
    from sccodec.container.layout import Header, LayerEntry, TileEntry

MODALITIES = ("picture", "video", "tensor")
MAX_NAMED_LAYERS = 32  # `needs` has one bit for each
MAX_CHUNK = 2**31 - 1  # so that a length fits a signed integer in every language
NO_LIMIT = 2**63
PRESENT = 1  # bit of a tile's flags

# A digit first would read as a count ("2": the first two layers); "all" is every layer.
LAYER_NAME = re.compile(r"(?!all\Z)[A-Za-z][A-Za-z0-9._-]{0,31}")
# A model id becomes part of a path, so it must not climb out of the folder of models.
MODEL_ID = re.compile(r"[^\W_][^/\\:]*")


@dataclass(frozen=True)
class Limits:
    """What a reader accepts; each is compared with the file before anything is allocated."""

    max_pixels: int = 2**28  # width x height: 768 MiB of RGB at 8 bits
    max_dimension: int = 65535  # pixels along one side
    max_tile: int = 2**24  # pixels of one tile, which is decoded as a whole
    max_layers: int = MAX_NAMED_LAYERS
    max_tiles: int = 2**20  # of all layers together: a directory of 14 MiB
    max_chunk: int = MAX_CHUNK  # bytes
    max_metadata: int = 2**26  # bytes of all ancillary chunks together


MOST_CHUNKS = 1024  # ancillary ones, which may be empty
DEFAULT_LIMITS = Limits()


def environment_limits(environment: Mapping[str, str] = os.environ) -> Limits:
    """The default limits, or what `SCCODEC_MAX_PIXELS` and its like say; 0 is no limit.

    Raises BadRequest for a value that is no number.
    """
    values = {}
    for field in fields(Limits):
        text = environment.get(f"SCCODEC_{field.name.upper()}")
        if text is None:
            continue
        if not text.isdecimal():
            raise BadRequest(f"SCCODEC_{field.name.upper()} is {text!r}, not a number")
        values[field.name] = int(text) or NO_LIMIT
    return Limits(**values)


def tile_grid(width: int, height: int, tile_size: int) -> tuple[int, int]:
    """(columns, rows) of square tiles over a picture."""
    return -(-width // tile_size), -(-height // tile_size)


def check_limit(what: str, value: int, limit: int, cap: int | None = None) -> None:
    """LimitExceeded if `value` is above `limit`, or above the format's own `cap`."""
    if value > min(limit, limit if cap is None else cap):
        raiseable = cap is None or value <= cap
        raise LimitExceeded(
            f"{what}: {value} is above the limit of {limit if raiseable else cap}",
            hint="raise the limit if you trust the file" if raiseable else None,
        )


def is_model_id(name: str) -> bool:
    """Whether a header may name a model so."""
    return bool(MODEL_ID.fullmatch(name)) and name.isprintable()


def check_header(header: Header, limits: Limits, *, wrong: type[CodecError]) -> None:
    """Raise for the first field that no reader would accept."""
    if header.kind == "tensor":
        check_limit("elements", header.width * header.height, limits.max_pixels)
        check_limit("elements of a tile", header.tile_size, limits.max_tile)
    else:
        _check_size(header, limits)
    check_limit("layers", header.total_layers, limits.max_layers, MAX_NAMED_LAYERS)
    _check_canvas(header, wrong)
    if not is_model_id(header.model):
        raise wrong(f"model id {header.model!r} is not allowed")
    if len(header.digest) != 8:
        raise wrong(f"model digest of {len(header.digest)} bytes, not 8")
    if not 0 < len(header.layers) <= header.total_layers:
        raise wrong(f"{len(header.layers)} layers present of {header.total_layers}")
    if list(header.present) != sorted(set(header.present)):
        raise wrong(f"layer indexes {list(header.present)} do not ascend")
    names = [layer.name for layer in header.layers]
    if len(set(names)) != len(names):
        raise wrong(f"layer names {names} are not unique")
    for layer in header.layers:
        _check_layer(header, layer, limits, wrong)
    check_limit("tiles", sum(layer.tiles for layer in header.layers), limits.max_tiles)


def _check_size(header: Header, limits: Limits) -> None:
    check_limit("pixels of the longer side", max(header.width, header.height), limits.max_dimension)
    check_limit("pixels", header.width * header.height, limits.max_pixels)
    tile = min(header.tile_size, header.width) * min(header.tile_size, header.height)
    check_limit("pixels of a tile", tile, limits.max_tile)


def _check_canvas(header: Header, wrong: type[CodecError]) -> None:
    if header.modality >= len(MODALITIES):
        raise Unsupported(f"modality {header.modality} is not known")
    if not (header.width and header.height and header.channels and header.frames):
        raise wrong("width, height, channels and frames must not be 0")
    if header.kind == "picture" and header.frames != 1:
        raise wrong(f"a picture of {header.frames} frames")
    if header.kind != "tensor" and header.channels not in (1, 3):
        raise Unsupported(f"{header.channels} channels in a {header.kind}, known are 1 and 3")
    if header.bit_depth not in (8, 16):
        raise Unsupported(f"bit depth {header.bit_depth}, known are 8 and 16")
    if header.colour != 0:
        raise Unsupported(f"colour {header.colour} is not known")
    if header.tile_size == 0 or header.tile_size % 64:
        raise wrong(f"tile size {header.tile_size} is not a multiple of 64")


def _check_layer(header: Header, layer: LayerEntry, limits: Limits, wrong) -> None:
    where = f"layer {layer.index}"
    if not LAYER_NAME.fullmatch(layer.name):
        raise wrong(f"{where}: name {layer.name!r} is not allowed")
    if layer.index >= header.total_layers:
        raise wrong(f"{where}: the full stream has only {header.total_layers} layers")
    if layer.needs >> layer.index:
        raise wrong(f"{where} needs itself or a higher layer")
    grid = (layer.tile_columns, layer.tile_rows)
    if not all(grid):
        raise wrong(f"{where} has no tiles")
    if header.kind == "picture":
        expected = tile_grid(header.width, header.height, header.tile_size)
        if grid != expected:
            raise wrong(f"{where}: {grid} tile columns and rows, the canvas has {expected}")
    check_limit(f"bytes of the chunk of {where}", layer.bytes + 1, limits.max_chunk, MAX_CHUNK)


def check_tiles(
    header: Header, tiles: Mapping[int, Sequence[TileEntry]], *, wrong: type[CodecError]
) -> None:
    """Raise if the directory contradicts itself or the header."""
    if sorted(tiles) != list(header.present):
        raise wrong(f"directory of layers {sorted(tiles)}, header of {list(header.present)}")
    for layer in header.layers:
        entries, where = tiles[layer.index], f"directory, layer {layer.index} ({layer.name})"
        if len(entries) != layer.tiles:
            raise wrong(f"{where}: {len(entries)} tiles, not {layer.tiles}")
        for number, entry in enumerate(entries):
            if entry.flags not in (0, PRESENT):
                raise Unsupported(f"{where}, tile {number}: flags {entry.flags:#04x}")
            if not entry.flags and any(entry):
                raise wrong(f"{where}, tile {number} is absent, yet its entry is not zero")
        total = sum(entry.length for entry in entries)
        if total != layer.bytes:
            raise wrong(f"{where}: tile lengths add up to {total}, not {layer.bytes}")
