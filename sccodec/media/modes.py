"""Pillow's many pixel modes as plain gray or RGB samples, with alpha where there is any."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from sccodec.errors import Unsupported
from sccodec.media.deep import BITS_PER_SAMPLE, widen

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["CMYK_NOTE", "add_colour_key", "to_samples"]

CMYK_NOTE = "CMYK converted to sRGB"
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a TIFF tag and one of its values

PLAIN = ("L", "LA", "RGB", "RGBA")
CONVERTED = {"La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB"}
REFUSED = {"F": "float samples", "I": "signed or 32-bit samples", "LAB": "Lab colours"}


def to_samples(image: Image.Image, stored_bits: int = 8) -> tuple[np.ndarray, tuple[str, ...]]:
    """(H, W) or (H, W, 2..4), uint8 or uint16, and notes on what was converted."""
    mode = image.mode
    if mode in REFUSED:
        raise Unsupported(
            f"a picture with {REFUSED[mode]}",
            hint="convert it to 8 or 16 bits of gray or RGB first",
        )
    if mode in PLAIN:
        if (mode == "L" and stored_bits < 8) or (mode == "RGB" and stored_bits == 16):
            image.load()
            _spread_colour_key(image, stored_bits)
        return np.asarray(image), ()
    if mode in CONVERTED:
        return np.asarray(image.convert(CONVERTED[mode])), ()
    if mode == "1":
        image.load()
        _spread_colour_key(image, 1)
        return np.asarray(image.convert("L")), ("1-bit converted to 8-bit gray",)
    if mode in ("P", "PA"):
        return _from_palette(image)
    if mode == "CMYK":
        return np.asarray(_cmyk_to_srgb(image)), (CMYK_NOTE,)
    if mode.startswith("I;16"):
        return _deep_gray(image)
    raise Unsupported(f"a picture of the unknown mode {mode}", hint="convert it to RGB first")


def add_colour_key(array: np.ndarray, key) -> np.ndarray:
    """Alpha for pictures that name one transparent gray level or colour."""
    gray = array.ndim == 2
    if not (isinstance(key, int) if gray else isinstance(key, tuple) and array.shape[2] == 3):
        return array
    clear = array == key if gray else (array == np.array(key)).all(axis=2)
    alpha = np.where(clear, 0, np.iinfo(array.dtype).max).astype(array.dtype)
    return np.dstack([array, alpha])


def _spread_colour_key(image: Image.Image, bits: int) -> None:
    """Pillow spreads samples of 1, 2 and 4 bits over 0..255 and cuts those of 16, but not the
    colour key."""
    key = image.info.get("transparency")
    if isinstance(key, int) and key < 2**bits:
        image.info["transparency"] = key * (255 // (2**bits - 1))
    elif isinstance(key, tuple) and bits == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _from_palette(image: Image.Image) -> tuple[np.ndarray, tuple[str, ...]]:
    image.load()
    clear = (
        image.mode == "PA"
        or "transparency" in image.info
        or (image.palette is not None and image.palette.mode.endswith("A"))
    )
    colours = np.frombuffer(bytes(image.getpalette("RGB") or b""), np.uint8).reshape(-1, 3)
    # A profile of an RGB palette does not fit gray samples, so it keeps the picture RGB.
    gray = (colours == colours[:, :1]).all() and "icc_profile" not in image.info
    array = np.asarray(image.convert("RGBA" if clear else "RGB"))
    if gray:
        array = array[:, :, 2:] if clear else array[:, :, 0]
    return array, (f"palette converted to {'gray' if gray else 'RGB'}",)


def _deep_gray(image: Image.Image) -> tuple[np.ndarray, tuple[str, ...]]:
    array, notes = np.asarray(image).astype(np.uint16), ()
    if image.format == "TIFF":
        (bits,) = image.tag_v2.get(BITS_PER_SAMPLE, (16,))
        if bits < 16:
            array, notes = widen(array, 2**bits - 1), (f"samples of {bits} bits scaled to 16",)
        if image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
            array = 65535 - array  # Pillow does this for 8 bits only
    return array, notes


def _cmyk_to_srgb(image: Image.Image) -> Image.Image:
    """By the embedded profile; without a sound one, as if the inks were ideal."""
    from PIL import ImageCms

    try:
        inks = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        return ImageCms.profileToProfile(
            image,
            inks,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (KeyError, OSError, ImageCms.PyCMSError):
        return image.convert("RGB")
