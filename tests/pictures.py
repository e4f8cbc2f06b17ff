"""Small pictures of every kind, written by Pillow and by libraries other than ours."""

import io

import numpy as np
import png
import tifffile
from PIL import Image


def noise(*shape, dtype=np.uint8, seed=0):
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def smooth(height, width, channels=3):
    """What JPEG can hold nearly exactly."""
    ramp = np.add.outer(np.arange(height) * 3, np.arange(width) * 2) % 256
    return np.repeat(ramp[:, :, None], channels, axis=2).astype(np.uint8)


def saved(image, format, **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def png16(array, **options):
    """By pypng: 16-bit PNG of (H, W, C)."""
    height, width, channels = array.shape
    stream = io.BytesIO()
    writer = png.Writer(
        width, height, greyscale=channels < 3, alpha=channels in (2, 4), bitdepth=16, **options
    )
    writer.write(stream, array.reshape(height, -1))
    return stream.getvalue()


def unpng(data):
    """By pypng: what a PNG holds, as (H, W, C)."""
    width, height, rows, info = png.Reader(bytes=data).asDirect()
    dtype = np.uint16 if info["bitdepth"] == 16 else np.uint8
    return np.array([list(row) for row in rows], dtype).reshape(height, width, info["planes"])


def tiff(array, **options):
    """By tifffile."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def untiff(data):
    return tifffile.imread(io.BytesIO(data))


def one_of_each():
    """name -> bytes, for tests that damage files."""
    rgb = Image.fromarray(noise(24, 20, 3))
    return {
        "png": saved(rgb, "PNG"),
        "png palette": saved(rgb.quantize(16), "PNG"),
        "png 16 bit": png16(noise(24, 20, 3, dtype=np.uint16)),
        "png gray alpha 16 bit": png16(noise(24, 20, 2, dtype=np.uint16)),
        "jpeg": saved(rgb, "JPEG"),
        "jpeg progressive": saved(rgb, "JPEG", progressive=True),
        "jpeg cmyk": saved(rgb.convert("CMYK"), "JPEG"),
        "webp": saved(rgb, "WEBP", lossless=True),
        "webp lossy": saved(rgb, "WEBP"),
        "webp alpha": saved(rgb.convert("RGBA"), "WEBP", exif=b"II*\0\x08\0\0\0\0\0\0\0\0\0"),
        "tiff": saved(rgb, "TIFF"),
        "tiff lzw": saved(rgb, "TIFF", compression="tiff_lzw"),
        "tiff 16 bit": tiff(noise(24, 20, 3, dtype=np.uint16), photometric="rgb"),
        "bmp": saved(rgb, "BMP"),
        "ppm": saved(rgb, "PPM"),
        "pgm 16 bit": b"P5 20 24 65535\n" + noise(24, 20, dtype=np.uint16).tobytes(),
        "pgm plain": b"P2 3 2 255\n1 2 3 40 50 60\n",
        "pgm plain 16 bit": b"P2 3 2 1000\n1 2 3 400 500 1000\n",
        "gif": saved(rgb.quantize(16), "GIF"),
    }
