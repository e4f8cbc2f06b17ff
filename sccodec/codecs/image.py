"""Still pictures: encode above decode, the same steps in opposite order."""

from __future__ import annotations

import functools
import io
import math
import struct
from dataclasses import dataclass, field, replace

import numpy as np

from sccodec.codecs.canvas import Latents, canvas
from sccodec.codecs.tiles import Box, Grid, Progress, choose_tile, each, region, up_to
from sccodec.container import layer_selection, layout, writer
from sccodec.container.reader import Reader
from sccodec.entropy.tables import STEPS
from sccodec.errors import BadRequest, CodecError, Damaged, Unsupported
from sccodec.latents import quantize
from sccodec.latents.quantize import Analysed
from sccodec.latents.rate import nearest_step, smallest_step_within
from sccodec.media.image import Picture, read, select_metadata, write
from sccodec.profiles.registry import DEFAULT, Model, find
from sccodec.transform.graphs import HYPER, LATENT, analyse

DEFAULT_QUALITY = 50.0
CHUNKS = {"icc": "ICCP", "exif": "EXIF", "xmp": "XMP_"}
DPI = struct.Struct("<II")  # across and down, in 1/1000 dots an inch


@dataclass(frozen=True)
class Interest:
    """A region of interest: x, y, w, h in pixels, and how many step indexes finer it is."""

    box: tuple[int, int, int, int]
    finer: int = 32  # 32 halve the step
    only: bool = False  # code the enhancement nowhere else


@dataclass(frozen=True)
class Settings:
    """How to encode; at most one of quality, rate, max_bytes and step."""

    quality: float | None = None  # 0..100
    rate: float | None = None  # bits per pixel of the whole file
    max_bytes: int | None = None  # of the whole file
    step: int | None = None  # step index, 0..511
    tile: int | None = None  # pixels, a multiple of 64
    interest: Interest | None = None
    metadata: str = "all"
    jobs: int = 1

    def __post_init__(self):
        given = [
            n for n in ("quality", "rate", "max_bytes", "step") if getattr(self, n) is not None
        ]
        if len(given) > 1:
            raise BadRequest(f"{' and '.join(given)} exclude each other")
        if self.quality is not None and not 0 <= self.quality <= 100:
            raise BadRequest(f"quality {self.quality} is not within 0..100")
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise BadRequest(f"a rate of {self.rate} bits per pixel makes no sense")
        if self.step is not None and not 0 <= self.step < STEPS:
            raise BadRequest(f"step index {self.step} is not within 0..{STEPS - 1}")


DEFAULTS = Settings()


# -- encode --------------------------------------------------------------------------------


def encode(
    picture: Picture,
    settings: Settings = DEFAULTS,
    model: Model | None = None,
    progress: Progress | None = None,
) -> bytes:
    """A picture -> the bytes of an .scc file; `progress` is told of coded tiles.

    Raises BadRequest for settings that cannot be met, and CodecError if this machine could not
    read back what it is about to write.
    """
    model = model or find(DEFAULT)
    grid = Grid(
        picture.width,
        picture.height,
        choose_tile(picture.width, picture.height, settings.tile, settings.interest is not None),
    )
    latents = analyse(
        model.analysis,
        functools.partial(canvas, picture),
        up_to(picture.height, HYPER),
        up_to(picture.width, HYPER),
    )
    offsets, skipped = _interest(settings.interest, grid)
    coder = _TileCoder(model, grid, latents, offsets, skipped)
    frame = _frame(picture, grid, model, settings)
    step = _choose_step(coder, frame, settings, picture)
    while True:
        data = _write(frame, coder, step, settings.jobs, picture, progress)
        if settings.max_bytes is None or len(data) <= settings.max_bytes:
            return data
        if step >= coder.range[1]:
            raise BadRequest(
                f"{settings.max_bytes} bytes are too few; the coarsest step needs {len(data)}",
                hint="extract --max-bytes drops whole layers, or scale the picture down",
            )
        step += 1


def _interest(interest: Interest | None, grid: Grid) -> tuple[list[int], set[int]]:
    """Step offset of each tile, and the tiles whose enhancement is left out."""
    if interest is None:
        return [0] * len(grid), set()
    if not -127 <= interest.finer <= 127:
        raise BadRequest(f"a region of interest finer by {interest.finer} steps is out of range")
    box = region(interest.box, grid.width, grid.height, "region of interest")
    inside = [grid.pixels(t).meets(box) for t in range(len(grid))]
    skipped = {t for t, hit in enumerate(inside) if not hit} if interest.only else set()
    return [-interest.finer if hit else 0 for hit in inside], skipped


