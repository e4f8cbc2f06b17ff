"""ICC, EXIF, XMP and resolution: found, selected, and turned with the picture."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sccodec.errors import BadRequest
from sccodec.media.picture import Picture

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["KINDS", "parse_selection", "select_metadata"]

KINDS = ("icc", "exif", "xmp", "dpi")

EXIF_PREFIX = b"Exif\0\0"  # only JPEG needs it, so it is taken off everywhere
EXIF_IFD, GPS_IFD, ORIENTATION = 0x8769, 0x8825, 0x0112
PIXEL_WIDTH, PIXEL_HEIGHT = 0xA002, 0xA003
X_RESOLUTION = 282

# A TIFF file keeps these tags among those that describe its strips, which are not EXIF:
# ImageDescription, Make, Model, Orientation, Software, DateTime, Artist, HostComputer,
# Copyright, and the two directories that EXIF adds.
DESCRIPTIVE_TAGS = (270, 271, 272, ORIENTATION, 305, 306, 315, 316, 33432, EXIF_IFD, GPS_IFD)

XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>))(\d)")


def parse_selection(spec: str | Iterable[str]) -> frozenset[str]:
    """The kinds that "all", "none" or a list such as "icc,exif" names."""
    if spec == "all":
        return frozenset(KINDS)
    if spec == "none":
        return frozenset()
    try:
        names = [name.strip() for name in (spec.split(",") if isinstance(spec, str) else spec)]
    except (TypeError, AttributeError):
        names = [spec]
    for name in names:
        if name not in KINDS:
            raise BadRequest(
                f"unknown kind of metadata {name!r}",
                hint=f"give all, none, or a list of {', '.join(KINDS)}",
            )
    return frozenset(names)


def select_metadata(picture: Picture, spec: str) -> Picture:
    """The same picture with only the chosen metadata."""
    kept = parse_selection(spec)
    return replace(
        picture,
        metadata={kind: data for kind, data in picture.metadata.items() if kind in kept},
        dpi=picture.dpi if "dpi" in kept else None,
    )


def collect(image: Image.Image) -> tuple[dict[str, bytes], tuple[float, float] | None]:
    """Payloads and resolution of a Pillow image; a TIFF image must not be loaded yet."""
    info = image.info
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    if image.format == "TIFF" and "exif" not in info:
        exif = _exif_of_tiff(image)
    else:
        exif = info.get("exif") or _exif_in_text(info)
    found = {"icc": info.get("icc_profile"), "exif": exif, "xmp": xmp}
    metadata = {}
    for kind, payload in found.items():
        payload = payload.encode() if isinstance(payload, str) else bytes(payload or b"")
        if kind == "exif":
            while payload.startswith(EXIF_PREFIX):
                payload = payload[len(EXIF_PREFIX) :]
        if payload:
            metadata[kind] = payload
    dpi = info.get("dpi")
    if image.format == "TIFF" and X_RESOLUTION not in image.tag_v2 and dpi == (1, 1):
        dpi = None  # which is what Pillow reports where a TIFF says nothing
    return metadata, _resolution(dpi)


def _resolution(dpi) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not all(math.isfinite(value) and value > 0 for value in (across, down)):
        return None
    return across, down


def _exif_in_text(info) -> bytes:
    """EXIF as ImageMagick wrote it before PNG had a chunk: lines of hexadecimal digits."""
    text = info.get("Raw profile type exif")
    if not isinstance(text, str):
        return b""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""


class _Text(str):
    """What a directory says in words. Pillow reads a byte as a character and writes `?` for all
    beyond ASCII; this writes the byte again, so that a name in UTF-8 stays one."""

    def encode(self, *_) -> bytes:
        return super().encode("latin-1", "replace")


def _exif_of_tiff(image: Image.Image) -> bytes:
    from PIL import Image

    exif = Image.Exif()
    for tag, value in _descriptive(image.getexif())[0].items():
        exif[tag] = value
    return exif.tobytes() if len(exif) else b""


def tiff_tags(payload: bytes) -> tuple[dict[int, object], bool]:
    """What a TIFF file can hold of an EXIF payload, and whether that is all that it should."""
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(payload)
    except Exception:  # Pillow has one for each way in which it can be broken
        return {}, False
    tags, whole = _descriptive(exif)
    tags.pop(ORIENTATION, None)  # pixels are upright
    return tags, whole


def _descriptive(exif: Image.Exif) -> tuple[dict[int, object], bool]:
    """Of DESCRIPTIVE_TAGS those that are there and can be written, and whether that is all."""
    found, broken = {}, 0
    for tag in DESCRIPTIVE_TAGS:
        try:
            value = exif.get_ifd(tag) if tag in (EXIF_IFD, GPS_IFD) else exif.get(tag)
        except Exception:
            broken += 1
            continue
        if isinstance(value, dict):
            inner = {name: _text(one) for name, one in value.items()}
            value = {name: one for name, one in inner.items() if _writable(name, one, tag)}
            broken += len(inner) - len(value)
        elif value and not _writable(tag, value := _text(value)):
            broken += 1
            continue
        if value:
            found[tag] = value
    return found, not broken


def _text(value):
    return _Text(value) if isinstance(value, str) else value


def _writable(tag: int, value, directory: int | None = None) -> bool:
    """Whether Pillow can write what it has read, such as a number where the tag should have
    text."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    probe = ImageFileDirectory_v2(group=directory)
    try:
        probe[tag] = value
        probe.tobytes()
    except Exception:
        return False
    return True


