"""Still pictures: encode above decode, the same steps in opposite order."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field, replace
from numbers import Integral

import numpy as np

from sccodec.codecs.canvas import Latents
from sccodec.codecs.descent import descended, descends
from sccodec.codecs.finishing import CORRECTED, correct
from sccodec.codecs.payloads import Coded, TileCoder, Unusable, decode_tiles, layer_chain
from sccodec.codecs.reanalysis import MOVED, analysed, moved
from sccodec.codecs.tiles import Box, Grid, choose_tile, region, up_to
from sccodec.container import layer_selection, layout, metadata, writer
from sccodec.container.reader import Reader
from sccodec.container.rules import Limits, environment_limits
from sccodec.entropy.tables import STEPS
from sccodec.errors import BadRequest, CodecError, Damaged, Unsupported
from sccodec.latents.rate import OCTAVE, nearest_step, smallest_step_within
from sccodec.media.image import Picture, read, select_metadata, write
from sccodec.profiles.registry import DEFAULT, Model, find
from sccodec.threads import Progress
from sccodec.transform.graphs import HYPER, LATENT
from sccodec.transform.synthesis import Kept

DEFAULT_QUALITY = 50.0
DEFAULT_EFFORT = 5
GROWTH = 0.03  # share of the bytes that latents moved once take in addition, about
ONE_BIT = 288  # step index of about one bit per pixel, where a search begins
MOST_BYTES = 1 << 62  # of a file: more is as good as no end, and no float can hold it all
TRIES = 5  # steps that are coded to meet a size


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
    limits: Limits | None = None  # default: those of the environment
    effort: int | None = None  # 1..9, default 5; decoding never gets slower

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
        if self.step is not None and not isinstance(self.step, Integral):
            raise BadRequest(f"step index {self.step!r} is no whole number")
        if self.step is not None and not 0 <= self.step < STEPS:
            raise BadRequest(f"step index {self.step} is not within 0..{STEPS - 1}")
        if self.effort is not None and self.effort not in range(1, 10):
            raise BadRequest(f"effort {self.effort} is not within 1..9")


DEFAULTS = Settings()


# -- encode --------------------------------------------------------------------------------


def encode(
    picture: Picture,
    settings: Settings = DEFAULTS,
    model: Model | None = None,
    progress: Progress | None = None,
) -> bytes:
    """A picture -> the bytes of an .scc file; `progress` is told of tiles that are quantised.

    Raises BadRequest for settings that cannot be met, and CodecError if this machine could not
    read back what it is about to write.
    """
    model = model or find(DEFAULT)
    limits = settings.limits or environment_limits()
    effort = settings.effort or DEFAULT_EFFORT
    grid = Grid(
        picture.width,
        picture.height,
        choose_tile(picture.width, picture.height, settings.tile, settings.interest is not None),
    )
    frame = _frame(picture, grid, model, settings)
    overhead = _overhead(frame, limits)  # a file that no reader would take is refused here
    coder = TileCoder(
        model,
        grid,
        analysed(model, picture, grid.canvas, settings.jobs, effort),
        *_interest(settings.interest, grid),
        effort,
    )
    step, coded, known = _meet(coder, overhead, settings, picture, progress)
    most = math.inf if settings.max_bytes is None else settings.max_bytes
    while (size := overhead + _payload_bytes(coded)) > most:
        if step >= coder.range[1]:
            raise BadRequest(
                f"{most} bytes are too few; the coarsest step needs {size}",
                hint="extract --max-bytes drops whole layers, or scale the picture down",
            )
        step += 1
        coded, known = _code(coder, step, picture, settings.jobs, progress)
    quality = _measure(known, picture, settings.jobs) if known else None
    return _write(frame, coder, coded, step, quality, limits)


def choices(picture: Picture, step: int, model: Model, effort: int = DEFAULT_EFFORT):
    """(layer, what `quantize.choose` gives) of each layer of a picture in one tile."""
    size = up_to(max(picture.width, picture.height), HYPER)
    grid = Grid(picture.width, picture.height, size)
    latents = analysed(model, picture, grid.canvas, 1, effort)
    coder = TileCoder(model, grid, latents, [0], set(), effort)
    return _moved(coder, step, picture, 1).choices(0, step)


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
    chunks = metadata.to_chunks(kept.metadata, kept.dpi)
    if picture.alpha is not None:
        lossless = io.BytesIO()
        write(Picture(picture.alpha[:, :, None]), lossless, format="png", smallest=True)
        chunks["ALPH"] = lossless.getvalue()
    return header, chunks


def _overhead(frame, limits: Limits) -> int:
    """Bytes of the file that are not payload."""
    header, chunks = frame[0], [layout.Chunk(k, 0, v) for k, v in frame[1].items()]
    writer.check_chunks(chunks, limits)
    return layout.file_length(header, chunks, limits)


def _choose_step(
    coder: TileCoder, overhead: int, settings: Settings, picture: Picture, near: int | None = None
) -> int:
    """The step index that meets the settings, by what `coder` foresees; `near` is a guess."""
    low, high = coder.range
    if settings.step is not None:
        return settings.step
    if settings.rate is None and settings.max_bytes is None:
        quality = DEFAULT_QUALITY if settings.quality is None else settings.quality
        return round(high + (low - high) * quality / 100)

    def size(step: int) -> float:
        return overhead + coder.bits(step, settings.jobs) / 8

    wanted, pixels = _wanted(settings, picture), picture.width * picture.height
    if near is None:
        near = ONE_BIT - round(OCTAVE * math.log2(8 * max(wanted, 1) / pixels))
    search = nearest_step if settings.max_bytes is None else smallest_step_within
    return search(size, wanted, low, high, near)


def _wanted(settings: Settings, picture: Picture) -> float:
    """Bytes of the whole file that are asked for."""
    if settings.max_bytes is not None:
        return min(settings.max_bytes, MOST_BYTES)
    return min(settings.rate * picture.width * picture.height / 8, MOST_BYTES)


def _meet(
    coder: TileCoder, overhead: int, settings: Settings, picture: Picture, progress
) -> tuple[int, Coded, Latents | None]:
    """The step that meets the settings, and everything coded with it; see `_code`.

    What corrections and latents that were moved take is known only once they are there, so a wanted
    size may take a second or third try.
    """
    if settings.rate is None and settings.max_bytes is None:
        step = _choose_step(coder, overhead, settings, picture)
        return step, *_code(coder, step, picture, settings.jobs, progress)
    moves = coder.effort >= MOVED and not descends(coder)
    surplus = round(GROWTH * _wanted(settings, picture)) if moves else 0
    step = _choose_step(coder, overhead + surplus, settings, picture)
    coded, known = _code(coder, step, picture, settings.jobs, progress)
    tried = {step: coded}
    surplus = _surplus(coder, step, coded, settings.jobs)
    while len(tried) < TRIES:
        again = _choose_step(coder, overhead + surplus, settings, picture, step)
        if again in tried:
            break
        step = again
        known = None  # of one try at a time
        tried[step], known = _code(coder, step, picture, settings.jobs, progress)
        # Halved, so as not to swing.
        surplus = (surplus + _surplus(coder, step, tried[step], settings.jobs)) // 2
    if settings.rate:
        last, step = step, _nearest(coder, overhead, settings, picture, tried)
        if known and step != last:
            known = coder.decoded(tried[step], step)
    return step, tried[step], known


def _nearest(coder, overhead: int, settings: Settings, picture: Picture, tried) -> int:
    """The step among those tried that comes nearest to the rate; BadRequest if that is far."""
    pixels, (low, high) = picture.width * picture.height, coder.range

    def rate(size: float) -> float:
        return 8 * (overhead + size) / pixels

    def without(step: int) -> float:
        return rate(coder.bits(step, settings.jobs) / 8)

    rates = {step: rate(_payload_bytes(coded)) for step, coded in tried.items()}
    step = min(rates, key=lambda s: abs(rates[s] - settings.rate))
    if step in (low, high) and abs(rates[step] / settings.rate - 1) > 0.02:
        worst, best = rates.get(high) or without(high), rates.get(low) or without(low)
        raise BadRequest(
            f"{settings.rate} bits per pixel are out of reach for this picture and model: "
            f"{worst:.3f} to {best:.3f}"
        )
    return step


def _surplus(coder: TileCoder, step: int, coded: Coded, jobs: int) -> int:
    """Bytes that `TileCoder.bits` did not foresee."""
    return round(_payload_bytes(coded) - coder.bits(step, jobs) / 8)


def _payload_bytes(coded: Coded) -> int:
    return sum(len(part.data) for parts in coded for part in parts if part)


def _code(
    coder: TileCoder, step: int, picture: Picture, jobs: int, progress
) -> tuple[Coded, Latents | None]:
    """Everything coded at a step index, and what a decoder then knows; not at effort 1."""
    # Moved for one step they do not suit another: what it has quantised to 0 tends to stay so.
    passes = descends(coder)  # which tell `progress` of tiles themselves
    coder = _moved(coder, step, picture, jobs, progress)
    coded = coder.code(step, jobs, None if passes else progress)
    if coder.effort == 1:
        return coded, None
    corrected = coder.effort >= CORRECTED
    known = coder.decoded(coded, step, Kept() if corrected else None)
    if corrected:
        coded = correct(coder, coded, known, picture, jobs)
    return coded, known


def _moved(
    coder: TileCoder, step: int, picture: Picture, jobs: int, progress: Progress | None = None
) -> TileCoder:
    """A coder of latents that cost less, as the effort has it."""
    if descends(coder):
        return descended(coder, step, picture, jobs, progress)
    return moved(coder, step, picture, jobs)


def _write(frame, coder: TileCoder, coded: Coded, step: int, quality, limits) -> bytes:
    """The bytes of the file; quality: see `_measure`, None if unknown."""
    header, chunks = frame
    quality = quality or [layout.QUALITY_UNKNOWN] * len(header.layers)
    tiles, payloads, layers = {}, {}, []
    for n, layer in enumerate(header.layers):
        entries, data = [], []
        for tile, parts in enumerate(coded):
            part = parts[n]
            data.append(part.data if part else b"")
            entries.append(
                layout.TileEntry.of(
                    part.data,
                    step_offset=coder.step(n, tile, step) - coder.layer_step(n, step),
                    symbols=part.payload.checksum,
                )
                if part
                else layout.ABSENT
            )
        tiles[n], payloads[n] = entries, data
        size = sum(map(len, data))
        own = coder.layer_step(n, step)
        layers.append(replace(layer, step=own, bytes=size, quality=quality[n]))
    header = replace(header, layers=tuple(layers))
    return writer.to_bytes(header, tiles, payloads, chunks, limits=limits)


def _measure(latents: Latents, picture: Picture, jobs: int) -> list[int]:
    """PSNR of the picture decoded up to each layer, in 1/100 dB, as the header stores it."""
    whole = Box(0, 0, picture.width, picture.height)
    peak = 255 if picture.bit_depth == 8 else 65535
    results = []
    for n in range(len(latents.pieces)):
        mean = latents.squared_error(n, whole, picture, jobs) / picture.pixels.size
        psnr = 10 * math.log10(peak**2 / mean) if mean else math.inf
        results.append(round(min(100 * psnr, layout.QUALITY_UNKNOWN - 1)))
    return results


# -- decode --------------------------------------------------------------------------------


@dataclass
class Report:
    """What decoding met: bytes read from the source, and what could not be used."""

    bytes_read: int = 0
    damaged: list[Unusable] = field(default_factory=list)  # in the order of tiles

    def damage_map(self, box: Box) -> np.ndarray:
        """(H, W) uint8 of `box`: 0 whole, 128 where a lower layer is shown, 255 nothing."""
        mask = np.zeros((box.height, box.width), np.uint8)
        for found in self.damaged:
            part = found.box.grown(0, box)
            rows = slice(part.top - box.top, max(part.bottom - box.top, 0))
            columns = slice(part.left - box.left, max(part.right - box.left, 0))
            mask[rows, columns] = 128 if found.lower else 255
        return mask


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
    if header.kind != "picture" or header.frames != 1:
        raise Unsupported(f"{reader.name}: not a still picture")
    top = _top_layer(reader, layers)
    model = model or find(header.model, header.digest)
    grid = Grid(header.width, header.height, header.tile_size)
    whole = (0, 0, header.width, header.height)
    wanted = region(whole if box is None else box, header.width, header.height)
    head = model.heads[top]
    head.load_ahead()
    window = Box(
        wanted.left // LATENT,
        wanted.top // LATENT,
        -(-wanted.right // LATENT),
        -(-wanted.bottom // LATENT),
    ).grown(head.graph.halo, grid.canvas)
    latents = Latents(model, window)
    damaged = decode_tiles(
        reader,
        model,
        layer_chain(reader, model, top),
        grid.touching(window),
        latents.put,
        tolerant=allow_partial,
        jobs=jobs,
        progress=progress,
    )
    shape = Picture(np.zeros((1, 1, header.channels), f"u{header.bit_depth // 8}"))
    pixels = latents.pixels(top, wanted, shape, jobs)
    picture = Picture(pixels, _alpha(reader, wanted), *metadata.from_chunks(reader.metadata))
    return picture, Report(reader.bytes_read, damaged)


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


def _alpha(reader: Reader, box: Box) -> np.ndarray | None:
    """(H, W) inside the box; None for an opaque picture."""
    if "ALPH" not in reader.metadata:
        return None
    header = reader.header
    try:
        alpha = read(
            reader.metadata["ALPH"],
            name=f"{reader.name}: alpha",
            max_pixels=header.width * header.height,
        ).pixels[:, :, 0]
    except CodecError as error:
        raise Damaged(str(error)) from None
    if alpha.shape != (header.height, header.width) or 8 * alpha.itemsize != header.bit_depth:
        raise Damaged(f"{reader.name}: alpha has another size or depth than the picture")
    return np.ascontiguousarray(alpha[box.top : box.bottom, box.left : box.right])