class _TileCoder:
    """All (layer, tile) of one analysed picture, coded or counted at any step index."""

    def __init__(self, model: Model, grid: Grid, latents, offsets, skipped):
        self.model, self.grid = model, grid
        self.latents, self.offsets, self.skipped = latents, offsets, skipped
        self.range = tuple(model.about["steps"])

    def analysed(self, layer: int, tile: int) -> Analysed:
        name, box = self.model.layers[layer].name, self.grid.latents(tile)
        ratio = HYPER // LATENT
        return Analysed(
            self.latents[f"{name}.y"][:, box.top : box.bottom, box.left : box.right],
            self.latents[f"{name}.z"][
                :, box.top // ratio : box.bottom // ratio, box.left // ratio : box.right // ratio
            ],
        )

    def layers(self, tile: int) -> range:
        """Layers that this tile has: outside a region of interest perhaps only the first."""
        return range(1 if tile in self.skipped else len(self.model.layers))

    def step(self, tile: int, step: int) -> int:
        return min(max(step + self.offsets[tile], 0), STEPS - 1)

    def bits(self, step: int, jobs: int) -> float:
        """Payload bits of all layers and tiles at a step index; nothing is coded."""

        def count(tile: int) -> float:
            total, seen = 0.0, {}
            for layer in self.layers(tile):
                bits, coded = quantize.count_bits(
                    self.model.priors[layer],
                    self.analysed(layer, tile),
                    self.step(tile, step),
                    _below(self.model, layer, seen),
                )
                seen[layer] = coded.seen
                total += 8 * math.ceil(bits / 32 + 0.5) * 4  # payloads are whole words
            return total

        return sum(each(count, range(len(self.grid)), jobs))

    def code(self, step: int, jobs: int, progress: Progress | None):
        """[(payload, latents) of each layer] of each tile; None for a layer left out."""

        def work(tile: int):
            parts, seen = [], {}
            for layer in self.layers(tile):
                payload, coded = quantize.encode(
                    self.model.priors[layer],
                    self.model.models,
                    self.analysed(layer, tile),
                    self.step(tile, step),
                    _below(self.model, layer, seen),
                )
                seen[layer] = coded.seen
                parts.append((payload, coded.latent))
            return parts + [None] * (len(self.model.layers) - len(parts))

        return each(work, range(len(self.grid)), jobs, progress)


def _below(model: Model, layer: int, seen: dict[int, np.ndarray]) -> np.ndarray | None:
    """What the prior of a layer sees of the layers that it needs."""
    needs = model.layers[layer].needs
    return np.concatenate([seen[i] for i in needs]) if needs else None


def _frame(picture: Picture, grid: Grid, model: Model, settings: Settings):
    """Header without sizes, and the metadata chunks."""
    header = layout.Header(
        width=picture.width,
        height=picture.height,
        channels=picture.channels,
        bit_depth=picture.bit_depth,
        tile_size=grid.tile,
        model=model.id,
        digest=bytes.fromhex(model.digest)[:8],
        total_layers=len(model.layers),
        layers=tuple(
            layout.LayerEntry(
                index=n,
                name=plan.name,
                purpose=layout.PURPOSES.index(plan.purpose),
                needs=sum(1 << i for i in plan.needs),
                step=0,
                tile_columns=grid.columns,
                tile_rows=grid.rows,
                bytes=0,
            )
            for n, plan in enumerate(model.layers)
        ),
    )
    kept = select_metadata(picture, settings.metadata)
    chunks = {CHUNKS[name]: raw for name, raw in kept.metadata.items()}
    if kept.dpi:
        chunks["DPI_"] = DPI.pack(*(min(round(1000 * v), 2**32 - 1) for v in kept.dpi))
    if picture.alpha is not None:
        lossless = io.BytesIO()
        write(Picture(picture.alpha[:, :, None]), lossless, format="png")
        chunks["ALPH"] = lossless.getvalue()
    return header, chunks


def _overhead(frame) -> int:
    """Bytes of the file that are not payload."""
    header, chunks = frame
    return layout.file_length(header, [layout.Chunk(k, 0, v) for k, v in chunks.items()])


