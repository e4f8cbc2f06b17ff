"""Finds the step index that meets a size, from the exact cost of each candidate."""

from __future__ import annotations

import math
from collections.abc import Callable


def nearest_step(cost: Callable[[int], float], target: float, low: int, high: int) -> int:
    """The step index in low..high whose cost is nearest to `target`.

    `cost` falls as the index grows; it is called a handful of times, each index once.
    """
    small, large = bracket(cost := _once(cost), target, low, high)
    return min((small, large), key=lambda s: abs(cost(s) - target))


def smallest_step_within(cost: Callable[[int], float], most: float, low: int, high: int) -> int:
    """The smallest step index in low..high whose cost is at most `most`; `high` if none is."""
    return bracket(cost, most, low, high)[1]


def bracket(cost: Callable[[int], float], target: float, low: int, high: int) -> tuple[int, int]:
    """Neighbours (s, s + 1) with cost(s) > target >= cost(s + 1).

    Both are `low` if even it costs no more than `target`, both `high` if even it costs more.
    Guesses along log(cost), which is nearly straight in the index, and halves where that fails.
    """
    cost = _once(cost)
    if cost(low) <= target:
        return low, low
    if cost(high) > target:
        return high, high
    guesses = 0
    while high - low > 1:
        above, below = math.log(cost(low)), math.log(max(cost(high), 1e-9))
        share = (above - math.log(max(target, 1e-9))) / (above - below)
        # Two straight guesses, then halving: the ends of the range may be far from straight.
        share = share if guesses % 3 < 2 else 0.5
        middle = min(max(low + round(share * (high - low)), low + 1), high - 1)
        if cost(middle) > target:
            low = middle
        else:
            high = middle
        guesses += 1
    return low, high


def _once(cost: Callable[[int], float]) -> Callable[[int], float]:
    known: dict[int, float] = {}

    def remembered(step: int) -> float:
        if step not in known:
            known[step] = cost(step)
        return known[step]

    return remembered
