"""A decoder of payloads written from formats/entropy.md alone, in integers; slow and simple.

It shares no code with sccodec, so that the specification is checked and not only the program.
Names and section numbers are those of the document.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np

FORMATS = Path(__file__).parents[1] / "formats"
STEP = [int(word) for word in (FORMATS / "steps.txt").read_text().split()]


# -- 2. layers of the networks -------------------------------------------------------------


def settle(total, leaky=False):
    positive = (total + 2**11) >> 12
    negative = (total + 2**14) >> 15 if leaky else positive
    return np.clip(np.where(total >= 0, positive, negative), -32512, 32512)


def pointwise(arrays, name, x, leaky=False):
    weight, bias = arrays[f"{name}.weight"], arrays[f"{name}.bias"]
    total = np.einsum("oi,ihw->ohw", weight, x) + 256 * bias[:, None, None]
    return settle(total, leaky)


def depthwise(arrays, name, x):
    weight, bias = arrays[f"{name}.weight"], arrays[f"{name}.bias"]
    _, h, w = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    total = 256 * bias[:, None, None] + sum(
        weight[:, i, j, None, None] * padded[:, i : i + h, j : j + w]
        for i in range(3)
        for j in range(3)
    )
    return settle(total)


def shuffle(x):
    channels, h, w = x.shape
    out = np.zeros((channels // 4, 2 * h, 2 * w), np.int64)
    for c in range(channels):
        i, j = divmod(c % 4, 2)
        out[c // 4, i::2, j::2] = x[c]
    return out


# -- 5. the coder --------------------------------------------------------------------------


class Stream:
    def __init__(self, payload):
        self.words = np.frombuffer(payload, "<u4").tolist()
        assert not self.words or self.words[-1]
        self.state = 0
        self.refill()

    def refill(self):
        while self.words and self.state < 2**32:
            self.state = self.state * 2**32 + self.words.pop()

    def place(self, counts):
        low, begin, p = self.state % 2**24, 0, 0
        while low >= begin + counts[p]:
            begin, p = begin + counts[p], p + 1
        self.state = (self.state >> 24) * counts[p] + low - begin
        self.refill()
        return p

    def uniform(self, n):
        return self.place([2**24 // n] * n)

    def escape(self, reach):
        negative, width, rest = self.uniform(2), self.uniform(32), 0
        for _ in range((width + 7) // 8):
            rest = 256 * rest + self.uniform(256)
        assert rest < 2**width
        size = reach + 2**width + rest
        return -size if negative else size

    def round(self, tables, index):
        """Symbols of one round, in C order, for their tables."""
        order = sorted(range(len(index)), key=lambda n: index[n])
        symbols = [0] * len(index)
        for n in order:
            symbols[n] = self.place(tables.counts[index[n]]) - tables.reach[index[n]]
        for n in order:
            if symbols[n] == tables.reach[index[n]] + 1:
                symbols[n] = self.escape(tables.reach[index[n]])
        return symbols


# -- 3. steps and tables -------------------------------------------------------------------


class Tables:
    def __init__(self, arrays, about):
        self.reach = arrays["tables.reach"].tolist()
        cuts = np.cumsum([2 * r + 2 for r in self.reach])[:-1]
        self.counts = [part.tolist() for part in np.split(arrays["tables.counts"], cuts)]
        self.per_octave, self.smallest = about["per_octave"], about["smallest"]

    def choose(self, v, s):
        unit = 256 // self.per_octave
        nearest = (2 * (v - 8 * (s - 256)) + unit) // (2 * unit)
        return np.clip(nearest - self.smallest * self.per_octave, 0, len(self.reach) - 1)


# -- 4. the prior --------------------------------------------------------------------------


def decode_layer(arrays, tables, payload, h, w, s, lower):
    """(checksum of symbols, seen, latent) of one (layer, tile)."""
    stream, coded = Stream(payload), []
    u, cells = int(arrays["hyper_steps"][s]), (h // 4) * (w // 4)
    each = tables.choose(arrays["hyper_log2"], u)
    coded.append(stream.round(tables, np.repeat(each, cells).tolist()))
    q = np.array(coded[-1]).reshape(-1, h // 4, w // 4)
    z = (q * STEP[u] + 16 * arrays["hyper_mean"][:, None, None] + 8) >> 4
    z = np.clip(z, -32512, 32512)
    for n in (1, 2):
        z = depthwise(arrays, f"up{n}.spread", shuffle(pointwise(arrays, f"up{n}.mix", z, True)))
    if lower is not None:
        shift = arrays["lower_shift"][:, None, None]
        low = np.clip((lower + 2 ** (shift + 3)) >> (shift + 4), -32512, 32512)
        low = depthwise(arrays, "lower_spread", pointwise(arrays, "lower_mix", low, True))
        z = np.concatenate([z, low])
    features = pointwise(arrays, "join", z, True)

    pattern, shift = arrays["pattern"], arrays["shift"][:, None, None]
    M = len(shift)
    c, y, x = np.mgrid[0:M, 0:h, 0:w]
    turn = pattern[c % len(pattern), y % 2, x % 2]
    seen, latent = np.zeros((M, h, w), np.int64), np.zeros((M, h, w))
    for k in range(pattern.max() + 1):
        unit = np.clip((seen + 2 ** (shift + 3)) >> (shift + 4), -32512, 32512)
        known = pointwise(arrays, f"context.{k}.enter", unit, True)
        known = np.concatenate([depthwise(arrays, f"context.{k}.spread", known), features])
        out = pointwise(arrays, f"context.{k}.mix", known, True)
        out = pointwise(arrays, f"context.{k}.leave", out)
        now = turn == k
        mean = (out[:M] << (shift + 4))[now]
        index = tables.choose(out[M:][now], s)
        coded.append(stream.round(tables, index.tolist()))
        q = np.array(coded[-1], np.int64)
        seen[now] = q * STEP[s] + mean
        offsets = arrays["offsets"]
        o = offsets[index, min((s + 16) // 32, offsets.shape[1] - 1)]
        latent[now] = (seen[now] - np.sign(q) * o * STEP[s] / 2**12) / 2**12
    assert not stream.words
    assert stream.state == 0
    checksum = 0
    for symbols in coded:
        checksum = zlib.crc32(np.array(symbols, "<i4").tobytes(), checksum)
    return checksum, seen, latent.astype(np.float32)


# -- layers.md: the finish -----------------------------------------------------------------


def correction(payload, bends):
    """(mix, straight), or None for one of no bytes; and the rest of the payload."""
    end = 1 + payload[0]
    if end == 1:
        return None, payload[1:]
    bits = iter("".join(f"{byte:08b}" for byte in payload[1:end]))

    def number(count):
        return int("".join(next(bits) for _ in range(count)) or "0", 2)

    plans = [(number(4), number(3)), (number(4), number(3))]
    groups = []
    for (unit, rice), count in zip(plans, (3 * bends, 72), strict=True):
        groups.append([])
        for _ in range(count):
            ones = 0
            while next(bits) == "1":
                ones += 1
            v = ones * 2**rice + number(rice)
            groups[-1].append((-(v + 1) // 2 if v % 2 else v // 2) / 2**unit)
    assert "1" not in "".join(bits)
    straight = np.array(groups[1]).reshape(3, 3, 8)
    nine = np.concatenate(
        [straight[..., :4], -straight.sum(2, keepdims=True), straight[..., 4:]], 2
    )
    mix = np.array(groups[0]).reshape(3, bends, 1, 1)
    return (mix, nine.reshape(3, 3, 3, 3)), payload[end:]


class Model:
    """`model.json` and `prior.npz` as formats/layers.md describes them."""

    def __init__(self, folder):
        about = json.loads((folder / "model.json").read_text())
        with np.load(folder / "prior.npz") as archive:
            arrays = {name: archive[name].astype(np.int64) for name in archive.files}
        self.tables = Tables(arrays, about["tables"])
        self.layers = about["layers"]
        self.arrays = [
            {name.removeprefix(f"{layer['name']}."): array for name, array in arrays.items()}
            for layer in self.layers
        ]

    def decode_tile(self, payloads, h, w, steps):
        """[(checksum, seen, latent)] of the layers of one tile."""
        done = []
        for n, payload in enumerate(payloads):
            needs = self.layers[n]["needs"]
            lower = np.concatenate([done[i][1] for i in needs]) if needs else None
            if "finish" in self.layers[n]:
                payload = correction(payload, self.layers[n]["bends"])[1]
            done.append(decode_layer(self.arrays[n], self.tables, payload, h, w, steps[n], lower))
        return done
