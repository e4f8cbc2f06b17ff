"""ICC profile, EXIF, XMP and resolution as ancillary chunks, and back."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from sccodec.errors import BadRequest

CHUNKS = {"icc": "ICCP", "exif": "EXIF", "xmp": "XMP_"}
RESOLUTION = "DPI_"
DPI = struct.Struct("<II")  # across and down, in 1/1000 dots an inch


def to_chunks(
    metadata: Mapping[str, bytes], dpi: tuple[float, float] | None = None
) -> dict[str, bytes]:
    """Chunk type -> bytes, of payloads under the names "icc", "exif" and "xmp"."""
    chunks = {CHUNKS[name]: payload for name, payload in metadata.items()}
    if dpi:
        try:
            stored = DPI.pack(*(min(round(1000 * value), 2**32 - 1) for value in dpi))
        except (TypeError, ValueError, ArithmeticError, struct.error):
            raise BadRequest(
                f"a resolution of {dpi!r} makes no sense",
                hint="give dots per inch, across and down",
            ) from None
        chunks[RESOLUTION] = stored
    return chunks


def from_chunks(
    chunks: Mapping[str, bytes],
) -> tuple[dict[str, bytes], tuple[float, float] | None]:
    """The opposite of `to_chunks`; other chunks and a resolution of a wrong length do not count."""
    metadata = {name: chunks[kind] for name, kind in CHUNKS.items() if kind in chunks}
    stored = chunks.get(RESOLUTION, b"")
    if len(stored) != DPI.size:
        return metadata, None
    across, down = DPI.unpack(stored)
    return metadata, (across / 1000, down / 1000)
