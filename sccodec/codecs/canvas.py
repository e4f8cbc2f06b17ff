"""Between pixels and latents, a window at a time, so that memory stays bounded."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from sccodec.codecs.tiles import Box
from sccodec.media.image import Picture
from sccodec.profiles.registry import Model
from sccodec.spans import Span
from sccodec.transform.finish import Correction, Piece, See
from sccodec.transform.graphs import ABSENT, LATENT, Window, step_plane
from sccodec.transform.synthesis import Kept, slopes, synthesise


def canvas(picture: Picture, rows: Span, columns: Span) -> np.ndarray:
    """What the analysis sees of a picture between the spans' outer ends.

    (3, h, w) float32 in -128..127; beyond the picture its last row and column are repeated.
    """
    y = np.minimum(np.arange(rows.outer_begin, rows.outer_end), picture.height - 1)
    x = np.minimum(np.arange(columns.outer_begin, columns.outer_end), picture.width - 1)
    pixels = picture.pixels[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    below, right = len(y) - len(pixels), len(x) - pixels.shape[1]
    pixels = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge").astype(np.float32)
    if picture.bit_depth == 16:
        pixels /= 257
    pixels -= 128
    pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


class Latents:
    """Latents and step planes of a rectangle of the latent grid, filled tile by tile.

    kept: what the networks make of them is remembered there, for other corrections or gradients.
    """

    def __init__(self, model: Model, window: Box, kept: Kept | None = None):
        self.model, self.window, self.kept = model, window, kept
        shape = (window.height, window.width)
        self.first = np.cumsum([0, *(plan.latents for plan in model.layers)])
        self.values = np.zeros((int(self.first[-1]), *shape), np.float32)
        self.planes = np.full((len(model.layers), *shape), ABSENT, np.float32)
        self.pieces: list[list[Piece]] = [[] for _ in model.layers]

    def layer(self, n: int) -> np.ndarray:
        """The latents of layer n, (M, h, w), as they stand: a view."""
        return self.values[self.first[n] : self.first[n + 1]]

    def put(
        self,
        layer: int,
        box: Box,
        latent: np.ndarray,
        step: int,
        correction: Correction | None = None,
    ) -> None:
        """One (layer, tile), as far as it lies in the window."""
        if self.kept is not None:
            self.kept.clear()
        part = box.grown(0, self.window)
        rows = slice(part.top - self.window.top, part.bottom - self.window.top)
        columns = slice(part.left - self.window.left, part.right - self.window.left)
        self.layer(layer)[:, rows, columns] = latent[
            :,
            part.top - box.top : part.bottom - box.top,
            part.left - box.left : part.right - box.left,
        ]
        self.planes[layer, rows, columns] = step_plane((step - 256) / 32)
        place = (columns.start, rows.start, columns.stop, rows.stop)
        self.pieces[layer].append((place, correction))

    def correct(self, layer: int, box: Box, correction: Correction) -> None:
        """Replaces the correction of one (layer, tile)."""
        part = box.grown(0, self.window)
        left, top = part.left - self.window.left, part.top - self.window.top
        place = (left, top, left + part.width, top + part.height)
        self.pieces[layer] = [
            (where, correction if where == place else old) for where, old in self.pieces[layer]
        ]

    def pixels(self, layer: int, box: Box, like: Picture, jobs: int = 1) -> np.ndarray:
        """Pixels of `box` from all layers up to `layer`: (H, W, C) in the type of `like`."""
        out = np.empty((box.height, box.width, like.channels), like.pixels.dtype)

        def put(rows: slice, columns: slice, samples: np.ndarray) -> None:
            out[rows, columns] = samples

        self.each_window(layer, box, like, put, jobs)
        return out

    def squared_error(self, layer: int, box: Box, picture: Picture, jobs: int = 1) -> float:
        """Sum over the samples of `box`: of `picture` less what is decoded up to `layer`."""
        errors: list[float] = []
        pixels = picture.pixels[box.top : box.bottom, box.left : box.right]

        def compare(rows: slice, columns: slice, samples: np.ndarray) -> None:
            difference = samples.astype(np.float32) - pixels[rows, columns]
            errors.append(float(np.square(difference).sum(dtype=np.float64)))

        self.each_window(layer, box, picture, compare, jobs)
        return math.fsum(errors)  # exact, so in any order

    def slopes(
        self, picture: Picture, worths: np.ndarray, jobs: int = 1, wanted: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """What errors of the layers' pictures are worth, and its gradient by the latents if wanted.

        For latents of the whole canvas. worths (layers, h, w): what a squared error is worth at
        each latent, in 8-bit units that are the mean of a pixel's colours. Returns costs (layers,
        h, w) float64 and the gradient (C, h, w) float32.
        """
        costs = np.zeros(worths.shape)

        def cost(layer: int, window: Window, pixels: np.ndarray) -> np.ndarray:
            rows, columns = (Span(0, 0, span.begin * LATENT, span.end * LATENT) for span in window)
            here = np.s_[layer, window[0].begin : window[0].end, window[1].begin : window[1].end]
            worth = worths[here]
            # Brighter than white is white.
            lacks = np.clip(pixels, -128, 127) - canvas(picture, rows, columns)
            if picture.channels == 1:
                lacks[:] = lacks.mean(0)
            lacks[:, max(picture.height - rows.outer_begin, 0) :] = 0
            lacks[:, :, max(picture.width - columns.outer_begin, 0) :] = 0
            blocks = lacks.reshape(3, len(worth), LATENT, -1, LATENT)
            costs[here] = worth * np.square(blocks).sum((0, 2, 4), dtype=np.float64) / 3
            blocks *= np.float32(2 / 3) * worth[:, None, :, None].astype(np.float32)
            return lacks

        gradient = slopes(
            self.model.heads,
            self.first,
            self.values,
            self.planes,
            cost,
            jobs,
            pieces=self.pieces,
            kept=self.kept,
            wanted=wanted,
        )
        return costs, gradient

    def each_window(
        self,
        layer: int,
        box: Box,
        like: Picture,
        put: Callable[[slice, slice, np.ndarray], None],
        jobs: int = 1,
        see: See | None = None,
    ) -> None:
        """put(rows and columns of `box`, samples (h, w, C)) piece by piece, on `jobs` threads.

        `see` is told, in latents of the window, what the finish does.
        """
        inner = Box(
            box.left // LATENT - self.window.left,
            box.top // LATENT - self.window.top,
            -(-box.right // LATENT) - self.window.left,
            -(-box.bottom // LATENT) - self.window.top,
        )
        count = int(self.first[layer + 1])

        def cut(top: int, left: int, pixels: np.ndarray) -> None:
            # Where this window lies in the box; its edges may stick out.
            y = top + self.window.top * LATENT - box.top
            x = left + self.window.left * LATENT - box.left
            rows = slice(max(y, 0), min(y + pixels.shape[1], box.height))
            columns = slice(max(x, 0), min(x + pixels.shape[2], box.width))
            part = pixels[:, rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
            put(rows, columns, _samples(part, like))

        synthesise(
            self.model.heads[: layer + 1],
            self.first,
            self.values[:count],
            self.planes[: layer + 1],
            (inner.left, inner.top, inner.right, inner.bottom),
            cut,
            jobs,
            pieces=self.pieces,
            see=see,
            kept=self.kept,
        )


def _samples(pixels: np.ndarray, like: Picture) -> np.ndarray:
    """(3, H, W) float32 in -128..127 -> (H, W, C) samples of the picture's kind."""
    pixels = pixels + np.float32(128)
    if like.channels == 1:
        pixels = pixels.mean(0, keepdims=True)
    if like.bit_depth == 16:
        pixels = pixels * np.float32(257)
    top = 255 if like.bit_depth == 8 else 65535
    pixels = np.clip(np.rint(pixels), 0, top)
    return pixels.transpose(1, 2, 0).astype(like.pixels.dtype)
