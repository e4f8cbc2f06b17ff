"""Pictures as they come: every format and every kind of samples, in and out of .scc files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from conftest import picture
from pictures import png16, saved, tiff
from PIL import Image
from shell import run

import sccodec
from sccodec.media.image import read

TINY = ("--profile", "tiny-1", "--step", 216)
RGB, GRAY, ALPHA, GRAY_ALPHA = (picture(40, 52, seed=3, channels=n) for n in (3, 1, 4, 2))
DEEP = RGB.astype(np.uint16) * 200 + np.arange(52, dtype=np.uint16)[:, None]
PROFILE = b"not a profile that anybody has to understand".ljust(128)
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"


def pil(array) -> Image.Image:
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def exif(orientation: int = 1) -> bytes:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = orientation, "a maker"
    return tags.tobytes()


def palette() -> Image.Image:
    return pil(RGB).quantize(64)


def pgm16() -> bytes:
    return b"P5 52 40 65535\n" + DEEP[:, :, 0].astype(">u2").tobytes()


LOSSLESS = {"WEBP": {"lossless": True, "exact": True}}

# (format, kind of samples): bytes of a file, shape and type that must come back, words on stderr.
MATRIX: dict[tuple[str, str], tuple[bytes, tuple, type, str]] = {}
for name in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM"):
    options = LOSSLESS.get(name, {})
    MATRIX[name, "rgb"] = saved(pil(RGB), name, **options), (40, 52, 3), np.uint8, ""
    if name != "WEBP":  # which has no gray
        MATRIX[name, "gray"] = saved(pil(GRAY), name), (40, 52), np.uint8, ""
    if name in ("PNG", "WEBP", "TIFF"):
        MATRIX[name, "alpha"] = saved(pil(ALPHA), name, **options), (40, 52, 4), np.uint8, ""
    if name in ("PNG", "TIFF"):
        gray_alpha = saved(Image.fromarray(GRAY_ALPHA), name)
        MATRIX[name, "gray, alpha"] = gray_alpha, (40, 52, 2), np.uint8, ""
    if name in ("PNG", "TIFF", "BMP"):
        note = "palette converted to RGB"
        MATRIX[name, "palette"] = saved(palette(), name), (40, 52, 3), np.uint8, note
    if name in ("JPEG", "TIFF"):
        inks = saved(pil(RGB).convert("CMYK"), name)
        MATRIX[name, "cmyk"] = inks, (40, 52, 3), np.uint8, "CMYK converted to sRGB"
    MATRIX[name, "1x1"] = saved(pil(RGB[:1, :1]), name, **options), (1, 1, 3), np.uint8, ""
MATRIX["PNG", "16 bit"] = png16(DEEP), (40, 52, 3), np.uint16, ""
MATRIX["TIFF", "16 bit"] = tiff(DEEP, photometric="rgb"), (40, 52, 3), np.uint16, ""
MATRIX["PPM", "16 bit"] = pgm16(), (40, 52), np.uint16, ""


@pytest.mark.parametrize(("format", "kind"), MATRIX, ids=" ".join)
def test_every_kind_in_every_format(tmp_path, monkeypatch, format, kind):
    """Encoded by content and not by name; what comes back has the kind of what went in."""
    monkeypatch.chdir(tmp_path)
    data, shape, dtype, note = MATRIX[format, kind]
    given = read(data).stacked()
    Path("photo.any").write_bytes(data)
    done = run("encode", "photo.any", *TINY)
    assert done.code == 0
    assert ("photo.any: " + note in done.err) == bool(note)
    decoded = sccodec.decode("photo.scc")
    assert (decoded.shape, decoded.dtype) == (shape, dtype)
    samples = decoded.reshape(given.shape)
    if "alpha" in kind:
        assert np.array_equal(samples[:, :, -1], given[:, :, -1])
        samples, given = samples[:, :, :-1], given[:, :, :-1]
    top = np.iinfo(dtype).max
    if kind != "palette":  # 64 colours are no smooth picture
        assert np.abs(samples / top - given / top).mean() < 0.05
    for out in ("tiff", "png"):
        if (out, kind) != ("tiff", "gray, alpha"):
            assert run("decode", "photo.scc", "--format", out, "-o", f"again.{out}", "-f").code == 0
            assert np.array_equal(read(f"again.{out}").stacked().reshape(decoded.shape), decoded)


WRITTEN = {"png": 4, "webp": 4, "tiff": 4, "jpeg": 3, "bmp": 3, "ppm": 3}


@pytest.mark.parametrize("format", WRITTEN)
def test_every_format_out(tmp_path, format):
    """All that a format can hold is written, and what it cannot is refused with a hint."""
    there = tmp_path / "photo.scc"
    for array, holds in ((RGB, True), (ALPHA, WRITTEN[format] == 4)):
        there.write_bytes(sccodec.encode(array, profile="tiny-1"))
        out = tmp_path / f"out.{format}"
        done = run("decode", there, "--format", format, "-o", out, "-f")
        assert (done.code == 0) == holds
        if holds and format != "jpeg":
            assert np.array_equal(read(out).stacked(), sccodec.decode(there))
        elif not holds:
            assert done.hints == ["sccodec: hint: write PNG, WebP or TIFF, or drop alpha first"]


def test_sixteen_bits_are_more_than_eight(tmp_path):
    """A ramp within four steps of 8 bits comes back as a ramp, not as four steps."""
    ramp = np.linspace(30_000, 31_028, 256).round().astype(np.uint16)
    data = sccodec.encode(np.tile(ramp, (64, 1)), profile="tiny-1", step=200)
    again = sccodec.decode(data).astype(float)
    assert np.abs(again - ramp).mean() < 128  # half a step of 8 bits
    assert len(np.unique(again)) > 100


KEEPS = {
    "PNG": {"icc", "exif", "xmp", "dpi"},
    "JPEG": {"icc", "exif", "xmp", "dpi"},
    "WEBP": {"icc", "exif", "xmp"},
    "TIFF": {"icc", "exif", "xmp", "dpi"},
}


@pytest.mark.parametrize("format", KEEPS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_metadata_in_and_out(tmp_path, format, orientation):
    """ICC, EXIF, XMP and resolution pass through the file; orientation is applied once."""
    options = {"icc_profile": PROFILE, "exif": exif(orientation), "dpi": (300, 150)}
    if format == "PNG":
        from PIL import PngImagePlugin

        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"] = info
    else:
        options["xmp"] = XMP
    if format == "TIFF":  # tags like all others
        options["tiffinfo"] = {0x0112: orientation, 0x010F: "a maker", 700: XMP}
        del options["exif"]
    given = saved(pil(RGB), format, **options, **LOSSLESS.get(format, {}))
    there, out = tmp_path / "photo.scc", tmp_path / f"out.{format.lower()}"
    assert run("encode", "-", *TINY, "-o", there, stdin=given).code == 0
    assert run("decode", there, "-o", out).code == 0
    before, after = read(given), read(out)
    assert before.pixels.shape == after.pixels.shape == ((40, 52, 3), (52, 40, 3))[orientation > 1]
    for kind in KEEPS[format] - {"dpi", "exif"}:
        assert after.metadata[kind] == before.metadata[kind], kind
    tags = Image.Exif()
    tags.load(after.metadata["exif"])
    assert (tags[0x010F], tags.get(0x0112, 1)) == ("a maker", 1)
    if "dpi" in KEEPS[format]:
        assert after.dpi == pytest.approx(before.dpi, rel=1e-3)
        assert before.dpi == pytest.approx(((300, 150), (150, 300))[orientation > 1], rel=1e-3)
    assert np.abs(after.pixels.astype(float) - before.pixels).mean() < 12


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_several_pictures_in_one_file_are_refused(tmp_path, format):
    frames = [pil(np.roll(RGB, n, axis=0)) for n in range(2)]
    stream = io.BytesIO()
    frames[0].save(stream, format, save_all=True, append_images=frames[1:])
    done = run("encode", "-", *TINY, "-o", tmp_path / "a.scc", stdin=stream.getvalue())
    assert done.code == 3
    assert "of 2 pictures, where one is expected" in done.errors[0]
    assert done.hints == ["sccodec: hint: extract one frame first"]
    assert not list(tmp_path.iterdir())
