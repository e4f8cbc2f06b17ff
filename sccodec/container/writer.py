"""Write an .scc file: all of it, or nothing.

The header and the directory stand in front and hold every size, so a file is written in one
pass, and the bytes of a layer may come from memory or from another file.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from sccodec.container import layout
from sccodec.container.layout import Chunk, Header, LayerEntry, TileEntry
from sccodec.container.rules import MOST_CHUNKS
from sccodec.errors import BadRequest, Unsupported

STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}
STRUCTURAL = ("HEAD", "DIRE", "LAYR", "DONE")


def write(
    out: BinaryIO,
    header: Header,
    tiles: Mapping[int, Sequence[TileEntry]],
    payloads: Mapping[int, Sequence[bytes]],
    metadata: Mapping[str, bytes] | None = None,
    extra: Iterable[Chunk] = (),
    *,
    limits: layout.Limits = layout.DEFAULT_LIMITS,
) -> int:
    """Write a whole file to `out` and return its length in bytes.

    tiles and payloads map a layer's index to one item per tile in raster order; the payload
    of an absent tile is b"".
    metadata maps a chunk type (ICCP, EXIF, XMP_, ...) to its bytes, which extraction keeps.
    extra holds further ancillary chunks with their own flags.

    Raises BadRequest or LimitExceeded before the first byte if a reader would refuse the file.
    """
    for layer in header.layers:
        _check_payloads(layer, tiles.get(layer.index, ()), payloads.get(layer.index, ()))
    chunks = [Chunk(kind, layout.SAFE_TO_COPY, raw) for kind, raw in (metadata or {}).items()]
    chunks += extra
    return write_layers(
        out, header, tiles, chunks, lambda layer: payloads[layer.index], limits=limits
    )


def to_bytes(
    header: Header,
    tiles: Mapping[int, Sequence[TileEntry]],
    payloads: Mapping[int, Sequence[bytes]],
    metadata: Mapping[str, bytes] | None = None,
    extra: Iterable[Chunk] = (),
    *,
    limits: layout.Limits = layout.DEFAULT_LIMITS,
) -> bytes:
    """The file that `write` writes."""
    out = io.BytesIO()
    write(out, header, tiles, payloads, metadata, extra, limits=limits)
    return out.getvalue()


def write_layers(
    out: BinaryIO,
    header: Header,
    tiles: Mapping[int, Sequence[TileEntry]],
    chunks: Sequence[Chunk],
    blocks: Callable[[LayerEntry], Iterable[bytes]],
    *,
    limits: layout.Limits = layout.DEFAULT_LIMITS,
) -> int:
    """Write a whole file whose layers come as blocks of bytes; return its length in bytes.

    blocks(layer) yields the concatenated tile payloads of one layer, in pieces of any size.
    """
    front = [layout.SIGNATURE]
    front.append(layout.pack_chunk("HEAD", layout.CRITICAL, layout.pack_header(header, limits)))
    check_chunks(chunks, limits)
    front += [layout.pack_chunk(*chunk) for chunk in chunks]
    directory = layout.pack_directory(header, tiles)
    front.append(layout.pack_chunk("DIRE", layout.CRITICAL, directory))
    out.write(b"".join(front))
    for layer in header.layers:
        _write_layer(out, layer, blocks(layer))
    length = layout.file_length(header, chunks, limits)
    out.write(layout.end_chunk(length))
    return length


def _write_layer(out: BinaryIO, layer: LayerEntry, blocks: Iterable[bytes]) -> None:
    head = layout.layer_chunk_head(layer)
    out.write(head)
    crc, written = zlib.crc32(head), 0
    for block in blocks:
        out.write(block)
        crc = zlib.crc32(block, crc)
        written += len(block)
    if written != layer.bytes:
        raise BadRequest(f"layer {layer.index} ({layer.name}): {written} bytes for {layer.bytes}")
    out.write(struct.pack("<I", crc))


def _check_payloads(layer: LayerEntry, entries, payloads) -> None:
    where = f"layer {layer.index} ({layer.name})"
    if not len(entries) == len(payloads) == layer.tiles:
        raise BadRequest(
            f"{where}: {len(entries)} entries and {len(payloads)} payloads for {layer.tiles} tiles"
        )
    for number, (entry, payload) in enumerate(zip(entries, payloads, strict=True)):
        if entry.length != len(payload) or entry.crc32 != zlib.crc32(payload):
            raise BadRequest(f"{where}, tile {number}: the entry is not that of the payload")


def check_chunks(chunks: Sequence[Chunk], limits: layout.Limits) -> None:
    """Raises BadRequest, Unsupported or LimitExceeded for metadata that no reader would take."""
    types = [chunk.type for chunk in chunks]
    for kind, flags, _ in chunks:
        if not layout.CHUNK_TYPE.fullmatch(kind.encode()) or kind in STRUCTURAL:
            raise BadRequest(f"metadata chunk cannot be called {kind!r}")
        if flags not in (0, layout.SAFE_TO_COPY):
            raise Unsupported(f"metadata chunk {kind} with flags {flags:#04x}")
    if len(set(types)) != len(types):
        raise BadRequest(f"metadata chunks {types} repeat")
    layout.check_limit("metadata chunks", len(chunks), MOST_CHUNKS, MOST_CHUNKS)
    total = sum(len(chunk.payload) for chunk in chunks)
    layout.check_limit("bytes of metadata", total, limits.max_metadata)


@contextmanager
def whole_file(path: str | os.PathLike, force: bool = False) -> Iterator[BinaryIO]:
    """A binary file that appears at `path` when the block ends, and not at all if it raises.

    An existing file needs `force`, and keeps its permissions; it may be the one being read.
    A device, pipe or socket is written directly, since it cannot be replaced.

    Raises BadRequest if the file exists, and OSError as `open` does.
    """
    path = os.fspath(path)
    if _is_special(path):
        # A descriptor is written where it stands, so that `>> file` appends.
        descriptor = STANDARD.get(path)
        with open(path if descriptor is None else os.dup(descriptor), "wb") as out:
            yield out
        return
    _refuse_existing(path, force)
    target = os.path.realpath(path)  # so that a link stays a link
    # Beside the target, since a rename does not cross file systems.
    part = os.path.join(os.path.dirname(target), f".sccodec-{os.urandom(6).hex()}.part")
    try:
        with open(part, "xb") as out:  # unlike tempfile, obeys the umask
            yield out
        _refuse_existing(path, force)
        if os.path.exists(target):
            shutil.copymode(target, part)
        os.replace(part, target)
    except BaseException as error:
        if os.path.exists(part):
            os.unlink(part)
        if isinstance(error, OSError) and error.filename == part:
            error.filename = path  # the name that the caller knows
        raise


def _is_special(path: str) -> bool:
    """True for what must not be replaced by a rename, such as /dev/null or a named pipe."""
    if path in STANDARD:  # may lead to a regular file that the shell has opened
        return True
    if os.path.isdir(path):
        raise BadRequest(f"{path} is a folder")
    return os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode)


def _refuse_existing(path: str, force: bool) -> None:
    if not force and os.path.exists(path):
        raise BadRequest(f"{path} exists", hint="--force replaces it")