def orient(array: np.ndarray, orientation: int) -> np.ndarray:
    """The upright array.

    1 as is        3 half a turn       5 across the main diagonal   7 across the other one
    2 mirrored     4 upside down       6 a quarter clockwise        8 a quarter anticlockwise
    """
    if orientation in (2, 3, 7, 8):
        array = array[:, ::-1]
    if orientation in (3, 4, 6, 7):
        array = array[::-1]
    return array.swapaxes(0, 1) if orientation >= 5 else array


def make_upright(metadata: dict[str, bytes]) -> tuple[dict[str, bytes], int]:
    """Metadata that says "upright", and the orientation that the pixels still need.

    The EXIF tag counts; the one in XMP counts where EXIF has none.
    """
    metadata, orientation = dict(metadata), None
    if "exif" in metadata:
        metadata["exif"], orientation = _upright_exif(metadata["exif"])
    if "xmp" in metadata:
        match = XMP_ORIENTATION.search(metadata["xmp"])
        if match and orientation is None:
            orientation = int(match[2])
        metadata["xmp"] = XMP_ORIENTATION.sub(rb"\g<1>1", metadata["xmp"])
    return metadata, orientation if orientation in range(1, 9) else 1


def _upright_exif(exif: bytes) -> tuple[bytes, int | None]:
    """Patched in place, since a rewrite would break the offsets in makers' notes."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    patched, orientation = bytearray(exif), None
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        tags, after = _directory(exif, order, first)
        orientation = _value(exif, order, tags.get(ORIENTATION))
        if orientation is None or orientation == 1:
            return exif, orientation
        kind = struct.unpack_from(f"{order}H", exif, tags[ORIENTATION] + 2)[0]
        struct.pack_into(order + INTEGERS[kind], patched, tags[ORIENTATION] + 8, 1)
        if orientation >= 5 and EXIF_IFD in tags:
            inner, _ = _directory(exif, order, _value(exif, order, tags[EXIF_IFD]))
            if PIXEL_WIDTH in inner and PIXEL_HEIGHT in inner:
                across, down = inner[PIXEL_WIDTH] + 2, inner[PIXEL_HEIGHT] + 2
                patched[across : across + 10] = exif[down : down + 10]
                patched[down : down + 10] = exif[across : across + 10]
        return _without_thumbnail(patched, exif, order, after), orientation
    except (struct.error, TypeError, KeyError):
        # Broken EXIF is no reason to refuse a picture; what was read so far holds.
        return bytes(patched), orientation


INTEGERS = {1: "B", 3: "H", 4: "I"}  # TIFF field types of whole numbers


def _directory(exif: bytes, order: str, offset: int) -> tuple[dict[int, int], int]:
    """Tag -> where its entry lies, and where the link to the next directory lies."""
    (count,) = struct.unpack_from(f"{order}H", exif, offset)
    entries = range(offset + 2, offset + 2 + 12 * count, 12)
    return {struct.unpack_from(f"{order}H", exif, at)[0]: at for at in entries}, entries.stop


def _value(exif: bytes, order: str, entry: int | None) -> int | None:
    if entry is None:
        return None
    (kind,) = struct.unpack_from(f"{order}H", exif, entry + 2)
    return struct.unpack_from(order + INTEGERS[kind], exif, entry + 8)[0]


def _without_thumbnail(patched: bytearray, exif: bytes, order: str, link: int) -> bytes:
    """A thumbnail that is not turned would show the old way up, so it goes."""
    (second,) = struct.unpack_from(f"{order}I", exif, link)
    if not second:
        return bytes(patched)
    struct.pack_into(f"{order}I", patched, link, 0)
    tags, _ = _directory(exif, order, second)
    start, length = (_value(exif, order, tags.get(tag)) for tag in (0x0201, 0x0202))
    if start and length and start + length == len(exif):
        del patched[start:]  # it nearly always lies at the end
    return bytes(patched)
