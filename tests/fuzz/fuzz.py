"""Mutates .scc files and gives them to everything that reads them. See README.md beside this."""

from __future__ import annotations

import argparse
import io
import random
import resource
import signal
import struct
import sys
import time
import traceback
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import sccodec
from sccodec.codecs import image, tensor
from sccodec.codecs.tiles import Grid
from sccodec.codecs.verify import verify
from sccodec.container import Limits, extract, from_bytes, join
from sccodec.container.describe import describe
from sccodec.entropy.coder import Models
from sccodec.entropy.tables import STEPS
from sccodec.errors import CodecError
from sccodec.latents import quantize
from sccodec.profiles.registry import find

TESTS = Path(__file__).parents[1]
SECONDS = 20  # of processor time; a case that takes more is a finding
HANGS = 600  # seconds of the clock after which a case that waits for something is one too
MEMORY = 6 << 30  # bytes of address space
LIMITS = Limits(max_pixels=1 << 20)  # so that a slow case is a fault, not a large picture
HEAD = struct.Struct("<4sBI")


class TooSlowError(Exception):
    """A case passed its time."""


def chunks(data: bytes) -> list[tuple[int, int]]:
    """(offset, payload length) of the chunks, as far as they make sense."""
    found, at = [], 8
    while at + HEAD.size <= len(data):
        _, _, length = HEAD.unpack_from(data, at)
        if at + HEAD.size + length + 4 > len(data):
            break
        found.append((at, length))
        at += HEAD.size + length + 4
    return found


