"""The last step of a synthesis, at full resolution: clipped filters, which a tile may correct.

The graph has passes, each with clipped filters of 3x3 pixels, which it mixes to three colours in
units of the step, and a linear filter. To those of the last pass, which sees the pixels `near` and
whose K clipped filters give `bent` (each within -1..1), a tile's correction is added.
`formats/layers.md` is the specification.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sccodec.transform.graphs import LATENT, Graph

STRIP = 2  # latents: rows that are finished at once, so that what is worked on stays in the cache
AROUND = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]  # in raster order


@dataclass(frozen=True)
class Correction:
    """What a tile adds to its finish.

    mix (3, K) float32: to a colour from the clipped filters; straight (3, 3, 8) float32: to a
    colour from another one's differences between eight neighbours (raster order) and a pixel.
    """

    mix: np.ndarray
    straight: np.ndarray

    @cached_property
    def kernel(self) -> np.ndarray:
        """`straight` as a filter (3, 3, 3, 3), blind to constants."""
        flat = np.insert(self.straight, 4, -self.straight.sum(2), axis=2)
        return np.ascontiguousarray(flat.reshape(3, 3, 3, 3))


Rectangle = tuple[int, int, int, int]  # left, top, right, bottom, in latents
Piece = tuple[Rectangle, Correction | None]
# see(rectangle, its step, the graph's outputs)
See = Callable[[Rectangle, float, dict[str, np.ndarray]], None]


class Finish:
    """The finish of one layer's synthesis."""

    def __init__(self, graph: Graph, bends: int, reach: int, gradient: Graph | None = None):
        """`bends`: K; `reach`: pixels that the graph sees on each side, 16 at most; `gradient`:
        its adjoint, for `slopes`."""
        self.graph, self.bends, self.reach, self.gradient = graph, bends, reach, gradient
        self.none = Correction(np.zeros((3, bends), np.float32), np.zeros((3, 3, 8), np.float32))

    def __call__(
        self,
        pixels: np.ndarray,
        steps: np.ndarray,
        window: Rectangle,
        pieces: Iterable[Piece],
        see: See | None = None,
    ) -> np.ndarray:
        """Finished pixels of `window`, (3, 16 h, 16 w) float32.

        pixels (3, H, W) float32 and steps (H/16, W/16) float32, in units of the pixels, hold the
        window and, where they do not end with the canvas, at least one latent around it. pieces
        cut it up, in the window's coordinates, so that each has one step; what none of them
        covers is left at 0.
        """
        left, top, right, bottom = window
        shape = (3, (bottom - top) * LATENT, (right - left) * LATENT)
        out = np.zeros(shape, np.float32)
        for piece, correction in _cut(window, list(pieces), steps[top:bottom, left:right]):
            for strip in _strips(piece):
                rows, columns = _places(strip, left, top)
                out[:, rows, columns] = self._run(pixels, steps, strip, correction, see)
        return out

    def slopes(
        self,
        pixels: np.ndarray,
        steps: np.ndarray,
        window: Rectangle,
        pieces: Iterable[Piece],
        slope: np.ndarray,
    ) -> np.ndarray:
        """The gradient of a cost by `pixels` (3, H, W), from that by what `__call__` makes of them,
        `slope` (3, 16 h, 16 w)."""
        left, top, right, bottom = window
        out = np.zeros_like(pixels)
        for piece, correction in _cut(window, list(pieces), steps[top:bottom, left:right]):
            for strip in _strips(piece):
                rows, columns = _places(strip, left, top)
                part = np.ascontiguousarray(slope[:, rows, columns])
                inputs = self._inputs(pixels, steps, strip, correction)
                found = self.gradient.run(slope=part[None], **inputs)["gradient"][0]
                _add_around(out, found, strip, self.reach)
        return out

    def _inputs(self, pixels, steps, strip: Rectangle, correction) -> dict[str, np.ndarray]:
        left, top, _, _ = strip
        correction = correction or self.none
        return {
            "plain": _around(pixels, strip, self.reach)[None],
            "step": steps[top, left][None],
            "mix": correction.mix[:, :, None, None],
            "straight": correction.kernel,
        }

    def _run(self, pixels, steps, strip: Rectangle, correction, see) -> np.ndarray:
        inputs = self._inputs(pixels, steps, strip, correction)
        found = self.graph.run(None if see else ("pixels",), **inputs)
        if see is not None:
            see(strip, float(inputs["step"][0]), found)
        return found["pixels"][0]


def _cut(window: Rectangle, pieces: list[Piece], steps: np.ndarray) -> list[Piece]:
    """The pieces inside the window; the window itself if they make no difference."""
    if not any(correction for _, correction in pieces) and (steps == steps[0, 0]).all():
        return [(window, None)]
    inside = []
    for piece, correction in pieces:
        left, top = max(piece[0], window[0]), max(piece[1], window[1])
        right, bottom = min(piece[2], window[2]), min(piece[3], window[3])
        if left < right and top < bottom:
            inside.append(((left, top, right, bottom), correction))
    return inside


def _strips(piece: Rectangle) -> Iterable[Rectangle]:
    left, top, right, bottom = piece
    for at in range(top, bottom, STRIP):
        yield left, at, right, min(at + STRIP, bottom)


def _places(strip: Rectangle, left: int, top: int) -> tuple[slice, slice]:
    """Rows and columns of pixels, counted from the latent (left, top)."""
    return (
        slice((strip[1] - top) * LATENT, (strip[3] - top) * LATENT),
        slice((strip[0] - left) * LATENT, (strip[2] - left) * LATENT),
    )


def _around(pixels: np.ndarray, strip: Rectangle, reach: int) -> np.ndarray:
    """A strip and `reach` pixels around it; beyond the edges the nearest pixel is repeated."""
    cut, lacks = _reached(pixels, strip, reach)
    return np.pad(pixels[cut], lacks, mode="edge")


def _add_around(out: np.ndarray, found: np.ndarray, strip: Rectangle, reach: int) -> None:
    """The adjoint of `_around`: adds each pixel of `found` to where it came from in `out`."""
    cut, lacks = _reached(out, strip, reach)
    for axis, (before, after) in enumerate(lacks):
        found = np.moveaxis(found, axis, 0)
        end = len(found) - after
        if before:
            found[before] += found[:before].sum(0)
        if after:
            found[end - 1] += found[end:].sum(0)
        found = np.moveaxis(found[before:end], 0, axis)
    out[cut] += found


def _reached(pixels: np.ndarray, strip: Rectangle, reach: int):
    """Where a strip and what is around it lie in `pixels`, and how many are beyond the edges."""
    cut, lacks = [slice(None)], [(0, 0)]
    for inner, size in zip(_places(strip, 0, 0), pixels.shape[1:], strict=True):
        begin, end = inner.start - reach, inner.stop + reach
        cut.append(slice(max(begin, 0), min(end, size)))
        lacks.append((max(-begin, 0), max(end - size, 0)))
    return tuple(cut), lacks
