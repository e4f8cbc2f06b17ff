"""Feature tensors: encode above decode, the same steps in opposite order.

values -> level numbers of a coarse quantiser and of finer ones inside it -> payloads -> file
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from sccodec.codecs import tensor_design as designs
from sccodec.codecs import tensor_payloads as payloads
from sccodec.codecs.tensor_grid import Grid
from sccodec.codecs.tensor_payloads import Coded, Levels, Lost, Values
from sccodec.codecs.tensor_search import Shares, found_for
from sccodec.codecs.tensor_settings import DEFAULTS, Settings
from sccodec.codecs.tensor_statistics import gather, grid_of
from sccodec.codecs.tensor_work import MODEL, Work, code, layer_name
from sccodec.container import layer_selection, layout, tensors, writer
from sccodec.container.reader import Reader, from_bytes
from sccodec.container.rules import MODALITIES, environment_limits
from sccodec.container.tensors import MOST_AXES, MOST_BLOCK, TensorEntry
from sccodec.entropy.flags import PROBABILITY, WIDTHS
from sccodec.errors import BadRequest, Damaged, Unsupported, WrongModel
from sccodec.latents import blocks
from sccodec.latents.basis import Basis
from sccodec.media.tensor import Tensor, from_array, from_arrays
from sccodec.threads import Progress, each

if TYPE_CHECKING:
    from sccodec.codecs.calibration import Calibration

__all__ = ["DEFAULTS", "Report", "Settings", "append", "decode", "encode", "open_tensors"]

# Nothing is learned: the digest is that of the probabilities that the format fixes.
DIGEST = hashlib.sha256(PROBABILITY.astype("<u2").tobytes() + bytes(WIDTHS)).digest()[:8]
SHRINKS = 12  # times that a file longer than asked for is made again
MOST_TILES = 65535  # of a file: tile_columns has 16 bits


# -- encode ----------------------------------------------------------------------------------


def encode(
    source: np.ndarray | Tensor | Mapping[str, np.ndarray] | Sequence[Tensor],
    settings: Settings = DEFAULTS,
    progress: Progress | None = None,
) -> bytes:
    """A tensor, or several by name -> the bytes of an .scc file; `progress` is told of tiles.

    Raises BadRequest for what cannot be met or is not finite, and CodecError if this machine
    could not read back what it is about to write.
    """
    out = io.BytesIO()
    _write(out, _works(as_tensors(source), settings, progress), settings)
    return out.getvalue()


def append(
    reader: Reader,
    source: np.ndarray | Tensor | Mapping[str, np.ndarray] | Sequence[Tensor],
    out: BinaryIO,
    settings: Settings = DEFAULTS,
    progress: Progress | None = None,
) -> int:
    """Writes a file with the tensors of `reader` and more behind them; returns its length.

    What is there is copied and not decoded. rate and max_bytes are those of the new tensors.
    Raises BadRequest for a name that is there, or more layers than the file has.
    """
    present = open_tensors(reader)
    if reader.header.present_layers != reader.header.total_layers:
        raise BadRequest(f"{reader.name}: layers are missing, so nothing can be appended")
    added = as_tensors(source)
    twins = {entry.name for entry in present} & {tensor.name for tensor in added}
    if twins:
        raise BadRequest(f"{reader.name} holds a tensor {min(twins)!r} already")
    total = reader.header.total_layers
    if settings.layer_count > total:
        raise BadRequest(f"{settings.layer_count} layers, {reader.name} has {total}")
    works = _works(added, replace(settings, tile=reader.header.tile_size), progress, reader.name)
    return _write(out, works, settings, reader, present, total)


def as_tensors(source) -> list[Tensor]:
    """Whatever `encode` takes, as a list of tensors with distinct names."""
    if isinstance(source, Tensor):
        return [source]
    if isinstance(source, Mapping):
        return from_arrays(source)
    if isinstance(source, (list, tuple)) and all(isinstance(item, Tensor) for item in source):
        names = [tensor.name for tensor in source]
        if not source or len(set(names)) != len(names):
            raise BadRequest(f"tensors need names of their own: {names}")
        return list(source)
    return [from_array(source)]


def _works(
    added: list[Tensor], settings: Settings, progress: Progress | None, file: str | None = None
) -> list[Work]:
    """The tensors with their designs and payloads.

    file: the one that they are for, if the tiles of others there fix their size.
    """
    limits = settings.limits or environment_limits()
    elements = sum(tensor.values.size for tensor in added)
    layout.check_limit("elements", elements, limits.max_pixels)
    for tensor in added:
        if tensor.values.ndim > MOST_AXES:
            raise BadRequest(
                f"{tensor.called} has {tensor.values.ndim} axes, a file has room for {MOST_AXES}"
            )
    tile = _tile(added, settings)
    if file is not None and tile != settings.tile:
        raise BadRequest(
            f"more than {MOST_TILES} tiles of {settings.tile} elements, as {file} has them",
            hint="write another file",
        )
    settings = replace(settings, tile=tile)
    works = _designed(added, settings)
    code(works, settings, progress)
    if settings.max_bytes is not None:
        _shrink(works, settings)
    if settings.max_abs_error is not None:
        for work in works:
            _hold_error(work, settings)
    return works


def _tile(added: list[Tensor], settings: Settings) -> int:
    """The tile size, made larger if a file could not number so many tiles."""
    tile = settings.tile
    while True:
        size = replace(settings, tile=tile)
        if sum(len(grid_of(tensor, size).parts) for tensor in added) <= MOST_TILES:
            return tile
        if tile >= environment_limits().max_tile:
            raise BadRequest(f"more than {MOST_TILES} tiles", hint="write several files")
        tile *= 2


def _designed(added: list[Tensor], settings: Settings) -> list[Work]:
    """The tensors with their designs; a size that was asked for is that of all together.

    Levels get as many bits per element everywhere, and what describes tensors is paid by all. The
    largest tensor comes last, to make up for what the others missed.
    """
    calibration = settings.calibration
    grids = [grid_of(tensor, settings) for tensor in added]
    if calibration is not None and calibration.designs:
        pairs = zip(added, grids, strict=True)
        return [Work(tensor, grid, calibration.design(tensor, grid)) for tensor, grid in pairs]
    shares, works = Shares(added, grids, settings), {}
    for n in sorted(range(len(added)), key=lambda n: added[n].values.size):
        share = shares.of(n)
        stats = gather(added[n], settings)
        found = found_for(added[n], grids[n], stats, settings, share)
        shares.take(n, found)
        transform = found.design.transform
        grid = replace(grids[n], whole=transform is not None and bool(transform.basis))
        alone = len(added) == len(grid.parts) == 1
        works[n] = Work(added[n], grid, found.design, found.source if alone else None)
    return [works[n] for n in range(len(added))]


def _shrink(works: list[Work], settings: Settings) -> None:
    """Makes the works coarser until their file is not longer than asked for."""
    most = aim = settings.max_bytes
    for _ in range(SHRINKS):
        length = _write(io.BytesIO(), works, settings)
        if length <= most:
            return
        # What is over, and a little more, as sizes do not follow exactly.
        aim -= length - most + max(most // 100, 8)
        if aim < 1:
            break
        smaller, added = replace(settings, max_bytes=aim), [work.tensor for work in works]
        works[:] = _designed(added, smaller)
        code(works, settings, None)
    raise BadRequest(
        f"{most} bytes are too few; {length} are the least that was reached",
        hint="extract --max-bytes drops whole layers",
    )


def _hold_error(work: Work, settings: Settings) -> None:
    """Narrows the levels until no element is off by more than asked for, in its own type."""
    stats = gather(work.tensor, settings)
    error = settings.max_abs_error
    for share in (1, 0.999, 0.9, 0.75, 0.5, 0.25):
        if share < 1:
            work.design = designs.bounded(
                stats, work.grid, settings, share * error, work.tensor.kind
            )
            code([work], settings, None)
        if stats.constant or largest_error(work, settings) <= error:
            return
    raise BadRequest(
        f"an error of {error:g} cannot be kept in {work.tensor.kind}",
        hint="allow a larger error",
    )


def largest_error(work: Work, settings: Settings) -> float:
    """The largest |x - x_hat| of a tensor, in float64, after rounding to its type."""
    levels = Levels(work.tensor, work.grid, work.design, settings)
    values = Values(work.entry(settings.coder), work.grid, store=False)
    finest, most = len(work.design.embedded) - 1, 0.0
    for part in work.grid.parts:
        numbers = levels.of(part)[-1]
        back = work.tensor.floats(values.of(part, finest, numbers)).astype(np.float64)
        if back.size:
            most = max(most, float(np.abs(back - levels.values(part)).max()))
    return most


# -- the file --------------------------------------------------------------------------------


def _write(
    out: BinaryIO,
    works: list[Work],
    settings: Settings,
    reader: Reader | None = None,
    present: Sequence[TensorEntry] = (),
    total: int | None = None,
) -> int:
    """Writes the tensors of `reader`, if there is one, and then the works; returns the length."""
    entries = [*present, *(work.entry(settings.coder) for work in works)]
    layers = max((work.design.layer_count for work in works), default=1)
    if total is None:
        total = layers
    elif layers > total:
        raise BadRequest(f"{layers} layers, the file has {total}")
    added: dict[int, list[Coded]] = {
        n: [tile[n] if n < len(tile) else payloads.absent() for w in works for tile in w.coded]
        for n in range(total)
    }
    old = {n: reader.tiles[n] if reader else () for n in range(total)}
    tiles = {n: (*old[n], *(coded.entry for coded in added[n])) for n in range(total)}
    header = layout.Header(
        width=max(sum(entry.elements for entry in entries), 1),
        height=1,
        channels=1,
        tile_size=works[0].grid.tile if works else settings.tile,
        model=MODEL,
        digest=DIGEST,
        total_layers=total,
        layers=tuple(_layer(n, tiles[n]) for n in range(total)),
        modality=MODALITIES.index("tensor"),
    )
    chunk = layout.Chunk(tensors.CHUNK, layout.SAFE_TO_COPY, tensors.pack(entries))
    others = [c for c in (reader.chunks if reader else ()) if c.type != tensors.CHUNK]

    def blocks(layer: layout.LayerEntry):
        if reader:
            for place in reader.ranges([layer.index]):
                yield from reader.payload_blocks(place.layer, place.tile)
        yield from (coded.payload for coded in added[layer.index])

    limits = settings.limits or environment_limits()
    return writer.write_layers(out, header, tiles, [chunk, *others], blocks, limits=limits)


def _layer(index: int, entries: Sequence[layout.TileEntry]) -> layout.LayerEntry:
    if len(entries) > MOST_TILES:
        raise BadRequest(f"more than {MOST_TILES} tiles in a file", hint="write several files")
    return layout.LayerEntry(
        index=index,
        name=layer_name(index),
        purpose=min(index, 1),
        needs=(1 << index) - 1,
        step=0,
        tile_columns=len(entries),
        tile_rows=1,
        bytes=sum(entry.length for entry in entries),
    )


# -- decode ----------------------------------------------------------------------------------


@dataclass
class Report:
    """What decoding met: bytes read from the source, and what could not be used."""

    bytes_read: int = 0
    damaged: list[Lost] = field(default_factory=list)


def open_tensors(reader: Reader) -> tuple[TensorEntry, ...]:
    """The tensors of an open file, if this program can decode them.

    Raises Unsupported, WrongModel, and Damaged if header and tensors contradict each other.
    """
    header = reader.header
    if header.kind != "tensor":
        raise Unsupported(f"{reader.name}: holds no tensors")
    if (header.model, header.digest) != (MODEL, DIGEST):
        raise WrongModel(
            f"{reader.name}: tensors of the model {header.model} ({header.digest.hex()}), "
            f"known is {MODEL} ({DIGEST.hex()})",
            hint="a newer sccodec reads it",
        )
    if tensors.CHUNK not in reader.metadata:
        raise Damaged(f"{reader.name}: no chunk {tensors.CHUNK}")
    entries = tensors.read(reader)
    elements = max(sum(entry.elements for entry in entries), 1)
    if (header.width, header.height) != (elements, 1):
        raise Damaged(f"{reader.name}: {elements} elements, the header says {header.width}")
    if max((entry.layer_count for entry in entries), default=1) > header.total_layers:
        raise Damaged(f"{reader.name}: a tensor has more layers than the file")
    for layer in header.layers:
        if layer.needs != (1 << layer.index) - 1:
            raise Damaged(f"{reader.name}: layer {layer.index} must need all below it")
    for entry in entries:
        if entry.transform is not None:
            _check_blocks(reader, entry)
    count = sum(_tiles(entry, header.tile_size) for entry in entries)
    for layer in header.layers:
        if layer.tiles != count:
            raise Damaged(f"{reader.name}: {layer.tiles} tiles, the tensors have {count}")
    return entries


def _check_blocks(reader: Reader, entry: TensorEntry) -> None:
    """Raises Damaged if tiles do not hold the planes of a transform, or blocks are too many."""
    tile, block = reader.header.tile_size, entry.transform.block
    _, rows, columns = _grid(entry, tile).planes
    if rows * columns > tile or max(map(blocks.grid, (rows, columns), block)) > MOST_BLOCK:
        raise Damaged(
            f"{reader.name}: the tensor {entry.name!r} has a transform of {rows}x{columns} "
            f"elements in blocks of {block[0]}x{block[1]} and tiles of {tile}"
        )


def _tiles(entry: TensorEntry, tile: int) -> int:
    return len(_grid(entry, tile).parts)


def _grid(entry: TensorEntry, tile: int) -> Grid:
    return Grid(entry.shape, entry.channel_axis, tile, entry.based)


def decode(
    source: Reader | bytes,
    layers: str | int | list[str] = "all",
    *,
    names: Sequence[str] | None = None,
    allow_partial: bool = False,
    calibration: Calibration | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> tuple[list[Tensor], Report]:
    """An open .scc file, or its bytes -> its tensors, from the layers asked for.

    names: only these tensors, whose tiles alone are read. With `allow_partial` a damaged tile
    counts as missing: the layer below stands in, or zeros; the report lists it. calibration: the
    bases that the tensors were coded with, if they were.
    Raises Damaged, Mismatch, WrongModel, BadRequest, Unsupported.
    """
    reader = from_bytes(source) if isinstance(source, bytes) else source
    header, entries = reader.header, open_tensors(reader)
    top = _top_layer(reader, layers)
    wanted = _select(reader, entries, names)
    jobs_of, results, first = [], [], 0
    for entry in entries:
        grid = _grid(entry, header.tile_size)
        if entry.name in wanted:
            values = Values(entry, grid, _basis(reader, entry, calibration))
            results.append(values)
            chain = list(range(min(top, entry.layer_count - 1) + 1))
            jobs_of += [(values, p, first + n, chain) for n, p in enumerate(grid.parts)]
        first += len(grid.parts)
    reader.prefetch((n, tile) for _, _, tile, chain in jobs_of for n in chain)

    def run(job) -> Lost | None:
        return payloads.decode_tile(reader, *job, tolerant=allow_partial)

    lost = [found for found in each(run, jobs_of, jobs, progress) if found]
    if lost and not allow_partial:
        raise Damaged(lost[0].message)
    found = [Tensor(v.entry.name, v.array, v.entry.kind) for v in results]
    return found, Report(reader.bytes_read, lost)


def _basis(reader: Reader, entry: TensorEntry, calibration: Calibration | None) -> Basis | None:
    """The basis of a tensor's channels. Raises WrongModel if it is not there."""
    if not entry.based:
        return None
    found = calibration and calibration.of(entry.transform.basis)
    if found is None or found.channels != entry.shape[entry.channel_axis]:
        raise WrongModel(
            f"{reader.name}: the tensor {entry.name!r} was encoded with the basis "
            f"{entry.transform.basis.hex()}"
            + (", which is not in the calibration" if calibration else " of a calibration"),
            hint="decode needs the --calibration that encode had",
        )
    return found


