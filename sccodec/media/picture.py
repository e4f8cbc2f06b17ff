"""A still picture in memory, and its way from and to arrays and Pillow images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sccodec.errors import BadRequest

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Picture", "from_array", "to_pil"]


@dataclass(frozen=True, eq=False)
class Picture:
    """Upright pixels and what came with them.

    metadata holds the payloads as files carry them:
      icc    the profile; it describes `pixels`, whatever the file had before a conversion
      exif   starts with its TIFF header (II or MM), never with the prefix of JPEG files
      xmp    the XML packet
    notes are words for people, such as "palette converted to RGB".
    """

    pixels: np.ndarray  # (H, W, C) uint8 or uint16; C = 1 gray or 3 RGB
    alpha: np.ndarray | None = None  # (H, W), same type
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    dpi: tuple[float, float] | None = None  # across, down
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        pixels, alpha = self.pixels, self.alpha
        if pixels.dtype not in (np.uint8, np.uint16):
            raise BadRequest(
                f"samples of type {pixels.dtype} are not pixels",
                hint="scale to uint8 (0..255) or uint16 (0..65535) first",
            )
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.size == 0:
            raise BadRequest(f"pixels of shape {pixels.shape} are not (height, width, 1 or 3)")
        if alpha is not None and (
            alpha.shape != pixels.shape[:2] or alpha.dtype.newbyteorder("=") != pixels.dtype
        ):
            raise BadRequest(
                f"alpha is {alpha.dtype} of shape {alpha.shape}, "
                f"pixels are {pixels.dtype} of shape {pixels.shape}"
            )

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def channels(self) -> int:
        """1 or 3; alpha is not counted."""
        return self.pixels.shape[2]

    @property
    def bit_depth(self) -> int:
        return 8 * self.pixels.dtype.itemsize

    def stacked(self) -> np.ndarray:
        """Pixels and alpha in one array, (H, W, 1..4)."""
        if self.alpha is None:
            return self.pixels
        return np.concatenate([self.pixels, self.alpha[:, :, None]], axis=2)


def from_array(
    array: np.ndarray,
    *,
    metadata: Mapping[str, bytes] | None = None,
    dpi: tuple[float, float] | None = None,
    notes: tuple[str, ...] = (),
) -> Picture:
    """(H, W), or (H, W, C) with C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha."""
    array = np.asarray(array)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
        raise BadRequest(
            f"an array of shape {array.shape} is not a picture",
            hint="shapes are (height, width) and (height, width, 1 to 4)",
        )
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    alpha = None
    if array.shape[2] in (2, 4):
        alpha = np.ascontiguousarray(array[:, :, -1])
        array = array[:, :, :-1]
    return Picture(np.ascontiguousarray(array), alpha, dict(metadata or {}), dpi, notes)


def to_pil(picture: Picture) -> Image.Image:
    """A Pillow image: L, LA, RGB, RGBA, or I;16 for gray of 16 bits."""
    from PIL import Image

    if picture.bit_depth == 16 and (picture.channels == 3 or picture.alpha is not None):
        raise BadRequest(
            "a Pillow image cannot hold colour or alpha of 16 bits",
            hint="use the arrays, or write to PNG or TIFF",
        )
    stacked = picture.stacked()
    image = Image.fromarray(stacked[:, :, 0] if stacked.shape[2] == 1 else stacked)
    if "icc" in picture.metadata:
        image.info["icc_profile"] = picture.metadata["icc"]
    if "exif" in picture.metadata:
        image.info["exif"] = b"Exif\0\0" + picture.metadata["exif"]  # as Pillow keeps it
    if "xmp" in picture.metadata:
        image.info["xmp"] = picture.metadata["xmp"]
    if picture.dpi:
        image.info["dpi"] = picture.dpi
    return image
