"""Tensor files <-> arrays: .npy, .npz and .safetensors, by content; nothing is ever unpickled.

A `.npy` file is mapped into memory, not read, and so is each tensor of a `.safetensors` file. That
format is simple (a length, JSON, bytes), so it is read here: its package gives no bfloat16 to
NumPy and wants a whole tensor in memory.
"""

from __future__ import annotations

import functools
import io
import itertools
import json
import math
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from zipfile import ZipFile

import numpy as np

from sccodec.errors import (
    SENSELESS_JSON,
    BadRequest,
    CodecError,
    Damaged,
    LimitExceeded,
    NotOurFile,
    Unsupported,
)

SUFFIXES = (".npy", ".npz", ".safetensors")
MAX_SAFETENSORS_HEADER = 100_000_000  # bytes; the limit of that format
BLOCK = 1 << 20  # elements that are looked at together
NATIVE = ("float32", "float16", "float64", "int8")
_SAFE = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2", "I8": "|i1"}
_SAFE_NAMES = {"float32": "F32", "float16": "F16", "float64": "F64", "bfloat16": "BF16"}
_SAFE_NAMES["int8"] = "I8"


@dataclass(frozen=True)
class Tensor:
    """A named array. kind: the type of its elements; bfloat16 is held as its bits in uint16."""

    name: str
    values: np.ndarray
    kind: str

    @property
    def called(self) -> str:
        """The tensor, as messages speak of it."""
        return called(self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def floats(self, part: np.ndarray | None = None) -> np.ndarray:
        """Elements, or a part of `values`, as float32, or float64 where float32 is too narrow."""
        part = self.values if part is None else part
        if self.kind == "bfloat16":
            return widened(part)
        return part.astype(np.float64 if self.kind == "float64" else np.float32, copy=False)

    @functools.cached_property
    def finite_range(self) -> tuple[float, float]:
        """The least and the largest of its finite elements; (0, 0) if there are none."""
        low, high = math.inf, -math.inf
        flat = self.values.reshape(-1)
        for at in range(0, flat.size, BLOCK):
            part = self.floats(flat[at : at + BLOCK])
            usual = part[np.isfinite(part)]
            if usual.size:
                low, high = min(low, float(usual.min())), max(high, float(usual.max()))
        return (low, high) if low <= high else (0.0, 0.0)

    def array(self) -> np.ndarray:
        """A plain NumPy array; bfloat16 becomes float32, which holds the same numbers."""
        return widened(self.values) if self.kind == "bfloat16" else self.values


def called(name: str) -> str:
    """A tensor of this name, as messages speak of it."""
    return f"the tensor {name!r}" if name else "the tensor"


def widened(bits: np.ndarray) -> np.ndarray:
    """bfloat16 as uint16 bits -> the same numbers as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrowed(values: np.ndarray) -> np.ndarray:
    """float32 -> the bits of the nearest bfloat16, ties to even, as uint16; finite values only."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    # What would round up to infinity stays the largest finite number.
    over = (rounded & 0x7F80) == 0x7F80
    return np.where(over, rounded - 1, rounded).astype(np.uint16)


def from_array(array, name: str = "") -> Tensor:
    """A tensor of anything that NumPy takes for an array of a known type.

    Raises BadRequest for other types, objects among them.
    """
    if isinstance(array, Tensor):
        return replace(array, name=name)
    array = np.asarray(array)
    if array.dtype.name == "bfloat16":  # of the package ml_dtypes
        return Tensor(name, array.view(np.uint16), "bfloat16")
    kind = array.dtype.newbyteorder("=").name
    if kind not in NATIVE:
        raise BadRequest(
            f"{called(name)} holds {array.dtype.name}; known are {', '.join(NATIVE)} and bfloat16",
            hint="convert it first, for example with .astype('float32')"
            + ("; a picture is (H, W) or (H, W, 1..4)" if kind in ("uint8", "uint16") else ""),
        )
    return Tensor(name, array, kind)


def from_arrays(arrays: Mapping) -> list[Tensor]:
    """Named arrays as tensors, in their order. Raises BadRequest if there are none."""
    if not arrays:
        raise BadRequest("no tensors in the dictionary")
    for name in arrays:
        if not isinstance(name, str) or len(name.encode()) > 255:
            raise BadRequest(f"a tensor cannot be called {name!r}: a string of at most 255 bytes")
    return [from_array(array, name) for name, array in arrays.items()]


# -- reading -------------------------------------------------------------------------------


def is_tensor_name(name: object) -> bool:
    """True for a path that ends like a tensor file."""
    if not isinstance(name, (str, os.PathLike)):
        return False
    return os.fspath(name).lower().endswith(SUFFIXES)


def read(source: str | os.PathLike | bytes, name: str | None = None) -> list[Tensor]:
    """All tensors of a file on disk or in memory, told by its content.

    Raises NotOurFile, Damaged, Unsupported, LimitExceeded, BadRequest; OSError as `open` does.
    """
    path = None if isinstance(source, bytes) else Path(source)
    name = name or ("<bytes>" if path is None else str(path))
    with open(path, "rb") if path else io.BytesIO(source) as file:
        start = file.read(9)
        if start.startswith(b"\x93NUMPY"):
            return [_read_npy(path or source, name)]
        if start.startswith(b"PK"):
            file.seek(0)
            return _read_npz(file, name)
        if start[8:] == b"{":
            return _read_safetensors(path, source, name)
    raise NotOurFile(f"{name}: neither .npy, .npz nor .safetensors")


def _read_npy(source: Path | bytes, name: str) -> Tensor:
    try:
        if isinstance(source, bytes):
            array = np.load(io.BytesIO(source), allow_pickle=False)
        else:
            array = _mapped(source)
    except (ValueError, EOFError, OverflowError, SyntaxError, TypeError) as error:
        raise _refused(name, error) from None
    return _known(array, "", name)


def _mapped(path: Path) -> np.ndarray:
    """A .npy file as a view of the file; one without elements cannot be mapped."""
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        reader = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = reader(file)
        begin, length = file.tell(), os.fstat(file.fileno()).st_size
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    need = begin + math.prod(shape) * dtype.itemsize
    if length < need:
        raise ValueError(f"ends after {length} of {need} bytes")
    empty = 0 in shape or not shape
    return np.load(path, mmap_mode=None if empty else "r", allow_pickle=False)


def _read_npz(file: BinaryIO, name: str) -> list[Tensor]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return [_known(archive[key], key, name) for key in archive.files]
    except (CodecError, MemoryError):
        raise
    except RuntimeError as error:  # a password, or a compression that Python has not
        raise Unsupported(f"{name}: {_first_line(error)}") from None
    except Exception as error:  # zip, NumPy and each compression have their own
        raise _refused(name, error) from None


def _refused(name: str, error: Exception) -> Damaged | BadRequest:
    if "allow_pickle" in str(error):
        return BadRequest(
            f"{name}: holds Python objects, which are never unpickled",
            hint="save an array of numbers",
        )
    return Damaged(f"{name}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else "cannot be read"


def _known(array: np.ndarray, key: str, name: str) -> Tensor:
    try:
        return from_array(array, key)
    except BadRequest as error:
        raise BadRequest(f"{name}: {error}", hint=error.hint) from None


def _read_safetensors(path: Path | None, source, name: str) -> list[Tensor]:
    raw = np.frombuffer(source, np.uint8) if path is None else np.memmap(path, np.uint8, "r")
    (length,) = struct.unpack("<Q", raw[:8].tobytes())
    if length > MAX_SAFETENSORS_HEADER:
        raise LimitExceeded(f"{name}: a header of {length} bytes")
    if 8 + length > len(raw):
        raise Damaged(f"{name}: ends inside its header")
    try:
        header = json.loads(raw[8 : 8 + length].tobytes())
        entries = [(key, value) for key, value in header.items() if key != "__metadata__"]
        tensors = [_safe_tensor(raw[8 + length :], key, entry, name) for key, entry in entries]
    except SENSELESS_JSON as error:
        raise Damaged(f"{name}: its header makes no sense: {error}") from None
    return tensors


def _safe_tensor(data: np.ndarray, key: str, entry: dict, name: str) -> Tensor:
    kind, shape = entry["dtype"], tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if kind not in _SAFE:
        raise Unsupported(f"{name}: tensor {key!r} holds {kind}, known are {', '.join(_SAFE)}")
    dtype = np.dtype(_SAFE[kind])
    if not all(isinstance(n, int) and n >= 0 for n in (*shape, begin, end)):
        raise ValueError(f"tensor {key!r} has a negative number or a fraction")
    if not (begin <= end <= len(data) and end - begin == math.prod(shape) * dtype.itemsize):
        raise ValueError(f"tensor {key!r} does not lie where its shape says")
    part = data[begin:end]
    if begin % dtype.itemsize:
        part = part.copy()
    values = part.view(dtype).reshape(shape)
    named = {safe: ours for ours, safe in _SAFE_NAMES.items()}
    return Tensor(key, values, named[kind])


# -- writing -------------------------------------------------------------------------------


def write(tensors: Iterable[Tensor], out: BinaryIO, format: str) -> list[str]:
    """Writes "npy", "npz" or "safetensors"; returns notes on what the format cannot hold.

    Raises BadRequest for several tensors in a .npy file.
    """
    tensors, notes = list(tensors), []
    if format == "safetensors":
        _write_safetensors(tensors, out)
        return notes
    for tensor in tensors:
        if tensor.kind == "bfloat16":
            notes.append(f"{tensor.name or 'the tensor'}: bfloat16 written as float32")
    if format == "npz":
        _write_npz(tensors, out)
        return notes
    if len(tensors) != 1:
        raise BadRequest(
            f"{len(tensors)} tensors do not fit into one .npy file",
            hint="-o FILE.npz or FILE.safetensors holds them all, --tensor NAME picks one",
        )
    np.save(out, tensors[0].array(), allow_pickle=False)
    return notes


def _free(name: str, tensors: list[Tensor]) -> str:
    """A name for the tensor that has none: this one, or one that no other tensor has."""
    taken = {tensor.name for tensor in tensors}
    numbered = (f"{name}_{n}" for n in itertools.count(1))
    return next(one for one in itertools.chain([name], numbered) if one not in taken)


def _write_npz(tensors: list[Tensor], out: BinaryIO) -> None:
    """As numpy.savez does, which takes no tensor of the name "file"."""
    with ZipFile(out, "w") as archive:
        for tensor in tensors:
            name = f"{tensor.name or _free('arr_0', tensors)}.npy"
            with archive.open(name, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, tensor.array(), allow_pickle=False)


def _write_safetensors(tensors: list[Tensor], out: BinaryIO) -> None:
    header, at = {}, 0
    for tensor in tensors:
        code = _SAFE_NAMES[tensor.kind]
        size = tensor.values.size * np.dtype(_SAFE[code]).itemsize
        header[tensor.name or _free("tensor", tensors)] = {
            "dtype": code,
            "shape": list(tensor.shape),
            "data_offsets": [at, at + size],
        }
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data is aligned
    out.write(struct.pack("<Q", len(text)) + text)
    for tensor in tensors:
        dtype = _SAFE[_SAFE_NAMES[tensor.kind]]
        out.write(np.ascontiguousarray(tensor.values, dtype).tobytes())
