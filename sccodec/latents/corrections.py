"""A tile's correction of its finish <-> the bytes in front of its payload.

`formats/layers.md`, "The finish", is the specification.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from sccodec.errors import Damaged
from sccodec.transform.finish import Correction

LONGEST = 255  # bytes behind the first one
UNITS, RICE = 4, 3  # bits that say a group's unit and its parameter
STRAIGHT = (3, 3, 8)


@dataclass(frozen=True)
class Numbers:
    """One group of a correction: integers of any shape, in units of 2^-unit."""

    values: np.ndarray
    unit: int

    @property
    def real(self) -> np.ndarray:
        """float32, the same shape."""
        return np.ldexp(self.values.astype(np.float32), -self.unit)

    @property
    def rice(self) -> int:
        """The Rice parameter that takes the fewest bits."""
        return int(self._bits.argmin())

    @property
    def bits(self) -> int:
        """What the values take with that parameter."""
        return int(self._bits.min())

    @functools.cached_property
    def _bits(self) -> np.ndarray:
        """What the values take with each parameter."""
        return rice_bits(self.values.reshape(-1, 1), np.arange(1 << RICE)).sum(0)


def rice_bits(value, k):
    """Bits that integers take with Rice parameters; both are int or arrays of int64."""
    return (_folded(value) >> k) + 1 + k


def _folded(value):
    """0, -1, 1, -2, 2, ... -> 0, 1, 2, 3, 4, ..."""
    return value << 1 ^ value >> 63


def size(mix: Numbers, straight: Numbers) -> int:
    """Bytes that `pack` makes of them."""
    bits = 2 * (UNITS + RICE) + mix.bits + straight.bits
    return 1 + -(-bits // 8)


def pack(mix: Numbers, straight: Numbers) -> bytes:
    """At most 256 bytes; ValueError if it takes more. All zeros are one byte, as `NONE` is."""
    if not (mix.values.any() or straight.values.any()):
        return NONE
    if size(mix, straight) > 1 + LONGEST:
        raise ValueError("a correction is too long")
    groups = (mix, straight)
    bits = "".join(f"{group.unit:0{UNITS}b}{group.rice:0{RICE}b}" for group in groups)
    for group in groups:
        k = group.rice
        for value in _folded(group.values).ravel().tolist():
            bits += "1" * (value >> k) + "0"
            bits += f"{value & (1 << k) - 1:0{k}b}" if k else ""
    bits += "0" * (-len(bits) % 8)
    return bytes([len(bits) // 8]) + int(bits, 2).to_bytes(len(bits) // 8)


NONE = b"\0"


def unpack(payload: bytes, bends: int) -> tuple[Correction | None, bytes]:
    """The correction in front of a payload, if there is one, and what lies behind it.

    Raises Damaged if the bytes cannot be a correction of so many clipped filters.
    """
    if not payload or len(payload) < 1 + payload[0]:
        raise Damaged("a payload ends within its correction")
    end = 1 + payload[0]
    if end == 1:
        return None, payload[1:]
    bits = f"{int.from_bytes(payload[1:end]):0{8 * (end - 1)}b}"
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        if at > len(bits):
            raise Damaged("a correction ends too early")
        return int(bits[at - count : at] or "0", 2)

    plans = [(take(UNITS), take(RICE)) for _ in range(2)]
    groups = []
    for (unit, k), shape in zip(plans, ((3, bends), STRAIGHT), strict=True):
        values = np.empty(shape, np.int64)
        for place in range(values.size):
            zero = bits.find("0", at)
            ones = take((zero if zero >= 0 else len(bits)) + 1 - at).bit_count()
            folded = ones << k | take(k)
            values.flat[place] = -(folded + 1 >> 1) if folded & 1 else folded >> 1
        groups.append(Numbers(values, unit).real)
    if len(bits) - at >= 8 or "1" in bits[at:]:
        raise Damaged("a correction holds more than its numbers")
    return Correction(*groups), payload[end:]
