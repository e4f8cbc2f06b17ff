"""What a payload of planes says of itself before its flags, and how an encoder chooses it.

A `Plan` holds small integers only: a decoder reads them and needs nothing else of this module but
their meaning. Everything below "choices" is the encoder's business and may change.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np

CONTEXTS = 32  # of the first flag of a magnitude
LEVEL = 128  # one level in units of a prediction
TOP = CONTEXTS**2 // 2 - 1  # predictions are clamped to 0..TOP
SEEN = 15  # magnitudes as neighbours see them are clamped to this
ESCAPE = 14  # flags of a magnitude before the rest is sent otherwise
GROUPS = 4

# name: (nibbles, factor). Their bounds keep every sum within 16 bits.
WEIGHTS = {
    "constant": (3, 1),
    "mean": (2, 1),
    "beside": (2, 1),
    "corner": (2, 1),
    "like": (2, 2),
    "self": (2, 2),
}
# The same for the sum that predicts the side: its constant, and the plane's own lean.
SIDE_WEIGHTS = {"constant": 2, "lean": 2, "beside": 2, "corner": 2}
LEAN = 3  # offsets as neighbours see them for the side are clamped to +-LEAN
LEANS = 7  # leans of planes are -LEANS..LEANS
SIDES = 20  # contexts of a side


@dataclass(frozen=True)
class Spans:
    """What the coarser layer leaves open, for each of its levels: (N,) int32 arrays.

    A level below coarse level n is 0..below[n] less or 0..above[n] more than the centre; a
    negative number rules that side out.
    """

    below: np.ndarray
    above: np.ndarray

    @property
    def lowest(self) -> np.ndarray:
        """The least magnitude."""
        return np.maximum(np.maximum(-self.below, -self.above), 0)

    @property
    def highest(self) -> np.ndarray:
        return np.maximum(self.below, self.above)

    @classmethod
    def of(cls, first: np.ndarray, centre: int) -> Spans:
        """Of coarse levels that are made of the levels first[n] up to first[n + 1]."""
        return cls(
            (centre - first[:-1]).astype(np.int32), (first[1:] - 1 - centre).astype(np.int32)
        )


FIRST, LATER, SIDE = range(3)  # kinds of flags, in the order of their codes


@dataclass(frozen=True)
class Contexts:
    """How many contexts each kind of flag has."""

    first: int  # of whether a magnitude is more than the lowest
    later: int  # of each further flag of it
    chain: int  # so many of which there are at most
    sides: int

    @property
    def count(self) -> int:
        return self.first + self.later * self.chain + self.sides

    def split(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Views (first,), (later, chain) and (sides,) of one value for each context."""
        cut = self.count - self.sides
        first, later, sides = values[: self.first], values[self.first : cut], values[cut:]
        return first, later.reshape(self.chain, self.later).T, sides


