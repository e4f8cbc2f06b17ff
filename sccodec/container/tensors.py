"""The TENS chunk: names, shapes, element types and quantisers of the tensors in a file.

It is ancillary and safe to copy, so that layers come and go around it; a decoder of tensors needs
it. formats/tensor.md is the specification.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sccodec.container.record import Record
from sccodec.container.rules import MAX_NAMED_LAYERS, check_limit
from sccodec.errors import BadRequest, CodecError, Damaged, Unsupported

if TYPE_CHECKING:
    from sccodec.container.reader import Reader

CHUNK = "TENS"
KINDS = ("float32", "float16", "float64", "bfloat16", "int8")
CODERS = ("context", "unary")  # of quantised values
CODED = (*CODERS, "transform")
MOST_AXES = 32
NO_CHANNELS = 255
SHIFTED = 128  # added to the coder: channels have offsets
# Bits of a quantiser's form: limits only; float64 in place of float32; with a filter.
UNIFORM, WIDE, FILTERED = 1, 2, 4
MOST_UNARY = 256  # levels: an element takes a bin for each that is below its own
MOST_LEVELS = 1 << 24  # of all quantisers of a file: a decoder makes a table of each

TENSOR = Record(
    "tensor entry",
    ("name", "text"),
    ("kind", "B"),
    ("coder", "B"),
    ("axes", "B"),
    ("channel_axis", "B"),
)
SCALED = Record("quantised tensor", ("scales", "I"), ("layers", "B"))
TRANSFORM = Record(
    "transform",
    ("form", "B"),
    ("step", "f"),
    ("inward1", "b"),
    ("inward2", "b"),
    ("inward3", "b"),
    ("block_rows", "B"),
    ("block_columns", "B"),
)
# Bits of a transform's form: elements are clamped; a basis of channels; small ones are the least;
# finer layers.
LIMITED, BASED, SNAPPED, REFINED = 1, 2, 4, 8
FINER = Record(
    "finer layer",
    ("ratio", "B"),
    ("inward1", "b"),
    ("inward2", "b"),
    ("inward3", "b"),
    ("snap", "B"),
)
RATIO = 16  # a ratio of 1
BASIS_SIZE = 8  # bytes of the digest that names it
LIMITS = struct.Struct("<2f")
MOST_BLOCK = 32  # rows and columns of a block, and blocks along an axis
QUANTISER = Record("quantiser", ("form", "B"), ("levels", "I"))
FILTER = Record("filter", ("unit", "b"), ("shift", "B"), ("low", "f"), ("high", "f"))
TAPS = struct.Struct("<h3b")  # constant, beside, corner, mean
MOST_SHIFT = 8
MOST_SEEN = 1023  # units from the first level of a filtered quantiser to the last


@dataclass(frozen=True)
class LevelFilter:
    """What moves values by their neighbours; see `sccodec.latents.restoration`."""

    unit: int  # levels are seen in units of 2^unit, counted from the first level
    shift: int  # of the taps: they are in units of 2^-shift
    low: float  # elements are clamped to low..high
    high: float
    taps: tuple[tuple[int, int, int, int], ...]  # for each level: constant, beside, corner, mean


@dataclass(frozen=True)
class Grading:
    """The quantiser of one layer: its levels in the file's precision, or the two limits."""

    count: int
    values: tuple[float, ...]  # the limits if uniform, else all levels
    uniform: bool
    wide: bool = False  # float64
    filter: LevelFilter | None = None


@dataclass(frozen=True)
class Finer:
    """How the coefficients of a layer refine those of the layer below."""

    ratio: int  # 16ths: of how many of its steps that of the layer below is; above 16
    inward: tuple[int, int, int]  # as of a transform
    snap: int = 0


