"""Does this machine decode like every other? Bundled vectors and what must come of them.

`examine` runs each part of the decoder by itself, so that a part that computes otherwise is
named: the model's bytes, the exact networks, the coder, a whole file's symbols, its pixels.
"""

from __future__ import annotations

import json
import platform
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from sccodec.codecs import image
from sccodec.codecs.verify import verify
from sccodec.container.reader import open_path
from sccodec.entropy import coder
from sccodec.errors import CodecError
from sccodec.media.image import read
from sccodec.profiles.registry import Model, find

VECTORS = Path(__file__).parents[1] / "vectors"
GRID = (16, 24)  # latents of the networks' test
SYMBOLS = 4000  # of the coder's test


@dataclass(frozen=True)
class Check:
    """One part of the decoder: whether it gave what it must, and what was seen."""

    part: str
    ok: bool
    seen: str


def versions() -> dict[str, str]:
    """What decoding depends on here."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("numpy", "constriction", "onnxruntime"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def draws(count: int, below: int, seed: int = 1) -> np.ndarray:
    """(count,) int64 in 0..below-1 from a linear congruential generator: the same everywhere."""
    values, state = np.empty(count, np.int64), seed
    for n in range(count):
        state = (1103515245 * state + 12345) % 2**31
        values[n] = (state >> 8) % below
    return values


def networks(model: Model) -> int:
    """CRC-32 of every mean and table index that the priors give for fixed symbols."""
    crc, seen = 0, {}
    for n, prior in enumerate(model.priors):
        needs = model.layers[n].needs
        lower = np.concatenate([seen[i] for i in needs]) if needs else None
        rounds = prior.rounds(*GRID, 300, lower)
        ask = next(rounds)
        while True:
            means = np.rint(ask.mean * 4096).astype("<i8")
            crc = zlib.crc32(ask.index.astype("<i4").tobytes(), zlib.crc32(means.tobytes(), crc))
            try:
                ask = rounds.send((draws(len(ask.index), 7, seed=n + 1) - 3).astype(np.int32))
            except StopIteration as stop:
                seen[n] = stop.value.seen
                break
    return crc


def coded(model: Model, plain: bool) -> int:
    """CRC-32 of the bytes that the coder makes of fixed symbols, some of them escapes."""
    tables = model.tables
    index = draws(SYMBOLS, len(tables)).astype(np.int32)
    reach = tables.reach[index].astype(np.int64)
    symbols = (draws(SYMBOLS, 2**16, seed=2) % (2 * reach + 5) - reach - 2).astype(np.int32)
    rounds = [(symbols[::2], index[::2]), (symbols[1::2], index[1::2])]
    payload = coder.encode(coder.Models(tables, plain=plain), rounds)
    again = coder.Decoder(coder.Models(tables, plain=plain), payload)
    for wanted, where in rounds:
        if not np.array_equal(again.decode(where), wanted):
            return -1
    again.finish()
    return zlib.crc32(payload)


def examine(folder: Path = VECTORS) -> list[Check]:
    """All checks of the vectors in `folder`; one that fails does not keep the next from running."""
    expected = json.loads((folder / "expected.json").read_text())
    checks: list[Check] = []

    def check(part: str, run: Callable[[], tuple[bool, str]]) -> None:
        try:
            checks.append(Check(part, *run()))
        except CodecError as error:
            checks.append(Check(part, False, str(error)))
        except Exception as error:  # a part that computes otherwise may end in any way
            checks.append(Check(part, False, f"{type(error).__name__}: {error}"))

    def equal(value: object, name: str) -> tuple[bool, str]:
        wanted = expected[name]
        return value == wanted, f"{value}" if value == wanted else f"{value}, expected {wanted}"

    name = expected["model"]
    check("model", lambda: equal(find(name).digest, "digest"))
    check("networks", lambda: equal(networks(find(name)), "networks"))
    check("coder, plain", lambda: equal(coded(find(name), True), "coder"))
    if coder.AnsCoder is not None:
        check("coder, constriction", lambda: equal(coded(find(name), False), "coder"))
    with open_path(folder / "photo.scc") as reader:

        def symbols() -> tuple[bool, str]:
            verdict = verify(reader)
            return verdict.verdict == "ok", "; ".join(
                verdict.messages or [f"{verdict.symbols} payloads"]
            )

        def pixels() -> tuple[bool, str]:
            picture, _ = image.decode(reader)
            wanted = read(folder / "photo.png").pixels
            most = int(np.abs(picture.pixels.astype(int) - wanted).max())
            return most <= 1, f"differ by {most} of 255 at most"

        check("symbols of a file", symbols)
        check("pixels of a file", pixels)
    return checks
