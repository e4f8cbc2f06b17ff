"""Still pictures from files: the format is found by content, never by name."""

from __future__ import annotations

import importlib
import io
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from sccodec.errors import BadRequest, CodecError, Damaged, LimitExceeded, NotOurFile, Unsupported
from sccodec.media.deep import decode_deep, decode_deep_pnm, is_deep, read_pnm_header
from sccodec.media.metadata import collect, make_upright, orient
from sccodec.media.modes import CMYK_NOTE, add_colour_key, to_samples
from sccodec.media.picture import Picture, from_array

if TYPE_CHECKING:
    from PIL import Image, ImageFile

__all__ = ["DEFAULT_MAX_PIXELS", "from_pil", "read", "upright"]

DEFAULT_MAX_PIXELS = 2**28  # 16384 x 16384, 0.8 GB as 8-bit RGB

# Opened by class and not by Image.open, whose own limit is a global and cannot be per call.
PLUGINS = {
    "PNG": ("PngImagePlugin", "PngImageFile"),
    "JPEG": ("JpegImagePlugin", "JpegImageFile"),
    "WebP": ("WebPImagePlugin", "WebPImageFile"),
    "TIFF": ("TiffImagePlugin", "TiffImageFile"),
    "BMP": ("BmpImagePlugin", "BmpImageFile"),
    "PNM": ("PpmImagePlugin", "PpmImageFile"),
    "GIF": ("GifImagePlugin", "GifImageFile"),
}
SAMPLE_FORMAT, SIGNED = 339, 2  # a TIFF tag and one of its values
# What a PNG without a profile is taken for, in its own units: sRGB.
GAMMA = (45455,)
PRIMARIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
CICP_SRGB = bytes([1, 13])  # its primaries and transfer function
READABLE = "PNG, JPEG, WebP, TIFF, BMP, PPM, PGM, PBM and GIF of one frame"

# Words in Pillow's messages about sound files that it cannot decode.
BEYOND_PILLOW = (
    "unknown pixel mode",
    "unsupported",
    "cannot handle",
    "not available",
    "not implemented",
)


def read(
    source: str | os.PathLike | bytes | BinaryIO,
    *,
    name: str | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Picture:
    """The upright picture in a path, in bytes or in an open binary file.

    One bit becomes 8-bit gray; a palette becomes RGB, or gray if all its colours are gray
    and no profile speaks of colour; CMYK becomes sRGB. `name` is what errors call it.
    """
    data, name = _load(source, name)
    kind = identify(data, name)
    try:
        return _decode(data, kind, max_pixels)
    except CodecError as error:
        raise type(error)(f"{name}: {error}", hint=error.hint) from error.__cause__
    except Exception as error:
        # Pillow lets a dozen kinds of exception through when bytes are wrong: SyntaxError,
        # OSError, KeyError, struct.error, ... A reader of files must know one.
        detail = str(error) or type(error).__name__
        if type(error).__name__ == "DecompressionBombError":
            # Its own limit, which it keeps for a canvas that it sets up while opening.
            raise LimitExceeded(
                f"{name}: {kind} picture is larger than Pillow allows: {detail}",
                hint="PIL.Image.MAX_IMAGE_PIXELS sets that limit",
            ) from error
        if any(words in detail.lower() for words in BEYOND_PILLOW):
            raise Unsupported(
                f"{name}: {kind} of a kind that cannot be read: {detail}",
                hint="convert it to PNG first",
            ) from error
        raise Damaged(f"{name}: {kind} picture is damaged or cut short: {detail}") from error


def from_pil(image: Image.Image, *, loaded: bool = False) -> Picture:
    """The current frame of a Pillow image, upright, with the metadata in its info.

    What Pillow has cut to 8 bits on opening stays so; `read` keeps 16.
    """
    bits = _stored_bits(image)
    return _finish(image, lambda: to_samples(image, bits), loaded)


def _stored_bits(image: Image.Image) -> int:
    """Bits of the samples in a PNG that Pillow has opened and not loaded; 8 if nothing tells."""
    tiles = getattr(image, "tile", None)
    if image.format != "PNG" or not tiles or not isinstance(tiles[0].args, str):
        return 8
    depth = tiles[0].args.partition(";")[2].rstrip("B")
    return int(depth) if depth.isdecimal() else 8


def _load(source, name: str | None) -> tuple[bytes, str]:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), name or "picture"
    if hasattr(source, "read"):
        return source.read(), name or str(getattr(source, "name", "picture"))
    try:
        with open(source, "rb") as file:
            return file.read(), name or os.fspath(source)
    except OSError as error:
        raise BadRequest(f"{name or source}: {(error.strerror or str(error)).lower()}") from error


