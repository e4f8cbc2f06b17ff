"""The design of a tensor that has the size asked for: sizes are those of coded payloads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from sccodec.codecs import tensor_design as designs
from sccodec.codecs import tensor_filters as filters
from sccodec.codecs import tensor_transform as transforms
from sccodec.codecs.tensor_design import SMALL, DeadZones, Design, Family
from sccodec.codecs.tensor_grid import Grid
from sccodec.codecs.tensor_settings import Settings
from sccodec.codecs.tensor_statistics import Offsets, Statistics, channel_offsets, gather, grid_of
from sccodec.codecs.tensor_transform import Coefficients
from sccodec.codecs.tensor_work import MODEL, Work, code, entry_bytes, layer_name
from sccodec.container import layout
from sccodec.errors import BadRequest
from sccodec.latents.basis import Basis
from sccodec.media.tensor import Tensor

WORDS = 128  # bits: payloads are whole words, so tiny tensors cannot be nearer to a rate
FINE = 2.5  # bits per element above which uniform levels are as good as any
CLOSE = 0.005  # of a rate: near enough to stop searching
TRIES = 8
MIXED = 6  # tries between two designs
RATE_TOLERANCE = 0.02
ENTRY = 100  # bytes for each layer that tell of a small tensor what it is like, levels and all


# -- the shares of several tensors -----------------------------------------------------------


class Share(NamedTuple):
    """What one tensor may take of a file."""

    bytes: float  # with its entry in TENS, and its part of what else is in a file
    overhead: float  # that part
    last: bool  # whether nothing makes up for what it misses


class Shares:
    """Shares of several tensors in the size that the settings ask for, if they do."""

    def __init__(self, added: list[Tensor], grids: list[Grid], settings: Settings):
        sizes = [tensor.values.size for tensor in added]
        self._total = settings.max_bytes
        if settings.rate is not None:
            self._total = settings.rate * sum(sizes) / 8
        self._left, self._sizes = self._total, dict(enumerate(sizes))
        self._overheads = [_overhead(grid, len(added), settings) for grid in grids]
        self._entry = ENTRY * settings.layer_count

    def of(self, n: int) -> Share | None:
        """Of tensor n; None if no size is asked for. Raises BadRequest if nothing is left."""
        if self._left is None:
            return None
        least = sum(self._overheads[m] for m in self._sizes)
        if len(self._overheads) > 1 and self._left <= least:
            raise BadRequest(
                f"{self._total:.0f} bytes for {len(self._overheads)} tensors are too few: "
                f"what describes them takes more than {sum(self._overheads):.0f}"
            )
        part = self._sizes[n] / max(sum(self._sizes.values()), 1)
        levels = (self._left - least - self._entry * len(self._sizes)) * part
        overhead = self._overheads[n]
        return Share(overhead + self._entry + levels, overhead, len(self._sizes) == 1)

    def take(self, n: int, found: Candidate) -> None:
        """Tensor n has been given this design."""
        size = self._sizes.pop(n)
        if self._left is not None:
            self._left -= found.bits * max(size, 1) / 8 + self._overheads[n]


def _overhead(grid: Grid, files: int, settings: Settings) -> float:
    """Bytes of the file for one of so many tensors, other than its payloads and entry in TENS."""
    layers = settings.layer_count
    names = sum(len(layer_name(n)) for n in range(layers))
    fixed = len(layout.SIGNATURE) + 4 * layout.CHUNK_OVERHEAD + 8 + 2 + 40 + len(MODEL)
    fixed += layers * (layout.CHUNK_OVERHEAD + 1 + 23) + names
    return fixed / files + layout.TILE_STRUCT.size * layers * len(grid.parts)


# -- the design of one ---------------------------------------------------------------------


def design_for(tensor: Tensor, stats: Statistics, settings: Settings) -> Design:
    """The design that the settings ask for; raises BadRequest for what is out of reach."""
    grid = grid_of(tensor, settings)
    share = Shares([tensor], [grid], settings).of(0)
    return found_for(tensor, grid, stats, settings, share).design


def found_for(
    tensor: Tensor,
    grid: Grid,
    stats: Statistics,
    settings: Settings,
    share: Share | None,
) -> Candidate:
    """The same for a tensor that may take a share of a file, with about its bits; without a share
    nobody asks for these, and they are 0."""
    elements = tensor.values.size
    if stats.constant or share is None:
        design = designs.plain(stats, grid, settings, tensor.kind)
        if share is None:
            return Candidate(design, 0.0, 0.0)
        entry = Work(tensor, grid, design).entry(settings.coder)
        return Candidate(design, 0.0, 8 * entry_bytes(entry) / max(elements, 1))
    wanted = 8 * (share.bytes - share.overhead) / elements
    if wanted <= 0:
        raise BadRequest(
            f"{share.bytes:.0f} bytes for {tensor.called} are too few: "
            f"what describes it takes {share.overhead:.0f}"
        )
    aim = Aim(tensor, stats, grid, settings, wanted, share)
    basis = settings.calibration.basis(tensor, grid) if settings.calibration else None
    whole = aim._replace(grid=replace(grid, whole=basis is not None))
    possible = settings.transform is not False and transforms.possible(whole.grid, stats, settings)
    if not possible and (settings.transform or basis):
        raise BadRequest(
            f"{tensor.called} cannot be transformed",
            hint="a transform needs whole planes in a tile, and no other choices; "
            "a basis needs all channels of an item there",
        )
    if settings.transform:
        found = _transformed(whole, basis)
        if found.source.cut(found.design.transform, stats):
            raise BadRequest(
                f"{tensor.called} cannot be transformed: its values are too far from 0 for steps "
                "of this size",
                hint="leave the choice to the encoder, or subtract their mean first",
            )
        _check_reached(aim, found.bits)
        return found
    found = _quantised(aim)
    if basis or (
        possible
        and (not found.near or transforms.may_pay(tensor, grid, stats, settings, found.error))
    ):
        other = _transformed(whole, basis, found.error)
        better = (other.error < found.error or not found.near) and _reached(aim, other.bits)
        if better and not other.source.cut(other.design.transform, stats):
            found = other
    if not found.near:
        _check_reached(aim, found.bits)
    return found


class Aim(NamedTuple):
    """A tensor and the size that its design has to meet."""

    tensor: Tensor
    stats: Statistics
    grid: Grid
    settings: Settings
    wanted: float  # bits per element, of payloads and of the entry in TENS
    share: Share


class Candidate(NamedTuple):
    """A design near the size that was asked for, about its mean squared error, and its bits per
    element; whether it is the nearest of many, or that size is beyond all of them."""

    design: Design
    error: float
    bits: float
    source: Coefficients | None = None
    near: bool = True


def _transformed(aim: Aim, basis: Basis | None, error: float | None = None) -> Candidate:
    """The design with a transform nearest to the size that was asked for; error: that of another
    one."""
    tensor, stats, grid, settings, wanted, _ = aim
    elements = tensor.values.size
    source = Coefficients(tensor, grid, settings, basis, transforms.rectified_limits(stats))
    entry = Work(tensor, grid, transforms.design(source, stats)).entry(settings.coder)
    described = entry_bytes(entry)
    size = wanted * elements / 8 - described
    found = transforms.search(source, stats, size, error)
    bits = 8 * (found.bytes + described) / elements
    return Candidate(found.design, found.error, bits, source)


def _reached(aim: Aim, bits: float) -> bool:
    """Whether a design of so many bits per element is near enough to a rate."""
    near = max(RATE_TOLERANCE * aim.wanted, WORDS / aim.tensor.values.size)
    return aim.settings.rate is None or abs(bits - aim.wanted) <= near


def _check_reached(aim: Aim, bits: float) -> None:
    """Raises BadRequest if a design of so many bits per element is too far from a rate."""
    rate, elements = aim.settings.rate, aim.tensor.values.size
    if aim.share.last and not _reached(aim, bits):
        raise BadRequest(
            f"{rate} bits per element are out of reach for {aim.tensor.called}; "
            f"the nearest are {bits + 8 * aim.share.overhead / elements:.4f}",
            hint="--max-abs-error and --levels are not bound to a rate",
        )


def _quantised(aim: Aim) -> Candidate:
    """The design without a transform that has the size that was asked for."""
    tensor, stats, grid, settings, wanted, _ = aim
    elements = tensor.values.size

    def size(design: Design) -> int:
        work = Work(tensor, grid, design)
        code([work], settings, check=False)
        return work.payload_bytes + entry_bytes(work.entry(settings.coder))

    limits, offsets = filters.limits_of(stats), None
    if _may_shift(grid, settings, wanted):
        stats, offsets = _shifted(aim, size)
    filtering = settings.filter if limits else False

    def bits_of(design: Design) -> float:
        nonlocal filtering
        design = replace(design, offsets=offsets)
        bytes_ = size(design)
        if filtering is None:  # as it pays, and the first design tells for all
            filtering = filters.pay(tensor, grid, design, stats, settings, wanted)
        return 8 * (bytes_ + filters.size(design) * filtering) / elements

    found = search(wanted, stats, grid, settings, bits_of)
    # Between two designs the nearest one is what there is; beyond all of them nothing is near.
    near = found.between or _reached(aim, found.bits)
    design = replace(found.design, offsets=offsets)
    share = 1.0
    if filtering:
        design, share = filters.with_filters(tensor, grid, design, settings, limits)
    error = share * stats.sample.error(design.embedded.finest)
    return Candidate(design, error, found.bits, near=near)


def _may_shift(grid: Grid, settings: Settings, wanted: float) -> bool:
    """Whether offsets are asked for, or may pay at a rate of `wanted` bits per element."""
    if settings.offsets is not None:
        return settings.offsets
    usual = settings.kind == "dead-zone" and isinstance(settings.clip, str)
    return usual and grid.channels > 1 and wanted <= FINE


def _shifted(aim: Aim, size: Callable[[Design], int]) -> tuple[Statistics, Offsets | None]:
    """Statistics and offsets: those of the channels' means if they lower the error at `wanted`
    bits per element, else the statistics as they are, and None."""
    tensor, stats, grid, settings, wanted, _ = aim
    offsets = channel_offsets(tensor, settings)
    if offsets is None:
        return stats, None
    moved = gather(tensor, settings, offsets=offsets)
    if moved.constant:
        return stats, None

    def error(of: Statistics, less: Offsets | None) -> float:
        """What it would be at `wanted`, from one encoding, as sizes follow entropies."""
        zones = DeadZones(of, grid, settings)
        bits = 8 * size(replace(zones.at(wanted), offsets=less)) / tensor.values.size
        return zones.error(wanted * wanted / bits)

    if settings.offsets or error(moved, offsets) < error(stats, None):
        return moved, offsets
    return stats, None


# -- nearest to a rate -----------------------------------------------------------------------


class Found(NamedTuple):
    """A design, the bits per element that it was coded with, and whether more and fewer exist."""

    design: Design
    bits: float
    between: bool = False


def search(
    wanted: float,
    stats: Statistics,
    grid: Grid,
    settings: Settings,
    bits_of: Callable[[Design], float],
) -> Found:
    """The design whose coded size comes nearest to `wanted` bits per element.

    bits_of codes with a design and tells the bits per element, side information and all. For
    max_bytes nothing above `wanted` is taken as long as something below was found. Where
    levels with a dead zone leave a gap and none were asked for, uniform ones are tried too; of two
    that are near enough the one with the smaller error is taken.
    """
    within = settings.max_bytes is not None
    # Where levels of one distance would be few among most values, or too far for some: see `wild`.
    uneven = stats.wild and stats.complete
    if settings.quantiser is None and wanted > FINE and not uneven:
        settings = replace(settings, quantiser="uniform")
    family = (DeadZones if settings.kind == "dead-zone" else Family)(stats, grid, settings)
    found = _nearest(wanted, family, bits_of, within)
    if settings.quantiser is None and abs(found.bits / wanted - 1) > 4 * CLOSE:
        uniform = Family(stats, grid, replace(settings, quantiser="uniform"))
        other = _nearest(wanted, uniform, bits_of, within)
        between = found.between or other.between
        costs = [_miss(one.bits, wanted, within) for one in (found, other)]
        plain = found.design.coarser is None and other.design.coarser is None
        if plain and max(costs) <= max(RATE_TOLERANCE * wanted, WORDS / family.elements):
            costs = [family.error_of(found.design), uniform.error_of(other.design)]
        found = other if costs[1] < costs[0] else found
        return found._replace(between=between)
    return found


def _miss(bits: float, wanted: float, within: bool) -> float:
    over = bits > wanted and within
    return abs(bits - wanted) + (1e6 if over else 0)


def _nearest(wanted: float, family: Family | DeadZones, bits_of, within: bool) -> Found:
    """The coded size is nearly proportional to the entropy, so a few tries are enough."""
    tried: list[Found] = []
    low, high = 0.0, math.inf  # entropies that are known to be too small and too large
    aim = wanted * (1 - CLOSE if within else 1)
    entropy, streak = min(aim, math.log2(family.elements) + 1), 0
    for _ in range(TRIES):
        design = family.at(entropy)
        tried.append(Found(design, bits_of(design)))
        bits = tried[-1].bits
        if _miss(bits, wanted, within) < 2 * CLOSE * wanted:
            break
        below = bits < wanted
        low, high = (entropy, high) if below else (low, entropy)
        # Where sizes do not follow the entropy, longer and longer steps get to the other side.
        streak = streak + 1 if len(tried) > 1 and below == (tried[-2].bits < wanted) else 1
        entropy *= (aim / bits) ** streak
        if not low < entropy < high:
            entropy = (low + high) / 2 if math.isfinite(high) else 2 * low
    else:
        if low > 0 and math.isfinite(high):
            tried += _mixtures(aim, tried, bits_of)
    found = min(tried, key=lambda one: _miss(one.bits, wanted, within))
    if family.elements <= SMALL:
        near = WORDS / family.elements
        for design in family.every():
            tried.append(Found(design, bits_of(design)))
            if min(one.bits for one in tried[-2:]) > wanted + near:
                break  # finer ones are even larger
        fit = [one for one in tried if _miss(one.bits, wanted, within) <= near]
        found = min(fit, key=lambda one: family.error_of(one.design), default=found)
    return found._replace(between=low > 0 and math.isfinite(high))


def _mixtures(aim: float, tried: list[Found], bits_of) -> Iterator[Found]:
    """Designs between the two nearest ones: a share of each plane is coded as the coarser would.

    They fill the gap that many elements of one value leave, which change level together.
    """
    below = max((one for one in tried if one.bits <= aim), key=lambda one: one.bits)
    above = min((one for one in tried if one.bits > aim), key=lambda one: one.bits)
    few, many = (0.0, above.bits), (1.0, below.bits)
    for _ in range(MIXED):
        part = (few[1] - aim) / (few[1] - many[1])
        share = few[0] + part * (many[0] - few[0])
        coarser = below.design.embedded.finest
        mixed = replace(above.design, coarser=coarser, share=share)
        found = Found(mixed, bits_of(mixed))
        yield found
        if abs(found.bits - aim) < CLOSE * aim:
            return
        if found.bits > aim:
            few = share, found.bits
        else:
            many = share, found.bits
