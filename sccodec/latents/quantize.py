"""The three drivers of the prior: encode a tile, decode it, or only count its bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sccodec.entropy import coder
from sccodec.entropy.coder import LARGEST, Models
from sccodec.errors import CodecError, Damaged
from sccodec.latents.prior import Ask, Coded, LayerPrior


@dataclass(frozen=True)
class Analysed:
    """Unquantised latents of one layer and tile: y (M, h, w), z (Z, h/4, w/4), float32."""

    y: np.ndarray
    z: np.ndarray


@dataclass(frozen=True)
class Payload:
    """One coded (layer, tile): its bytes and the checksum of its symbols."""

    data: bytes
    checksum: int


def _choose(ask: Ask, tile: Analysed) -> np.ndarray:
    """Nearest symbols to the unquantised values that the round asks for."""
    values = tile.z.reshape(-1) if ask.select is None else tile.y[ask.select]
    q = np.floor((values.astype(np.float64) - ask.mean) / ask.step + 0.5)
    return np.clip(q, -LARGEST, LARGEST).astype(np.int32)


def _drive(rounds, answer) -> Coded:
    """Runs the prior's generator, answering each `Ask`; returns what it returns."""
    try:
        ask = next(rounds)
        while True:
            ask = rounds.send(answer(ask))
    except StopIteration as stop:
        return stop.value


def encode(
    prior: LayerPrior, models: Models, tile: Analysed, step_index: int, lower: np.ndarray | None
) -> tuple[Payload, Coded]:
    """Quantises and codes one layer of one tile.

    The payload is decoded again before it is returned: a payload that this machine cannot
    read is never written. Raises CodecError then, which would be a bug of ours.
    """
    rounds: list[tuple[np.ndarray, np.ndarray]] = []

    def answer(ask: Ask) -> np.ndarray:
        rounds.append((_choose(ask, tile), ask.index))
        return rounds[-1][0]

    coded = _drive(prior.rounds(*tile.y.shape[1:], step_index, lower), answer)
    payload = coder.encode(models, rounds)
    check = coder.checksum([symbols for symbols, _ in rounds])
    again, _ = decode(prior, models, payload, tile.y.shape[1:], step_index, lower)
    if again != check:
        raise CodecError("the encoder could not read back what it wrote; nothing was written")
    return Payload(payload, check), coded


def decode(
    prior: LayerPrior,
    models: Models,
    payload: bytes,
    size: tuple[int, int],
    step_index: int,
    lower: np.ndarray | None,
) -> tuple[int, Coded]:
    """Decodes one layer of one tile of `size` latents: checksum of the symbols, and latents.

    Raises Damaged if the bytes cannot be read to their end.
    """
    decoder = coder.Decoder(models, payload)
    seen: list[np.ndarray] = []

    def answer(ask: Ask) -> np.ndarray:
        try:
            seen.append(decoder.decode(ask.index))
        except (AssertionError, ValueError) as error:  # constriction's own complaints
            raise Damaged(f"the entropy coder stopped: {error}") from None
        return seen[-1]

    coded = _drive(prior.rounds(*size, step_index, lower), answer)
    decoder.finish()
    return coder.checksum(seen), coded


def count_bits(
    prior: LayerPrior, tile: Analysed, step_index: int, lower: np.ndarray | None
) -> tuple[float, Coded]:
    """What `encode` would spend, in bits, from the exact tables; nothing is coded."""
    bits = 0.0

    def answer(ask: Ask) -> np.ndarray:
        nonlocal bits
        symbols = _choose(ask, tile)
        bits += prior.tables.bits(symbols, ask.index)
        return symbols

    coded = _drive(prior.rounds(*tile.y.shape[1:], step_index, lower), answer)
    return bits, coded