def identify(data: bytes, name: str = "picture") -> str:
    """The name of the format, by its first bytes."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3] in b" \t\n\r\v\f#" and data[2:]:
        return "PNM"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    what = "is empty" if not data else "is not a picture of a known format"
    raise NotOurFile(f"{name}: {what}", hint=f"known formats: {READABLE}")


def _decode(data: bytes, kind: str, max_pixels: int) -> Picture:
    if kind == "WebP":  # Pillow sets up the canvas as it opens the file
        _check_size(_webp_size(data), max_pixels)
    if kind == "PNM":
        width, height, maximum, _ = read_pnm_header(data)
        _check_size((width, height), max_pixels)
        if maximum > 255:
            notes = () if maximum == 65535 else (f"samples of 0..{maximum} scaled to 16 bits",)
            return from_array(decode_deep_pnm(data), notes=notes)

    if data.startswith(b"MM\0+"):
        raise Unsupported("big-endian BigTIFF", hint="save it as classic or little-endian TIFF")

    def open_again() -> ImageFile.ImageFile:
        module, name = PLUGINS[kind]
        return getattr(importlib.import_module(f"PIL.{module}"), name)(io.BytesIO(data))

    image = open_again()
    _check_size(image.size, max_pixels)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 or getattr(image, "is_animated", False):
        raise Unsupported(
            f"{kind} file of {frames} pictures, where one is expected",
            hint="extract one frame first",
        )
    if kind == "TIFF" and SIGNED in image.tag_v2.get(SAMPLE_FORMAT, ()):
        raise Unsupported("TIFF with signed samples", hint="convert it to unsigned ones first")
    if is_deep(image, data):
        picture = _finish(image, lambda: (decode_deep(image, open_again), ()))
    else:
        picture = _finish(image, lambda: to_samples(image, data[24] if kind == "PNG" else 8))
    return replace(picture, notes=picture.notes + _colour_notes(data)) if kind == "PNG" else picture


def _colour_notes(data: bytes) -> tuple[str, ...]:
    """What a PNG says of its colours other than by a profile, if it is not what all assume."""
    chunks, at = {}, 8
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IDAT":
        (length,) = struct.unpack_from(">I", data, at)
        chunks[data[at + 4 : at + 8]] = data[at + 8 : at + 8 + length]
        at += 12 + length
    if b"cICP" in chunks:
        usual = chunks[b"cICP"][:2] == CICP_SRGB
        return () if usual else ("code points of the colour space (cICP) not kept",)
    if chunks.keys() & {b"iCCP", b"sRGB"}:
        return ()
    told = (("gamma", b"gAMA", GAMMA), ("primaries", b"cHRM", PRIMARIES))
    return tuple(
        f"{words} ({kind.decode()}) not kept"
        for words, kind, usual in told
        if kind in chunks and not _near(chunks[kind], usual)
    )


def _near(raw: bytes, usual: tuple[int, ...]) -> bool:
    """Whether a chunk of numbers in units of 1/100000 holds about these."""
    if len(raw) != 4 * len(usual):
        return False
    numbers = struct.unpack(f">{len(usual)}I", raw)
    return all(abs(a - b) <= 1000 for a, b in zip(numbers, usual, strict=True))


def _finish(
    image: Image.Image, decode: Callable[[], tuple[np.ndarray, tuple]], loaded: bool = False
) -> Picture:
    """Joins pixels and metadata.

    Loading a TIFF turns it upright and forgets how it was, so its metadata comes first;
    loading a PNG finds the chunks behind the pixels, so its metadata comes last.
    """
    found = collect(image) if image.format == "TIFF" and not loaded else None
    array, notes = decode()
    metadata, dpi = found or collect(image)
    if found is None:
        array = add_colour_key(array, image.info.get("transparency"))
    if CMYK_NOTE in notes:
        metadata.pop("icc", None)  # it describes inks that are no longer there
    return upright(array, metadata, dpi, notes, turned=found is not None)


def upright(
    array: np.ndarray,
    metadata: dict[str, bytes],
    dpi: tuple[float, float] | None = None,
    notes: tuple[str, ...] = (),
    *,
    turned: bool = False,
) -> Picture:
    """The picture turned as its EXIF or XMP says, which then says "upright".

    `turned`: the pixels are upright already, only metadata and resolution are not.
    """
    metadata, orientation = make_upright(metadata)
    if dpi and orientation >= 5:
        dpi = dpi[::-1]
    if not turned:
        array = orient(array, orientation)
    return from_array(array, metadata=metadata, dpi=dpi, notes=notes)


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise LimitExceeded(
            f"{width} x {height} pixels, more than the limit of {max_pixels}",
            hint="raise the limit if you trust the file",
        )


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height from the first chunk, as RFC 9649 lays it out."""
    chunk, body = data[12:16], data[20:30]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", body, 6)
    return width & 0x3FFF, height & 0x3FFF
