"""The payloads of a picture's (layer, tile)s: coded, counted, and read back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sccodec.codecs.canvas import Latents
from sccodec.codecs.tiles import Box, Grid
from sccodec.container.reader import Reader
from sccodec.entropy.tables import STEPS
from sccodec.errors import CodecError, Damaged, Mismatch
from sccodec.latents import prior, quantize
from sccodec.latents.corrections import NONE, unpack
from sccodec.latents.quantize import Analysed
from sccodec.profiles.registry import Model
from sccodec.threads import Progress, each, share
from sccodec.transform.finish import Correction
from sccodec.transform.graphs import HYPER, LATENT
from sccodec.transform.synthesis import Kept


@dataclass(frozen=True)
class Part:
    """One coded (layer, tile)."""

    payload: quantize.Payload
    latent: np.ndarray | None  # (M, h, w) float32, the reconstruction; None: nobody will ask
    front: bytes = b""  # correction of the finish, where the layer has one

    @property
    def data(self) -> bytes:
        return self.front + self.payload.data


Coded = list[list[Part | None]]  # by tile, by layer; None for a layer left out


class TileCoder:
    """All (layer, tile) of one analysed picture, coded or counted at any step index."""

    def __init__(self, model: Model, grid: Grid, latents, offsets, skipped, effort: int):
        self.model, self.grid, self.effort = model, grid, effort
        self.latents, self.offsets, self.skipped = latents, offsets, skipped
        self.range = tuple(model.about["steps"])
        # What errors cost, by layer, where symbols are chosen for the least cost; None: the
        # nearest are.
        self.worths = [layer.worth if effort > 1 else None for layer in model.layers]
        self._counted: dict[int, float] = {}

    def of(self, latents, worths: Sequence[tuple[float, ...] | None] | None = None) -> TileCoder:
        """A coder of other latents of the same picture, perhaps with other costs of errors."""
        found = TileCoder(self.model, self.grid, latents, self.offsets, self.skipped, self.effort)
        found.worths = self.worths if worths is None else list(worths)
        return found

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

    def layer_step(self, layer: int, step: int) -> int:
        """The step index of a layer, of a picture coded at `step`."""
        return self.model.layers[layer].step(step)

    def step(self, layer: int, tile: int, step: int) -> int:
        return min(max(self.layer_step(layer, step) + self.offsets[tile], 0), STEPS - 1)

    def bits(self, step: int, jobs: int) -> float:
        """Payload bits of all layers and tiles at a step index, without corrections; nothing is
        coded."""
        if step in self._counted:
            return self._counted[step]
        inner = share(jobs, len(self.grid))

        def count(tile: int) -> float:
            return sum(
                # Payloads are whole words, and the coder's start costs about half of one.
                32 * math.ceil(chooser.bits / 32 + 0.5) + 8 * len(self.front(layer))
                for layer, (chooser, _) in self.choices(tile, step, inner)
            )

        self._counted[step] = sum(each(count, range(len(self.grid)), jobs))
        return self._counted[step]

    def quantised(
        self, step: int, jobs: int, progress: Progress | None = None, gradient: bool = False
    ) -> tuple[Latents, np.ndarray]:
        """What a decoder would know at a step index, and the bits of each tile; nothing is coded.

        Bits are those of the symbols alone. `gradient`: one will be asked for.
        """
        inner = share(jobs, len(self.grid))

        def work(tile: int) -> list[tuple[float, np.ndarray]]:
            found = self.choices(tile, step, inner)
            return [(chooser.bits, coded.latent) for _, (chooser, coded) in found]

        latents = Latents(self.model, self.grid.canvas, Kept(gradient))
        bits = np.zeros(len(self.grid))
        for tile, found in enumerate(each(work, range(len(self.grid)), jobs, progress)):
            for n, (more, latent) in enumerate(found):
                latents.put(n, self.grid.latents(tile), latent, self.step(n, tile, step))
                bits[tile] += more
        return latents, bits

    def choices(self, tile: int, step: int, jobs: int = 1):
        """(layer, what `quantize.choose` gives) of each layer of a tile, on `jobs` threads."""
        below: dict[int, prior.Coded] = {}
        for layer in self.layers(tile):
            found = quantize.choose(
                self.model.priors[layer],
                self.analysed(layer, tile),
                self.step(layer, tile, step),
                _seen(self.model, layer, below),
                self.worths[layer],
                jobs,
            )
            below[layer] = found[1]
            yield layer, found

    def front(self, layer: int) -> bytes:
        """What stands in front of a payload without a correction."""
        return NONE if self.model.layers[layer].finish else b""

    def code(self, step: int, jobs: int, progress: Progress | None) -> Coded:
        """The parts of each tile, without corrections; at effort 1 nothing is decoded from them."""
        inner = share(jobs, len(self.grid))

        def work(tile: int) -> list[Part | None]:
            parts: list[Part | None] = []
            for layer, (chooser, coded) in self.choices(tile, step, inner):
                payload = quantize.packed(self.model.models, chooser)
                latent = coded.latent if self.effort > 1 else None
                parts.append(Part(payload, latent, self.front(layer)))
            return parts + [None] * (len(self.model.layers) - len(parts))

        return each(work, range(len(self.grid)), jobs, progress)

    def decoded(self, coded: Coded, step: int, kept: Kept | None = None) -> Latents:
        """What a decoder of these parts knows, of all layers and the whole canvas."""
        latents = Latents(self.model, self.grid.canvas, kept)
        for tile, parts in enumerate(coded):
            for n, part in enumerate(parts):
                if part:
                    bends = self.model.layers[n].bends
                    correction = unpack(part.front, bends)[0] if part.front else None
                    box, own = self.grid.latents(tile), self.step(n, tile, step)
                    latents.put(n, box, part.latent, own, correction)
        return latents


@dataclass(frozen=True)
class Unusable:
    """One (layer, tile) that could not be decoded; its place shows the layer below."""

    layer: str
    tile: int
    box: Box  # the tile in pixels of the picture
    lower: bool  # whether a layer below stands in for it
    message: str
    error: CodecError | None = None  # None: absent, though nothing stands in for it

    def facts(self) -> dict:
        """Plain values for JSON; box is x, y, w, h."""
        box = [self.box.left, self.box.top, self.box.width, self.box.height]
        return {"layer": self.layer, "tile": self.tile, "box": box, "message": self.message}


def layer_chain(reader: Reader, model: Model, top: int) -> list[int]:
    """The layers that decoding layer `top` takes, lowest first; see `check_layers`."""
    check_layers(reader, model)
    return [*model.layers[top].needs, top]


def check_layers(reader: Reader, model: Model) -> None:
    """Raises Damaged if header and model disagree about the layers."""
    header = reader.header
    if header.total_layers != len(model.layers):
        raise Damaged(
            f"{reader.name}: {header.total_layers} layers, model {model.id} has {len(model.layers)}"
        )
    for layer in header.layers:
        if layer.needed != model.layers[layer.index].needs:
            raise Damaged(
                f"{reader.name}: layer {layer.index} does not need the layers that its model says"
            )


def decode_tiles(
    reader: Reader,
    model: Model,
    chain: list[int],
    tiles: Iterable[int],
    put: Callable[[int, Box, np.ndarray, int, Correction | None], None],
    *,
    tolerant: bool,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[Unusable]:
    """Decodes the layers of `chain` of some tiles and gives each to `put`.

    put(layer, box in latents, latents (C, h, w) float32, step index, correction of the finish).
    If `tolerant`, what cannot be decoded is returned in the order of tiles; if not, the first
    such raises Damaged or Mismatch. What a tile lacks, the layers above it lack too.
    """
    header, tiles = reader.header, list(tiles)
    grid = Grid(header.width, header.height, header.tile_size)
    reader.prefetch((n, tile) for n in chain for tile in tiles)
    inner = share(jobs, len(tiles))

    def work(tile: int) -> Unusable | None:
        below: dict[int, prior.Coded] = {}
        for n in chain:
            name, entry = header.layer(n).name, reader.tiles[n][tile]
            if not entry.present:
                if model.layers[n].needs:
                    return None
                message = f"{reader.name}: layer {n} ({name}), tile {tile} is absent"
                return Unusable(name, tile, grid.pixels(tile), False, message)
            step = header.layer(n).step + entry.step_offset
            try:
                coded, correction = _decode_tile(reader, model, grid, n, tile, step, below, inner)
            except (Damaged, Mismatch) as error:
                if not tolerant:
                    raise
                return Unusable(name, tile, grid.pixels(tile), bool(below), str(error), error)
            below[n] = coded
            put(n, grid.latents(tile), coded.latent, step, correction)
        return None

    return [found for found in each(work, tiles, jobs, progress) if found]


def _decode_tile(
    reader: Reader, model: Model, grid: Grid, layer: int, tile: int, step: int, below, jobs: int
) -> tuple[prior.Coded, Correction | None]:
    """One (layer, tile), its bytes and its symbols checked, and the correction of its finish."""
    where = f"{reader.name}: layer {layer} ({model.layers[layer].name}), tile {tile}"
    if not 0 <= step < STEPS:
        raise Damaged(f"{where}: step index {step} is out of range")
    payload = reader.payload(layer, tile)
    box = grid.latents(tile)
    correction = None
    if model.layers[layer].finish:
        try:
            correction, payload = unpack(payload, model.layers[layer].bends)
        except Damaged as error:
            raise Damaged(f"{where}: {error}") from None
    hint = "sccodec doctor tells whether this machine computes as every other does"
    if below:
        hint += "; if it does, layers of different encodes may have been joined"
    try:
        check, coded = quantize.decode(
            model.priors[layer],
            model.models,
            payload,
            (box.height, box.width),
            step,
            _seen(model, layer, below),
            jobs,
        )
    except Damaged as error:
        raise Mismatch(f"{where}: the bytes are whole, but {error}", hint=hint) from None
    if check != reader.tiles[layer][tile].symbols:
        raise Mismatch(
            f"{where}: the bytes are whole, but decode to other symbols than were written",
            hint=hint,
        )
    return coded, correction


def _seen(model: Model, layer: int, below: dict[int, prior.Coded]) -> np.ndarray | None:
    """What the prior of a layer sees of the layers that it needs."""
    needs = model.layers[layer].needs
    return np.concatenate([below[i].seen for i in needs]) if needs else None
