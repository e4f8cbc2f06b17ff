"""Level numbers <-> one payload as the papers on feature tensors code them.

Truncated unary: level n is n ones and a zero, and no zero behind the last level. Each place of a
codeword has one adaptive binary context, and a binary arithmetic coder writes the bins, element by
element (Choi, Cohen and Bajić, ICME 2020; Cohen, Choi and Bajić, IEEE OJCAS 2021). Plain Python, a
few hundred thousand elements a second: this is the reference that `planes.py` is compared with.
`formats/tensor.md` section 5 is the specification.
"""

from __future__ import annotations

import numpy as np

from sccodec.errors import Damaged

BITS = 16  # of a probability
HALF = 1 << BITS - 1
QUICK, SLOW = 2, 7  # a context's first step is 2^-QUICK of the way, its last ones 2^-SLOW
TOP = 1 << 24
WIDTH = (1 << 32) - 1
MOST_BINS = 255  # contexts; later places of a codeword share the last one


class _Contexts:
    """Adaptive probabilities of a one, and how often each has been met."""

    def __init__(self, bins: int):
        self.ones = [HALF] * bins
        self.rate = [QUICK] * bins
        self.left = [2] * bins  # bins until the next slower rate

    def update(self, n: int, bit: int) -> None:
        rate = self.rate[n]
        if bit:
            self.ones[n] += (1 << BITS) - self.ones[n] >> rate
        else:
            self.ones[n] -= self.ones[n] >> rate
        if rate < SLOW:
            self.left[n] -= 1
            if not self.left[n]:
                self.rate[n] = rate + 1
                self.left[n] = 1 << rate + 1


def _bound(range_: int, ones: int) -> int:
    """The part of a range that stands for a one; neither part is empty."""
    return min(max((range_ >> BITS) * ones, 1 << 4), range_ - (1 << 4))


def _counts(count: int, first, parents) -> tuple[list[int] | None, np.ndarray | None]:
    """Children of each coarser level, and the coarser levels in C order."""
    if parents is None:
        return None, None
    return np.diff(first).tolist(), parents.ravel()


def encode(levels: np.ndarray, count: int, first=None, parents=None, *, group=None) -> bytes:
    """Levels (P, H, W), integers of 0..count - 1 -> payload; see `planes.encode`.

    There is nothing to `group`: elements are coded as they come.
    """
    if levels.size == 0 or count == 1:
        return b""
    sizes, coarse = _counts(count, first, parents)
    symbols = levels.ravel() if sizes is None else levels.ravel() - first[:-1][coarse]
    lasts = np.full(levels.size, count - 1) if sizes is None else np.array(sizes)[coarse] - 1
    contexts = _Contexts(min(int(lasts.max(initial=0)) or 1, MOST_BINS))
    most = len(contexts.ones) - 1
    low, range_, out = 0, WIDTH, bytearray()
    ones, update = contexts.ones, contexts.update
    for symbol, last in zip(symbols.tolist(), lasts.tolist(), strict=True):
        for place in range(min(symbol + 1, last)):
            n = place if place < most else most
            bit = place < symbol
            bound = _bound(range_, ones[n])
            if bit:
                range_ = bound
            else:
                low += bound
                range_ -= bound
            update(n, bit)
            while range_ < TOP:
                if low >> 32:
                    _carry(out)
                out.append(low >> 24 & 255)
                low = (low & 0xFFFFFF) << 8
                range_ <<= 8
    return bytes(_flushed(out, low, range_))


def _carry(out: bytearray) -> None:
    at = len(out) - 1
    while out[at] == 255:
        out[at] = 0
        at -= 1
    out[at] += 1


def _flushed(out: bytearray, low: int, range_: int) -> bytearray:
    """The shortest end that lies within low..low + range - 1; zeros at the end are not sent."""
    for kept in range(5):
        unit = 1 << 8 * (4 - kept)
        value = -(-low // unit) * unit
        if value < low + range_:
            break
    if value >> 32:
        _carry(out)
    out += (value & WIDTH).to_bytes(4, "big")
    while out and out[-1] == 0:
        out.pop()
    return out


def decode(
    payload: bytes, shape, count: int, first=None, parents=None, *, group=None
) -> np.ndarray:
    """What `encode` was given. Raises Damaged if the payload is not what it would write."""
    kind = np.uint8 if count <= 256 else np.int32
    elements = int(np.prod(shape))
    if count == 1 or not elements:
        if payload:
            raise Damaged("a payload for a tile that needs none")
        return np.zeros(shape, kind)
    sizes, coarse = _counts(count, first, parents)
    lasts = np.full(elements, count - 1) if sizes is None else np.array(sizes)[coarse] - 1
    contexts = _Contexts(min(int(lasts.max(initial=0)) or 1, MOST_BINS))
    most = len(contexts.ones) - 1
    ones, update = contexts.ones, contexts.update
    code, at, range_ = int.from_bytes(payload[:4].ljust(4, b"\0"), "big"), 4, WIDTH
    symbols = []
    for last in lasts.tolist():
        place = 0
        while place < last:
            n = place if place < most else most
            bound = _bound(range_, ones[n])
            bit = code < bound
            if bit:
                range_ = bound
            else:
                code -= bound
                range_ -= bound
            update(n, bit)
            while range_ < TOP:
                code = code << 8 | (payload[at] if at < len(payload) else 0)
                at += 1
                range_ <<= 8
            if not bit:
                break
            place += 1
        symbols.append(place)
    if len(payload) > at or (payload and payload[-1] == 0):
        raise Damaged("a payload holds more than its levels")
    found = np.array(symbols)
    if sizes is not None:
        found += first[:-1][coarse]
    return found.astype(kind).reshape(shape)
