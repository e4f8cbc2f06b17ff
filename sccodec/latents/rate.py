"""Finds the step index that meets a size, from the exact cost of each candidate."""

from __future__ import annotations

import math
from collections.abc import Callable

OCTAVE = 32  # step indexes over which a cost about halves


def nearest_step(
    cost: Callable[[int], float], target: float, low: int, high: int, guess: int | None = None
) -> int:
    """The step index in low..high whose cost is nearest to `target`.

    `cost` falls as the index grows; it is called a handful of times, each index once, the first
    of them `guess`.
    """
    small, large = bracket(cost := _once(cost), target, low, high, guess)
    return min((small, large), key=lambda s: abs(cost(s) - target))


def smallest_step_within(
    cost: Callable[[int], float], most: float, low: int, high: int, guess: int | None = None
) -> int:
    """The smallest step index in low..high whose cost is at most `most`; `high` if none is."""
    return bracket(cost, most, low, high, guess)[1]


def bracket(
    cost: Callable[[int], float], target: float, low: int, high: int, guess: int | None = None
) -> tuple[int, int]:
    """Neighbours (s, s + 1) with cost(s) > target >= cost(s + 1).

    Both are `low` if even it costs no more than `target`, both `high` if even it costs more.
    From `guess` on, or the middle, it goes as far as the cost's ratio to the target asks for, and
    twice as far each time that this falls short. Between two indexes it goes by log(cost), which
    is nearly straight in the index, and by halves where that fails.
    """
    cost, wanted = _once(cost), max(target, 1e-9)
    above = below = None  # the greatest index known to cost more than the target, the least not to
    at, guesses = min(max((low + high) // 2 if guess is None else guess, low), high), 0

    def octaves(index: int) -> float:
        return math.log2(max(cost(index), 1e-9) / wanted)

    while True:
        if cost(at) > target:
            above = at
        else:
            below = at
        if above == high or below == low:
            return at, at
        if above is None or below is None:
            far = max(round(OCTAVE * abs(octaves(at))), 1) << guesses
            at = min(above + far, high) if below is None else max(below - far, low)
        elif below - above == 1:
            return above, below
        else:
            share = octaves(above) / (octaves(above) - octaves(below)) if guesses % 3 < 2 else 0.5
            at = min(max(above + round(share * (below - above)), above + 1), below - 1)
        guesses += 1


def _once(cost: Callable[[int], float]) -> Callable[[int], float]:
    known: dict[int, float] = {}

    def remembered(step: int) -> float:
        if step not in known:
            known[step] = cost(step)
        return known[step]

    return remembered
