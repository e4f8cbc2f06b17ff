"""Analysis by synthesis: latents that lead to the picture, not only away from it.

The latents y = analysis(x) of a picture are quantised to ŷ, which decode to x'. Networks are not
linear, so the analysis of x' is not quite ŷ: it tells where the synthesis really leads. y moved
back by that difference,

    y' = y + (ŷ - analysis(x')),

and quantised anew, leaves less error for nearly the same bits. It is the first step of an iteration
for latents whose decoded picture is analysed as the original is, up to rounding.
"""

from __future__ import annotations

import functools

import numpy as np

from sccodec.codecs.canvas import canvas
from sccodec.codecs.finishing import CORRECTED, corrections
from sccodec.codecs.payloads import TileCoder
from sccodec.codecs.tiles import Box
from sccodec.media.picture import Picture
from sccodec.profiles.registry import Model
from sccodec.transform.graphs import LATENT, analyse

MOVED = 3  # effort from which latents are moved


def analysed(
    model: Model, picture: Picture, whole: Box, jobs: int, effort: int | None = None
) -> dict[str, np.ndarray]:
    """The analysis of a picture, by output; `whole` is its canvas in latents."""
    cut, graph = functools.partial(canvas, picture), model.analysis_for(effort)
    return analyse(graph, cut, whole.height * LATENT, whole.width * LATENT, jobs)


def moved(coder: TileCoder, step: int, picture: Picture, jobs: int) -> TileCoder:
    """A coder of latents that lead nearer to `picture` at this step index, from effort 3 on."""
    if coder.effort < MOVED:
        return coder
    layers = coder.model.layers
    # In 16 bits: rounded to 8, the decoded picture would differ by more than its latents' move.
    like = Picture(np.empty((1, 1, picture.channels), np.uint16))
    whole = Box(0, 0, picture.width, picture.height)
    quantised, _ = coder.quantised(step, jobs)
    if coder.effort >= CORRECTED:  # they do part of the same work
        corrections(coder, quantised, picture, jobs)
    decoded = Picture(quantised.pixels(len(layers) - 1, whole, like, jobs))
    found = analysed(coder.model, decoded, coder.grid.canvas, jobs)
    latents = dict(coder.latents)
    for n, layer in enumerate(layers):
        y = f"{layer.name}.y"
        latents[y] = latents[y] + (quantised.layer(n) - found[y])
    return coder.of(latents)
