"""Anchors for features: picture codecs on 8-bit samples, the channels tiled into one gray picture.

What the literature on split networks compares with: each tensor is scaled from its minimum and
maximum to 0..255, its channels are laid side by side, and HEVC intra, JPEG XL or AVIF code the
picture without colour. Minimum and maximum count as 8 bytes of the file.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from PIL import Image

SIDE_INFORMATION = 8  # bytes: minimum and maximum as float32


# -- tensors as pictures ---------------------------------------------------------------------


def tile(channels: np.ndarray) -> np.ndarray:
    """(C, h, w) -> one plane of rows of channels, as square as may be; spare places stay 0."""
    count, height, width = channels.shape
    across = min(count, max(1, round(math.sqrt(count * height / width))))
    down = -(-count // across)
    padded = np.zeros((across * down, height, width), channels.dtype)
    padded[:count] = channels
    rows = padded.reshape(down, across, height, width).transpose(0, 2, 1, 3)
    return rows.reshape(down * height, across * width)


def untile(plane: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """What `tile` made a plane of; `shape` is (C, h, w)."""
    count, height, width = shape
    down, across = plane.shape[0] // height, plane.shape[1] // width
    rows = plane.reshape(down, height, across, width).transpose(0, 2, 1, 3)
    return rows.reshape(down * across, height, width)[:count]


def to_samples(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """float -> uint8 over the whole range, with its ends."""
    low, high = float(values.min()), float(values.max())
    scale = 255 / (high - low) if high > low else 0.0
    return np.rint((values - low) * scale).astype(np.uint8), low, high


def from_samples(samples: np.ndarray, low: float, high: float) -> np.ndarray:
    return samples.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)


# -- picture codecs --------------------------------------------------------------------------


@dataclass(frozen=True)
class Anchor:
    """A picture codec for one gray uint8 plane (H, W) with an integer setting, finest first."""

    title: str
    settings: range
    encode: Callable[[np.ndarray, int], bytes]
    decode: Callable[[bytes], np.ndarray]

    def code(self, channels: np.ndarray, size: float, start: int) -> Coded:
        """(C, h, w) -> the file whose size is nearest to `size` bytes, and what it decodes to.

        start: where the search among the settings begins, best that of a similar tensor.
        """
        samples, low, high = to_samples(channels)
        plane = tile(samples)
        encode = functools.cache(lambda setting: self.encode(plane, setting))
        setting = _nearest(lambda n: len(encode(n)) + SIDE_INFORMATION, self.settings, size, start)
        data = encode(setting)
        decoded = from_samples(untile(self.decode(data), channels.shape), low, high)
        return Coded(len(data) + SIDE_INFORMATION, setting, decoded)


@dataclass(frozen=True)
class Coded:
    """One tensor through an anchor: bytes of the file, the setting, and (C, h, w) float32."""

    size: int
    setting: int
    decoded: np.ndarray


def _nearest(size_of: Callable[[int], int], settings: range, target: float, start: int) -> int:
    """The setting whose size is nearest to the target as a ratio; sizes fall with the setting."""
    n = start
    while n < settings[-1] and size_of(n) > target:
        n += 1
    while n > settings[0] and size_of(n - 1) <= target:
        n -= 1
    around = [m for m in (n - 1, n) if m in settings]
    return min(around, key=lambda m: abs(math.log(size_of(m) / target)))


def _hevc_encode(plane: np.ndarray, qp: int) -> bytes:
    """The elementary stream of one intra picture, 4:0:0, by x265 tuned for PSNR."""
    import av

    codec = av.CodecContext.create("libx265", "w")
    codec.height, codec.width = plane.shape
    codec.pix_fmt, codec.time_base = "gray", Fraction(1, 25)
    # info=0: no banner in the stream. One picture leaves nothing for more threads to do.
    parameters = f"qp={qp}:keyint=1:info=0:log-level=error:pools=none:frame-threads=1"
    codec.options = {"preset": "slow", "tune": "psnr", "x265-params": parameters}
    frame = av.VideoFrame.from_ndarray(plane, format="gray")
    frame.pts = 0
    return b"".join(map(bytes, codec.encode(frame) + codec.encode(None)))


def _hevc_decode(data: bytes) -> np.ndarray:
    import av

    codec = av.CodecContext.create("hevc", "r")
    (frame,) = codec.decode(av.Packet(data)) + codec.decode(None)
    return frame.to_ndarray(format="gray")


def _jpegxl_encode(plane: np.ndarray, distance: int) -> bytes:
    import imagecodecs

    return imagecodecs.jpegxl_encode(plane, distance=distance / 10, effort=7, numthreads=1)


def _jpegxl_decode(data: bytes) -> np.ndarray:
    import imagecodecs

    return imagecodecs.jpegxl_decode(data)


def _avif_encode(plane: np.ndarray, coarseness: int) -> bytes:
    out = io.BytesIO()
    options = {"quality": 100 - coarseness, "subsampling": "4:0:0", "speed": 6, "max_threads": 1}
    Image.fromarray(plane).save(out, "AVIF", **options)
    return out.getvalue()


def _avif_decode(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("L"))


ANCHORS = {
    "hevc": Anchor("HEVC intra (x265)", range(52), _hevc_encode, _hevc_decode),
    "jpegxl": Anchor("JPEG XL", range(1, 251), _jpegxl_encode, _jpegxl_decode),
    "avif": Anchor("AVIF", range(101), _avif_encode, _avif_decode),
}
