"""The drivers of the prior: a tile's symbols are chosen and counted, packed, or decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sccodec.entropy import coder
from sccodec.entropy.coder import LARGEST, Models
from sccodec.entropy.fixed import split
from sccodec.entropy.tables import Tables
from sccodec.errors import CodecError, Damaged
from sccodec.latents.prior import Ask, Coded, LayerPrior, Turn


@dataclass(frozen=True)
class Analysed:
    """Unquantised latents of one layer and tile: y (M, h, w), z (Z, h/4, w/4), float32."""

    y: np.ndarray
    z: np.ndarray

    def asked(self, turn: Turn | None) -> np.ndarray:
        """The values that a round asks for, (n,), in the order of their symbols."""
        if turn is None:
            return self.z.reshape(-1)
        return turn.symbols(self._split[turn.channels, turn.places])

    @cached_property
    def _split(self) -> np.ndarray:
        return split(self.y)


@dataclass(frozen=True)
class Payload:
    """One coded (layer, tile): its bytes and the checksum of its symbols."""

    data: bytes
    checksum: int


def nearest(ask: Ask, tile: Analysed) -> np.ndarray:
    """Nearest symbols to the unquantised values that the round asks for, (n,) int32."""
    return _rounded(_wanted(ask, tile))


def cheapest(ask: Ask, tile: Analysed, tables: Tables, worth: float) -> np.ndarray:
    """Symbols (n,) int32 of the least bits + worth * squared error in steps.

    Rate-distortion optimised quantisation: nearest symbols are tried against those up to
    two steps nearer to the mean, which are cheaper. What a symbol does to the probabilities
    of later ones is not seen, only weighed in `worth`.
    """
    wanted = _wanted(ask, tile)
    best = _rounded(wanted)
    at = np.flatnonzero(best)
    value, index, offset = wanted[at], ask.index[at], ask.offsets[ask.index[at]]
    first = best[at]
    least = np.full(len(at), np.inf)
    for nearer in range(3):
        symbol = first - np.sign(first) * np.minimum(nearer, np.abs(first))
        error = symbol - np.sign(symbol) * offset - value
        cost = tables.bits(symbol, index) + worth * np.square(error)
        best[at] = np.where(cost < least, symbol, best[at])
        least = np.minimum(cost, least)
    return best


def _wanted(ask: Ask, tile: Analysed) -> np.ndarray:
    """Unquantised values less their means, in steps."""
    wanted = tile.asked(ask.turn) - ask.mean
    wanted /= ask.step
    return wanted


def _rounded(wanted: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(wanted + 0.5), -LARGEST, LARGEST).astype(np.int32)


@dataclass
class Chooser:
    """An encoder's answers to a prior: the nearest symbols, or the cheapest if `worth` says for
    each round of latents what a squared error of one step is worth in bits.

    Keeps what it chose.
    """

    tables: Tables
    tile: Analysed
    worth: tuple[float, ...] | None = None
    rounds: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def __call__(self, ask: Ask) -> np.ndarray:
        number = len(self.rounds) - 1  # hyper-latents come first
        if self.worth is None or number < 0:
            symbols = nearest(ask, self.tile)
        else:
            symbols = cheapest(ask, self.tile, self.tables, self.worth[number])
        self.rounds.append((symbols, ask.index))
        return symbols

    @property
    def bits(self) -> float:
        """What the chosen symbols take, counted anew each time."""
        return sum(float(self.tables.bits(*chosen).sum()) for chosen in self.rounds)


def _drive(rounds, answer) -> Coded:
    """Runs the prior's generator, answering each `Ask`; returns what it returns."""
    try:
        ask = next(rounds)
        while True:
            ask = rounds.send(answer(ask))
    except StopIteration as stop:
        return stop.value


def packed(models: Models, chooser: Chooser) -> Payload:
    """The payload of chosen symbols.

    They are read back before it is returned: one that cannot be read is never written. Raises
    CodecError then, which would be a bug of ours.
    """
    rounds = [(symbols, coder.Groups.of(index)) for symbols, index in chooser.rounds]
    payload = coder.encode(models, rounds)
    check = coder.checksum([symbols for symbols, _ in rounds])
    try:
        decoder = coder.Decoder(models, payload)
        again = coder.checksum([decoder.decode(groups) for _, groups in rounds])
        decoder.finish()
    except (Damaged, AssertionError, ValueError):
        again = None
    if again != check:
        raise CodecError("the encoder could not read back what it wrote; nothing was written")
    return Payload(payload, check)


def decode(
    prior: LayerPrior,
    models: Models,
    payload: bytes,
    size: tuple[int, int],
    step_index: int,
    lower: np.ndarray | None,
    jobs: int = 1,
) -> tuple[int, Coded]:
    """Decodes one layer of one tile of `size` latents: checksum of the symbols, and latents.

    jobs: threads for the networks, as `LayerPrior.rounds` has it. Raises Damaged if the bytes
    cannot be read to their end.
    """
    decoder = coder.Decoder(models, payload)
    seen: list[np.ndarray] = []

    def answer(ask: Ask) -> np.ndarray:
        try:
            seen.append(decoder.decode(ask.index))
        except (AssertionError, ValueError) as error:  # constriction's own complaints
            raise Damaged(f"the entropy coder stopped: {error}") from None
        return seen[-1]

    coded = _drive(prior.rounds(*size, step_index, lower, jobs), answer)
    decoder.finish()
    return coder.checksum(seen), coded


def choose(
    prior: LayerPrior,
    tile: Analysed,
    step_index: int,
    lower: np.ndarray | None,
    worth: tuple[float, ...] | None = None,
    jobs: int = 1,
) -> tuple[Chooser, Coded]:
    """Quantises one layer of one tile: the symbols and their exact bits; nothing is coded."""
    chooser = Chooser(prior.tables, tile, worth)
    rounds = prior.rounds(*tile.y.shape[1:], step_index, lower, jobs)
    return chooser, _drive(rounds, chooser)
