"""Anchors for features: picture codecs on 8-bit samples, the channels tiled into one gray picture.

What the literature on split networks compares with: each tensor is scaled from its minimum and
maximum to 0..255, its channels are laid side by side, and HEVC intra, JPEG XL or AVIF code the
picture without colour. Minimum and maximum count as 8 bytes of the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from sccodec.errors import BadRequest

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


# -- the codecs ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Anchor:
    """A picture codec for one gray uint8 plane with an integer setting, finest first."""

    name: str
    settings: range
    encode: Callable[[np.ndarray, int], bytes]
    decode: Callable[[bytes], np.ndarray]


def hevc_encode(plane: np.ndarray, qp: int) -> bytes:
    """The elementary stream of one intra picture, 4:0:0, by x265 tuned for PSNR."""
    import av

    height, width = plane.shape
    codec = av.CodecContext.create("libx265", "w")
    codec.width, codec.height = width, height
    codec.pix_fmt, codec.time_base = "gray", Fraction(1, 25)
    # Neither its banner nor threads that wait for pictures that do not come.
    parameters = f"qp={qp}:keyint=1:info=0:log-level=error:pools=none:frame-threads=1"
    codec.options = {"preset": "slow", "tune": "psnr", "x265-params": parameters}
    frame = av.VideoFrame.from_ndarray(plane, format="gray")
    frame.pts = 0
    packets = codec.encode(frame) + codec.encode(None)
    return b"".join(map(bytes, packets))


def hevc_decode(data: bytes) -> np.ndarray:
    import av

    codec = av.CodecContext.create("hevc", "r")
    frames = codec.decode(av.Packet(data)) + codec.decode(None)
    return frames[0].to_ndarray(format="gray")


def jpegxl_encode(plane: np.ndarray, setting: int) -> bytes:
    import imagecodecs

    return imagecodecs.jpegxl_encode(plane, distance=setting / 10, effort=7, usecontainer=False)


def jpegxl_decode(data: bytes) -> np.ndarray:
    import imagecodecs

    return imagecodecs.jpegxl_decode(data)


def avif_encode(plane: np.ndarray, setting: int) -> bytes:
    import imagecodecs

    return imagecodecs.avif_encode(plane, level=100 - setting, speed=4, numthreads=1)


def avif_decode(data: bytes) -> np.ndarray:
    import imagecodecs

    return imagecodecs.avif_decode(data)
