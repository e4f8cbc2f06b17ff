"""Still pictures to files, without loss except in JPEG."""

from __future__ import annotations

import io
import os
import zlib
from typing import BinaryIO

import numpy as np

from sccodec.errors import BadRequest
from sccodec.media.deep import encode_png, encode_pnm
from sccodec.media.metadata import EXIF_PREFIX, tiff_tags
from sccodec.media.picture import Picture, to_pil

__all__ = ["guess_format", "supported_formats", "write"]

EXTENSIONS = {
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "webp": (".webp",),
    "tiff": (".tif", ".tiff"),
    "bmp": (".bmp", ".dib"),
    "ppm": (".ppm", ".pgm", ".pnm"),
}

NO_ALPHA = ("jpeg", "bmp", "ppm")
NO_DEEP = ("jpeg", "webp", "bmp")
LARGEST_SIDE = {"jpeg": 65535, "webp": 16383}  # what their headers can say
KEEPS = {  # which metadata has a place in the format
    "png": ("icc", "exif", "xmp", "dpi"),
    "jpeg": ("icc", "exif", "xmp", "dpi"),
    "webp": ("icc", "exif", "xmp"),
    "tiff": ("icc", "exif", "xmp", "dpi"),
    "bmp": ("dpi",),
    "ppm": (),
}
STRIP_BYTES = 2**20  # of a TIFF, before compression: readers need not hold it all
LARGEST_IN_JPEG = {"exif": 65527, "xmp": 65504}  # one segment, less its length and its name


def supported_formats() -> dict[str, tuple[str, ...]]:
    """The formats that can be written, each with its file name extensions."""
    return dict(EXTENSIONS)


def guess_format(path: str | os.PathLike) -> str:
    """The format that the extension of a file name asks for."""
    extension = os.path.splitext(os.fspath(path))[1].lower()
    for name, extensions in EXTENSIONS.items():
        if extension in extensions:
            return name
    known = " ".join(extension for extensions in EXTENSIONS.values() for extension in extensions)
    raise BadRequest(
        f"{os.fspath(path)}: no picture format has the extension {extension!r}",
        hint=f"extensions are {known}",
    )


def _named_format(format: str) -> str:
    wanted = format.lower().removeprefix(".")
    for name, extensions in EXTENSIONS.items():
        if wanted == name or f".{wanted}" in extensions:
            return name
    raise BadRequest(f"unknown format {format!r}", hint=f"formats are {', '.join(EXTENSIONS)}")


def write(
    picture: Picture,
    target: str | os.PathLike | BinaryIO,
    *,
    format: str | None = None,
    quality: int = 95,
    smallest: bool = False,
) -> tuple[str, ...]:
    """Write to a path or an open binary file; return notes on metadata that had no place.

    `format` is a name in supported_formats() or an extension; without it, the extension of
    the path decides. `quality` is that of JPEG, 1 to 100, always with full colour (4:4:4).
    `smallest` takes more time for a smaller PNG of 8 bits.
    Gray becomes RGB in WebP, which has no gray; nothing else changes, or the call is refused.
    """
    to_stream = hasattr(target, "write")
    if format is None and to_stream:
        raise BadRequest("a stream has no extension, so the format must be given")
    name = guess_format(target) if format is None else _named_format(format)
    if not 1 <= quality <= 100:
        raise BadRequest(f"quality {quality} is not in 1..100")
    _refuse_what_does_not_fit(picture, name)
    fitting, notes = _what_fits(picture, name)
    data = _encode(picture, fitting, name, quality, smallest)
    if to_stream:
        target.write(data)
    else:
        with open(target, "wb") as file:
            file.write(data)
    return notes


def _refuse_what_does_not_fit(picture: Picture, name: str) -> None:
    if picture.alpha is not None and name in NO_ALPHA:
        raise BadRequest(
            f"{name.upper()} cannot hold alpha",
            hint="write PNG, WebP or TIFF, or drop alpha first",
        )
    if picture.bit_depth == 16 and name in NO_DEEP:
        raise BadRequest(
            f"{name.upper()} cannot hold 16 bits",
            hint="write PNG, TIFF or PPM, or scale to 8 bits first",
        )
    if picture.bit_depth == 16 and name == "tiff" and picture.stacked().shape[2] == 2:
        # Neither Pillow nor many viewers read it.
        raise BadRequest("TIFF with gray and alpha of 16 bits is not written", hint="write PNG")
    limit = LARGEST_SIDE.get(name)
    if limit and max(picture.height, picture.width) > limit:
        raise BadRequest(
            f"{picture.width} x {picture.height} is too large for {name.upper()}, "
            f"whose sides end at {limit}",
            hint="write PNG or TIFF",
        )


