"""The originals of a measurement: 8-bit RGB, known by the digest of their pixels."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sccodec.container.rules import environment_limits
from sccodec.errors import BadRequest
from sccodec.media.image import read


@dataclass(frozen=True)
class Original:
    """One picture file; its pixels are read when they are needed."""

    path: str
    name: str  # of the file, without folders
    width: int
    height: int
    digest: str  # SHA-256 of size and pixels, in hexadecimal

    @property
    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        return load(self.path)


def load(path: str) -> np.ndarray:
    """(H, W, 3) uint8 of a picture file, gray as three equal channels.

    Raises BadRequest for alpha and for 16 bits, which most of the codecs have no place for.
    """
    picture = read(path, max_pixels=environment_limits().max_pixels)
    if picture.bit_depth != 8 or picture.alpha is not None:
        what = "16 bits a sample" if picture.bit_depth != 8 else "an alpha channel"
        raise BadRequest(f"{path}: has {what}; codecs are compared on 8-bit RGB and gray")
    return np.ascontiguousarray(np.broadcast_to(picture.pixels, (*picture.pixels.shape[:2], 3)))


def originals(paths: list[str]) -> list[Original]:
    """The pictures of a run, in the order given. Raises BadRequest for none, or one given twice."""
    if not paths:
        raise BadRequest("no pictures to measure")
    found: dict[str, Original] = {}
    for path in paths:
        pixels = load(path)
        height, width = pixels.shape[:2]
        digest = hashlib.sha256(f"{width}x{height}\n".encode() + pixels.tobytes()).hexdigest()
        if digest in found:
            raise BadRequest(f"{path} is the same picture as {found[digest].path}")
        name = os.fsencode(Path(path).name).decode(errors="backslashreplace")
        found[digest] = Original(path, name, width, height, digest)
    return list(found.values())
