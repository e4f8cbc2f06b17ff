"""Read parts of an .scc file through one function, read_at(offset, length) -> bytes.

A local file, bytes in memory and an HTTP range are each a two-line read_at. Opening reads
the header, the metadata and the directory, which stand in front; a payload is read when it
is asked for, and nothing else is read for it.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import zlib
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import accumulate
from operator import itemgetter
from typing import BinaryIO, NamedTuple

from sccodec.container import layout
from sccodec.container.layout import Chunk, Header, Limits, TileEntry
from sccodec.container.rules import MOST_CHUNKS, environment_limits
from sccodec.errors import BadRequest, CodecError, Damaged, NotOurFile, Unsupported

FRONT = 1024  # bytes of the first request: enough to open a small file at once
BLOCK = 1 << 20  # bytes held at once while a whole file is checked or copied


class Range(NamedTuple):
    """Where one payload lies in the file."""

    layer: int
    tile: int
    offset: int  # bytes from the start of the file
    length: int  # bytes


class Problem(NamedTuple):
    """One finding of `Reader.check`."""

    layer: int | None
    tile: int | None
    offset: int  # bytes from the start of the file
    message: str


class Reader:
    """An open .scc file.

    read_at(offset, length) returns the bytes there, fewer at the end of the file.
    size is the file's length in bytes if it is known.
    With allow_partial, a file that ends early opens if header and directory are whole.
    request_cost is how many bytes take as long as one more call of read_at: 0 for a file. Where
    a call costs something, opening reads ahead, `prefetch` merges what lies close together, and
    a file of the right size opens without a look at the chunks behind the directory.

    header      Header
    tiles       layer index -> TileEntry of each tile, in raster order
    chunks      ancillary chunks in file order, with their flags
    metadata    the same, chunk type -> bytes
    bytes_read  that read_at has delivered so far
    requests    calls of read_at so far
    notes       what people should know of the source, in words

    Raises NotOurFile, Damaged, Unsupported or LimitExceeded.
    """

    def __init__(
        self,
        read_at: Callable[[int, int], bytes],
        size: int | None = None,
        *,
        name: str = "<bytes>",
        limits: Limits | None = None,
        allow_partial: bool = False,
        request_cost: int = 0,
        notes: tuple[str, ...] = (),
    ):
        self.name = name
        self.size = size
        self.limits = environment_limits() if limits is None else limits
        self.bytes_read = self.requests = 0
        self.notes = notes
        self._read_at = read_at
        self._counts = True  # false if all has been read before
        self._request_cost = request_cost
        self._ahead = 0  # bytes at least that a call of read_at asks for while opening
        self._held: list[tuple[int, bytes]] = []  # (offset, bytes) already read, ascending
        self._leave: Callable[[], None] | None = None  # what `close` does
        try:
            self._open()
            if not (allow_partial or (request_cost and size == self._end)):
                self._check_frame()
        except CodecError as error:
            raise type(error)(f"{name}: {error}", hint=error.hint) from error

    # -- opening ---------------------------------------------------------------------------

    def _open(self) -> None:
        front = self._fetch(0, max(FRONT, self._request_cost))
        self._held = [(0, front)]
        self._ahead = self._request_cost
        _check_signature(front[: len(layout.SIGNATURE)])
        at = len(layout.SIGNATURE)
        kind, flags, length = self._chunk_head(at)
        if kind != "HEAD":
            raise Damaged(f"first chunk is {kind}, not HEAD")
        layout.check_limit("bytes of the header", length, layout.MAX_HEAD, layout.MAX_HEAD)
        raw = self._chunk_payload(at, kind, flags, length)
        self.header: Header = layout.unpack_header(raw, self.limits)
        self._spans = [("signature", 0, at), (kind, at, length + layout.CHUNK_OVERHEAD)]
        at = self._read_ancillary(at + length + layout.CHUNK_OVERHEAD)
        self.tiles: dict[int, tuple[TileEntry, ...]] = layout.unpack_directory(
            self._directory(at), self.header
        )
        at += layout.CHUNK_OVERHEAD + layout.directory_size(self.header)
        self._offsets: dict[int, list[int]] = {}
        for layer in self.header.layers:
            lengths = (entry.length for entry in self.tiles[layer.index])
            first = at + layout.LAYER_HEAD_SIZE
            self._offsets[layer.index] = list(accumulate(lengths, initial=first))
            self._spans.append(("LAYR", at, layout.layer_chunk_size(layer)))
            at += layout.layer_chunk_size(layer)
        self._spans.append(("DONE", at, layout.END_SIZE))
        self._end = at + layout.END_SIZE
        self._ahead, self._opened = 0, list(self._held)

    def _read_ancillary(self, at: int) -> int:
        """Fill `chunks` and return the offset of DIRE."""
        chunks: list[Chunk] = []
        self.metadata: dict[str, bytes] = {}
        total = 0
        while True:
            kind, flags, length = self._chunk_head(at)
            if kind == "DIRE":
                break
            if kind in ("HEAD", "LAYR", "DONE"):
                raise Damaged(f"chunk {kind} at byte {at} stands where DIRE should")
            if kind in self.metadata:
                raise Damaged(f"metadata chunk {kind} at byte {at} repeats")
            layout.check_limit("metadata chunks", len(chunks) + 1, MOST_CHUNKS, MOST_CHUNKS)
            total += length
            layout.check_limit("bytes of metadata", total, self.limits.max_metadata)
            chunks.append(Chunk(kind, flags, self._chunk_payload(at, kind, flags, length)))
            self._spans.append((kind, at, length + layout.CHUNK_OVERHEAD))
            at += length + layout.CHUNK_OVERHEAD
            self.metadata[kind] = chunks[-1].payload
        self.chunks: tuple[Chunk, ...] = tuple(chunks)
        return at

    def _directory(self, at: int) -> bytes:
        """Payload of DIRE; its length is known from the header before it is read."""
        kind, flags, length = self._chunk_head(at)
        if length != layout.directory_size(self.header):
            raise Damaged(f"directory of {length} bytes, not {layout.directory_size(self.header)}")
        self._spans.append((kind, at, length + layout.CHUNK_OVERHEAD))
        return self._chunk_payload(at, kind, flags, length)

    def _check_frame(self) -> None:
        """Raise unless the chunks behind the directory are those that it describes."""
        end = self._end
        heads = [layout.layer_chunk_head(layer) for layer in self.header.layers]
        for head, (kind, at, _) in zip(
            [*heads, layout.end_chunk(end)], self._spans[-len(heads) - 1 :], strict=True
        ):
            if self._read(at, len(head)) != head:
                self._refuse_unknown(at, *self._chunk_head(at))
                raise Damaged(f"chunk {kind} at byte {at} is not the one that belongs there")
        if (self.size is not None and self.size > end) or self._fetch(end, 1):
            raise Damaged(f"bytes follow the end chunk, at byte {end}")
        self.size = end

    def _refuse_unknown(self, at: int, kind: str, flags: int, length: int) -> None:
        """Unsupported if a sound chunk here is of a kind, or has flags, from the future."""
        known = kind in ("HEAD", "DIRE", "LAYR", "DONE")
        if known and flags == layout.CRITICAL:
            return
        if not known and flags in (0, layout.SAFE_TO_COPY):
            return
        crc = 0
        body = layout.CHUNK_HEAD_SIZE + length
        for block in self._blocks(at, body):
            crc = zlib.crc32(block, crc)
        if struct.pack("<I", crc) != self._read(at + body, layout.CHUNK_CRC_SIZE):
            raise Damaged(f"checksum of chunk {kind} at byte {at} does not match")
        if known or flags & ~(layout.CRITICAL | layout.SAFE_TO_COPY):
            raise Unsupported(f"chunk {kind} at byte {at} has unknown flags {flags:#04x}")
        raise Unsupported(
            f"critical chunk {kind} at byte {at} is not known",
            hint="a newer sccodec reads it; the file cannot be decoded without this chunk",
        )

    # -- bytes -----------------------------------------------------------------------------

    def _fetch(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer only at the end of the file."""
        if self.size is not None:  # so that a wild length never reaches read_at
            length = max(0, min(length, self.size - offset))
        have = self._held_at(offset, length)
        if len(have) == length:
            return have
        at, missing = offset + len(have), length - len(have)
        raw = self._read_at(at, max(missing, self._ahead_at(at)))
        if self._counts:
            self.requests += 1
            self.bytes_read += len(raw)
        if len(raw) <= self._ahead:
            insort(self._held, (at, raw))
        return have + raw[:missing]

    def _held_at(self, offset: int, length: int) -> bytes:
        """As many of these bytes, from the first, as have been read before and kept."""
        pieces, have = self._held, b""
        while len(have) < length:
            at, more = offset + len(have), b""
            # Pieces may overlap: one that `prefetch` holds may begin in what opening has read.
            for n in range(bisect_right(pieces, at, key=itemgetter(0)) - 1, -1, -1):
                start, held = pieces[n]
                if more := held[at - start : offset + length - start]:
                    break
            if not more:
                break
            have += more
        return have

    def _ahead_at(self, offset: int) -> int:
        return self._ahead if self.size is None else min(self._ahead, self.size - offset)

    def prefetch(self, wanted: Iterable[tuple[int, int]]) -> None:
        """Read these (layer, tile) now, in as few requests as pay; absent ones are left out.

        They are held until the next call, which takes from them what it needs too. Does
        nothing where a request costs nothing.
        """
        if not self._request_cost:
            return
        spans: list[list[int]] = []  # [start, end)
        for layer, tile in sorted(wanted):  # payloads are layer-major, so this is file order
            start, length = self._offsets[layer][tile], self.tiles[layer][tile].length
            if not length:
                continue
            if spans and start - spans[-1][1] < self._request_cost:
                spans[-1][1] = start + length
            else:
                spans.append([start, start + length])
        held = [(start, self._fetch(start, end - start)) for start, end in spans]
        self._held = sorted(self._opened + held)

    def _read(self, offset: int, length: int) -> bytes:
        raw = self._fetch(offset, length)
        if len(raw) != length:
            if self.size is not None and offset + length <= self.size:
                raise Damaged(
                    f"{len(raw)} bytes at byte {offset}, where {length} were: "
                    "the file was cut while it was read"
                )
            end = offset + len(raw) if self.size is None else self.size
            raise Damaged(f"file ends at byte {end}, at least {offset + length} are needed")
        return raw

    def _blocks(self, offset: int, length: int) -> Iterator[bytes]:
        for at in range(offset, offset + length, BLOCK):
            yield self._read(at, min(BLOCK, offset + length - at))

    def _chunk_head(self, at: int) -> tuple[str, int, int]:
        return layout.unpack_chunk_head(self._read(at, layout.CHUNK_HEAD_SIZE), self.limits)

    def _chunk_payload(self, at: int, kind: str, flags: int, length: int) -> bytes:
        """Payload of a chunk whose checksum matches and whose type and flags we know."""
        raw = b"".join(self._blocks(at, layout.CHUNK_OVERHEAD + length))
        body = memoryview(raw)[: -layout.CHUNK_CRC_SIZE]
        if raw[len(body) :] != struct.pack("<I", zlib.crc32(body)):
            raise Damaged(f"checksum of chunk {kind} at byte {at} does not match")
        self._refuse_unknown(at, kind, flags, length)
        return bytes(body[layout.CHUNK_HEAD_SIZE :])

    # -- payloads --------------------------------------------------------------------------

    def payload(self, layer_index: int, tile_index: int) -> bytes:
        """Bytes of one (layer, tile), checksum verified; reads nothing else.

        Raises Damaged with layer, tile and offset; BadRequest if it is not in the file.
        """
        return b"".join(self.payload_blocks(layer_index, tile_index))

    def payload_blocks(self, layer_index: int, tile_index: int) -> Iterator[bytes]:
        """The same in blocks of bounded size; Damaged comes after the last block."""
        layer = self.header.layer(layer_index)
        entries = self.tiles[layer_index]
        where = f"{self.name}: layer {layer.index} ({layer.name}), tile {tile_index}"
        if not 0 <= tile_index < len(entries):
            raise BadRequest(f"{where}: the layer has {len(entries)} tiles")
        entry = entries[tile_index]
        if not entry.present:
            raise BadRequest(f"{where} is absent")
        offset, crc = self._offsets[layer_index][tile_index], 0
        try:
            for block in self._blocks(offset, entry.length):
                crc = zlib.crc32(block, crc)
                yield block
        except Damaged as error:
            raise Damaged(f"{where} at byte {offset}: {error}") from error
        if crc != entry.crc32:
            raise Damaged(f"{where} at byte {offset}: checksum of the payload does not match")

    def ranges(self, layers: Iterable[int] | None = None) -> list[Range]:
        """Where the payloads of these layers lie, absent tiles left out; default: all layers."""
        return [
            Range(index, tile, self._offsets[index][tile], entry.length)
            for index in (self.header.present if layers is None else layers)
            for tile, entry in enumerate(self.tiles[self.header.layer(index).index])
            if entry.present
        ]

    def structure(self) -> list[tuple[str, int, int]]:
        """(chunk type, offset, length) of everything that the directory describes.

        The lengths add up to the size of a whole file; the first item is the signature.
        """
        return list(self._spans)

    def check(self) -> list[Problem]:
        """Read everything; what is wrong, in file order, or an empty list."""
        self.prefetch((n.index, t) for n in self.header.layers for t in range(n.tiles))
        problems = [found for index in self.header.present for found in self._check_layer(index)]
        return problems + self.check_frame()

    def check_frame(self) -> list[Problem]:
        """What is wrong where the file ends and where its layers begin; reads no payload."""
        try:
            self._check_frame()
        except CodecError as error:
            return [Problem(None, None, self._spans[-1][1], f"{self.name}: {error}")]
        return []

    def check_layer(self, index: int) -> list[Problem]:
        """Read one layer, in one pass; what is wrong in it, or an empty list."""
        self.prefetch((index, tile) for tile in range(self.header.layer(index).tiles))
        return self._check_layer(index)

    def _check_layer(self, index: int) -> list[Problem]:
        layer = self.header.layer(index)
        at = self._offsets[index][0] - layout.LAYER_HEAD_SIZE
        stored_at = self._offsets[index][-1]
        problems = []
        crc = zlib.crc32(self._fetch(at, layout.LAYER_HEAD_SIZE))
        for place in self.ranges([index]):
            try:
                for block in self.payload_blocks(index, place.tile):
                    crc = zlib.crc32(block, crc)
            except Damaged as error:
                problems.append(Problem(index, place.tile, place.offset, str(error)))
        stored = self._fetch(stored_at, layout.CHUNK_CRC_SIZE)
        # A bad payload spoils the sum of its chunk too: one finding is enough.
        if not problems and stored != struct.pack("<I", crc):
            where = f"{self.name}: layer {index} ({layer.name}) at byte {at}"
            problems.append(Problem(index, None, at, f"{where}: checksum does not match"))
        return problems

    # -- sources ---------------------------------------------------------------------------

    def close(self) -> None:
        """Close the file that `open_path` opened, or put one of `from_file` where it stood."""
        if self._leave is not None:
            self._leave()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _check_signature(start: bytes) -> None:
    """NotOurFile, or Damaged if it was ours before something changed these bytes."""
    if start == layout.SIGNATURE:
        return
    if start[:4] in (b"\x89SCC", b"\x09SCC") or (start and layout.SIGNATURE.startswith(start)):
        raise Damaged(
            f"signature is {start.hex(' ')}, not {layout.SIGNATURE.hex(' ')}",
            hint="the file was cut, or sent in text mode; transfer it in binary mode",
        )
    if not start:
        raise NotOurFile("not an .scc file: nothing is there to read")
    raise NotOurFile("not an .scc file: the first bytes are others")


