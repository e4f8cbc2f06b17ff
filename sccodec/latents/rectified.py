"""What a rectifier has cut off, as the other channels tell it.

Behind ReLU an element at the lower limit was that or anything below it, and behind ReLU6 one at the
upper limit anything above. Where a layer has more channels than the one before it, the elements
within the limits tell all of a place, and so what lies beyond the limits too. Put back there, the
channels are a linear mixture of few components again, which a basis codes in far fewer bits than
the clipped ones; the decoder clips what it gets, and need not know.

With components c of variances v, values x and what components lead to, x' = mean + M c, the most
likely components are those with the least

    |r|^2 + noise * sum of c^2 / v,    r = x' - x, but 0 where both are beyond the same limit

A convex problem: found by proximal gradient descent with momentum (Beck and Teboulle, "A fast
iterative shrinkage-thresholding algorithm", 2009). `learn` finds the mean, M and v in turn with the
values beyond the limits, as expectation maximisation does, with ever less noise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

NOISE = (0.2, 0.004)  # of the variance of values, from the first round of learning to the last
ROUNDS = 40  # of learning
STEPS = 5  # of descent in one of them
AHEAD = 0.9  # share of a round's change that the next one begins with: learns four times as fast
LONG = 20  # steps of descent where the basis is known
FAINT = 0.01  # of the noise: components of less variance than this are left out
CLIPPED = 0.05  # share of elements at a limit from which on there seems to be a rectifier
MOST_CHANNELS = 1024  # learning takes time by their square


class Limits(NamedTuple):
    """The least and the largest value that tensors have."""

    low: float
    high: float

    def beyond(self, values: np.ndarray, told: np.ndarray) -> np.ndarray:
        """The values, where they lie at a limit those that are told, if beyond it."""
        low, high = self
        found = np.where(values <= low, np.minimum(told, low), values)
        return np.where(values >= high, np.maximum(told, high), found)

    def clipped(self, values: np.ndarray) -> bool:
        """Whether a rectifier seems to have made them: many are at a limit, and not all."""
        shares = [float((values <= self.low).mean()), float((values >= self.high).mean())]
        return bool(self.low < self.high) and max(shares) >= CLIPPED


class Components(NamedTuple):
    """What channels (C,) are mixed from, components of much first."""

    mean: np.ndarray  # (C, 1)
    mixture: np.ndarray  # (C, K), orthonormal columns
    variances: np.ndarray  # (K,)

    def of_more_than(self, variance: float) -> Components:
        kept = self.variances > variance
        return Components(self.mean, self.mixture[:, kept], self.variances[kept])


def completed(values: np.ndarray, known: Components, limits: Limits) -> np.ndarray:
    """Values (C, N), those at the limits as far beyond them as the others tell."""
    return _completed(values, values, known, limits, NOISE[-1] * float(values.var()), LONG)


def learn(values: np.ndarray, limits: Limits) -> Components:
    """All C components of examples (C, N) that are not constant, as they were before the limits.

    In float32, where squares of very large values would overflow: they are scaled meanwhile.
    """
    unit = np.float32(values.std(dtype=np.float64))
    limits = Limits(*(np.float32(limit) / unit for limit in limits))
    values = values.astype(np.float32) / unit
    whole = before = values
    for noise in np.geomspace(*NOISE, ROUNDS):
        now = _completed(values, whole, principal(whole), limits, noise, STEPS)
        whole = limits.beyond(values, now + np.float32(AHEAD) * (now - before))
        before = now
    mean, mixture, variances = principal(whole)
    # NumPy before 2.0 would have the product in float32.
    return Components(mean * unit, mixture, variances.astype(np.float64) * float(unit) ** 2)


def principal(values: np.ndarray) -> Components:
    """The principal components of values (C, N)."""
    mean = values.mean(1, keepdims=True)
    deviation = values - mean
    covariance = (deviation @ deviation.T).astype(np.float64) / values.shape[1]
    powers, vectors = np.linalg.eigh(covariance)
    kind = values.dtype
    return Components(mean, vectors[:, ::-1].astype(kind), powers[::-1].clip(0).astype(kind))


def _completed(
    values: np.ndarray,
    begin: np.ndarray,
    known: Components,
    limits: Limits,
    noise: float,
    steps: int,
) -> np.ndarray:
    """Values (C, N) with what the most likely components lead to beyond the limits; the search
    for them begins with those of `begin` (C, N)."""
    mean, mixture, variances = known.of_more_than(FAINT * noise)
    kind = values.dtype.type
    shrink = (variances / (variances + kind(noise)))[:, None]
    at_low, at_high, deviation = values <= limits.low, values >= limits.high, mean - values
    found = ahead = mixture.T @ (begin - mean)
    pace = 1.0
    for _ in range(steps):
        residual = mixture @ ahead
        residual += deviation
        np.maximum(residual, 0, out=residual, where=at_low)
        np.minimum(residual, 0, out=residual, where=at_high)
        nearer = (ahead - mixture.T @ residual) * shrink
        faster = (1 + math.sqrt(1 + 4 * pace * pace)) / 2
        ahead = nearer + kind((pace - 1) / faster) * (nearer - found)
        found, pace = nearer, faster
    return limits.beyond(values, mixture @ found + mean)