def mutate(data: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """One to four small changes at random places."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(max(len(out), 1))
        if draw.random() < 0.5:  # the front holds what matters most
            at = min(at, draw.randrange(200))
        kind = draw.randrange(8)
        if kind == 0 and out:
            out[at] ^= 1 << draw.randrange(8)
        elif kind == 1 and out:
            out[at] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
        elif kind == 2:
            del out[at : at + draw.choice((1, 2, 4, 16, 64))]
        elif kind == 3:
            out[at:at] = draw.randbytes(draw.choice((1, 2, 4, 16)))
        elif kind == 4:
            del out[at:]
        elif kind == 5 and len(out) > 4:
            at = min(at, len(out) - 4)
            value = draw.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, draw.getrandbits(32)))
            struct.pack_into("<I", out, at, value)
        elif kind == 6:
            other = draw.choice(others)
            start = draw.randrange(len(other))
            out[at : at + 64] = other[start : start + 64]
        elif kind == 7 and len(out) > 2:
            at = min(at, len(out) - 2)
            (value,) = struct.unpack_from("<H", out, at)
            struct.pack_into("<H", out, at, (value + draw.choice((-1, 1, 16, -16))) & 0xFFFF)
    return bytes(out)


def signed(data: bytes) -> bytes:
    """The same with right checksums of its chunks, and of its payloads where they are listed."""
    out = bytearray(data)
    spans = chunks(data)
    payloads, directory = [], None
    for at, length in spans:
        if out[at : at + 4] == b"LAYR":
            payloads.append((at + HEAD.size + 1, length - 1))
        elif out[at : at + 4] == b"DIRE":
            directory = (at + HEAD.size, length)
    if directory and payloads:
        entry, (begin, length) = struct.Struct("<BbIII"), directory
        layer, place = 0, payloads[0][0]
        for at in range(begin, begin + length - entry.size + 1, entry.size):
            flags, offset, size, _, symbols = entry.unpack_from(out, at)
            start, room = payloads[min(layer, len(payloads) - 1)]
            if place + size > start + room and layer + 1 < len(payloads):
                layer += 1
                place = payloads[layer][0]
            crc = zlib.crc32(out[place : place + size])
            if flags & 1:
                entry.pack_into(out, at, flags, offset, size, crc, symbols)
            place += size
    for at, length in spans:
        end = at + HEAD.size + length
        struct.pack_into("<I", out, end, zlib.crc32(out[at:end]))
    return bytes(out)


class Targets:
    """What a mutant is given to, how often each was, and how often each refused."""

    def __init__(self):
        self.calls: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def call(self, target: str, function, *arguments, **options):
        """What the function returns, or the CodecError that it ends with."""
        self.calls[target] += 1
        try:
            return function(*arguments, **options)
        except CodecError as error:
            self.refused[target] += 1
            return error


def exercise(data: bytes, original: bytes, draw: random.Random, targets: Targets) -> str:
    """Gives a mutant of `original` to every reader; returns a word for what became of it.

    A refusal by one reader does not keep the file from the next. Raises whatever is no refusal.
    """
    met = [targets.call("parse", from_bytes, data, limits=LIMITS)]
    reader = targets.call("parse", from_bytes, data, limits=LIMITS, allow_partial=True)
    if isinstance(reader, CodecError):
        return type(reader).__name__
    met.append(targets.call("info", describe, reader))
    targets.call("verify", verify, reader)
    parts = []
    for index in reader.header.present:
        out = io.BytesIO()
        met.append(targets.call("extract", extract, reader, [index], out))
        if not isinstance(met[-1], CodecError):
            parts.append(from_bytes(out.getvalue(), limits=LIMITS))
    if parts:
        met.append(targets.call("join", join, parts, io.BytesIO()))
        others = [*parts, from_bytes(original)]
        met.append(targets.call("join", join, others, io.BytesIO()))
    target, decode = "decode picture", image.decode
    if reader.header.modality == 2:
        target, decode = "decode tensors", tensor.decode
    for layer in reader.header.layers:
        met.append(targets.call(target, decode, reader, layer.name, allow_partial=True))
    met.append(targets.call(target, decode, reader))
    if decode is image.decode:
        met.append(targets.call("decode region", decode, reader, box=_box(reader, draw)))
        _entropy(data, reader, draw, targets)
    words = sorted({type(word).__name__ for word in met if isinstance(word, CodecError)})
    return "opened: " + (", ".join(words) or "all is well")


def _box(reader, draw: random.Random) -> tuple[int, int, int, int]:
    """A small rectangle that is in the picture."""
    header = reader.header
    return draw.randrange(header.width), draw.randrange(header.height), 40, 24


def _entropy(data: bytes, reader, draw: random.Random, targets: Targets) -> None:
    """One payload of the lowest layer, whatever its checksums say, to both entropy decoders.

    Raises AssertionError if they do not come to the same end.
    """
    header = reader.header
    try:
        model = find(header.model, header.digest)
        place = draw.choice(reader.ranges([0]))
    except (CodecError, IndexError):
        return  # no model, no lowest layer, or no payload in it
    box = Grid(header.width, header.height, header.tile_size).latents(place.tile)
    size = box.height, box.width
    payload = bytearray(data[place.offset : place.offset + place.length])
    for _ in range(draw.choice((0, 1, 4))):
        at = draw.randrange(len(payload) + 1)
        payload[at : at + 1] = draw.randbytes(draw.randrange(8))
    payload = bytes(payload[: len(payload) & ~3] if draw.random() < 0.9 else payload)
    step, ends = min(header.layer(0).step, STEPS - 1), []
    for plain in (False, True):
        models = Models(model.tables, plain=plain)
        end = targets.call(
            "entropy decode", quantize.decode, model.priors[0], models, payload, size, step, None
        )
        ends.append(type(end) if isinstance(end, CodecError) else end[0])
    assert ends[0] == ends[1], f"the two entropy decoders disagree: {ends}"


@dataclass
class Outcome:
    """What a run met."""

    verdicts: Counter[str] = field(default_factory=Counter)
    targets: Targets = field(default_factory=Targets)
    findings: list[str] = field(default_factory=list)


def seeds() -> list[bytes]:
    """Sound files: vectors, which have no pictures in them, and as many pictures and tensors."""
    golden = [path.read_bytes() for path in sorted((TESTS / "golden").glob("*.scc"))]
    golden += tensor_files()
    sound = sorted((TESTS.parent / "formats" / "vectors").glob("ok_*.vector"))
    vectors = [path.read_bytes().split(b"\n\n", 1)[1] for path in sound]
    if not golden or not vectors:
        raise FileNotFoundError("golden files or vectors are missing from this checkout")
    return golden * (len(vectors) // len(golden) + 1) + vectors


def tensor_files() -> list[bytes]:
    """Two tensors in one file, by each of the two coders, in layers and in small tiles."""
    draw = np.random.default_rng(3)
    features = np.maximum(draw.normal(0, 1, (6, 9, 11)), 0).astype(np.float32)
    given = {"features": features, "logits": draw.normal(3, 2, 40).astype(np.float32)}
    return [
        tensor.encode(given, tensor.Settings(levels=levels, coder=coder, tile=tile))
        for levels, coder, tile in (
            (4, "context", 64),
            ((2, 8), "context", 1024),
            (5, "unary", 256),
        )
    ]


def run(
    originals: list[bytes], cases: int | None, minutes: float | None, seed: int, out: Path | None
) -> Outcome:
    """Some cases, or as many as fit in some minutes; findings are written to `out`."""
    outcome = Outcome()
    begin, count = time.monotonic(), 0
    while (cases is None or count < cases) and (
        minutes is None or time.monotonic() - begin < 60 * minutes
    ):
        draw = random.Random(seed * 1_000_003 + count)
        original = draw.choice(originals)
        data = mutate(original, originals, draw)
        if draw.random() < 0.5:
            data = signed(data)
        try:
            _watch(SECONDS, HANGS)
            verdict = exercise(data, original, draw, outcome.targets)
        except BaseException as error:
            verdict = "FINDING"
            outcome.findings.append(f"case {count}: {error!r}")
            if out is not None:
                out.mkdir(parents=True, exist_ok=True)
                (out / f"{seed}-{count}.scc").write_bytes(data)
                (out / f"{seed}-{count}.txt").write_text(traceback.format_exc())
            if isinstance(error, KeyboardInterrupt):
                break
        finally:
            _watch(0, 0)
        outcome.verdicts[verdict] += 1
        count += 1
    return outcome


def _watch(processor: int, clock: int) -> None:
    """Raises TooSlowError in so many seconds of either kind; 0 for never."""
    for kind, number, seconds in (
        (signal.ITIMER_PROF, signal.SIGPROF, processor),
        (signal.ITIMER_REAL, signal.SIGALRM, clock),
    ):
        signal.signal(number, _too_slow if seconds else signal.SIG_IGN)
        signal.setitimer(kind, seconds)


def _too_slow(*_):
    raise TooSlowError(f"more than {SECONDS} s of work, or {HANGS} s of waiting")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="default: golden files and vectors")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    originals = [path.read_bytes() for path in options.files] or seeds()
    out = Path(__file__).parent / "findings"
    begin = time.monotonic()
    outcome = run(originals, None, options.minutes, options.seed, out)
    total = sum(outcome.verdicts.values())
    print(f"sccodec {sccodec.__version__}: {total} cases in {time.monotonic() - begin:.0f} s")
    for target, count in outcome.targets.calls.items():
        print(f"{count:8}  {target}, {outcome.targets.refused[target]} of them refused")
    for verdict, count in sorted(outcome.verdicts.items()):
        print(f"{count:8}  ended {verdict}")
    for finding in outcome.findings[:20]:
        print(finding)
    sys.exit(1 if outcome.findings else 0)


if __name__ == "__main__":
    main()
