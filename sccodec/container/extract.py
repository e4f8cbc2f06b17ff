"""Take layers out of an .scc file and put them back, byte for byte.

Payloads are copied and never decoded; only header, directory and end chunk are written anew,
so join(extract(f, base), extract(f, rest)) is f again. Every payload is checked on its way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from numbers import Integral
from typing import BinaryIO

from sccodec.container import layout
from sccodec.container.layout import Chunk, Header, LayerEntry
from sccodec.container.reader import Reader
from sccodec.container.writer import write_layers
from sccodec.errors import BadRequest

NUMBER = re.compile(r"[0-9]{1,9}")


def layer_selection(header: Header, spec: str | int | Iterable[str]) -> tuple[int, ...]:
    """Indexes of the layers that `spec` asks for, ascending.

    spec is "all", "base" (also where no layer has this name: those with the purpose base),
    a number of layers from the first, a name, names with commas, or several names.

    Raises BadRequest that lists the layers of the file.
    """
    by_name = {layer.name: layer.index for layer in header.layers}
    if isinstance(spec, str) and NUMBER.fullmatch(spec.strip()):
        spec = int(spec)
    if isinstance(spec, Integral):
        if not 1 <= spec <= len(header.layers):
            raise BadRequest(f"{spec} layers asked for; the file holds {header.layer_list()}")
        return header.present[:spec]
    if isinstance(spec, str) and spec == "all":
        return header.present
    try:
        names = [name.strip() for name in spec.split(",")] if isinstance(spec, str) else list(spec)
    except TypeError:
        raise BadRequest(f"{spec!r} are no layers; the file holds {header.layer_list()}") from None
    if names == ["base"] and "base" not in by_name:
        base = tuple(layer.index for layer in header.layers if layer.purpose == 0)
        if base:
            return base
    if not names:
        raise BadRequest(f"no layer asked for; the file holds {header.layer_list()}")
    for name in names:
        if not isinstance(name, str) or name not in by_name:
            what = f"no layer {name!r}" if isinstance(name, str) else f"{name!r} is no layer's name"
            raise BadRequest(f"{what}; the file holds {header.layer_list()}")
    return tuple(sorted({by_name[name] for name in names}))


def extract(reader: Reader, keep: Iterable[int], out: BinaryIO) -> int:
    """Write a file that holds only the layers with these indexes; return its length in bytes.

    Raises BadRequest for a layer that is not there, Damaged for a payload that is not whole.
    """
    header = _reduced(reader.header, keep)
    return _copy(out, header, _safe(reader), lambda index: reader, reader.limits)


def split(reader: Reader, keep: Iterable[int], out: BinaryIO, rest: BinaryIO) -> tuple[int, int]:
    """Write these layers to `out` and all others to `rest`; return both lengths in bytes."""
    keep = set(keep)
    others = [index for index in reader.header.present if index not in keep]
    if not others:
        raise BadRequest(f"no layer would be left; the file holds {reader.header.layer_list()}")
    return extract(reader, keep, out), extract(reader, others, rest)


def fit(reader: Reader, max_bytes: int) -> tuple[int, ...]:
    """Indexes of the most layers, from the first, whose file is at most so many bytes long.

    Raises BadRequest if the first layer alone is longer.
    """
    present, chunks = reader.header.present, _safe(reader)
    for count in range(len(present), 0, -1):
        header = _reduced(reader.header, present[:count])
        length = layout.file_length(header, chunks, reader.limits)
        if length <= max_bytes:
            return present[:count]
    raise BadRequest(f"the first layer alone makes {length} bytes, more than {max_bytes}")


def join(readers: Sequence[Reader], out: BinaryIO) -> int:
    """Write one file with the layers of all; return its length in bytes.

    The order does not matter. A layer may be in several files if it is the same in each; one
    sound copy is enough.

    Raises BadRequest that names the field in which two files differ, and Damaged.
    """
    if not readers:
        raise BadRequest("no files to join")
    first, sources = readers[0], {}
    for reader in readers:
        _same_stream(first, reader)
        for layer in reader.header.layers:
            twin = sources.setdefault(layer.index, reader)
            if twin is not reader:
                _same_layer(twin, reader, layer)
                if twin.check_layer(layer.index):  # a sound copy heals a damaged one
                    sources[layer.index] = reader
    layers = [source.header.layer(index) for index, source in sorted(sources.items())]
    header = replace(first.header, layers=tuple(layers))
    return _copy(out, header, _safe(first), sources.__getitem__, first.limits)


def _reduced(header: Header, keep: Iterable[int]) -> Header:
    """The header with only these layers; their entries do not change."""
    return replace(header, layers=tuple(header.layer(index) for index in sorted(set(keep))))


def _safe(reader: Reader) -> tuple[Chunk, ...]:
    """Ancillary chunks that stay true when layers come or go."""
    return tuple(chunk for chunk in reader.chunks if chunk.flags & layout.SAFE_TO_COPY)


def _copy(
    out: BinaryIO,
    header: Header,
    chunks: Sequence[Chunk],
    source: Callable[[int], Reader],
    limits: layout.Limits,
) -> int:
    """Write a file whose layer i is copied from source(i)."""

    def blocks(layer: LayerEntry) -> Iterator[bytes]:
        reader = source(layer.index)
        places = reader.ranges([layer.index])
        reader.prefetch((place.layer, place.tile) for place in places)
        for place in places:
            yield from reader.payload_blocks(place.layer, place.tile)

    tiles = {layer.index: source(layer.index).tiles[layer.index] for layer in header.layers}
    return write_layers(out, header, tiles, chunks, blocks, limits=limits)


def _same_stream(one: Reader, other: Reader) -> None:
    for name in (field.name for field in fields(Header) if field.name != "layers"):
        mine, yours = getattr(one.header, name), getattr(other.header, name)
        if mine != yours:
            raise BadRequest(
                f"{one.name} and {other.name} are not parts of one file: "
                f"{name} is {_show(mine)} and {_show(yours)}"
            )
    if _safe(one) != _safe(other):
        mine, yours = ([chunk.type for chunk in _safe(reader)] for reader in (one, other))
        if mine == yours:
            pairs = zip(_safe(one), _safe(other), strict=True)
            mine = yours = [chunk.type for chunk, twin in pairs if chunk != twin]
        raise BadRequest(
            f"{one.name} and {other.name} are not parts of one file: "
            f"metadata {mine} and {yours} differ"
        )


def _same_layer(one: Reader, other: Reader, layer: LayerEntry) -> None:
    """BadRequest unless both files hold the same layer; their entries hold checksums."""
    for name in (field.name for field in fields(LayerEntry)):
        mine, yours = getattr(one.header.layer(layer.index), name), getattr(layer, name)
        if mine != yours:
            raise BadRequest(
                f"{one.name} and {other.name}: {name} of layer {layer.index} "
                f"is {mine!r} and {yours!r}"
            )
    if one.tiles[layer.index] != other.tiles[layer.index]:
        raise BadRequest(
            f"{one.name} and {other.name}: layer {layer.index} ({layer.name}) "
            "is in both, with different payloads"
        )


def _show(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)
