"""Transform coefficients of a group of planes <-> one payload, with probabilities that adapt.

Coefficients of one frequency are a band. First come those of the means of blocks, then those of the
blocks, from low frequencies to high, each in four groups of planes. The context of a coefficient
is how large it is expected to be: a weighted sum of logarithms of what lies around it in lower
bands, of its plane's mean, and of what the other planes have at its place. Each context counts the
flags that it has met, and its counts give the probability for the next round, so that a payload
has nothing but flags. `formats/tensor.md` section 8 is the specification. Encoder and decoder drive
the same `Walk`, so they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sccodec.entropy.flags import (
    CODES,
    EVEN,
    PROBABILITY,
    UNIT,
    Arranged,
    Chains,
    Grouping,
    Reader,
    Writer,
    grouped,
    width_of,
)
from sccodec.errors import Damaged

GROUPS = 4
SEEN = 15  # larger magnitudes look the same
ONE = 64  # of what is seen: a magnitude of 1
ESCAPE = 14  # flags of a magnitude at most
LARGEST = ESCAPE + (1 << 16) - 2
CONTEXTS, LATER = 48, 16  # of the first flag, and of each later one
SHARED = CONTEXTS // LATER  # contexts of the first flag that are one of the others
TABLES = 4  # later flags have contexts of their own: the second, the third, all others
MET = 32  # that a flag adds to the counts of its context
SHIFT = 9  # of the weighted sum
# Of the means of blocks, and of blocks: constant, lower, near, lately, common, mean, here, near
# here, band. Fitted to bottlenecks of EfficientNet-Lite0; other features differ by few percent.
WEIGHTS = ((14107, 16, 0, 45, -41, -28, 17, 0, 17), (5679, 16, 35, 14, -9, 19, 67, -12, -11))
START = 192  # what each context has met at the start, and how much of it set flags
ONES = (
    (1,) * 15
    + (2, 2, 3, 4, 6, 8, 11, 15, 20, 26, 35, 46, 58, 72, 88, 104, 120, 134, 146, 157, 166, 172)
    + (177, 181, 184, 186, 188, 189, 190, 190, 191, 191, 191)
    + (2, 2, 2, 2, 2, 2, 2, 3, 6, 18, 45, 95, 142, 169, 182, 182)
    + (38, 38, 38, 38, 38, 38, 38, 35, 25, 26, 50, 94, 139, 172, 182, 182)
    + (67, 67, 67, 67, 67, 67, 67, 70, 70, 70, 71, 101, 130, 153, 164, 164)
)
KINDS = ESCAPE + 1  # of magnitudes, as their flags go
# (TABLES, KINDS): how many flags of each table a magnitude has that are set, and that are not.
SET, UNSET = np.zeros((2, TABLES, KINDS), int)
for _size in range(KINDS):
    for _flag in range(_size):
        SET[min(_flag, TABLES - 1), _size] += 1
    if _size < ESCAPE:
        UNSET[min(_size, TABLES - 1), _size] = 1


def _logarithms() -> np.ndarray:
    """(961,) 16 log2(n + 2), linear between powers of two, rounded down."""
    n = np.arange(SEEN * ONE + 1) + 2
    power = np.frexp(n)[1] - 1
    return ((16 * n >> power) + 16 * power - 16).astype(np.int32)


LOG = _logarithms()


def band_order(rows: int, columns: int) -> list[tuple[int, int]]:
    """Frequencies (u, v), low ones first."""
    every = [(u, v) for u in range(rows) for v in range(columns)]
    return sorted(every, key=lambda f: (2 * max(f) + min(f), f[0]))


def band_of(blocks: np.ndarray, place: tuple[int, tuple[int, int]]) -> np.ndarray:
    """(P, h, w) view of a band of blocks (P, h, R, w, C): (0, frequency) of their means, (1, ...)
    of theirs."""
    part, (u, v) = place
    return blocks[:, :, u, :, v] if part else blocks[:, u : u + 1, 0, v : v + 1, 0]


def near(table: np.ndarray) -> np.ndarray:
    """(P, h, w) means over eight neighbours, of which those beside count twice, 0 beyond edges."""
    planes, height, width = table.shape
    wide = np.zeros((planes, height + 2, width + 2), table.dtype)
    wide[:, 1:-1, 1:-1] = table
    rows = wide[:, :-2] + wide[:, 2:]
    total = rows[:, :, :-2] + rows[:, :, 2:]
    total += 2 * rows[:, :, 1:-1]
    total += 2 * (wide[:, 1:-1, :-2] + wide[:, 1:-1, 2:])
    return total // 12


class Counts:
    """How many flags each context has met, and how many of them were set."""

    def __init__(self):
        self.ones, self.all = np.array(ONES), np.full(len(ONES), START)

    def codes(self) -> np.ndarray:
        """(contexts,) uint8: probabilities as `flags.py` numbers them."""
        zeros = self.all - self.ones
        rarer = UNIT * np.minimum(self.ones, zeros) // self.all
        distance = np.minimum(np.maximum(np.sqrt(2 * rarer).astype(np.int64), 1), EVEN)
        return np.where(self.ones <= zeros, distance, CODES - distance).astype(np.uint8)

    def meet(self, context: np.ndarray, magnitude: np.ndarray) -> None:
        """The flags of magnitudes (n,) whose first flags have these contexts, (n,) uint8."""
        kind = context.astype(np.intp) * KINDS + np.minimum(magnitude, ESCAPE)
        found = np.bincount(kind, minlength=CONTEXTS * KINDS).reshape(CONTEXTS, KINDS)
        shared = found.reshape(LATER, SHARED, KINDS).sum(1)
        for counts, flags in ((self.ones, SET), (self.all, SET + UNSET)):
            counts[:CONTEXTS] += MET * (found @ flags[0])
            counts[CONTEXTS:] += MET * (flags[1:] @ shared.T).ravel()


def of_magnitudes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (CONTEXTS,) of first flags, and (LATER, ESCAPE - 1) of the chains of all further."""
    tables = codes[CONTEXTS:].reshape(TABLES - 1, LATER)
    return codes[:CONTEXTS], tables[np.minimum(np.arange(ESCAPE - 1), TABLES - 2)].T


