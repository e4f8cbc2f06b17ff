"""The functions of `import sccodec`, one call each.

Each takes a path, bytes or an open file, and for an .scc file an http(s) address; an open file that
can seek must stay open as long as it is used, and only what is needed is read from it.
"""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sccodec.container import extract as copy_layers
from sccodec.container import (
    fit,
    from_bytes,
    from_file,
    from_stream,
    is_url,
    layer_selection,
    open_path,
    open_url,
    refuse_secret,
)
from sccodec.container import join as join_layers
from sccodec.container.describe import describe
from sccodec.container.reader import Reader
from sccodec.container.rules import environment_limits
from sccodec.errors import BadRequest

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from sccodec.codecs.calibration import Calibration
    from sccodec.codecs.image import Interest, Report
    from sccodec.media.image import Picture

    class Readable(Protocol):
        """A file that is open in binary mode."""

        def read(self, size: int = ..., /) -> bytes: ...

    Source = str | os.PathLike | bytes | bytearray | memoryview | Readable
    Layers = str | int | Iterable[str]

BYTES = (bytes, bytearray, memoryview)


def encode(
    source: np.ndarray | Image.Image | Picture | Mapping[str, np.ndarray] | Source,
    *,
    profile: str | None = None,
    quality: float | None = None,
    rate: float | None = None,
    max_bytes: int | None = None,
    step: int | None = None,
    tile: int | None = None,
    roi: Interest | tuple[int, int, int, int] | None = None,
    metadata: str | Iterable[str] = "all",
    jobs: int = 1,
    effort: int | None = None,
    **tensor_settings: Any,
) -> bytes:
    """A picture or a feature tensor -> the bytes of an .scc file.

    profile: "photo" or another model of pictures, or "tensor"; default: "tensor" for .npy, .npz
    and .safetensors files, dictionaries of arrays, and arrays that are no picture by their shape
    or type. For tensors see `sccodec.codecs.tensor_settings.Settings`: rate (bits per element),
    max_bytes, levels, max_abs_error, calibration (or its file), layers, clip, quantiser, others.

    Pictures: array (H, W[, 1..4]) uint8 or uint16, Pillow image, `Picture`, or picture file.
    At most one of quality (0..100, default 50), rate (bits per pixel of the whole file),
    max_bytes (never exceeded) and step (index 0..511; 32 more double the step).
    tile: pixels a side, a multiple of 64. roi: x, y, w, h in pixels, or an `Interest`.
    effort: 1 (fastest) to 9, default 5; decoding never gets slower. jobs: threads.
    metadata: "all", "none" or a list such as "icc,exif".
    Raises BadRequest, NotOurFile, Damaged, LimitExceeded, WrongModel.
    """
    from sccodec.media.tensor import is_tensor_name

    if is_url(source):
        refuse_secret(source)
        raise BadRequest(f"{source} is an address; what is encoded is a file here")
    _refuse_text(source)
    source = _array(source)
    if profile is None and (is_tensor_name(source) or _is_tensor(source)):
        profile = "tensor"
    if profile == "tensor":
        told = {"quality": quality, "step": step, "roi": roi, "effort": effort}
        told["metadata"] = None if metadata == "all" else metadata
        for name in (name for name, value in told.items() if value is not None):
            raise BadRequest(f"{name} is for pictures, not for tensors")
        if tile is not None:
            tensor_settings["tile"] = tile
        return _encode_tensor(source, rate=rate, max_bytes=max_bytes, jobs=jobs, **tensor_settings)
    from sccodec.codecs import image
    from sccodec.profiles.registry import find_for_encoding

    for name in tensor_settings:
        raise TypeError(f"encode() has no argument {name!r} for pictures")
    if roi is not None and not isinstance(roi, image.Interest):
        roi = image.Interest(roi)
    settings = image.Settings(
        quality,
        rate,
        max_bytes,
        step,
        tile,
        roi,
        metadata,
        jobs,
        effort=effort,
    )
    model = find_for_encoding(profile or "photo", effort)
    return image.encode(_picture(source), settings, model)


