"""The rounds of planes: which elements are coded together, and where their neighbours are.

A plane is coded in four rounds, by whether row and column are even or odd. In memory planes are
innermost, so that the elements of a round lie together whatever the size of a plane.
"""

from __future__ import annotations

from itertools import product

import numpy as np

PARITIES = ((0, 0), (1, 1), (0, 1), (1, 0))  # row and column modulo 2, in the order of rounds
ROUNDS = len(PARITIES)


def size(round_: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns that a round has in a plane."""
    i, j = PARITIES[round_]
    return (height + 1 - i) // 2, (width + 1 - j) // 2


def split(planes: np.ndarray) -> list[np.ndarray]:
    """(P, H, W) -> for each round its elements as (h, w, P)."""
    return [np.ascontiguousarray(planes[:, i::2, j::2].transpose(1, 2, 0)) for i, j in PARITIES]


def merge(parts: list[np.ndarray], shape: tuple[int, int, int]) -> np.ndarray:
    """The opposite of `split`."""
    planes, height, width = shape
    inner = np.empty((height, width, planes), parts[0].dtype)
    for (i, j), part in zip(PARITIES, parts, strict=True):
        inner[i::2, j::2] = part
    return np.ascontiguousarray(inner.reshape(height * width, planes).T).reshape(shape)


class Seen:
    """What neighbours see of P planes: numbers that are put round by round, zero outside."""

    def __init__(self, shape: tuple[int, int, int], kind: type):
        """shape (P, H, W); kind uint8 or int8."""
        planes, height, width = shape
        self._sizes = [size(n, height, width) for n in range(ROUNDS)]
        rows, columns = self._sizes[0]  # the largest; all have its frame of zeros
        self._parts = [np.zeros((rows + 2, columns + 2, planes), kind) for _ in PARITIES]

    def view(self, round_: int, down: int = 0, right: int = 0, like: int | None = None):
        """(h, w, P) of a round, shifted, as many rows and columns as the round `like` has."""
        h, w = self._sizes[round_ if like is None else like]
        return self._parts[round_][1 + down : 1 + down + h, 1 + right : 1 + right + w]

    def fill(self, planes: np.ndarray) -> None:
        """Puts (P, H, W), known before the first round."""
        for round_, part in enumerate(split(planes)):
            self.view(round_)[:] = part

    def sums(self, round_: int, planes: slice, corner: bool) -> np.ndarray:
        """(h, w, p): the four neighbours beside each element, or at its corners, added."""
        i, j = PARITIES[round_]
        rows, columns = (i - 1, i), (j - 1, j)  # where they lie in the parts of other rounds
        if corner:
            part = PARITIES.index((1 - i, 1 - j))
            places = [(part, down, right) for down, right in product(rows, columns)]
        else:
            upright, level = PARITIES.index((1 - i, j)), PARITIES.index((i, 1 - j))
            places = [(upright, down, 0) for down in rows]
            places += [(level, 0, right) for right in columns]
        first, second, *others = (self.view(*at, round_)[:, :, planes] for at in places)
        total = first + second
        for other in others:
            total += other
        return total