def _choose_step(coder: _TileCoder, frame, settings: Settings, picture: Picture) -> int:
    low, high = coder.range
    if settings.step is not None:
        return settings.step
    if settings.rate is None and settings.max_bytes is None:
        quality = DEFAULT_QUALITY if settings.quality is None else settings.quality
        return round(high + (low - high) * quality / 100)
    overhead = _overhead(frame)

    def size(step: int) -> float:
        return overhead + coder.bits(step, settings.jobs) / 8

    if settings.max_bytes is not None:
        return smallest_step_within(size, settings.max_bytes, low, high)
    target = settings.rate * picture.width * picture.height / 8
    step = nearest_step(size, target, low, high)
    if step in (low, high) and abs(size(step) / target - 1) > 0.02:
        pixels = picture.width * picture.height
        raise BadRequest(
            f"{settings.rate} bits per pixel are out of reach for this picture and model: "
            f"{8 * size(high) / pixels:.3f} to {8 * size(low) / pixels:.3f}"
        )
    return step


def _write(frame, coder: _TileCoder, step: int, jobs: int, picture: Picture, progress) -> bytes:
    header, chunks = frame
    coded = coder.code(step, jobs, progress)
    quality = _measure(coder, coded, step, picture)
    tiles, payloads, layers = {}, {}, []
    for n, layer in enumerate(header.layers):
        entries, data = [], []
        for tile, parts in enumerate(coded):
            part = parts[n]
            data.append(part[0].data if part else b"")
            entries.append(
                layout.TileEntry.of(
                    part[0].data,
                    step_offset=coder.step(tile, step) - step,
                    symbols=part[0].checksum,
                )
                if part
                else layout.ABSENT
            )
        tiles[n], payloads[n] = entries, data
        layers.append(replace(layer, step=step, bytes=sum(map(len, data)), quality=quality[n]))
    return writer.to_bytes(replace(header, layers=tuple(layers)), tiles, payloads, chunks)


def _measure(coder: _TileCoder, coded, step: int, picture: Picture) -> list[int]:
    """PSNR of the picture decoded up to each layer, in 1/100 dB, as the header stores it."""
    latents = Latents(coder.model, coder.grid.canvas)
    whole = Box(0, 0, picture.width, picture.height)
    peak = 255 if picture.bit_depth == 8 else 65535
    results = []
    for n in range(len(coder.model.layers)):
        for tile, parts in enumerate(coded):
            if parts[n]:
                latents.put(n, coder.grid.latents(tile), parts[n][1], coder.step(tile, step))
        error = 0.0
        for rows, columns, samples in latents.windows(n, whole, picture):
            difference = samples.astype(np.float32) - picture.pixels[rows, columns]
            error += float(np.square(difference).sum(dtype=np.float64))
        mean = error / picture.pixels.size
        psnr = 10 * math.log10(peak**2 / mean) if mean else math.inf
        results.append(round(min(100 * psnr, layout.QUALITY_UNKNOWN - 1)))
    return results


# -- decode --------------------------------------------------------------------------------


@dataclass
class Report:
    """What decoding met: bytes read from the source, and what could not be used."""

    bytes_read: int = 0
    damaged: list[dict] = field(default_factory=list)  # layer, tile, message