def _top_layer(reader: Reader, layers) -> int:
    """The highest layer asked for; BadRequest if the file lacks one that it needs."""
    header = reader.header
    top = layer_selection(header, layers)[-1]
    if missing := header.missing(top):
        raise BadRequest(
            f"{reader.name}: layer {header.layer(top).name} needs layer "
            f"{', '.join(map(str, missing))}, which this file does not hold",
            hint="sccodec join puts the layers of two files together",
        )
    return top


def _select(reader: Reader, entries, names: Sequence[str] | None) -> set[str]:
    here = [entry.name for entry in entries]
    if names is None:
        return set(here)
    for name in names:
        if name not in here:
            raise BadRequest(f"{reader.name}: no tensor {name!r}; it holds {', '.join(here)}")
    return set(names)


def verify_tiles(reader: Reader, jobs: int, progress: Progress | None) -> tuple[list[Lost], int]:
    """Decodes the levels of every tile that can be decoded; (what is wrong, levels compared)."""
    header, entries = reader.header, open_tensors(reader)
    chain = [n for n in header.present if not header.missing(n)]
    work, first, compared = [], 0, 0
    for entry in entries:
        grid = _grid(entry, header.tile_size)
        values = Values(entry, grid, store=False)
        own = [n for n in chain if n < entry.layer_count]
        if own:
            work += [(values, p, first + n, own) for n, p in enumerate(grid.parts)]
        tiles = range(first, first + len(grid.parts))
        compared += sum(reader.tiles[n][tile].present for n in own for tile in tiles)
        first += len(grid.parts)

    def run(job) -> Lost | None:
        return payloads.decode_tile(reader, *job, tolerant=True, store=False)

    return [found for found in each(run, work, jobs, progress) if found], compared
