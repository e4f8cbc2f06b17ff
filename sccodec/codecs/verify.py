"""Tells damaged bytes from a machine that computes differently, and both from a missing model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sccodec.codecs.payloads import Unusable, check_layers, decode_tiles, layer_chain
from sccodec.codecs.tensor import verify_tiles
from sccodec.codecs.tensor_payloads import Lost
from sccodec.container.reader import Reader
from sccodec.errors import (
    CodecError,
    Damaged,
    LimitExceeded,
    Mismatch,
    NotOurFile,
    Unsupported,
    WrongModel,
)
from sccodec.profiles.registry import find
from sccodec.threads import Progress

VERDICTS = {
    Damaged: "damaged",
    Mismatch: "differs",
    WrongModel: "no model",
    NotOurFile: "not ours",
    Unsupported: "unsupported",
    LimitExceeded: "over a limit",
}


@dataclass(frozen=True)
class Verdict:
    """What `verify` says of one file.

    verdict: "ok", or a word of VERDICTS. "differs": whole bytes that decode otherwise here.
    "no model": the bytes are whole, the symbols cannot be checked.
    """

    verdict: str = "ok"
    exit_code: int = 0
    messages: tuple[str, ...] = ()
    symbols: int = 0  # (layer, tile)s whose symbols were compared

    def facts(self) -> dict:
        return asdict(self)


def of_error(error: CodecError, *messages: str, symbols: int = 0) -> Verdict:
    """The verdict that an error stands for; `messages` in place of its own."""
    word = VERDICTS.get(type(error), "refused")
    return Verdict(word, error.exit_code, messages or (str(error),), symbols)


def verify(reader: Reader, *, jobs: int = 1, progress: Progress | None = None) -> Verdict:
    """Checks every byte, then decodes the symbols of every (layer, tile) and compares them.

    The file is best opened with `allow_partial`, so that everything wrong is found at once.
    No pixels are computed.
    """
    problems = [problem.message for problem in reader.check()]
    if problems:
        return of_error(Damaged(problems[0]), *problems)
    header, compared = reader.header, 0
    found: list[Unusable] = []
    try:
        if header.kind == "tensor":
            return _verify_tensors(reader, jobs, progress)
        if header.kind != "picture" or header.frames != 1:
            raise Unsupported(f"{reader.name}: not a still picture")
        model = find(header.model, header.digest)
        check_layers(reader, model)
        for layer in header.layers:
            if header.missing(layer.index):
                continue  # an extracted layer: its bytes are all that can be checked
            chain = layer_chain(reader, model, layer.index)
            above = (n for n in header.layers if not header.missing(n.index))
            if any(layer.index in other.needed for other in above):
                continue  # decoded on the way to a higher layer
            found += decode_tiles(
                reader,
                model,
                chain,
                range(layer.tiles),
                lambda *_: None,
                tolerant=True,
                jobs=jobs,
                progress=progress,
            )
            compared += sum(_decoded(reader, chain, tile) for tile in range(layer.tiles))
    except CodecError as error:
        return of_error(error)
    return _judge(found, compared)


def _decoded(reader: Reader, chain: list[int], tile: int) -> int:
    """Payloads of a tile up to the first that is absent, above which nothing is decoded."""
    present = [reader.tiles[n][tile].present for n in chain]
    return present.index(False) if False in present else len(present)


def _verify_tensors(reader: Reader, jobs: int, progress: Progress | None) -> Verdict:
    return _judge(*verify_tiles(reader, jobs, progress))


def _judge(found: Sequence[Unusable | Lost], compared: int) -> Verdict:
    """The verdict on whole bytes, from what could not be decoded among so many payloads."""
    errors = [item.error for item in found if item.error]
    if errors:
        worst = next((e for e in errors if isinstance(e, Damaged)), errors[0])
        return of_error(worst, *map(str, errors), symbols=compared - len(errors))
    return Verdict(symbols=compared)
