"""What an encoder weighs bits against: errors of pixels, in bits, as in training."""

from __future__ import annotations

LAMBDA = 0.18  # bits that a squared error of one step is worth, the mean of a pixel's colours
BELOW = 0.1  # what an error of a lower layer's own picture counts
FINEST_BELOW = 4.0  # its worth is never that of a finer step: what it lacks are whole bands


def worths(steps: list[float]) -> list[float]:
    """For layers of these steps, lowest first, what a squared error of each picture is worth.

    In bits, for an error in 8-bit units that is the mean of a pixel's colours.
    """
    below = BELOW * LAMBDA / max(steps[-1], FINEST_BELOW) ** 2
    return [below] * (len(steps) - 1) + [LAMBDA / steps[-1] ** 2]
