"""Samples of 16 bits, which Pillow keeps for gray only.

Reading: Pillow's unpackers take one byte out of each 16-bit sample, and which one is the
name of the "raw mode" in the tile list. Decoding once for the high bytes and once for the
low ones gives the samples back, with Pillow's own decoders for interlaced PNG and for all
compressions of TIFF. Writing: rows of big-endian numbers, which PNG and PNM share.
"""

from __future__ import annotations

import re
import struct
import sys
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from sccodec.errors import Damaged, Unsupported

if TYPE_CHECKING:
    from PIL import ImageFile

PLANAR, BITS_PER_SAMPLE, SAMPLES_PER_PIXEL = 284, 258, 277  # TIFF tags

# One PNM number: white space and comments, then digits.
PNM_NUMBER = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])*(\d{1,10})")


def is_deep(image: ImageFile.ImageFile, data: bytes) -> bool:
    """Whether Pillow would cut colour or alpha of 16 bits down to 8."""
    if image.format == "PNG":
        return data[24] == 16 and data[25] != 0  # bit depth; colour type, where 0 is gray
    if image.format == "TIFF":
        bits = image.tag_v2.get(BITS_PER_SAMPLE, (1,))
        if len(bits) == 1:  # as some write it for all samples of a pixel
            bits *= image.tag_v2.get(SAMPLES_PER_PIXEL, 1)
        return len(bits) > 1 and min(bits) == 16 and image.mode in ("RGB", "RGBX", "RGBA")
    return False


def decode_deep(
    image: ImageFile.ImageFile, open_again: Callable[[], ImageFile.ImageFile]
) -> np.ndarray:
    """(H, W, 2, 3 or 4) uint16 from an image not yet loaded, and from a second one."""
    if image.format == "PNG" and image.tile[0].args == "LA;16B":
        # Pillow has no unpacker for the low bytes; as RGBA, all four come out in one go.
        # The mode is the one that Pillow itself gives to these pictures.
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]
        if image.mode != "RGBA":
            raise Unsupported("this version of Pillow does not give gray and alpha of 16 bits")
        return np.ascontiguousarray(image).view(">u2").astype(np.uint16)
    high = _decode_bytes(image, low=False)
    low = _decode_bytes(open_again(), low=True)
    return high.astype(np.uint16) << 8 | low


def _decode_bytes(image: ImageFile.ImageFile, *, low: bool) -> np.ndarray:
    tiles = []
    for tile in image.tile:
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        bands = args[0].partition(";")[0]
        little = image.format == "TIFF" and image.tag_v2.prefix == b"II"
        if tile.codec_name == "libtiff":
            little = sys.byteorder == "little"  # it swaps to the machine's order
            if image.tag_v2.get(PLANAR) == 2:
                raise Unsupported(
                    "compressed TIFF with one plane per channel and 16 bits",
                    hint="save it with the channels interleaved",
                )
        if bands == "RGBa":
            raise Unsupported(
                "TIFF with 16 bits and colours multiplied by alpha",
                hint="save it with unassociated alpha",
            )
        rawmode = f"{bands};16{'L' if little != low else 'B'}"
        args = (rawmode, *args[1:]) if isinstance(tile.args, tuple) else rawmode
        tiles.append(tile._replace(args=args))
    image.tile = tiles
    return np.asarray(image)


def widen(samples: np.ndarray, maximum: int) -> np.ndarray:
    """0..maximum becomes 0..65535, exactly rounded."""
    if maximum == 65535:
        return samples.astype(np.uint16)
    if samples.size and samples.max() > maximum:
        raise Damaged(f"a sample is larger than the {maximum} that the header promises")
    return ((samples.astype(np.uint32) * 65535 + maximum // 2) // maximum).astype(np.uint16)


def read_pnm_header(data: bytes) -> tuple[int, int, int, int]:
    """Width, height, maximum, and where the samples start; the maximum of PBM is 1."""
    at, numbers = 2, []
    for _ in range(2 if data[1:2] in b"14" else 3):
        match = PNM_NUMBER.match(data, at)
        if not match:
            raise Damaged("the header is cut short or is not made of numbers")
        numbers.append(int(match[1]))
        at = match.end()
    width, height, maximum = (*numbers, 1)[:3]
    if not (width and height and 0 < maximum < 65536):
        raise Damaged(f"the header says {width} x {height} with samples up to {maximum}")
    return width, height, maximum, at + 1  # one white space ends the header


def decode_deep_pnm(data: bytes) -> np.ndarray:
    """(H, W, 1 or 3) uint16, for a maximum above 255."""
    width, height, maximum, start = read_pnm_header(data)
    channels = 3 if data[1:2] in b"36" else 1
    count = width * height * channels
    if data[1:2] in b"56":
        stored = data[start : start + 2 * count]
        if len(stored) < 2 * count:
            raise Damaged(f"{2 * count} bytes of samples expected, {len(stored)} found")
        samples = np.frombuffer(stored, ">u2")
    else:
        words = re.sub(rb"#[^\n\r]*", b"", data[start:]).split(maxsplit=count)[:count]
        if len(words) < count:
            raise Damaged(f"{count} samples expected, {len(words)} found")
        if max(map(len, words)) > 5:
            raise Damaged("a sample has more than five digits")
        samples = np.array([int(word) for word in words], np.uint32)
    return widen(samples, maximum).reshape(height, width, channels)


def encode_pnm(pixels: np.ndarray) -> bytes:
    height, width, channels = pixels.shape
    maximum = np.iinfo(pixels.dtype).max
    header = f"P{5 if channels == 1 else 6}\n{width} {height}\n{maximum}\n".encode()
    return header + pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()


def encode_png(samples: np.ndarray, metadata: dict[str, bytes], dpi) -> bytes:
    """PNG of 16 bits from (H, W, 1..4) uint16; Pillow can write this for gray only."""
    height, width, channels = samples.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))]
    if "icc" in metadata:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata["icc"])))
    if dpi:
        per_metre = [max(1, round(value / 0.0254)) for value in dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if "exif" in metadata:
        chunks.append((b"eXIf", metadata["exif"]))
    if "xmp" in metadata:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata["xmp"]))
    chunks += [(b"IDAT", _filtered(samples)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _filtered(samples: np.ndarray) -> bytes:
    """Compressed rows, each with the one of three PNG filters that leaves least to code."""
    step = 2 * samples.shape[2]  # bytes from a sample to the one on its left
    rows = samples.astype(">u2").view(np.uint8).reshape(len(samples), -1)
    pack = zlib.compressobj(6)
    above = np.zeros(step + rows.shape[1], np.uint8)  # with the empty pixel left of the row
    parts = []
    for row in rows:
        here = np.concatenate([above[:step] * 0, row])
        left, up, corner = here[:-step], above[step:], above[:-step]
        tries = {1: row - left, 2: row - up, 4: row - _paeth(left, up, corner)}
        cost = {
            kind: np.abs(rest.view(np.int8).astype(np.int16)).sum() for kind, rest in tries.items()
        }
        best = min(cost, key=cost.get)
        parts.append(pack.compress(bytes([best]) + tries[best].tobytes()))
        above = here
    return b"".join(parts) + pack.flush()


def _paeth(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Of the three neighbours the one nearest to left + up - corner."""
    a, b, c = (values.astype(np.int16) for values in (left, up, corner))
    from_left, from_up, from_corner = abs(b - c), abs(a - c), abs(a + b - 2 * c)
    nearest = np.where(from_up <= from_corner, up, corner)
    return np.where((from_left <= from_up) & (from_left <= from_corner), left, nearest)
