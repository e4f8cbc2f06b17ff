"""Feature tensors: encode above decode, the same steps in opposite order.

values -> level numbers of a coarse quantiser and of finer ones inside it -> payloads -> file
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from sccodec.codecs import tensor_design as designs
from sccodec.codecs import tensor_filters as filters
from sccodec.codecs import tensor_payloads as payloads
from sccodec.codecs import tensor_transform as transforms
from sccodec.codecs.tensor_design import Design, Offsets
from sccodec.codecs.tensor_grid import Grid, Part
from sccodec.codecs.tensor_payloads import Coded, Levels, Lost, Values
from sccodec.codecs.tensor_settings import DEFAULTS, Settings
from sccodec.codecs.tensor_transform import Coefficients
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

MODEL = "tensor-1"
# Nothing is learned: the digest is that of the probabilities that the format fixes.
DIGEST = hashlib.sha256(PROBABILITY.astype("<u2").tobytes() + bytes(WIDTHS)).digest()[:8]
RATE_TOLERANCE = 0.02
ENTRY = 100  # bytes for each layer that tell of a small tensor what it is like, levels and all
SHRINKS = 12  # times that a file longer than asked for is made again
MOST_TILES = 65535  # of a file: tile_columns has 16 bits


# -- encode ----------------------------------------------------------------------------------


@dataclass
class Work:
    """One tensor on its way into a file."""

    tensor: Tensor
    grid: Grid
    design: Design
    # Where a search left what it found, of a tensor alone and in one tile: more would fill memory.
    source: Coefficients | None = None
    coded: list[list[Coded]] = field(default_factory=list)  # [tile][layer]

    @property
    def payload_bytes(self) -> int:
        return sum(len(one.payload) for tile in self.coded for one in tile)

    def entry(self, coder: str) -> TensorEntry:
        if self.design.transform is not None:
            return self._transformed()
        offsets = self.design.offsets
        return TensorEntry(
            name=self.tensor.name,
            kind=self.tensor.kind,
            shape=self.tensor.shape,
            channel_axis=self.design.channel_axis,
            layers=payloads.gradings(self.design),
            children=self.design.embedded.children,
            scales=self.design.scales,
            coder=coder,
            offset_unit=offsets.unit if offsets else 0,
            offsets=offsets.codes if offsets else (),
        )

    def _transformed(self) -> TensorEntry:
        return TensorEntry(
            name=self.tensor.name,
            kind=self.tensor.kind,
            shape=self.tensor.shape,
            channel_axis=self.design.channel_axis,
            layers=(),
            children=(),
            coder="transform",
            transform=self.design.transform,
        )


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
    _code(works, settings, progress)
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
        if sum(len(designs.grid_of(tensor, size).parts) for tensor in added) <= MOST_TILES:
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
    grids = [designs.grid_of(tensor, settings) for tensor in added]
    if calibration is not None and calibration.designs:
        pairs = zip(added, grids, strict=True)
        return [Work(tensor, grid, calibration.design(tensor, grid)) for tensor, grid in pairs]
    shares, works = Shares(added, grids, settings), {}
    for n in sorted(range(len(added)), key=lambda n: added[n].values.size):
        share = shares.of(n)
        found = found_for(added[n], grids[n], designs.gather(added[n], settings), settings, share)
        shares.take(n, found)
        transform = found.design.transform
        grid = replace(grids[n], whole=transform is not None and bool(transform.basis))
        alone = len(added) == len(grid.parts) == 1
        works[n] = Work(added[n], grid, found.design, found.source if alone else None)
    return [works[n] for n in range(len(added))]


class Share(NamedTuple):
    """What one tensor may take of a file."""

    bytes: float  # with its entry in TENS, and its part of what else is in a file
    overhead: float  # that part
    last: bool  # whether nothing makes up for what it misses


class Shares:
    """Shares of several tensors in the size that the settings ask for, if they do."""

    def __init__(self, added: list[Tensor], grids: list[Grid], settings: Settings):
        sizes = [tensor.values.size for tensor in added]
        self._total = settings.max_bytes
        if settings.rate is not None:
            self._total = settings.rate * sum(sizes) / 8
        self._left, self._sizes = self._total, dict(enumerate(sizes))
        self._overheads = [_overhead(grid, len(added), settings) for grid in grids]
        self._entry = ENTRY * settings.layer_count

    def of(self, n: int) -> Share | None:
        """Of tensor n; None if no size is asked for. Raises BadRequest if nothing is left."""
        if self._left is None:
            return None
        least = sum(self._overheads[m] for m in self._sizes)
        if len(self._overheads) > 1 and self._left <= least:
            raise BadRequest(
                f"{self._total:.0f} bytes for {len(self._overheads)} tensors are too few: "
                f"what describes them takes more than {sum(self._overheads):.0f}"
            )
        part = self._sizes[n] / max(sum(self._sizes.values()), 1)
        levels = (self._left - least - self._entry * len(self._sizes)) * part
        overhead = self._overheads[n]
        return Share(overhead + self._entry + levels, overhead, len(self._sizes) == 1)

    def take(self, n: int, found: Candidate) -> None:
        """Tensor n has been given this design."""
        size = self._sizes.pop(n)
        if self._left is not None:
            self._left -= found.bits * max(size, 1) / 8 + self._overheads[n]


def design_for(tensor: Tensor, stats: designs.Statistics, settings: Settings) -> Design:
    """The design that the settings ask for; raises BadRequest for what is out of reach."""
    grid = designs.grid_of(tensor, settings)
    share = Shares([tensor], [grid], settings).of(0)
    return found_for(tensor, grid, stats, settings, share).design


def found_for(
    tensor: Tensor,
    grid: Grid,
    stats: designs.Statistics,
    settings: Settings,
    share: Share | None,
) -> Candidate:
    """The same for a tensor that may take a share of a file, with about its bits; without a share
    nobody asks for these, and they are 0."""
    elements = tensor.values.size
    if stats.constant or share is None:
        design = designs.plain(stats, grid, settings, tensor.kind)
        if share is None:
            return Candidate(design, 0.0, 0.0)
        entry = Work(tensor, grid, design).entry(settings.coder)
        return Candidate(design, 0.0, 8 * _entry_bytes(entry) / max(elements, 1))
    wanted = 8 * (share.bytes - share.overhead) / elements
    if wanted <= 0:
        raise BadRequest(
            f"{share.bytes:.0f} bytes for {tensor.called} are too few: "
            f"what describes it takes {share.overhead:.0f}"
        )
    aim = Aim(tensor, stats, grid, settings, wanted, share)
    basis = settings.calibration.basis(tensor, grid) if settings.calibration else None
    whole = aim._replace(grid=replace(grid, whole=basis is not None))
    possible = settings.transform is not False and transforms.possible(whole.grid, stats, settings)
    if not possible and (settings.transform or basis):
        raise BadRequest(
            f"{tensor.called} cannot be transformed",
            hint="a transform needs whole planes in a tile, and no other choices; "
            "a basis needs all channels of an item there",
        )
    if settings.transform:
        found = _transformed(whole, basis)
        if found.source.cut(found.design.transform, stats):
            raise BadRequest(
                f"{tensor.called} cannot be transformed: its values are too far from 0 for steps "
                "of this size",
                hint="leave the choice to the encoder, or subtract their mean first",
            )
        _check_reached(aim, found.bits)
        return found
    found = _quantised(aim)
    if basis or (
        possible
        and (not found.near or transforms.may_pay(tensor, grid, stats, settings, found.error))
    ):
        other = _transformed(whole, basis, found.error)
        better = (other.error < found.error or not found.near) and _reached(aim, other.bits)
        if better and not other.source.cut(other.design.transform, stats):
            found = other
    if not found.near:
        _check_reached(aim, found.bits)
    return found


class Aim(NamedTuple):
    """A tensor and the size that its design has to meet."""

    tensor: Tensor
    stats: designs.Statistics
    grid: Grid
    settings: Settings
    wanted: float  # bits per element, of payloads and of the entry in TENS
    share: Share


class Candidate(NamedTuple):
    """A design near the size that was asked for, about its mean squared error, and its bits per
    element; whether it is the nearest of many, or that size is beyond all of them."""

    design: Design
    error: float
    bits: float
    source: Coefficients | None = None
    near: bool = True


def _transformed(aim: Aim, basis: Basis | None, error: float | None = None) -> Candidate:
    """The design with a transform nearest to the size that was asked for; error: that of another
    one."""
    tensor, stats, grid, settings, wanted, _ = aim
    elements = tensor.values.size
    source = Coefficients(tensor, grid, settings, basis, transforms.rectified_limits(stats))
    entry = Work(tensor, grid, transforms.design(source, stats)).entry(settings.coder)
    described = _entry_bytes(entry)
    size = wanted * elements / 8 - described
    found = transforms.search(source, stats, size, error)
    bits = 8 * (found.bytes + described) / elements
    return Candidate(found.design, found.error, bits, source)


def _reached(aim: Aim, bits: float) -> bool:
    """Whether a design of so many bits per element is near enough to a rate."""
    near = max(RATE_TOLERANCE * aim.wanted, designs.WORDS / aim.tensor.values.size)
    return aim.settings.rate is None or abs(bits - aim.wanted) <= near


def _check_reached(aim: Aim, bits: float) -> None:
    """Raises BadRequest if a design of so many bits per element is too far from a rate."""
    rate, elements = aim.settings.rate, aim.tensor.values.size
    if aim.share.last and not _reached(aim, bits):
        raise BadRequest(
            f"{rate} bits per element are out of reach for {aim.tensor.called}; "
            f"the nearest are {bits + 8 * aim.share.overhead / elements:.4f}",
            hint="--max-abs-error and --levels are not bound to a rate",
        )


def _quantised(aim: Aim) -> Candidate:
    """The design without a transform that has the size that was asked for."""
    tensor, stats, grid, settings, wanted, _ = aim
    elements = tensor.values.size

    def size(design: Design) -> int:
        work = Work(tensor, grid, design)
        _code([work], settings, None, check=False)
        return work.payload_bytes + _entry_bytes(work.entry(settings.coder))

    limits, offsets = filters.limits_of(stats), None
    if designs.may_shift(grid, settings, wanted):
        stats, offsets = _shifted(aim, size)
    filtering = settings.filter if limits else False

    def bits_of(design: Design) -> float:
        nonlocal filtering
        design = replace(design, offsets=offsets)
        bytes_ = size(design)
        if filtering is None:  # as it pays, and the first design tells for all
            filtering = filters.pay(tensor, grid, design, stats, settings, wanted)
        return 8 * (bytes_ + filters.size(design) * filtering) / elements

    found = designs.search(wanted, stats, grid, settings, bits_of)
    # Between two designs the nearest one is what there is; beyond all of them nothing is near.
    near = found.between or _reached(aim, found.bits)
    design = replace(found.design, offsets=offsets)
    share = 1.0
    if filtering:
        design, share = filters.with_filters(tensor, grid, design, settings, limits)
    error = share * stats.sample.error(design.embedded.finest)
    return Candidate(design, error, found.bits, near=near)


def _shifted(aim: Aim, size: Callable[[Design], int]) -> tuple[designs.Statistics, Offsets | None]:
    """Statistics and offsets: those of the channels' means if they lower the error at `wanted`
    bits per element, else the statistics as they are, and None."""
    tensor, stats, grid, settings, wanted, _ = aim
    offsets = designs.channel_offsets(tensor, settings)
    if offsets is None:
        return stats, None
    moved = designs.gather(tensor, settings, offsets=offsets)
    if moved.constant:
        return stats, None

    def error(of: designs.Statistics, less: Offsets | None) -> float:
        """What it would be at `wanted`, from one encoding, as sizes follow entropies."""
        zones = designs.DeadZones(of, grid, settings)
        bits = 8 * size(replace(zones.at(wanted), offsets=less)) / tensor.values.size
        return zones.error(wanted * wanted / bits)

    if settings.offsets or error(moved, offsets) < error(stats, None):
        return moved, offsets
    return stats, None


def _entry_bytes(entry: TensorEntry) -> int:
    """Bytes that an entry takes in TENS."""
    return len(tensors.pack([entry])) - 2


def _overhead(grid: Grid, files: int, settings: Settings) -> float:
    """Bytes of the file for one of so many tensors, other than its payloads and entry in TENS."""
    layers = settings.layer_count
    names = sum(len(layer_name(n)) for n in range(layers))
    fixed = len(layout.SIGNATURE) + 4 * layout.CHUNK_OVERHEAD + 8 + 2 + 40 + len(MODEL)
    fixed += layers * (layout.CHUNK_OVERHEAD + 1 + 23) + names
    return fixed / files + layout.TILE_STRUCT.size * layers * len(grid.parts)


def _code(works: list[Work], settings: Settings, progress, check: bool = True) -> None:
    """Codes every tile of the works, on as many threads as the settings say.

    Only trials that are thrown away go without a `check` that settings ask for.
    """
    check = check and settings.check
    jobs = [(work, n) for work in works for n in range(len(work.grid.parts))]
    levels = {id(work): Levels(work.tensor, work.grid, work.design, settings) for work in works}

    def run(job: tuple[Work, int]) -> list[Coded]:
        work, n = job
        part = work.grid.parts[n]
        if work.design.transform is not None:
            return _code_transformed(work, part, settings, check)
        numbers = levels[id(work)].of(part)
        return payloads.code(numbers, work.design.embedded, settings.coder, check=check)

    done = each(run, jobs, settings.jobs, progress)
    for work in works:
        work.coded = []
    for (work, _), coded in zip(jobs, done, strict=True):
        work.coded.append(coded)


def _code_transformed(work: Work, part: Part, settings: Settings, check: bool) -> list[Coded]:
    transform = work.design.transform
    source = work.source
    if source is None:
        basis = settings.calibration.of(transform.basis) if transform.basis else None
        source = Coefficients(work.tensor, work.grid, settings, basis, transform.limits)
    layers = [source.chosen(part, transform, n)[1] for n in range(transform.layer_count)]
    shape = blocks.shape(part.shape, transform.block)
    return payloads.code_transformed(shape, [chosen.numbers for chosen in layers], check=check)


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
        _code(works, settings, None)
    raise BadRequest(
        f"{most} bytes are too few; {length} are the least that was reached",
        hint="extract --max-bytes drops whole layers",
    )


def _hold_error(work: Work, settings: Settings) -> None:
    """Narrows the levels until no element is off by more than asked for, in its own type."""
    stats = designs.gather(work.tensor, settings)
    error = settings.max_abs_error
    for share in (1, 0.999, 0.9, 0.75, 0.5, 0.25):
        if share < 1:
            work.design = designs.bounded(
                stats, work.grid, settings, share * error, work.tensor.kind
            )
            _code([work], settings, None)
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


def layer_name(index: int) -> str:
    return "base" if index == 0 else "enhancement" + (str(index) if index > 1 else "")


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