def _what_fits(picture: Picture, name: str) -> tuple[dict, tuple[str, ...]]:
    """Metadata that the format can hold, resolution among it, and words on the rest.

    EXIF is a payload, for TIFF a dictionary of tags.
    """
    present = {**picture.metadata, **({"dpi": picture.dpi} if picture.dpi else {})}
    fitting, notes = {}, []
    for kind, value in present.items():
        words = "resolution" if kind == "dpi" else kind.upper()
        if kind not in KEEPS[name]:
            notes.append(f"{words} not kept: {name.upper()} has no place for it")
        elif name == "jpeg" and len(value) > LARGEST_IN_JPEG.get(kind, len(value)):
            notes.append(f"{words} not kept: {len(value)} bytes are too many for JPEG")
        elif name == "tiff" and kind == "exif":
            fitting[kind], whole = tiff_tags(value)
            if not whole:
                notes.append("EXIF not kept whole: some of it is damaged")
        else:
            fitting[kind] = value
    return fitting, tuple(notes)


def _encode(picture: Picture, fitting: dict, name: str, quality: int, smallest: bool) -> bytes:
    if name == "ppm":
        return encode_pnm(picture.pixels)
    if name == "tiff":
        return _encode_tiff(picture, fitting)
    if name == "png" and picture.bit_depth == 16:
        return encode_png(picture.stacked(), fitting, fitting.get("dpi"))
    options = {"icc_profile": fitting.get("icc", b"")}
    if "dpi" in fitting or name == "bmp":
        options["dpi"] = fitting.get("dpi", (0, 0))  # unknown, where Pillow would write 96
    if "exif" in fitting:
        options["exif"] = EXIF_PREFIX + fitting["exif"] if name == "jpeg" else fitting["exif"]
    if name == "png" and "xmp" in fitting:
        options["pnginfo"] = _xmp_for_png(fitting["xmp"])
    elif "xmp" in fitting:
        options["xmp"] = fitting["xmp"]
    if name == "jpeg":
        options |= {"quality": quality, "subsampling": "4:4:4"}
    if name == "png":
        # A third of the time of Pillow's level 6, for files of photos within 6 % of its size.
        options["compress_level"] = 9 if smallest else 3
    if name == "webp":
        options |= {"lossless": True, "exact": True}  # exact: colours below alpha 0 stay
    image = to_pil(picture)
    image.info.clear()  # what does not fit must not slip in from there
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


def _xmp_for_png(xmp: bytes):
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    return info


def _encode_tiff(picture: Picture, fitting: dict) -> bytes:
    """Deflated strips with differences to the left; Pillow's directory, our samples."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    samples = picture.stacked()
    height, width, channels = samples.shape
    differences = np.diff(samples, axis=1, prepend=samples.dtype.type(0))
    differences = differences.astype(samples.dtype.newbyteorder("<"), copy=False)
    rows = max(1, STRIP_BYTES // differences[0].nbytes)
    strips = [
        zlib.compress(differences[top : top + rows].tobytes(), 6) for top in range(0, height, rows)
    ]
    lengths = [len(strip) for strip in strips]
    tags = ImageFileDirectory_v2()  # little-endian
    for tag, value in fitting.get("exif", {}).items():
        tags[tag] = value
    tags[256], tags[257] = width, height
    tags[258] = (picture.bit_depth,) * channels
    tags[259] = 8  # deflate
    tags[262] = 1 if picture.channels == 1 else 2  # black is zero, or RGB
    # Where the strips start, counted from the end of the directory; saving it adds that.
    tags[273] = tuple(sum(lengths[:number]) for number in range(len(strips)))
    tags[277] = channels
    tags[278] = rows
    tags[279] = tuple(lengths)
    tags[284] = 1  # interleaved
    tags[317] = 2  # differences
    if picture.alpha is not None:
        tags[338] = 2  # unassociated alpha
    if "dpi" in fitting:
        tags[282], tags[283] = fitting["dpi"]
        tags[296] = 2  # per inch
    for kind, tag in (("icc", 34675), ("xmp", 700)):
        if kind in fitting:
            tags[tag] = fitting[kind]
    tags.tagtype[700] = 1  # bytes
    stream = io.BytesIO()
    tags.save(stream)
    return stream.getvalue() + b"".join(strips)
