"""Decoded latents on their way to pixels: filled tile by tile, synthesised in windows."""

from __future__ import annotations

import numpy as np

from sccodec.codecs.tiles import Box
from sccodec.media.image import Picture
from sccodec.profiles.registry import Model
from sccodec.transform.graphs import ABSENT, LATENT, step_plane, synthesise


class Latents:
    """Latents and step planes of a rectangle of the latent grid, filled tile by tile."""

    def __init__(self, model: Model, window: Box):
        self.model, self.window = model, window
        shape = (window.height, window.width)
        self.first = np.cumsum([0, *(plan.latents for plan in model.layers)])
        self.values = np.zeros((int(self.first[-1]), *shape), np.float32)
        self.planes = np.full((len(model.layers), *shape), ABSENT, np.float32)

    def put(self, layer: int, box: Box, latent: np.ndarray, step: int) -> None:
        """The latents of one (layer, tile), as far as they lie in the window."""
        part = box.grown(0, self.window)
        rows = slice(part.top - self.window.top, part.bottom - self.window.top)
        columns = slice(part.left - self.window.left, part.right - self.window.left)
        self.values[self.first[layer] : self.first[layer + 1], rows, columns] = latent[
            :,
            part.top - box.top : part.bottom - box.top,
            part.left - box.left : part.right - box.left,
        ]
        self.planes[layer, rows, columns] = step_plane((step - 256) / 32)

    def pixels(self, layer: int, box: Box, like: Picture) -> np.ndarray:
        """Pixels of `box` from all layers up to `layer`: (H, W, C) in the type of `like`."""
        out = np.empty((box.height, box.width, like.channels), like.pixels.dtype)
        inner = Box(
            box.left // LATENT - self.window.left,
            box.top // LATENT - self.window.top,
            -(-box.right // LATENT) - self.window.left,
            -(-box.bottom // LATENT) - self.window.top,
        )
        count = int(self.first[layer + 1])
        for top, left, pixels in synthesise(
            self.model.heads[layer],
            self.values[:count],
            self.planes[: layer + 1],
            (inner.left, inner.top, inner.right, inner.bottom),
        ):
            # Where this window lies in `out`; its edges may stick out of the box.
            y, x = (
                top + self.window.top * LATENT - box.top,
                left + self.window.left * LATENT - box.left,
            )
            rows = slice(max(y, 0), min(y + pixels.shape[1], box.height))
            columns = slice(max(x, 0), min(x + pixels.shape[2], box.width))
            part = pixels[:, rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
            out[rows, columns] = _samples(part, like)
        return out


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