def _encode_tensor(source, **how) -> bytes:
    from sccodec.codecs import tensor
    from sccodec.media.image import Picture
    from sccodec.media.tensor import read

    if isinstance(source, Picture) or hasattr(source, "getbands"):
        raise BadRequest("a picture is no tensor", hint="the profile of pictures is photo")
    known = set(tensor.Settings.__dataclass_fields__)
    for name in set(how) - known:
        raise TypeError(f"encode() has no argument {name!r} for tensors")
    how["calibration"] = _calibration(how.get("calibration"))
    if isinstance(source, (str, os.PathLike, bytes)):
        source = read(source)
    elif hasattr(source, "read"):
        source = read(source.read())
    elif isinstance(source, Mapping):
        source = {name: _array(array) for name, array in source.items()}
    return tensor.encode(source, tensor.Settings(**how))


def _calibration(source: Calibration | str | os.PathLike | None) -> Calibration | None:
    if not isinstance(source, (str, os.PathLike)):
        return source
    from sccodec.codecs.calibration import Calibration

    return Calibration.read(source)


def _is_tensor(source) -> bool:
    """True for arrays that cannot be pictures, and for dictionaries of arrays."""
    from sccodec.media.tensor import Tensor

    if isinstance(source, (Mapping, Tensor)):
        return True
    if hasattr(source, "getbands") or not hasattr(source, "dtype"):
        return False
    shape = tuple(source.shape)
    flat = len(shape) == 2 or (len(shape) == 3 and 1 <= shape[2] <= 4)
    kind = getattr(source.dtype, "name", str(source.dtype))  # without the order of bytes
    return not flat or "float" in kind or kind == "int8"


def _array(source):
    """The values of a tensor of PyTorch, on whatever device; all else as it is.

    An open file can be detached too, but has no type of elements.
    """
    if not (hasattr(source, "detach") and hasattr(source, "dtype")):
        return source
    from sccodec.media.tensor import Tensor

    held = source.detach().cpu()
    if str(held.dtype) == "torch.bfloat16":  # which NumPy does not know: the upper half of float32
        bits = held.float().numpy().view("<u4") >> 16
        return Tensor("", bits.astype("<u2"), "bfloat16")
    return held.numpy()


def decode(
    source: Source,
    layers: Layers = "all",
    region: tuple[int, int, int, int] | None = None,
    *,
    allow_partial: bool = False,
    jobs: int = 1,
    calibration: Calibration | str | os.PathLike | None = None,
) -> np.ndarray | Any:
    """An .scc file -> array (H, W), (H, W, 2), (H, W, 3) or (H, W, 4), uint8 or uint16.

    A file of tensors gives the array, or a dictionary of arrays if they have names, in the type
    that was encoded (bfloat16 as float32).

    layers: "all", "base", names, or a number from the first; what they need is decoded too.
    region: x, y, w, h in pixels; only what it needs is read. `allow_partial` shows the layer
    below where a tile is damaged. calibration: the bases that tensors were encoded with, or their
    file. Raises NotOurFile, Damaged, WrongModel, BadRequest, ...
    """
    with open(source, allow_partial=allow_partial) as file:
        return file.decode(layers, region, jobs=jobs, calibration=calibration)


def extract(
    source: Source,
    layers: Layers | None = None,
    *,
    max_bytes: int | None = None,
) -> bytes:
    """The file with only these layers, default the base, or with as many from the first as fit in
    `max_bytes`."""
    if layers is not None and max_bytes is not None:
        raise BadRequest("layers and max_bytes exclude each other")
    with open(source) as file:
        if max_bytes is None:
            keep = layer_selection(file.header, "base" if layers is None else layers)
        else:
            keep = fit(file.reader, max_bytes)
        out = io.BytesIO()
        copy_layers(file.reader, keep, out)
        return out.getvalue()


def join(*sources: Source) -> bytes:
    """Files with different layers of one picture -> the file with all of them."""
    files = [open(source) for source in sources]
    try:
        out = io.BytesIO()
        join_layers([file.reader for file in files], out)
        return out.getvalue()
    finally:
        for file in files:
            file.close()


def info(source: Source) -> dict:
    """What `sccodec info --json` prints: sizes, layers, metadata; nothing is decoded."""
    with open(source) as file:
        return file.info()


def open(source: Source, *, allow_partial: bool = False) -> File:
    """Opens an .scc file; reads header and directory only."""
    return File(_reader(source, allow_partial), allow_partial)