@dataclass(frozen=True)
class Transform:
    """How coefficients stand for elements; see `sccodec.latents.blocks`."""

    step: float  # of coefficients, a float32
    inward: tuple[int, int, int]  # 64ths of it, for magnitudes of 1, 2 and above
    block: tuple[int, int]  # rows and columns
    limits: tuple[float, float] | None = None  # float32, elements are clamped to them
    basis: bytes = b""  # digest of the basis of channels, which the file has not; or nothing
    snap: int = 0  # elements nearer to the lower limit than so many 64ths of the step are there
    finer: tuple[Finer, ...] = ()  # the layers above the base

    @property
    def layer_count(self) -> int:
        return 1 + len(self.finer)

    def layer(self, index: int) -> Transform:
        """What the base would be with the step, inward and snap of a layer."""
        found = replace(self, finer=())
        for finer in self.finer[:index]:
            step = found.step * RATIO / finer.ratio
            found = replace(found, step=step, inward=finer.inward, snap=finer.snap)
        return found


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the file."""

    name: str  # "" for the only tensor of a file that was given none
    kind: str  # see KINDS
    shape: tuple[int, ...]
    channel_axis: int | None
    layers: tuple[Grading, ...]  # coarse to fine
    children: tuple[tuple[int, ...], ...]  # for each layer but the last: cells below each level
    scales: bytes = b""  # one for each channel, or none
    coder: str = "context"
    offset_unit: int = 0  # offsets are in units of 2^this
    offsets: tuple[int, ...] = ()  # one for each channel, or none
    transform: Transform | None = None  # if the coder is "transform"; no layers are said then

    @property
    def layer_count(self) -> int:
        return self.transform.layer_count if self.transform else len(self.layers)

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def based(self) -> bool:
        """Whether components in a basis are coded, and not channels."""
        return self.transform is not None and bool(self.transform.basis)


def pack(tensors: Sequence[TensorEntry]) -> bytes:
    """Payload of TENS. Raises BadRequest or LimitExceeded for what has no room."""
    if len(tensors) > 65535:
        raise BadRequest(f"{len(tensors)} tensors, a file holds at most 65535")
    _check_levels(tensors)
    parts = [struct.pack("<H", len(tensors))]
    for tensor in tensors:
        axis = NO_CHANNELS if tensor.channel_axis is None else tensor.channel_axis
        values = {
            "name": tensor.name,
            "kind": KINDS.index(tensor.kind),
            "coder": CODED.index(tensor.coder) + SHIFTED * bool(tensor.offsets),
            "axes": len(tensor.shape),
            "channel_axis": axis,
        }
        parts.append(TENSOR.pack(values))
        parts += _transformed(tensor) if tensor.transform else _quantised(tensor)
    return b"".join(parts)


def _quantised(tensor: TensorEntry) -> Iterator[bytes]:
    """What follows the head of a tensor whose levels are coded."""
    yield SCALED.pack({"scales": len(tensor.scales), "layers": len(tensor.layers)})
    yield struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
    yield tensor.scales
    if tensor.offsets:
        numbers = (tensor.offset_unit, *tensor.offsets)
        yield struct.pack(f"<{len(numbers)}b", *numbers)
    for layer in tensor.layers:
        form = UNIFORM * layer.uniform | WIDE * layer.wide
        form |= FILTERED * (layer.filter is not None)
        yield QUANTISER.pack({"form": form, "levels": layer.count})
        letter = "d" if layer.wide else "f"
        yield struct.pack(f"<{len(layer.values)}{letter}", *layer.values)
        if layer.filter is not None:
            yield FILTER.pack(vars(layer.filter))
            yield from (TAPS.pack(*taps) for taps in layer.filter.taps)
    for counts in tensor.children:
        yield struct.pack(f"<{len(counts)}I", *counts)


def _transformed(tensor: TensorEntry) -> Iterator[bytes]:
    """What follows the head of a tensor whose coefficients are coded."""
    yield from map(_varint, tensor.shape)
    transform = tensor.transform
    rows, columns = transform.block
    form = LIMITED * (transform.limits is not None)
    form |= BASED * bool(transform.basis) | SNAPPED * bool(transform.snap)
    form |= REFINED * bool(transform.finer)
    yield TRANSFORM.pack(
        {
            "form": form,
            "step": transform.step,
            "block_rows": rows,
            "block_columns": columns,
        }
        | _by_name(transform.inward)
    )
    if transform.limits is not None:
        yield LIMITS.pack(*transform.limits)
    if transform.snap:
        yield bytes([transform.snap])
    yield transform.basis
    if transform.finer:
        yield bytes([transform.layer_count])
    for finer in transform.finer:
        yield FINER.pack({"ratio": finer.ratio, "snap": finer.snap} | _by_name(finer.inward))


def _varint(value: int) -> bytes:
    """Groups of 7 bits, the lowest first; all but the last have the bit 128."""
    found = bytearray()
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes((*found, value))


def read(reader: Reader) -> tuple[TensorEntry, ...]:
    """The tensors of an open file, none if it has no TENS chunk.

    Raises Damaged, Unsupported or LimitExceeded, with the name of the file and the chunk's place.
    """
    if CHUNK not in reader.metadata:
        return ()
    try:
        return unpack(reader.metadata[CHUNK])
    except CodecError as error:
        at = next(offset for kind, offset, _ in reader.structure() if kind == CHUNK)
        raise type(error)(
            f"{reader.name}: chunk {CHUNK} at byte {at}: {error}", hint=error.hint
        ) from None


def unpack(raw: bytes) -> tuple[TensorEntry, ...]:
    """The tensors of a TENS chunk, every field checked.

    Raises Damaged, Unsupported or LimitExceeded.
    """
    (count,), at = _numbers(raw, 0, "H", 1)
    tensors = []
    for _ in range(count):
        tensor, at = _unpack_tensor(raw, at)
        tensors.append(tensor)
    if at != len(raw):
        raise Damaged(f"{CHUNK} holds {len(raw) - at} bytes too many")
    _check_levels(tensors)
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names):
        raise Damaged(f"{CHUNK}: tensor names repeat")
    return tuple(tensors)


def _check_levels(tensors: Sequence[TensorEntry]) -> None:
    total = sum(layer.count for tensor in tensors for layer in tensor.layers)
    check_limit("levels of all tensors", total, MOST_LEVELS, MOST_LEVELS)
    unary = (
        layer.count for tensor in tensors if tensor.coder == "unary" for layer in tensor.layers
    )
    check_limit("levels of the unary coder", max(unary, default=0), MOST_UNARY, MOST_UNARY)


def _unpack_tensor(raw: bytes, at: int) -> tuple[TensorEntry, int]:
    values, at = TENSOR.unpack(raw, at)
    name = values["name"]
    where = f"{CHUNK}: tensor {name!r}"
    shifted, values["coder"] = divmod(values["coder"], SHIFTED)
    for field, known in (("kind", KINDS), ("coder", CODED)):
        if values[field] >= len(known):
            raise Unsupported(f"{where}: {field} {values[field]} is not known")
    if values["axes"] > MOST_AXES:
        raise Damaged(f"{where}: {values['axes']} axes")
    axis = None if values["channel_axis"] == NO_CHANNELS else values["channel_axis"]
    if axis is not None and axis >= values["axes"]:
        raise Damaged(f"{where}: channels in axis {axis} of {values['axes']}")
    head = {"name": name, "kind": KINDS[values["kind"]], "channel_axis": axis}
    head["coder"] = CODED[values["coder"]]
    if head["coder"] == "transform":
        if shifted:
            raise Unsupported(f"{where}: a transform with offsets")
        return _unpack_transformed(raw, at, values["axes"], head, where)
    axes = values["axes"]
    values, at = SCALED.unpack(raw, at)
    if not 1 <= values["layers"] <= MAX_NAMED_LAYERS:
        raise Damaged(f"{where}: {values['layers']} layers")
    shape, at = _numbers(raw, at, "Q", axes)
    if values["scales"] not in ((0,) if axis is None else (0, shape[axis])):
        raise Damaged(f"{where}: {values['scales']} scales, not one for each channel")
    scales = raw[at : at + values["scales"]]
    if len(scales) != values["scales"]:
        raise Damaged(f"{CHUNK} ends inside {name!r}")
    at += len(scales)
    offset_unit, offsets = 0, ()
    if shifted:
        if axis is None or not shape[axis]:
            raise Damaged(f"{where}: offsets of channels that it has not")
        (offset_unit,), at = _numbers(raw, at, "b", 1)
        offsets, at = _numbers(raw, at, "b", shape[axis])
    layers = []
    for _ in range(values["layers"]):
        layer, at = _unpack_grading(raw, at, where)
        layers.append(layer)
    children = []
    for coarse, fine in itertools.pairwise(layers):
        counts, at = _numbers(raw, at, "I", coarse.count)
        if sum(counts) != fine.count or min(counts) < 1:
            raise Damaged(f"{where}: {fine.count} levels do not refine {coarse.count}")
        children.append(counts)
    entry = TensorEntry(
        **head,
        shape=shape,
        layers=tuple(layers),
        children=tuple(children),
        scales=scales,
        offset_unit=offset_unit,
        offsets=offsets,
    )
    return entry, at


def _unpack_transformed(raw: bytes, at: int, axes: int, head: dict, where: str):
    """The entry of a tensor whose coefficients are coded, and where it ends."""
    shape = []
    for _ in range(axes):
        size, at = _unpack_varint(raw, at, where)
        shape.append(size)
    values, at = TRANSFORM.unpack(raw, at)
    if values["form"] & ~(LIMITED | BASED | SNAPPED | REFINED):
        raise Unsupported(f"{where}: a transform of form {values['form']}")
    limits = None
    if values["form"] & LIMITED:
        limits, at = _numbers(raw, at, "f", 2)
        if not (all(map(math.isfinite, limits)) and limits[0] <= limits[1]):
            raise Damaged(f"{where}: elements are clamped to {limits[0]}..{limits[1]}")
    block = values["block_rows"], values["block_columns"]
    step = values["step"]
    if not (math.isfinite(step) and step > 0) or not all(1 <= n <= MOST_BLOCK for n in block):
        raise Damaged(f"{where}: a step of {step} and blocks of {block[0]}x{block[1]}")
    snap, basis = 0, b""
    if values["form"] & SNAPPED:
        (snap,), at = _numbers(raw, at, "B", 1)
        if limits is None or not snap:
            raise Damaged(f"{where}: {snap} 64ths of a step from a limit, and limits are {limits}")
    if values["form"] & BASED:
        if head["channel_axis"] is None:
            raise Damaged(f"{where}: a basis of channels that it has not")
        numbers, at = _numbers(raw, at, "B", BASIS_SIZE)
        basis = bytes(numbers)
    finer = ()
    if values["form"] & REFINED:
        finer, at = _unpack_finer(raw, at, limits is not None, where)
    transform = Transform(step, _inward(values), block, limits, basis, snap, finer)
    return TensorEntry(**head, shape=tuple(shape), layers=(), children=(), transform=transform), at


def _by_name(inward: tuple[int, int, int]) -> dict[str, int]:
    return {f"inward{n}": value for n, value in enumerate(inward, 1)}


def _inward(values: dict) -> tuple[int, int, int]:
    return values["inward1"], values["inward2"], values["inward3"]


def _unpack_finer(raw: bytes, at: int, limited: bool, where: str):
    """The layers above the base, at least one, and where they end."""
    (count,), at = _numbers(raw, at, "B", 1)
    if not 2 <= count <= MAX_NAMED_LAYERS:
        raise Damaged(f"{where}: a transform in {count} layers")
    layers = []
    for _ in range(count - 1):
        values, at = FINER.unpack(raw, at)
        ratio, snap = values["ratio"], values["snap"]
        if ratio <= RATIO or (snap and not limited):
            raise Damaged(f"{where}: a layer with a ratio of {ratio} and a snap of {snap}")
        layers.append(Finer(ratio, _inward(values), snap))
    return tuple(layers), at


def _unpack_varint(raw: bytes, at: int, where: str) -> tuple[int, int]:
    """A number below 2^63 as `_varint` writes it, and where it ends."""
    value = 0
    for shift in range(0, 63, 7):
        (byte,), at = _numbers(raw, at, "B", 1)
        value |= (byte & 127) << shift
        if byte < 128:
            if shift and not byte:
                break
            return value, at
    raise Damaged(f"{where}: a size is longer than it needs to be")


def _unpack_grading(raw: bytes, at: int, where: str) -> tuple[Grading, int]:
    values, at = QUANTISER.unpack(raw, at)
    form, count = values["form"], values["levels"]
    if form & ~(UNIFORM | WIDE | FILTERED):
        raise Unsupported(f"{where}: a quantiser of form {form}")
    if not 1 <= count <= MOST_LEVELS:
        raise Damaged(f"{where}: {count} levels")
    uniform, wide = bool(form & UNIFORM), bool(form & WIDE)
    numbers, at = _numbers(raw, at, "d" if wide else "f", 2 if uniform else count)
    if not all(map(math.isfinite, numbers)) or list(numbers) != sorted(numbers):
        raise Damaged(f"{where}: levels are not finite and ascending")
    found = None
    if form & FILTERED:
        found, at = _unpack_filter(raw, at, count, numbers[-1] - numbers[0], where)
    return Grading(count, numbers, uniform, wide, found), at


def _unpack_filter(raw: bytes, at: int, count: int, span: float, where: str):
    values, at = FILTER.unpack(raw, at)
    end = at + TAPS.size * count
    if end > len(raw):
        raise Damaged(f"{where}: {CHUNK} ends inside the taps of a filter")
    low, high = values["low"], values["high"]
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise Damaged(f"{where}: a filter clamps to {low}..{high}")
    if values["shift"] > MOST_SHIFT or not span / 2.0 ** values["unit"] < MOST_SEEN + 0.5:
        raise Damaged(
            f"{where}: a filter of unit {values['unit']} and shift {values['shift']} "
            f"for levels that span {span:g}"
        )
    return LevelFilter(**values, taps=tuple(TAPS.iter_unpack(raw[at:end]))), end


def _numbers(raw: bytes, at: int, letter: str, count: int) -> tuple[tuple, int]:
    size = struct.calcsize(letter) * count
    if at + size > len(raw):
        raise Damaged(f"{CHUNK} ends inside its numbers")
    return struct.unpack_from(f"<{count}{letter}", raw, at), at + size
