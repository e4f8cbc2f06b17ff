"""Latents moved downhill: symbols that cost fewer bits + lambda * squared error.

Symbols that decode to latents ŷ cost bits + D(ŷ), D being what the pictures' errors are worth.
Where D is as curved along each latent as for a synthesis that keeps lengths and angles, the
proximal gradient step

    ŷ  <-  the symbols of the least bits + c * |latent - (ŷ - grad D / 2c)|^2

is the best for each symbol alone (Beck and Teboulle, "A fast iterative shrinkage-thresholding
algorithm", 2009). Together they would go too far. So unquantised latents y, which begin as the
analysis has them, go there only a part of the way,

    y  <-  y + a (ŷ - f grad D / 2c - y),

and are quantised anew with c times g; `a` falls. For such a synthesis f and g would be 1; each
layer has its own. A tile keeps the cheapest symbols that it met.
"""

from __future__ import annotations

import numpy as np

from sccodec.codecs.canvas import Latents
from sccodec.codecs.finishing import corrections
from sccodec.codecs.payloads import TileCoder
from sccodec.entropy.tables import step_size
from sccodec.latents.worth import worths
from sccodec.media.picture import Picture
from sccodec.threads import Progress

PASSES = {5: 7, 6: 16, 7: 32, 8: 64, 9: 128}  # gradients that an effort takes
FAST = 0.6  # part of the way that latents go at first; at last it is SLOW / passes
SLOW = 0.5
# f and g of the highest layer, and of those below it: best on held-out crops.
FAR, STRICT = 1.1, 1.15
FAR_BELOW, STRICT_BELOW = 1.6, 1.0


def descends(coder: TileCoder) -> bool:
    """Whether the effort is enough, and the model has what it takes."""
    return coder.effort in PASSES and all(
        head.signs and head.gradient for head in coder.model.heads
    )


def descended(
    coder: TileCoder, step: int, picture: Picture, jobs: int, progress: Progress | None = None
) -> TileCoder:
    """A coder whose nearest symbols cost less at this step index than those of `coder`.

    `progress` is told of tiles that were quantised.
    """
    descent, count = _Descent(coder, step, picture, jobs), PASSES[coder.effort]
    for n in range(count + 1):

        def told(done: int, most: int, before: int = n) -> None:
            if progress is not None:
                progress(before * most + done, (count + 1) * most)

        quantised, slopes = descent.look(coder, n < count, told)
        if n < count:
            part = FAST + (SLOW / count - FAST) * n / count
            coder = descent.moved(coder, quantised, slopes, part)
    return descent.cheapest()


class _Descent:
    """The descent of one picture at one step index."""

    def __init__(self, coder: TileCoder, step: int, picture: Picture, jobs: int):
        self.coder, self.step, self.picture, self.jobs = coder, step, picture, jobs
        self.grid, layers = coder.grid, coder.model.layers
        self.costs = np.full(len(self.grid), np.inf)  # of the cheapest symbols of each tile
        self.latents = dict(coder.latents)  # what they decode to, and hyper-latents
        for layer in layers:
            self.latents[f"{layer.name}.y"] = coder.latents[f"{layer.name}.y"].copy()
        shape = self.grid.canvas.height, self.grid.canvas.width
        below = len(layers) - 1
        far, strict = [FAR_BELOW] * below + [FAR], [STRICT_BELOW] * below + [STRICT]
        self.worths = np.zeros((len(layers), *shape))  # of errors of each layer's picture
        self.ahead = np.zeros((len(layers), *shape), np.float32)  # f / 2c, of each layer's latents
        for tile in range(len(self.grid)):
            place = self._place(tile)
            steps = [step_size(coder.step(n, tile, step)) for n in coder.layers(tile)]
            for n, worth in enumerate(worths(steps)):
                self.worths[n][place] = worth
                self.ahead[n][place] = far[n] * steps[-1] ** 2 / (2 * layers[n].unit)
        steps = [step_size(coder.layer_step(n, step)) for n in range(len(layers))]
        # g c in units of each layer's own step.
        self.strict = [
            (g * plan.unit * (own / steps[-1]) ** 2,) * len(plan.worth)
            for g, plan, own in zip(strict, layers, steps, strict=True)
        ]

    def _place(self, tile: int) -> tuple[slice, slice]:
        box = self.grid.latents(tile)
        return slice(box.top, box.bottom), slice(box.left, box.right)

    def look(self, coder: TileCoder, on: bool, told: Progress) -> tuple[Latents, np.ndarray]:
        """What `coder` comes to, and the gradient there if it goes `on`; keeps what costs less."""
        quantised, costs = coder.quantised(self.step, self.jobs, told, gradient=on)
        for (tile, _), front in corrections(coder, quantised, self.picture, self.jobs).items():
            costs[tile] += 8 * len(front)
        errors, slopes = quantised.slopes(self.picture, self.worths, self.jobs, on)
        for tile in range(len(self.grid)):
            place = self._place(tile)
            costs[tile] += errors[:, *place].sum()
            if costs[tile] < self.costs[tile]:
                self.costs[tile] = costs[tile]
                for n in coder.layers(tile):
                    y = self.latents[f"{coder.model.layers[n].name}.y"]
                    y[:, *place] = quantised.layer(n)[:, *place]
        return quantised, slopes

    def moved(self, coder: TileCoder, quantised: Latents, slopes, part: float) -> TileCoder:
        """A coder of latents that went `part` of the way; they take the place of `slopes`."""
        latents = dict(coder.latents)
        for n, layer in enumerate(coder.model.layers):
            y = latents[f"{layer.name}.y"]
            moved = slopes[quantised.first[n] : quantised.first[n + 1]]
            # y + part * (quantised - ahead * slope - y), in place: a picture's latents are large.
            moved *= self.ahead[n]
            np.subtract(quantised.layer(n), moved, out=moved)
            moved -= y
            moved *= np.float32(part)
            moved += y
            latents[f"{layer.name}.y"] = moved
        return coder.of(latents, self.strict)

    def cheapest(self) -> TileCoder:
        """A coder whose nearest symbols are the cheapest that were met.

        What decodes from a symbol is less than half a step from it.
        """
        return self.coder.of(self.latents, [None] * len(self.coder.model.layers))