class File:
    """An open .scc file: `header`, `layers`, `tiles`, and decoding on request."""

    def __init__(self, source: Reader, allow_partial: bool = False):
        self.reader = source
        self.allow_partial = allow_partial
        self.header = source.header
        self.report: Report | None = None  # of the last decode

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that the file holds, lowest first."""
        return tuple(layer.name for layer in self.header.layers)

    @property
    def tiles(self) -> dict[str, tuple]:
        """The directory: for each layer one entry a tile, in raster order."""
        return {layer.name: self.reader.tiles[layer.index] for layer in self.header.layers}

    def info(self) -> dict:
        return describe(self.reader)

    def picture(
        self,
        layers: Layers = "all",
        region: tuple[int, int, int, int] | None = None,
        *,
        jobs: int = 1,
    ) -> Picture:
        """Pixels with alpha, metadata and resolution; see `decode` for the arguments."""
        from sccodec.codecs import image

        picture, self.report = image.decode(
            self.reader, layers, box=region, allow_partial=self.allow_partial, jobs=jobs
        )
        return picture

    def tensors(
        self,
        layers: Layers = "all",
        names: Sequence[str] | None = None,
        *,
        jobs: int = 1,
        calibration: Calibration | str | os.PathLike | None = None,
    ) -> np.ndarray | Any:
        """The array, or a dictionary of arrays if they have names; `names` picks some."""
        from sccodec.codecs import tensor

        found, self.report = tensor.decode(
            self.reader,
            layers,
            names=names,
            allow_partial=self.allow_partial,
            calibration=_calibration(calibration),
            jobs=jobs,
        )
        if len(found) == 1 and not found[0].name:
            return found[0].array()
        return {one.name: one.array() for one in found}

    def decode(
        self,
        layers: Layers = "all",
        region: tuple[int, int, int, int] | None = None,
        *,
        jobs: int = 1,
        calibration: Calibration | str | os.PathLike | None = None,
    ) -> np.ndarray | Any:
        """The same as a plain array, gray as (H, W); tensors as `sccodec.decode` gives them."""
        if self.header.kind == "tensor":
            if region is not None:
                raise BadRequest("a region is for pictures, not for tensors")
            return self.tensors(layers, jobs=jobs, calibration=calibration)
        if calibration is not None:
            raise BadRequest("a calibration is for tensors, not for pictures")
        stacked = self.picture(layers, region, jobs=jobs).stacked()
        return stacked[:, :, 0] if stacked.shape[2] == 1 else stacked

    def progressive(
        self,
        region: tuple[int, int, int, int] | None = None,
        *,
        jobs: int = 1,
        calibration: Calibration | str | os.PathLike | None = None,
    ) -> Iterator[tuple[str, np.ndarray | Any]]:
        """(layer name, picture or tensors from all layers up to that one), lowest first."""
        for name in self.layers:
            yield name, self.decode(name, region, jobs=jobs, calibration=calibration)

    def close(self) -> None:
        self.reader.close()

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _reader(source: Source, allow_partial: bool) -> Reader:
    if isinstance(source, BYTES):
        return from_bytes(bytes(source), allow_partial=allow_partial)
    if is_url(source):
        return open_url(source, allow_partial=allow_partial)
    if isinstance(source, (str, os.PathLike)):
        return open_path(source, allow_partial=allow_partial)
    _refuse_text(source)
    if hasattr(source, "read"):
        # Before Python 3.13 an mmap can seek, but not say so.
        seekable = source.seekable() if hasattr(source, "seekable") else hasattr(source, "seek")
        name = getattr(source, "name", None)  # a number for a pipe
        named = {"name": name} if isinstance(name, str) and name else {}
        opener = from_file if seekable else from_stream
        return opener(source, allow_partial=allow_partial, **named)
    raise BadRequest(f"{type(source).__name__} is not a path, bytes or an open file")


def _refuse_text(source: object) -> None:
    if isinstance(source, (io.TextIOBase, codecs.StreamReaderWriter)):
        raise BadRequest("the file was opened as text", hint='open(..., "rb") gives its bytes')


def _picture(source) -> Picture:
    from sccodec.media import image

    if isinstance(source, image.Picture):
        return source
    if hasattr(source, "getbands"):  # asked first: __array_interface__ would load the image
        return image.from_pil(source)
    if hasattr(source, "__array_interface__"):
        return image.from_array(source)
    if not (isinstance(source, (str, os.PathLike, *BYTES)) or hasattr(source, "read")):
        kind = type(source).__name__
        raise BadRequest(f"{kind} is not an array, an image, a path, bytes or an open file")
    return image.read(source, max_pixels=environment_limits().max_pixels)