class Walk:
    """One tile, band by band; `io` gives the coefficients of each round."""

    def __init__(self, shape: tuple[int, int, int, int, int]):
        """shape (P, h, R, w, C): planes of h x w blocks of R x C coefficients."""
        self.shape, self.counts = shape, Counts()

    def _bands(self, table: np.ndarray) -> Iterator[tuple[int, tuple[int, int], np.ndarray]]:
        """(0 for the means of blocks or 1, frequency, (P, h, w) view) of each band in order."""
        blocks = table.reshape(self.shape)
        _, h, rows, w, columns = self.shape
        places = [(0, frequency) for frequency in band_order(h, w)]
        places += [(1, frequency) for frequency in band_order(rows, columns)[1:]]
        for place in places:
            yield *place, band_of(blocks, place)

    def run(self, io) -> np.ndarray:
        """Coefficients (P, h R, w C) int32."""
        planes, h, rows, w, columns = self.shape
        found = np.zeros((planes, h * rows, w * columns), np.int32)
        mean, known, level, lately = np.zeros(planes, np.int32), {}, None, None
        for part, frequency, band in self._bands(found):
            if part != level:
                known, level, lately = {}, part, np.zeros(band.shape, np.int32)
                first = True
            lower = _lower(known, *frequency, mean, band.shape)
            here = self._shared(part, lower, lately, mean)
            self._band(io, (part, frequency), *here, band)
            now = ONE * np.minimum(np.abs(band), SEEN)
            known[frequency] = now
            lately = now if first else lately + (now - lately >> 2)
            average = now.sum((1, 2), dtype=np.int32) // (band.shape[1] * band.shape[2])
            mean = average if first and part == 0 else mean + (average - mean >> 3)
            first = False
        return found

    def _shared(self, part: int, lower, lately, mean) -> tuple[np.ndarray, np.ndarray]:
        """(P, h, w) the part of the weighted sums that no group changes, and (1, h, w) what all
        planes together have at each place."""
        weights = WEIGHTS[part]
        common = (lower + lately).sum(0, keepdims=True, dtype=_sums(len(lower)))
        common = (common // (2 * len(lower))).astype(np.int32)
        total = weights[1] * LOG[lower]
        total += weights[2] * LOG[near(lower)]
        total += weights[3] * LOG[lately]
        total += weights[0] + weights[4] * LOG[common]
        total += (weights[5] * LOG[mean])[:, None, None]
        return total, common

    def _band(self, io, place, shared: np.ndarray, common: np.ndarray, band: np.ndarray) -> None:
        """Fills a band (P, h, w), a group of planes after the other."""
        weights = WEIGHTS[place[0]]
        total, count = np.zeros(common.shape, _sums(len(band))), 0
        for group in range(min(GROUPS, len(band))):
            which = slice(group, None, GROUPS)
            here = (ONE * total // count).astype(np.int32) if count else common
            middle = int(here.sum(dtype=np.int64)) // here.size
            sums = weights[6] * LOG[here] + weights[7] * LOG[near(here)] + weights[8] * LOG[middle]
            context = np.clip(shared[which] + sums >> SHIFT, 0, CONTEXTS - 1)
            context = context.astype(np.uint8).ravel()
            values = io.round(self.counts.codes(), place, which, context)
            magnitude = np.abs(values)
            self.counts.meet(context, magnitude)
            part = band[which]
            part[:] = values.reshape(part.shape)
            total += np.minimum(np.abs(part), SEEN).sum(0, dtype=total.dtype, keepdims=True)
            count += len(part)


def _sums(planes: int) -> type:
    """What holds the sum of two numbers of each of so many planes."""
    return np.int32 if 2 * ONE * SEEN * planes < 2**31 else np.int64


def _lower(known: dict, u: int, v: int, mean: np.ndarray, shape) -> np.ndarray:
    """(P, h, w) what the next lower bands have at each place; of the first, the planes' means."""
    if u and v:
        places = (u - 1, v), (u, v - 1), (u - 1, v - 1)
    else:
        places = ((u - 1, v), (u - 2, v)) if u else ((u, v - 1), (u, v - 2))
    found = [known[place] for place in places if place in known]
    if not found:
        return np.broadcast_to(mean[:, None, None], shape)
    return sum(found) // len(found)


# -- encode ----------------------------------------------------------------------------------

_COST = -np.log2(np.stack([UNIT - PROBABILITY, PROBABILITY]) / UNIT)  # bits of a flag, [set, code]


def _costs(codes: np.ndarray) -> np.ndarray:
    """(contexts, 15) bits of magnitudes below ESCAPE and of ESCAPE itself, with their signs."""
    off, on = _COST[:, codes]
    shape = TABLES - 1, LATER
    later = SET[1:].T @ on[CONTEXTS:].reshape(shape) + UNSET[1:].T @ off[CONTEXTS:].reshape(shape)
    bits = np.repeat(later.T, SHARED, 0)
    bits += on[:CONTEXTS, None] + 1
    bits[:, 0] = off[:CONTEXTS]
    bits[:, ESCAPE] += 1
    return bits


def _bits_of(costs: np.ndarray, context: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """(n,) bits of magnitudes in contexts, with their signs."""
    bits = costs[context, np.minimum(magnitude, ESCAPE)]
    long = np.flatnonzero(magnitude > ESCAPE)
    bits[long] += 2 * width_of(magnitude[long] - ESCAPE + 1)
    return bits


class _Choosing:
    """Gives a walk the coefficients that cost the least for what they leave of the values."""

    def __init__(self, shape, values: np.ndarray, lagrangian: float):
        self._blocks, self._lagrangian = values.reshape(shape), lagrangian
        self.bits = 0.0

    def round(self, codes, place, which: slice, context: np.ndarray) -> np.ndarray:
        values = band_of(self._blocks, place)[which].ravel()
        costs, size = _costs(codes), np.abs(values)
        some = np.flatnonzero(size >= 0.5)
        size, known = size[some], context[some]
        high = np.minimum(np.rint(size), LARGEST).astype(np.int32)
        best, least = np.zeros(len(some), np.int32), size**2 + self._lagrangian * costs[known, 0]
        for magnitude in (np.maximum(high - 1, 0), high):
            gap = size - magnitude
            cost = gap * gap + self._lagrangian * _bits_of(costs, known, magnitude)
            better = cost < least
            best[better], least[better] = magnitude[better], cost[better]
        found = np.zeros(len(values), np.int32)
        found[some] = best
        self.bits += float(_bits_of(costs, context, found).sum())
        return np.where(values < 0, -found, found)


class _Known:
    """Gives a walk coefficients that are known, and writes their flags."""

    def __init__(self, shape, numbers: np.ndarray, group: Grouping):
        self._blocks, self._group = numbers.reshape(shape), group
        self._parts: list = []

    def round(self, codes, place, which: slice, context: np.ndarray) -> np.ndarray:
        values = band_of(self._blocks, place)[which].ravel()
        magnitude = np.abs(values)
        first, later = of_magnitudes(codes)
        set_ = magnitude > 0
        flags = Arranged(context, set_.view(np.uint8), CONTEXTS, self._group)
        self._parts.append((Writer.flags, flags, first))
        more = np.minimum(magnitude[set_], ESCAPE).astype(np.uint8) - 1
        chains = Chains(context[set_] // SHARED, ESCAPE - 1, more, self._group)
        self._parts.append((Writer.chains, chains, later))
        self._parts.append((Writer.long, magnitude[magnitude >= ESCAPE] - (ESCAPE - 1)))
        self._parts.append((Writer.raw, (values[set_] < 0).view(np.uint8)))
        return values

    def write(self, writer: Writer) -> None:
        for put, *given in self._parts:
            put(writer, *given)


@dataclass(frozen=True)
class Chosen:
    """Coefficients (P, h R, w C) int32, and about how many bits they take."""

    numbers: np.ndarray
    bits: float


def choose(shape, values: np.ndarray, lagrangian: float) -> Chosen:
    """Coefficients in steps, float64 (P, h R, w C), as the integers that are coded for them.

    shape (P, h, R, w, C). lagrangian: squared steps that one bit is worth.
    """
    io = _Choosing(shape, values, lagrangian)
    return Chosen(Walk(shape).run(io), io.bits)


def encode(shape, numbers: np.ndarray, *, plain: bool = False, group: Grouping = grouped) -> bytes:
    """Coefficients (P, h R, w C), integers up to LARGEST -> payload bytes.

    group: how contexts are put in order.
    """
    if not numbers.size:
        return b""
    io = _Known(shape, numbers, group)
    Walk(shape).run(io)
    writer = Writer(plain)
    io.write(writer)
    return writer.payload()


# -- decode ----------------------------------------------------------------------------------


class _Read:
    """Gives a walk the coefficients of a payload."""

    def __init__(self, reader: Reader):
        self._reader = reader

    def round(self, codes, _place, _which, context: np.ndarray) -> np.ndarray:
        first, later = of_magnitudes(codes)
        magnitude = self._reader.flags(context, first).astype(np.int32)
        some = np.flatnonzero(magnitude)
        magnitude[some] += self._reader.chains(context[some] // SHARED, ESCAPE - 1, later)
        long = some[magnitude[some] == ESCAPE]
        magnitude[long] += self._reader.long(len(long)) - 1
        if (magnitude[long] > LARGEST).any():
            raise Damaged("a coefficient is out of range")
        down = self._reader.raw(len(some)).view(bool)
        magnitude[some[down]] *= -1
        return magnitude


def decode(shape, payload: bytes, *, plain: bool = False, group: Grouping = grouped) -> np.ndarray:
    """What `encode` was given, int32. Raises Damaged if the payload cannot be of such a tile."""
    planes, h, rows, w, columns = shape
    if 0 in shape:
        if payload:
            raise Damaged("a payload for a tile that needs none")
        return np.zeros((planes, h * rows, w * columns), np.int32)
    reader = Reader(payload, plain, group)
    found = Walk(shape).run(_Read(reader))
    reader.finish()
    return found
