"""Latents -> pixels: the synthesis of each layer, window by window."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from sccodec.spans import Span, even
from sccodec.threads import each
from sccodec.transform.finish import Finish, Piece, Rectangle, See
from sccodec.transform.graphs import ABSENT, LATENT, WINDOW, Graph, Window, at_a_time, log2_of_plane

MOST_KEPT = 24  # windows: 140 MiB, and 60 of signs
# Gradients are taken of parts of a window with less around them than there is to see: what that
# leaves out is a hundredth.
PART, RIM = 24, 2  # latents; parts are about so large, and a window of 512 pixels is one

Cut = tuple[slice, slice, slice]  # channels, rows, columns


class Made(NamedTuple):
    """What the graph of a head makes of a window."""

    pixels: np.ndarray  # (3, H, W), before the finish
    signs: dict[str, Bits] | None = None  # of the activations, if they were asked for


class Bits(NamedTuple):
    """An array of bool, eight to a byte."""

    packed: np.ndarray
    shape: tuple[int, ...]

    @classmethod
    def of(cls, values: np.ndarray) -> Bits:
        return cls(np.packbits(values), values.shape)

    def unpacked(self) -> np.ndarray:
        count = math.prod(self.shape)
        return np.unpackbits(self.packed, count=count).view(bool).reshape(self.shape)


class Kept:
    """What graphs made of some latents, for the next call with the same ones.

    With `signs`, what their gradients take too.
    """

    def __init__(self, signs: bool = False):
        self.signs = signs
        self._made: dict[tuple[Head, Window], Made] = {}

    def takes(self, head: Head, window: Window) -> bool:
        """Whether it is there, or there is room for it."""
        return (head, window) in self._made or len(self._made) < MOST_KEPT

    def get(self, head: Head, window: Window) -> Made | None:
        return self._made.get((head, window))

    def put(self, head: Head, window: Window, made: Made) -> None:
        if self.takes(head, window):
            self._made[head, window] = made

    def clear(self) -> None:
        self._made.clear()


class Head:
    """The synthesis of one layer: a graph from latents to pixels, and perhaps a finish.

    `signs`: the graph once more, telling the signs of its activations too; `gradient`: its adjoint,
    which takes them. Both for `slopes`; None: an encoder must do without.
    """

    def __init__(
        self,
        graph: Graph,
        finish: Finish | None = None,
        signs: Graph | None = None,
        gradient: Graph | None = None,
    ):
        self.graph, self.finish, self.signs, self.gradient = graph, finish, signs, gradient

    def load_ahead(self) -> None:
        """Begins to load what `__call__` needs, while latents are still being decoded."""
        self.graph.load_ahead()
        if self.finish is not None:
            self.finish.graph.load_ahead()

    def __call__(
        self,
        latents: np.ndarray,
        planes: np.ndarray,
        window: Window,
        pieces: Sequence[Piece] = (),
        see: See | None = None,
        kept: Kept | None = None,
    ) -> np.ndarray:
        """Pixels (3, H, W) of a window from the latents and step planes of its outer part.

        pieces: what the finish takes, in the coordinates that the window is given in. kept: what
        the graph gave for these latents; it is filled.
        """
        y, x = window
        pixels = self._made(latents, planes, window, kept).pixels
        if self.finish is None:
            return pixels[_inside(window)]
        told = None
        if see is not None:

            def told(box: Rectangle, *found) -> None:
                see(_moved(box, x.outer_begin, y.outer_begin), *found)

        return self.finish(pixels, *self._finished(planes, window, pieces), told)

    def slopes(
        self,
        latents: np.ndarray,
        planes: np.ndarray,
        window: Window,
        pieces: Sequence[Piece],
        slope: np.ndarray,
        kept: Kept | None = None,
    ) -> np.ndarray:
        """The gradient of a cost by `latents` (C, h, w), from that by the pixels of `__call__`,
        `slope` (3, H, W)."""
        pixels, signs = self._made(latents, planes, window, kept, signs=True)
        if self.finish is None:
            before = np.zeros_like(pixels)
            before[_inside(window)] = slope
        else:
            where = self._finished(planes, window, pieces)
            before = self.finish.slopes(pixels, *where, slope)
        found = np.zeros_like(latents)
        signs = {name: bits.unpacked() for name, bits in signs.items()}
        for part in product(*(_parts(span) for span in window)):
            cut = _outside(part)
            here = np.zeros_like(before[_pixels(cut)])
            here[_inside(part)] = before[_pixels(_kept(part))]
            inputs = {}
            for name, value in signs.items():
                finer = value.shape[2] // latents.shape[1]
                inputs[name] = np.ascontiguousarray(value[:, *_scaled(cut, finer)])
            found[cut] += self.gradient.run(slope=here[None], **inputs)["gradient"][0]
        return found

    def _made(
        self, latents, planes, window: Window, kept: Kept | None, *, signs: bool = False
    ) -> Made:
        """What the graph makes of the whole window."""
        made = None
        if kept is not None:
            made, signs = kept.get(self, window), signs or kept.signs
        if made is None or (signs and made.signs is None):
            graph = self.signs if signs and self.signs else self.graph
            found = graph.run(latents=latents[None], steps=planes[None])
            pixels = found.pop("pixels")[0]
            told = {name: Bits.of(value) for name, value in found.items()}
            made = Made(pixels, told if signs else None)
            if kept is not None:
                kept.put(self, window, made)
        return made

    def _finished(self, planes: np.ndarray, window: Window, pieces: Sequence[Piece]):
        """Steps, what is kept of the window, and the pieces, as the finish takes them."""
        y, x = window
        (begin_x, end_x), (begin_y, end_y) = x.inside, y.inside
        here = [(_moved(box, -x.outer_begin, -y.outer_begin), value) for box, value in pieces]
        return np.exp2(log2_of_plane(planes[-1])), (begin_x, begin_y, end_x, end_y), here


def _parts(span: Span) -> Iterator[Span]:
    """Those of a window along one axis, in latents of the whole window: of what is kept of it,
    and of what a finish sees around that."""
    size = span.outer_end - span.outer_begin
    begin, end = max(span.inside[0] - 1, 0), min(span.inside[1] + 1, size)
    return even(begin, end, PART, RIM, size)


def _scaled(cut: Cut, factor: int) -> Cut:
    """What has `factor` places along a side of each latent, of some latents."""
    _, *sides = cut
    rows, columns = (slice(factor * side.start, factor * side.stop) for side in sides)
    return slice(None), rows, columns


def _pixels(cut: Cut) -> Cut:
    """The pixels of some latents."""
    return _scaled(cut, LATENT)


def _moved(box: Rectangle, dx: int, dy: int) -> Rectangle:
    return box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy


def _inside(window: Window) -> Cut:
    """The pixels that are kept of a window's."""
    rows, columns = (slice(*span.inside) for span in window)
    return _pixels((slice(None), rows, columns))


