"""Tiles of the latent grid, and rectangles of pixels on it."""

from __future__ import annotations

import operator
from dataclasses import dataclass

from sccodec.errors import BadRequest
from sccodec.transform.graphs import HYPER, LATENT

MEGAPIXEL = 1 << 20
DEFAULT_TILE = 512  # pixels, for pictures larger than a megapixel; smaller ones are one tile
HUGE = 32 * MEGAPIXEL  # pixels from which tiles are smaller, so that a region stays cheap
HUGE_TILE = 384  # 512x512 pixels and a halo meet at most 9 of them: 1.3 % of 100 megapixels


@dataclass(frozen=True)
class Box:
    """A rectangle; right and bottom are not part of it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def meets(self, other: Box) -> bool:
        """True if the two share any pixel."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def grown(self, by: int, limit: Box) -> Box:
        """Larger by `by` on each side, but inside `limit`."""
        return Box(
            max(self.left - by, limit.left),
            max(self.top - by, limit.top),
            min(self.right + by, limit.right),
            min(self.bottom + by, limit.bottom),
        )


def region(spec: tuple[int, int, int, int], width: int, height: int, what: str = "region") -> Box:
    """x, y, w, h in pixels -> the part of it inside the picture.

    Raises BadRequest if the rectangle is none, is empty or lies outside.
    """
    try:  # Python's integers: those of NumPy have ends
        x, y, w, h = map(operator.index, spec)
    except (TypeError, ValueError):
        raise BadRequest(f"{what} {spec!r} is not x, y, w, h in whole pixels") from None
    box = Box(max(x, 0), max(y, 0), min(x + w, width), min(y + h, height))
    if w < 1 or h < 1 or box.width < 1 or box.height < 1:
        raise BadRequest(
            f"{what} {x},{y},{w},{h} has no pixel inside the picture of {width}x{height}"
        )
    return box


def up_to(value: int, unit: int) -> int:
    """The smallest multiple of `unit` that is not below `value`."""
    return -(-value // unit) * unit


@dataclass(frozen=True)
class Grid:
    """How a picture of width x height pixels is cut into tiles of `tile` pixels a side."""

    width: int
    height: int
    tile: int

    @property
    def columns(self) -> int:
        return -(-self.width // self.tile)

    @property
    def rows(self) -> int:
        return -(-self.height // self.tile)

    @property
    def canvas(self) -> Box:
        """The whole latent grid, in latents: the picture grown to multiples of 64 pixels."""
        return Box(0, 0, up_to(self.width, HYPER) // LATENT, up_to(self.height, HYPER) // LATENT)

    def __len__(self) -> int:
        return self.columns * self.rows

    def pixels(self, tile: int) -> Box:
        """A tile in pixels of the picture."""
        row, column = divmod(tile, self.columns)
        left, top = column * self.tile, row * self.tile
        right, bottom = left + self.tile, top + self.tile
        return Box(left, top, min(right, self.width), min(bottom, self.height))

    def latents(self, tile: int) -> Box:
        """A tile in latents; the last of a row or column ends with the canvas."""
        box = self.pixels(tile)
        return Box(
            box.left // LATENT,
            box.top // LATENT,
            up_to(box.right, HYPER) // LATENT,
            up_to(box.bottom, HYPER) // LATENT,
        )

    def touching(self, box: Box) -> list[int]:
        """Tiles that share a latent with `box`, given in latents."""
        return [t for t in range(len(self)) if self.latents(t).meets(box)]


def choose_tile(width: int, height: int, wanted: int | None, region_of_interest: bool) -> int:
    """Tile size in pixels for a picture; `wanted` must be a multiple of 64.

    Small pictures are one tile. A region of interest needs tiles small enough to follow it.
    """
    if wanted is not None:
        if wanted < HYPER or wanted % HYPER:
            raise BadRequest(f"a tile of {wanted} pixels is not a multiple of {HYPER}")
        return wanted
    if region_of_interest:
        return 128 if width * height <= MEGAPIXEL else 256
    if width * height <= MEGAPIXEL:
        return up_to(max(width, height), HYPER)
    return DEFAULT_TILE if width * height <= HUGE else HUGE_TILE