def decode(
    reader: Reader,
    layers: str | int | list[str] = "all",
    *,
    box: tuple[int, int, int, int] | None = None,
    allow_partial: bool = False,
    jobs: int = 1,
    model: Model | None = None,
    progress: Progress | None = None,
) -> tuple[Picture, Report]:
    """An open .scc file -> a picture, from the layers asked for and those that they need.

    box: x, y, w, h in pixels; only tiles that it needs are read. With `allow_partial` a damaged
    (layer, tile) counts as missing, there and only there, and is listed in the report.
    Raises Damaged, WrongModel, BadRequest, Unsupported.
    """
    header = reader.header
    if header.modality != 0 or header.frames != 1:
        raise Unsupported(f"{reader.name}: not a still picture")
    top = _top_layer(reader, layers)
    model = model or find(header.model, header.digest)
    if header.total_layers != len(model.layers):
        raise Damaged(
            f"{reader.name}: {header.total_layers} layers, model {model.id} has {len(model.layers)}"
        )
    chain = [*model.layers[top].needs, top]
    for n in reversed(chain):
        if header.layer(n).needed != model.layers[n].needs:
            raise Damaged(f"{reader.name}: layer {n} does not need the layers that its model says")
    grid = Grid(header.width, header.height, header.tile_size)
    whole = (0, 0, header.width, header.height)
    wanted = region(box or whole, header.width, header.height)
    head = model.heads[top]
    window = Box(
        wanted.left // LATENT,
        wanted.top // LATENT,
        -(-wanted.right // LATENT),
        -(-wanted.bottom // LATENT),
    ).grown(head.halo, grid.canvas)
    report = Report()
    latents = Latents(model, window)

    def unusable(n: int, tile: int, message: str) -> None:
        report.damaged.append({"layer": header.layer(n).name, "tile": tile, "message": message})

    def work(tile: int) -> None:
        seen: dict[int, np.ndarray] = {}
        for n in chain:
            entry = reader.tiles[n][tile]
            if not entry.present:
                if not model.layers[n].needs:
                    unusable(n, tile, "absent, and no lower layer stands in for it")
                break  # what lies above needs this layer too
            step = header.layer(n).step + entry.step_offset
            try:
                coded = _decode_tile(reader, model, grid, n, tile, step, seen)
            except Damaged as error:
                if not allow_partial:
                    raise
                unusable(n, tile, str(error))
                break
            seen[n] = coded.seen
            latents.put(n, grid.latents(tile), coded.latent, step)

    tiles = grid.touching(window)
    reader.prefetch((n, tile) for n in chain for tile in tiles)
    each(work, tiles, jobs, progress)
    report.damaged.sort(key=lambda d: (d["tile"], d["layer"]))
    shape = Picture(np.zeros((1, 1, header.channels), f"u{header.bit_depth // 8}"))
    pixels = latents.pixels(top, wanted, shape)
    picture = Picture(pixels, _alpha(reader, wanted), **attached(reader))
    report.bytes_read = reader.bytes_read
    return picture, report


def _top_layer(reader: Reader, layers) -> int:
    """The highest layer asked for; BadRequest if the file lacks one that it needs."""
    header = reader.header
    top = layer_selection(header, layers)[-1]
    missing = header.missing(top)
    if missing:
        raise BadRequest(
            f"{reader.name}: layer {header.layer(top).name} needs layer "
            f"{', '.join(map(str, missing))}, which this file does not hold",
            hint="sccodec join puts the layers of two files together",
        )
    return top


def _decode_tile(reader, model, grid, layer: int, tile: int, step: int, seen):
    """One (layer, tile), its bytes and its symbols checked."""
    where = f"{reader.name}: layer {layer} ({model.layers[layer].name}), tile {tile}"
    if not 0 <= step < STEPS:
        raise Damaged(f"{where}: step index {step} is out of range")
    payload = reader.payload(layer, tile)
    box = grid.latents(tile)
    try:
        check, coded = quantize.decode(
            model.priors[layer],
            model.models,
            payload,
            (box.height, box.width),
            step,
            _below(model, layer, seen),
        )
    except Damaged as error:
        raise Damaged(f"{where}: {error}") from None
    if check != reader.tiles[layer][tile].symbols:
        raise Damaged(
            f"{where}: the bytes are whole, but decode to other symbols than the encoder's",
            hint="this machine computes differently from the one that wrote the file",
        )
    return coded


def attached(reader: Reader) -> dict:
    """Metadata and resolution as `Picture` takes them."""
    chunks = reader.metadata
    metadata = {name: chunks[kind] for name, kind in CHUNKS.items() if kind in chunks}
    result: dict = {"metadata": metadata}
    if len(chunks.get("DPI_", b"")) == DPI.size:
        result["dpi"] = tuple(v / 1000 for v in DPI.unpack(chunks["DPI_"]))
    return result


def _alpha(reader: Reader, box: Box) -> np.ndarray | None:
    """(H, W) inside the box; None for an opaque picture."""
    if "ALPH" not in reader.metadata:
        return None
    try:
        alpha = read(reader.metadata["ALPH"], name=f"{reader.name}: alpha").pixels[:, :, 0]
    except CodecError as error:
        raise Damaged(str(error)) from None
    header = reader.header
    if alpha.shape != (header.height, header.width) or 8 * alpha.itemsize != header.bit_depth:
        raise Damaged(f"{reader.name}: alpha has another size or depth than the picture")
    return np.ascontiguousarray(alpha[box.top : box.bottom, box.left : box.right])
