"""The highest efforts: latents refined by gradients, window by window, before they are coded."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from sccodec.codecs.canvas import Latents, canvas
from sccodec.codecs.finishing import correct
from sccodec.codecs.payloads import Coded, TileCoder
from sccodec.codecs.tiles import Box
from sccodec.entropy.tables import step_size
from sccodec.extras import need
from sccodec.latents.worth import worths
from sccodec.media.image import Picture
from sccodec.profiles.registry import Model
from sccodec.spans import Span
from sccodec.threads import Progress
from sccodec.transform.graphs import HYPER, LATENT

ITERATIONS = {7: 100, 8: 300, 9: 1000}
WINDOW = 512 // LATENT  # latents along a side of what is refined at once: it bounds the memory
AROUND = 64 // LATENT  # latents around it that its pixels are computed with
COUNTED = 32 // LATENT  # latents around it whose pixels count
ASIDE = 0.45  # steps from its symbol that a latent begins at most


def check(effort: int) -> None:
    """Raises BadRequest if this effort needs what is not installed."""
    if effort in ITERATIONS:
        need(f"effort {effort}", "train", "torch", "onnx")


def refine(
    coder: TileCoder,
    coded: Coded,
    step: int,
    picture: Picture,
    jobs: int,
    progress: Progress | None = None,
) -> Coded:
    """The parts `coded` with corrections, those of a tile replaced where refined latents cost less.

    Windows are refined one after the other, each around what those before have come to;
    `progress` is told of iterations.
    """
    from sccodec.refine.search import threads

    refiner, around = _refiner(coder.model), coder.decoded(coded, step)
    latents = {name: values.copy() for name, values in coder.latents.items()}
    names = [layer.name for layer in coder.model.layers]
    windows = [
        (tile, box)
        for tile in range(len(coder.grid))
        if len(coder.layers(tile)) == len(names)  # not where the enhancement is left out
        for box in _windows(coder.grid.latents(tile))
    ]
    iterations = ITERATIONS[coder.effort]
    with threads(jobs):
        for number, (tile, box) in enumerate(windows):

            def told(done: int, before: int = number * iterations) -> None:
                if progress is not None:
                    progress(before + done, len(windows) * iterations)

            found = refiner(_window(coder, around, tile, box, step, picture), iterations, told)
            for n, name in enumerate(names):
                latents[f"{name}.y"][_cut(box)] = found.y[n]
                latents[f"{name}.z"][_cut(box, HYPER // LATENT)] = found.z[n]
                around.layer(n)[_cut(box)] = found.latents[n]
    refined = coder.of(latents)
    refined.chosen = False  # their nearest symbols are the best
    both = [
        correct(coder, parts, step, picture, jobs)
        for parts in (coded, refined.code(step, jobs, None))
    ]
    costs = [_costs(coder, parts, step, picture, jobs) for parts in both]
    return [new if b < a else old for old, new, a, b in zip(*both, *costs, strict=True)]


def _costs(coder: TileCoder, coded: Coded, step: int, picture: Picture, jobs: int) -> list[float]:
    """Bits + lambda * squared error of each tile, as it is refined for."""
    decoded = coder.decoded(coded, step)
    scale = 1 if picture.bit_depth == 8 else 257
    costs = []
    for tile, parts in enumerate(coded):
        cost = float(sum(8 * len(part.data) for part in parts if part))
        steps = [step_size(coder.step(n, tile, step)) for n in coder.layers(tile)]
        for n, worth in enumerate(worths(steps)):
            error = decoded.squared_error(n, coder.grid.pixels(tile), picture, jobs)
            cost += worth * error / scale**2 / picture.channels
        costs.append(cost)
    return costs


@functools.cache
def _refiner(model: Model):
    from sccodec.refine.search import Refiner

    return Refiner(model)


def _windows(tile: Box) -> Iterator[Box]:
    """Parts of a tile (in latents) that are as equal as hyper-latents allow."""
    unit = HYPER // LATENT

    def cuts(begin: int, end: int) -> list[int]:
        count = math.ceil((end - begin) / WINDOW)
        return [begin + (end - begin) * n // count // unit * unit for n in range(count)] + [end]

    rows, columns = cuts(tile.top, tile.bottom), cuts(tile.left, tile.right)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            yield Box(left, top, right, bottom)


def _cut(box: Box, unit: int = 1) -> tuple[slice, slice, slice]:
    rows = slice(box.top // unit, box.bottom // unit)
    return slice(None), rows, slice(box.left // unit, box.right // unit)


def _window(coder: TileCoder, around: Latents, tile: int, box: Box, step: int, picture: Picture):
    from sccodec.refine.search import Window

    outer, seen = box.grown(AROUND, around.window), box.grown(COUNTED, around.window)
    rows, columns = (
        Span(0, 0, begin * LATENT, end * LATENT)
        for begin, end in ((outer.top, outer.bottom), (outer.left, outer.right))
    )
    counted = np.zeros((outer.height * LATENT, outer.width * LATENT), np.float32)
    bottom, right = (
        min(seen.bottom * LATENT, picture.height),
        min(seen.right * LATENT, picture.width),
    )
    counted[
        (seen.top - outer.top) * LATENT : bottom - outer.top * LATENT,
        (seen.left - outer.left) * LATENT : right - outer.left * LATENT,
    ] = 1
    layers, ratio = range(len(coder.model.layers)), HYPER // LATENT
    names = [layer.name for layer in coder.model.layers]
    steps = [coder.step(n, tile, step) for n in layers]

    def chosen(n: int) -> np.ndarray:
        """The latents of a layer, near enough to their symbols for these to be the nearest."""
        unit = step_size(steps[n])
        symbols = np.rint(around.layer(n)[_cut(box)] / unit)
        latents = coder.latents[f"{names[n]}.y"][_cut(box)] / unit
        return np.float32(unit) * np.clip(latents, symbols - ASIDE, symbols + ASIDE)

    return Window(
        y=[chosen(n) for n in layers],
        z=[coder.latents[f"{name}.z"][_cut(box, ratio)] for name in names],
        steps=steps,
        around=[around.layer(n)[_cut(outer)].copy() for n in layers],
        planes=around.planes[_cut(outer)].copy(),
        top=box.top - outer.top,
        left=box.left - outer.left,
        pixels=canvas(picture, rows, columns),
        counted=counted,
    )
