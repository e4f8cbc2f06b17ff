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
from pathlib import Path

import sccodec
from sccodec.codecs import image, tensor
from sccodec.container import Limits, extract, from_bytes, join
from sccodec.container.describe import describe
from sccodec.errors import CodecError

SECONDS = 20  # a case that takes longer is a finding
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


def exercise(data: bytes) -> str:
    """Gives one file to every reader; returns a word for what became of it.

    A refusal by one reader does not keep the file from the next. Raises whatever is no refusal.
    """
    reader = from_bytes(data, limits=LIMITS, allow_partial=True)
    describe(reader)
    reader.check()
    layers = reader.header.layers
    decode = tensor.decode if reader.header.modality == 2 else image.decode
    refusals = [_refusal(decode, reader, layer.name, allow_partial=True) for layer in layers]
    refusals.append(_refusal(decode, reader))
    refusals.append(_refusal(_take_apart, reader))
    refusals.append(_refusal(from_bytes, data, limits=LIMITS))
    return "opened: " + ", ".join(sorted({word for word in refusals if word}) or ["all is well"])


def _refusal(function, *arguments, **options) -> str | None:
    """The name of the CodecError that a call ends with."""
    try:
        function(*arguments, **options)
    except CodecError as error:
        return type(error).__name__
    return None


def _take_apart(reader) -> None:
    """Extracts every layer alone and joins them again."""
    parts = []
    for index in reader.header.present:
        out = io.BytesIO()
        extract(reader, [index], out)
        parts.append(from_bytes(out.getvalue(), limits=LIMITS))
    join(parts, io.BytesIO())


def run(seeds: list[Path], cases: int | None, minutes: float | None, seed: int, out: Path | None):
    """Returns ({verdict: count}, findings)."""
    originals = [path.read_bytes() for path in seeds]
    verdicts: dict[str, int] = {}
    findings: list[str] = []
    begin, count = time.monotonic(), 0
    while (cases is None or count < cases) and (
        minutes is None or time.monotonic() - begin < 60 * minutes
    ):
        draw = random.Random(seed * 1_000_003 + count)
        data = mutate(draw.choice(originals), originals, draw)
        if draw.random() < 0.5:
            data = signed(data)
        previous = signal.signal(signal.SIGALRM, _too_slow)
        signal.alarm(SECONDS)
        try:
            verdict = exercise(data)
        except CodecError as error:
            verdict = type(error).__name__
        except BaseException as error:
            verdict = "FINDING"
            findings.append(f"case {count}: {error!r}")
            if out is not None:
                out.mkdir(parents=True, exist_ok=True)
                (out / f"{seed}-{count}.scc").write_bytes(data)
                (out / f"{seed}-{count}.txt").write_text(traceback.format_exc())
            if isinstance(error, KeyboardInterrupt):
                break
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, previous)
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
        count += 1
    return verdicts, findings


def _too_slow(*_):
    raise TooSlowError(f"more than {SECONDS} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="default: the golden files")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    here = Path(__file__).parent
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    files = options.files or sorted((here.parent / "golden").glob("*.scc"))
    out = here / "findings"
    begin = time.monotonic()
    verdicts, findings = run(files, None, options.minutes, options.seed, out)
    total = sum(verdicts.values())
    print(f"sccodec {sccodec.__version__}: {total} cases in {time.monotonic() - begin:.0f} s")
    for verdict, count in sorted(verdicts.items()):
        print(f"{count:8}  {verdict}")
    for finding in findings[:20]:
        print(finding)
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