def from_bytes(data: bytes, *, name: str = "<bytes>", **options) -> Reader:
    """Reader of a file that is in memory; options are those of Reader."""
    return Reader(lambda at, length: data[at : at + length], len(data), name=name, **options)


def from_stream(stream: BinaryIO, *, name: str = "<stream>", **options) -> Reader:
    """Reader of a pipe or socket; reads all of it into memory first."""
    pieces = []
    while piece := stream.read():  # may give less than there is
        pieces.append(piece)
    if piece is None:
        raise BlockingIOError(errno.EAGAIN, "not ready to be read, and set not to wait", name)
    data = b"".join(pieces)
    reader = from_bytes(data, name=name, **options)
    reader.bytes_read, reader.requests, reader._counts = len(data), 1, False
    return reader


def from_file(file: BinaryIO, *, name: str = "<file>", **options) -> Reader:
    """Reader of an open, seekable file that starts where it stands, and that stays open.

    Safe to use from several threads, as long as nothing else moves in the file.
    """
    lock, start = threading.Lock(), file.tell()

    def read_at(offset: int, length: int) -> bytes:
        with lock:
            file.seek(start + offset)
            return file.read(length)

    def rewind() -> None:
        with suppress(OSError, ValueError):  # whoever has closed it does not care
            file.seek(start)

    try:
        file.seek(0, os.SEEK_END)
        reader = Reader(_patient(read_at), file.tell() - start, name=name, **options)
    except NotOurFile as error:
        hint = f"it is read from byte {start}, where the open file stands" if start else error.hint
        raise NotOurFile(str(error), hint=hint) from error
    finally:
        rewind()
    reader._leave = rewind
    return reader


def _from_disk(file: BinaryIO, **options) -> Reader:
    """Reader of a file whose position does not count: processes that were forked share it."""
    size = file.seek(0, os.SEEK_END)

    def read_at(offset: int, length: int) -> bytes:
        return os.pread(file.fileno(), length, offset)

    return Reader(_patient(read_at), size, **options)


def _patient(read_at: Callable[[int, int], bytes]) -> Callable[[int, int], bytes]:
    """All of the bytes, from a read that may give less than it is asked for."""

    def read_all(offset: int, length: int) -> bytes:
        pieces = []
        while length and (piece := read_at(offset, length)):
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return b"".join(pieces)

    return read_all


def open_path(path: str | os.PathLike, **options) -> Reader:
    """Reader of a file on disk, safe to use from several threads; close it after use.

    Raises OSError as `open` does, and what Reader raises.
    """
    file = open(path, "rb")  # noqa: SIM115 - the reader keeps it
    try:
        if not file.seekable():
            with file:
                return from_stream(file, name=os.fspath(path), **options)
        opener = _from_disk if hasattr(os, "pread") else from_file
        reader = opener(file, name=os.fspath(path), **options)
        reader._leave = file.close
        return reader
    except BaseException:
        file.close()
        raise