def synthesise(
    heads: Sequence[Head],
    first: Sequence[int],
    latents: np.ndarray,
    planes: np.ndarray,
    box: tuple[int, int, int, int],
    put: Callable[[int, int, np.ndarray], None],
    jobs: int = 1,
    *,
    pieces: Sequence[Sequence[Piece]] | None = None,
    see: See | None = None,
    kept: Kept | None = None,
) -> None:
    """Pixels of the latent rectangle `box` (left, top, right, bottom), window by window.

    heads are those of the layers 0..L - 1, of which layer n has the latents first[n] up to
    first[n + 1]. Pixels of a latent come from the head of the highest layer that is there.
    latents (C, h, w) and planes (L, h, w) float32 must hold the box and, where they do not end
    there, a halo around it. put(top, left, pixels (3, H, W) float32 in -128..127) is called once
    for each window, on `jobs` threads at most; top and left in pixels from the origin of `latents`.
    pieces[n] cuts up the box for the finish of layer n, which tells `see` of what it does; see
    `Finish`. kept: for the next call with the same latents, which then takes the finish alone.
    """
    _, height, width = latents.shape
    left, top, right, bottom = box
    halo = max(head.graph.halo for head in heads)
    highest = np.zeros((height, width), np.int64)
    for n in range(1, len(heads)):
        highest[planes[n] != ABSENT] = n

    def work(window: Window) -> None:
        y, x = window
        cut = _outside(window)
        shown = highest[y.begin : y.end, x.begin : x.end]
        pixels = None
        # np.unique would load NumPy's masked arrays, at every start of a process.
        for n in np.flatnonzero(np.bincount(shown.ravel())).tolist():
            found = heads[n](
                np.ascontiguousarray(latents[: first[n + 1]][cut]),
                np.ascontiguousarray(planes[: n + 1][cut]),
                (y, x),
                pieces[n] if pieces else (),
                see,
                kept,
            )
            if pixels is None:
                pixels = found
            else:
                here = np.kron(shown == n, np.ones((LATENT, LATENT), bool))
                pixels = np.where(here, found, pixels)
        put(y.begin * LATENT, x.begin * LATENT, pixels)

    size = WINDOW // LATENT
    rows = even(top, bottom, size, halo, height)
    each(work, product(rows, even(left, right, size, halo, width)), at_a_time(jobs))


def slopes(
    heads: Sequence[Head],
    first: Sequence[int],
    latents: np.ndarray,
    planes: np.ndarray,
    cost: Callable[[int, Window, np.ndarray], np.ndarray],
    jobs: int = 1,
    *,
    pieces: Sequence[Sequence[Piece]],
    kept: Kept | None = None,
    wanted: bool = True,
) -> np.ndarray | None:
    """The gradient of a cost of all layers' pictures by the latents of a whole canvas, (C, h, w).

    As for `synthesise`; cost(layer, window in latents, its pixels (3, H, W)) gives the gradient by
    these pixels, on `jobs` threads; if no gradient is `wanted`, it is only called. Where windows or
    their parts meet the gradient is a little off: networks do not see beyond their surroundings.
    """
    _, height, width = latents.shape
    halo = max(head.graph.halo for head in heads)

    def work(part: tuple[int, Window]) -> np.ndarray | None:
        n, window = part
        head, cut = heads[n], _outside(window)
        inputs = (
            np.ascontiguousarray(latents[: first[n + 1]][cut]),
            np.ascontiguousarray(planes[: n + 1][cut]),
            window,
            pieces[n],
        )
        place = kept
        if kept is None or not kept.takes(head, window):
            place = Kept(signs=wanted)  # until the gradient is taken, at least
        slope = cost(n, window, head(*inputs, kept=place))
        return head.slopes(*inputs, slope, place) if wanted else None

    size, total = WINDOW // LATENT, np.zeros_like(latents) if wanted else None
    for y in even(0, height, size, halo, height):
        across = product([y], even(0, width, size, halo, width))
        parts = list(product(range(len(heads)), across))
        # Added in their order, so that sums do not depend on which thread was first.
        for (n, window), found in zip(parts, each(work, parts, jobs), strict=True):
            if wanted:
                total[: first[n + 1]][_outside(window)] += found
    return total


def _outside(window: Window) -> Cut:
    """A window and its surroundings, in latents."""
    rows, columns = (slice(span.outer_begin, span.outer_end) for span in window)
    return slice(None), rows, columns


def _kept(window: Window) -> Cut:
    """A window without its surroundings, in latents."""
    rows, columns = (slice(span.begin, span.end) for span in window)
    return slice(None), rows, columns
