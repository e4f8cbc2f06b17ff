"""Level numbers of a group of planes <-> one payload, with contexts from what is known already.

A tile is P planes of H x W levels. Each level is a magnitude (its distance from a centre level)
and a side. Planes are coded in one or four groups, each in the rounds of `lattice.py`, so that a
round's contexts come from neighbours in the same plane, from one plane of an earlier group that is
like it, from the plane's own mean and, in a finer layer, from the coarser one. All of them enter
one sum with small integer weights, which predicts the magnitude; its square root picks the
context, and a second such sum that of the side. `formats/tensor.md` section 4 is the
specification. Encoder and decoder drive the same `Walk`, so they cannot drift apart.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from sccodec.entropy import planning
from sccodec.entropy.flags import (
    CODES,
    Arranged,
    Chains,
    Grouping,
    Reader,
    Writer,
    grouped,
    nearest_code,
)
from sccodec.entropy.lattice import ROUNDS, Seen, merge, size, split
from sccodec.entropy.planning import (
    CONTEXTS,
    ESCAPE,
    FIRST,
    GROUPS,
    LATER,
    LEAN,
    LEANS,
    SEEN,
    SIDE,
    SIDES,
    TOP,
    WEIGHTS,
    Plan,
    Spans,
    nibbles_for,
    side_terms,
    terms,
)
from sccodec.errors import Damaged

# -- the walk --------------------------------------------------------------------------------


class Walk:
    """One tile, round by round; `io` gives the flags, from a payload or from known levels."""

    def __init__(self, plan: Plan, shape, count: int, first, parents):
        """shape (P, H, W), count levels; first and parents (P, H, W) of the coarser layer."""
        self.plan, self.shape, self.count = plan, shape, count
        self.refined = parents is not None
        self.first, self.all_parents = first, parents
        active = plan.active
        self.sizes = [size(n, *shape[1:]) for n in range(ROUNDS)]
        self.wide = np.uint8 if count <= 256 else np.int32
        if self.refined:
            centre = int(plan.centres[0])
            self.spans = Spans.of(first, centre)
            parents = parents if len(active) == len(parents) else parents[active]
            self.parents = split(parents)
        else:
            centres = plan.centres if len(plan.centres) == 1 else plan.centres[active]
            below = centres.astype(np.int32)
            self.spans = Spans(below, np.int32(count - 1) - below)
        upward = self.spans.below.max(initial=0) <= 0  # no offset is negative
        self.kind = self.wide if upward else np.int16 if count <= 2**14 else np.int32
        self.sided = bool((np.minimum(self.spans.below, self.spans.above) > 0).any())
        inside = (len(active), *shape[1:])
        self.seen = Seen(inside, np.uint8)
        self.leaning = Seen(inside if self.sided else (0, 0, 0), np.int8)
        if self.refined:
            self._see(parents)
        self.contexts = plan.contexts(self.refined, self.sided)
        mean = 4 * plan.classes[active] ** 2
        self.means = mean.astype(np.int64)

    def _see(self, parents: np.ndarray) -> None:
        """What the coarser layer tells of elements before they are decoded."""
        spans = self.spans
        self.seen.fill(self._as_seen(spans.lowest)[parents])
        if self.sided:
            lean = np.maximum(-spans.below, 0) - np.maximum(-spans.above, 0)
            self.leaning.fill(np.clip(lean, -LEAN, LEAN).astype(np.int8)[parents])

    def _as_seen(self, magnitude: np.ndarray) -> np.ndarray:
        if self.plan.shift:
            magnitude = magnitude >> self.plan.shift
        return np.minimum(magnitude, SEEN).astype(np.uint8)

    @property
    def level_nibbles(self) -> int:
        return nibbles_for(self.count)

    @property
    def plane_nibbles(self) -> int:
        return nibbles_for(len(self.plan.active))

    def weighted(self) -> list[tuple[bool, int]]:
        """(later group, round) of each set of weights, in file order."""
        rounds = [n for n, (h, w) in enumerate(self.sizes) if h * w]
        return [
            (later, n) for later in ((False, True)[: 1 + (self.plan.groups > 1)]) for n in rounds
        ]

    def side_weighted(self) -> list[tuple[int, str]]:
        """(round, name) of each weight for sides, in file order."""
        rounds = [n for later, n in self.weighted() if self.sided and not later]
        return [(n, name) for n in rounds for name in side_terms(n, self.refined)]

    def levels(self, offsets: list[np.ndarray]) -> np.ndarray:
        """(P, H, W): the levels that have these offsets from their centres."""
        plan, (planes, height, width) = self.plan, self.shape
        active = plan.active
        if not self.refined:
            levels = np.empty(self.shape, self.wide)
            centres = np.broadcast_to(plan.centres, planes)
            levels[:] = centres[:, None, None]
        else:
            still = np.where(self.spans.above < 0, self.first[1:] - 1, plan.centres[0])
            still = np.where(self.spans.below < 0, self.first[:-1], still)
            levels = still.astype(self.wide)[self.all_parents]
        if len(active):
            found = merge(offsets, (len(active), height, width))
            if plan.centres.any():
                found = found + np.broadcast_to(plan.centres, planes)[active, None, None]
            levels[active] = found
        return levels

    def run(self, io) -> list[np.ndarray]:
        """Offsets from the centre, (h, w, active planes) of each round."""
        plan, cuts = self.plan, self.plan.cuts()
        offsets = [np.zeros((*size, len(plan.active)), self.kind) for size in self.sizes]
        for group, (begin, end) in enumerate(pairwise(cuts)):
            planes = slice(begin, end)
            for round_, (h, w) in enumerate(self.sizes):
                if h * w * (end - begin) == 0:
                    continue
                context = self._contexts(io, round_, planes, group > 0)
                found = self._round(io, round_, planes, context)
                offsets[round_][:, :, planes] = found.reshape(h, w, end - begin)
        return offsets

    def _contexts(self, io, round_: int, planes: slice, later: bool) -> np.ndarray:
        """(n,) uint8: the context of the first flag of each element."""
        known: dict[str, np.ndarray] = {}
        for name in terms(round_, later, self.refined):
            if name in ("beside", "corner"):
                known[name] = self.seen.sums(round_, planes, name == "corner")
            elif name == "like":
                known[name] = np.take(self.seen.view(round_), self.plan.like[planes], axis=2)
            elif name == "self":
                known[name] = self.seen.view(round_)[:, :, planes]
        means = self.means[planes]
        weights = io.weights(round_, later, means, known, planes)
        shared = weights["constant"] + (weights["mean"] * means >> 6)
        h, w = self.sizes[round_]
        total = np.empty((h, w, len(means)), np.int16)
        total[:] = shared.astype(np.int16)
        for name, values in known.items():
            if weight := weights[name] * WEIGHTS[name][1]:
                total += np.multiply(values, np.int16(weight), dtype=np.int16)
        np.clip(total, 0, TOP, out=total)
        total += total
        context = np.sqrt(total.astype(np.float32)).astype(np.uint8)
        if self.refined:
            kind = (CONTEXTS * (self.spans.lowest > 0)).astype(np.uint8)
            context += kind[self.parents[round_][:, :, planes]]
        return context.ravel()

    def _of(self, values: np.ndarray, round_: int, planes: slice):
        """What a span says of each element of a round: a number, or (n,)."""
        if self.refined:
            return values[self.parents[round_][:, :, planes]].ravel()
        if (values == values[0]).all():
            return int(values[0])
        return np.tile(values[planes], self.sizes[round_][0] * self.sizes[round_][1])

    def _round(self, io, round_: int, planes: slice, context: np.ndarray) -> np.ndarray:
        """Offsets (n,) from the centre of the elements of a round."""
        shift = self.plan.shift
        io.begin(round_, planes)
        lowest = self._of(self.spans.lowest, round_, planes) if self.refined else 0
        highest = self._of(self.spans.highest, round_, planes)
        rest = self._rests(io, context, (highest - lowest) >> shift)
        magnitude = rest
        if shift:
            magnitude = (rest.astype(np.int32) << shift) + io.low(len(context))
        if self.refined:
            magnitude = magnitude + lowest
        if (magnitude > highest).any() or (magnitude < lowest).any():
            raise Damaged("a magnitude is out of range")
        h, w = self.sizes[round_]
        seen = self._as_seen(magnitude).reshape(h, w, -1)
        self.seen.view(round_)[:, :, planes] = seen
        return self._with_sides(io, round_, planes, magnitude)

    def _rests(self, io, context: np.ndarray, top) -> np.ndarray:
        """(n,) uint8 or int32: magnitudes above the lowest, without their low bits; 0..top."""
        coarse, most = self.plan.coarse, self.plan.most
        rest = np.zeros(len(context), self.wide)
        same = isinstance(top, int)
        live = slice(None) if same else np.flatnonzero(top)
        most = min(most, top) if same else most
        if not most:
            return rest
        if coarse:
            context = context >> coarse
        rest[live] = io.flags(context[live], live)
        live = np.flatnonzero(rest != 0)  # of booleans it takes a quarter of the time
        length = np.uint8(most - 1)
        if not same:
            live = live[top[live] > 1]
            length = np.minimum(top[live] - 1, length).astype(np.uint8)
        if most == 1 or not len(live):
            return rest
        more = io.chains(context.take(live) >> 2, length, live)
        rest[live] = more + np.uint8(1)
        if most == ESCAPE and (not same or top > ESCAPE):
            live = live[more == ESCAPE - 1]
            if not same:
                live = live[top[live] > ESCAPE]
            more = io.long(live) - 1
            if (more >= self.count - ESCAPE).any():
                raise Damaged("a magnitude is out of range")
            rest[live] += more.astype(rest.dtype)
        return rest

    def _with_sides(self, io, round_: int, planes: slice, magnitude: np.ndarray) -> np.ndarray:
        """Offsets (n,) of elements with these magnitudes."""
        above = self._of(self.spans.above, round_, planes)
        if not self.sided:
            return magnitude if self.kind == self.wide else _signed(magnitude, above)
        below = self._of(self.spans.below, round_, planes)
        offset = _signed(magnitude, above)
        open_ = np.flatnonzero((magnitude > 0) & (magnitude <= below) & (magnitude <= above))
        context = self._side_contexts(io, round_, planes)[open_]
        down = io.flags(context, open_, sides=True)
        offset[open_[down.astype(bool)]] *= -1
        h, w = self.sizes[round_]
        lean = np.clip(offset, -LEAN, LEAN).astype(np.int8)
        self.leaning.view(round_)[:, :, planes] = lean.reshape(h, w, -1)
        return offset

    def _side_contexts(self, io, round_: int, planes: slice) -> np.ndarray:
        """(n,) uint8"""
        known = {
            name: self.leaning.sums(round_, planes, name == "corner")
            for name in side_terms(round_, self.refined)[2:]
        }
        leans = self.plan.leans[planes]
        weights = io.side_weights(round_, leans, known, planes)
        total = np.empty((*self.sizes[round_], len(leans)), np.int16)
        total[:] = (weights["constant"] + weights["lean"] * leans + 160).astype(np.int16)
        for name, values in known.items():
            if weight := weights[name]:
                total += np.multiply(values, np.int16(weight), dtype=np.int16)
        total >>= 4
        return np.clip(total, 0, SIDES - 1).astype(np.uint8).ravel()


def _signed(magnitude: np.ndarray, above) -> np.ndarray:
    """Magnitudes with the sign of the only side that has room, up if both have."""
    offset = magnitude.astype(np.int32)
    return np.where(offset <= above, offset, -offset)


# -- encode ----------------------------------------------------------------------------------


class _Known:
    """Gives a walk the flags of levels that are known, and keeps them for the payload."""

    def __init__(self, walk: Walk, offsets: list[np.ndarray], rests: list[np.ndarray], group):
        self.plan, self._split, self._group = walk.plan, walk.contexts.split, group
        self._offsets, self._rests = offsets, rests
        self._parts: list[tuple] = []  # what puts it into a writer, and what it is given
        # Of each context the flags that are set, and all; and views of them by kind.
        self._sums = np.zeros((2, walk.contexts.count), np.int64)
        self._kinds = [self._split(sums) for sums in self._sums]

    def begin(self, round_: int, planes: slice) -> None:
        self._offset = self._offsets[round_][:, :, planes].ravel()
        self._whole = self._rests[round_][:, :, planes].ravel()
        self._rest = self._whole >> self.plan.shift if self.plan.shift else self._whole

    def weights(self, round_: int, later: bool, means, known, planes: slice) -> dict[str, int]:
        """Those of the plan; the first group that needs them has them fitted."""
        if (later, round_) not in self.plan.weights:
            target = self._rests[round_][:, :, planes]
            found = planning.fit(target, self.plan.shift, means, known)
            self.plan.weights[later, round_] = found
        return self.plan.weights[later, round_]

    def side_weights(self, round_: int, leans, known, planes: slice) -> dict[str, int]:
        if round_ not in self.plan.side_weights:
            target = self._offsets[round_][:, :, planes]
            self.plan.side_weights[round_] = planning.fit_sides(target, leans, known)
        return self.plan.side_weights[round_]

    def flags(self, context: np.ndarray, live, *, sides: bool = False) -> np.ndarray:
        wanted = (self._offset[live] < 0 if sides else self._rest[live] > 0).view(np.uint8)
        which = SIDE if sides else FIRST
        ones, count = (kinds[which] for kinds in self._kinds)
        arranged = Arranged(context, wanted, len(ones), self._group)
        self._parts.append((Writer.flags, arranged, which))
        ones += arranged.ones
        count += arranged.count
        return wanted

    def chains(self, context: np.ndarray, length, live: np.ndarray) -> np.ndarray:
        wanted = np.minimum(self._rest[live] - 1, length).astype(np.uint8)
        chains = Chains(context, length, wanted, self._group)
        self._parts.append((Writer.chains, chains, LATER))
        ones, count = (kinds[LATER] for kinds in self._kinds)
        found, of = chains.met(*ones.shape)
        ones += found
        count += of
        return wanted

    def long(self, live: np.ndarray) -> np.ndarray:
        values = self._rest[live].astype(np.int32) - (ESCAPE - 1)
        self._parts.append((Writer.long, values))
        return values

    def low(self, _count: int) -> np.ndarray:
        values = self._whole & ((1 << self.plan.shift) - 1)
        self._parts.append((Writer.bits, values, self.plan.shift))
        return values

    def write(self, writer: Writer) -> None:
        codes = self._split(self.plan.codes)
        for put, what, *more in self._parts:
            if isinstance(what, Arranged | Chains):
                more = [codes[more[0]]]
            put(writer, what, *more)

    def settle(self) -> None:
        """Chooses the probabilities, now that all flags are known."""
        self.plan.codes = nearest_code(*self._sums)


def encode(
    levels: np.ndarray,
    count: int,
    first: np.ndarray | None = None,
    parents: np.ndarray | None = None,
    *,
    plain: bool = False,
    group: Grouping = grouped,
) -> bytes:
    """Levels (P, H, W), integers of 0..count - 1 -> payload bytes.

    parents (P, H, W) are the levels of the coarser layer and first (N + 1,) says which levels
    each of its N levels is made of; without them this is the coarsest layer. group: how contexts
    are put in order.
    """
    if levels.size == 0 or count == 1:
        return b""
    plan, offsets, rests = planning.plan(levels, count, first, parents)
    active = plan.active
    if len(active) < len(levels):
        offsets, rests = offsets[active], rests[active]
    rest_parts = split(rests)
    offset_parts = rest_parts if offsets is rests else split(offsets)
    if plan.groups > 1:
        planning.choose_like(plan, rests)
    walk = Walk(plan, levels.shape, count, first, parents)
    if walk.sided:
        plan.leans = planning.leans(offset_parts)
    known = _Known(walk, offset_parts, rest_parts, group)
    walk.run(known)
    known.settle()
    writer = Writer(plain)
    for values, nibbles in _side(plan, walk):
        writer.numbers(values, nibbles)
    known.write(writer)
    return writer.payload()


def _side(plan: Plan, walk: Walk):
    """The numbers in front of a payload, and how many groups of four bits each of them has."""
    each = len(plan.centres) > 1
    yield [plan.groups > 1, plan.coarse, plan.shift, plan.most, each], 1
    yield plan.centres, walk.level_nibbles
    yield plan.classes, 1
    if not len(plan.active):
        return
    if walk.sided:
        yield plan.leans + LEANS, 1
    if plan.groups > 1:
        yield plan.like[plan.cuts()[1] :], walk.plane_nibbles
    for later, round_ in walk.weighted():
        fitted = plan.weights.get((later, round_), {})
        for name in terms(round_, later, walk.refined):
            half = 1 << 4 * WEIGHTS[name][0] - 1
            yield [fitted.get(name, 0) + half], WEIGHTS[name][0]
    for round_, name in walk.side_weighted():
        yield [plan.side_weights.get(round_, {}).get(name, 0) + 128], 2
    yield plan.codes, 2


# -- decode ----------------------------------------------------------------------------------


class _Read:
    """Gives a walk the flags of a payload."""

    def __init__(self, walk: Walk, reader: Reader):
        self.plan, self._reader = walk.plan, reader
        self._codes = walk.contexts.split(walk.plan.codes)

    def begin(self, round_: int, planes: slice) -> None:
        pass

    def weights(self, round_: int, later: bool, *_) -> dict[str, int]:
        return self.plan.weights[later, round_]

    def side_weights(self, round_: int, *_) -> dict[str, int]:
        return self.plan.side_weights[round_]

    def flags(self, context: np.ndarray, _live, *, sides: bool = False) -> np.ndarray:
        return self._reader.flags(context, self._codes[SIDE if sides else FIRST])

    def chains(self, context: np.ndarray, length, _live) -> np.ndarray:
        return self._reader.chains(context, length, self._codes[LATER])

    def long(self, live: np.ndarray) -> np.ndarray:
        return self._reader.long(len(live))

    def low(self, count: int) -> np.ndarray:
        return self._reader.bits(count, self.plan.shift)


def decode(
    payload: bytes,
    shape: tuple[int, int, int],
    count: int,
    first: np.ndarray | None = None,
    parents: np.ndarray | None = None,
    *,
    plain: bool = False,
    group: Grouping = grouped,
) -> np.ndarray:
    """What `encode` was given: levels (P, H, W), uint8 for up to 256 levels, else int32.

    Raises Damaged if the payload cannot be that of such a tile.
    """
    kind = np.uint8 if count <= 256 else np.int32
    if count == 1 or 0 in shape:
        if payload:
            raise Damaged("a payload for a tile that needs none")
        return np.zeros(shape, kind)
    reader = Reader(payload, plain, group)
    plan = _read_heads(reader, shape, count, parents is not None)
    walk = Walk(plan, shape, count, first, parents)
    offsets = []
    if len(plan.active):
        _read_rest(reader, plan, walk)
        offsets = walk.run(_Read(walk, reader))
    reader.finish()
    return walk.levels(offsets)


def _read_heads(reader: Reader, shape, count: int, refined: bool) -> Plan:
    plan = Plan()
    grouped, plan.coarse, plan.shift, plan.most, each = reader.numbers(5, 1).tolist()
    plan.groups = GROUPS if grouped else 1
    if grouped > 1 or plan.coarse > 5 or plan.most > ESCAPE or each > (0 if refined else 1):
        raise Damaged("the side information of a payload makes no sense")
    plan.centres = reader.numbers(shape[0] if each else 1, nibbles_for(count))
    plan.classes = reader.numbers(shape[0], 1)
    if plan.centres.max() >= count:
        raise Damaged(f"a centre of {plan.centres.max()} among {count} levels")
    return plan


def _read_rest(reader: Reader, plan: Plan, walk: Walk) -> None:
    cuts = plan.cuts()
    if walk.sided:
        plan.leans = reader.numbers(len(plan.active), 1) - LEANS
    plan.like = np.zeros(len(plan.active), np.int64)
    if plan.groups > 1:
        plan.like[cuts[1] :] = reader.numbers(cuts[-1] - cuts[1], walk.plane_nibbles)
        for begin, end in pairwise(cuts[1:]):
            if (plan.like[begin:end] >= max(begin, 1)).any():
                raise Damaged("a plane is like one that follows it")
    for later, round_ in walk.weighted():
        plan.weights[later, round_] = {
            name: int(reader.numbers(1, nibbles)[0]) - (1 << 4 * nibbles - 1)
            for name in terms(round_, later, walk.refined)
            for nibbles in [WEIGHTS[name][0]]
        }
    for round_, name in walk.side_weighted():
        weight = int(reader.numbers(1, 2)[0]) - 128
        plan.side_weights.setdefault(round_, {})[name] = weight
    codes = reader.numbers(walk.contexts.count, 2)
    if codes.max() >= CODES:
        raise Damaged("a probability that does not exist")
    plan.codes = codes.astype(np.uint8)