@dataclass
class Plan:
    """The side information of a payload; formats/tensor.md section 4 has it in file order."""

    groups: int = 1  # 1, or GROUPS with a plane of an earlier group for each plane of a later one
    coarse: int = 0  # contexts are merged in runs of 2^coarse
    shift: int = 0  # low bits of a magnitude that are sent as they are
    most: int = 0  # flags of a magnitude at most; with ESCAPE there may be more
    centres: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))  # one, or P
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (P,)
    leans: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # of active planes
    like: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # of active planes
    weights: dict[tuple[bool, int], dict[str, int]] = field(default_factory=dict)
    side_weights: dict[int, dict[str, int]] = field(default_factory=dict)
    codes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))

    @property
    def active(self) -> np.ndarray:
        """Planes that hold anything but zeros."""
        return np.flatnonzero(self.classes)

    def cuts(self) -> list[int]:
        """Where groups of active planes begin, and where the last one ends."""
        return [len(self.active) * g // self.groups for g in range(self.groups + 1)]

    def contexts(self, refined: bool, sided: bool) -> Contexts:
        first = max((2 if refined else 1) * CONTEXTS >> self.coarse, 1)
        return Contexts(first, max(first >> 2, 1), max(self.most - 1, 0), SIDES * sided)


def terms(round_: int, later: bool, refined: bool) -> tuple[str, ...]:
    """The weights that a round has: neighbours count once anything may be known of them."""
    names = ["constant", "mean"]
    if refined or round_ >= 2:
        names.append("beside")
    if refined or round_ in (1, 3):
        names.append("corner")
    if later:
        names.append("like")
    if refined:
        names.append("self")
    return tuple(names)


def nibbles_for(count: int) -> int:
    """Groups of four bits that a number below `count` takes."""
    return max(-(-(count - 1).bit_length() // 4), 1)


def side_terms(round_: int, refined: bool) -> tuple[str, ...]:
    """The weights of the sum that predicts a side."""
    return (
        "constant",
        "lean",
        *(name for name in terms(round_, False, refined)[2:4] if name != "self"),
    )


# -- choices ---------------------------------------------------------------------------------

FITTED = 3000  # elements of a round that its weights are fitted to
COMPARED = 100  # positions at which planes are compared with each other
GOLDEN = (math.sqrt(5) - 1) / 2
MODEST = 6  # mean magnitude above which low bits are sent as they are


def spread(size: int, count: int) -> np.ndarray:
    """Places below `size`, `count` of them at most, evenly spread.

    A stride would keep step with rows or planes, and see the same few of them only; multiples of
    the golden ratio keep step with nothing.
    """
    if size <= count:
        return np.arange(size)
    return (np.arange(count) * GOLDEN % 1 * size).astype(np.int64)


def plan(levels: np.ndarray, count: int, first, parents) -> tuple[Plan, np.ndarray, np.ndarray]:
    """The plan without what needs the walk; offsets from the centres, magnitudes above the least.

    levels (P, H, W); first and parents are those of `planes.encode`. The two arrays are one if
    no offset is negative.
    """
    made = Plan()
    if parents is None:
        made.centres = _centres(levels, count)
        offsets = _offsets(levels, made.centres, count)
        rests = np.abs(offsets) if made.centres.any() else offsets
    else:
        centre = int(np.bincount(levels.ravel(), minlength=count).argmax())
        made.centres = np.array([centre])
        offsets = _offsets(levels, made.centres, count)
        rests = np.abs(offsets) - Spans.of(first, centre).lowest.astype(offsets.dtype)[parents]
    flat = rests.reshape(len(rests), -1)
    means, tops = flat.mean(1, dtype=np.float32), flat.max(1)
    while means.mean() / (1 << made.shift) > MODEST and made.shift < 15:
        made.shift += 1
    classes = np.rint(np.sqrt(32 * means / (1 << made.shift)))
    made.classes = np.where(tops > 0, np.clip(classes, 1, 15), 0).astype(np.int64)
    made.most = min(int(tops.max()) >> made.shift, ESCAPE)
    elements = len(made.active) * flat.shape[1]
    made.coarse = int(np.clip((17 - elements.bit_length()) // 2, 0, 5))
    if len(made.active) >= 16 and flat.shape[1] >= 256:
        made.groups = GROUPS
    return made, offsets, rests


def _offsets(levels: np.ndarray, centres: np.ndarray, count: int) -> np.ndarray:
    if not centres.any():
        return levels
    kind = np.int16 if count <= 2**14 else np.int32
    return levels.astype(kind) - centres.astype(kind)[:, None, None]


def _centres(levels: np.ndarray, count: int) -> np.ndarray:
    """One centre for all planes, or one for each: what makes magnitudes and sides cheapest.

    Rectified values are best counted from 0, others from the level that is nearest to their mean.
    """
    flat = levels.reshape(len(levels), -1)
    some = flat[:, spread(flat.shape[1], COMPARED)].astype(np.float32)
    own = np.rint(some.mean(1))
    if not own.any():
        return np.zeros(1, np.int64)
    share = flat.shape[1] / some.shape[1]
    common = np.full(len(flat), np.rint(some.mean()))
    base = np.zeros(len(flat))
    costs = [share * _bits(some, centres, count) for centres in (base, common, own)]
    if costs[1].sum() < costs[0].sum():
        base, costs[0] = common, costs[1]
    saved = np.maximum(costs[0] - costs[2], 0)
    if saved.sum() > 8 * len(flat):  # a number for each plane has to be paid
        return np.where(saved > 0, own, base).astype(np.int64)
    return base[:1].astype(np.int64)


def _bits(some: np.ndarray, centres: np.ndarray, count: int) -> np.ndarray:
    """(P,) about what levels (P, n) cost: geometric magnitudes, and their sides."""
    offsets = some - centres[:, None].astype(np.float32)
    bits = some.shape[1] * _geometric_bits(np.abs(offsets).mean(1))
    up, down = (offsets > 0).sum(1), (offsets < 0).sum(1)
    sided = np.maximum(up + down, 1)
    sides = -up * np.log2(np.maximum(up, 1) / sided) - down * np.log2(np.maximum(down, 1) / sided)
    return bits + np.where((centres > 0) & (centres < count - 1), sides, 0)


def _geometric_bits(mean):
    """Bits of a number that is geometrically distributed with this mean; arrays as well."""
    mean = np.maximum(mean, 1e-9)
    return (mean + 1) * np.log2(mean + 1) - mean * np.log2(mean)


def choose_like(made: Plan, rests: np.ndarray) -> None:
    """For each plane of a later group the plane of an earlier one with the best correlation.

    rests (active planes, H, W): magnitudes.
    """
    flat = rests.reshape(len(rests), -1)
    some = flat[:, spread(flat.shape[1], COMPARED)]
    sample = np.minimum(some.T >> made.shift, SEEN).astype(np.float32)
    sample -= sample.mean(0)
    sample /= np.sqrt((sample**2).sum(0)) + 1e-6
    cuts = made.cuts()
    made.like = np.zeros(len(made.active), np.int64)
    for begin, end in itertools.pairwise(cuts[1:]):
        alike = sample[:, begin:end].T @ sample[:, :begin]
        made.like[begin:end] = alike.argmax(1)


def fit(
    target: np.ndarray, shift: int, means: np.ndarray, known: dict[str, np.ndarray]
) -> dict[str, int]:
    """Integer weights whose sum comes nearest to LEVEL times the target (h, w, p) >> shift.

    means (p,) and known, arrays (h, w, p), are what the weights multiply.
    """
    at = spread(target.size, FITTED)
    wanted = LEVEL * np.minimum(target.ravel()[at] >> shift, SEEN).astype(np.float64)
    columns = {"constant": np.ones(len(at)), "mean": means[at % len(means)] / 64}
    columns |= {name: values.ravel()[at].astype(np.float64) for name, values in known.items()}
    rows = np.stack([column * WEIGHTS[name][1] for name, column in columns.items()], 1)
    square = rows.T @ rows
    square += np.diag(1e-4 * square.diagonal() + 1e-6)  # columns may depend on each other
    reaches = [(1 << 4 * WEIGHTS[name][0] - 1) - 1 for name in columns]
    return _rounded(columns, np.linalg.solve(square, rows.T @ wanted), reaches)


def _rounded(names, weights: np.ndarray, reaches: list[int]) -> dict[str, int]:
    whole = np.clip(np.rint(weights), -np.array(reaches), reaches).astype(int)
    return dict(zip(names, whole.tolist(), strict=True))


def leans(offsets: list[np.ndarray]) -> np.ndarray:
    """(planes,) -LEANS..LEANS: how far each plane leans up or down, of its parts (h, w, planes)."""
    up = sum((part > 0).sum((0, 1)) for part in offsets)
    down = sum((part < 0).sum((0, 1)) for part in offsets)
    return np.rint(LEANS * (up - down) / np.maximum(up + down, 1)).astype(np.int64)


def fit_sides(target: np.ndarray, lean: np.ndarray, known: dict[str, np.ndarray]) -> dict[str, int]:
    """Integer weights that predict 128 times the sign of the target (h, w, p) where it has one."""
    flat = target.ravel()
    at = np.flatnonzero(flat)
    at = at[spread(len(at), FITTED)]
    wanted = 128.0 * np.sign(flat[at])
    columns = {"constant": np.ones(len(at)), "lean": lean[at % len(lean)].astype(np.float64)}
    columns |= {name: values.ravel()[at].astype(np.float64) for name, values in known.items()}
    rows = np.stack(list(columns.values()), 1)
    square = rows.T @ rows
    square += np.diag(1e-4 * square.diagonal() + 1e-2)
    return _rounded(columns, np.linalg.solve(square, rows.T @ wanted), [127] * len(columns))
