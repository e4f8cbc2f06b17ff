"""Every kind of picture in every format becomes the right samples."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from pictures import noise, png16, saved, smooth, tiff
from PIL import Image, ImageOps

from sccodec.api import _picture
from sccodec.errors import BadRequest, NotOurFile, Unsupported
from sccodec.media.image import from_array, from_pil, read, to_pil

LOSSLESS = {"PNG": {}, "TIFF": {}, "BMP": {}, "PPM": {}, "WEBP": {"lossless": True}}
SIZES = [(1, 1), (1, 9), (9, 1), (7, 5), (16, 33)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("format", LOSSLESS)
def test_rgb(format, size):
    array = noise(*size, 3)
    picture = read(saved(Image.fromarray(array), format, **LOSSLESS[format]))
    np.testing.assert_array_equal(picture.pixels, array)
    assert picture.alpha is None
    assert picture.notes == ()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "PPM"])
def test_gray_stays_gray(format, size):
    array = noise(*size)
    picture = read(saved(Image.fromarray(array), format))
    assert picture.channels == 1
    np.testing.assert_array_equal(picture.pixels[:, :, 0], array)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha(format, mode):
    array = noise(7, 5, len(mode))
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    picture = read(saved(Image.fromarray(array, mode), format, **options))
    np.testing.assert_array_equal(picture.alpha, array[:, :, -1])
    if format != "WEBP":  # which has no gray
        np.testing.assert_array_equal(picture.pixels, array[:, :, :-1])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_jpeg(size, channels):
    array = smooth(*size, channels)
    image = Image.fromarray(array.squeeze(2) if channels == 1 else array)
    data = saved(image, "JPEG", quality=95)
    picture = read(data)
    assert picture.pixels.shape == array.shape
    expected = np.asarray(Image.open(io.BytesIO(data))).reshape(array.shape)
    np.testing.assert_array_equal(picture.pixels, expected)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "PPM", "GIF"])
def test_one_bit(format):
    bits = noise(9, 11) > 127
    picture = read(saved(Image.fromarray(bits), format))
    np.testing.assert_array_equal(picture.pixels[:, :, 0], bits * 255)
    if format not in ("GIF", "BMP"):  # they write black and white as a palette
        assert picture.notes == ("1-bit converted to 8-bit gray",)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "GIF"])
def test_palette(format):
    image = Image.fromarray(noise(8, 8, 3)).quantize(32)
    picture = read(saved(image, format))
    np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    assert picture.notes == ("palette converted to RGB",)


def gray_palette_image():
    image = Image.fromarray(noise(8, 8) % 4, "P")
    image.putpalette([level for entry in (9, 90, 30, 200) for level in [entry] * 3])
    return image


def test_palette_of_grays_becomes_gray():
    image = gray_palette_image()
    picture = read(saved(image, "PNG"))
    assert picture.channels == 1
    np.testing.assert_array_equal(picture.pixels[:, :, 0], np.asarray(image.convert("L")))
    assert picture.notes == ("palette converted to gray",)


def test_palette_of_grays_with_a_profile_stays_rgb():
    assert read(saved(gray_palette_image(), "PNG", icc_profile=b"x" * 128)).channels == 3


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("transparency", [2, bytes([0, 128, 255, 7])])
def test_palette_transparency(transparency, gray):
    image = gray_palette_image()
    if not gray:
        image.putpalette(bytes(range(12)))
    picture = read(saved(image, "PNG", transparency=transparency))
    table = transparency if isinstance(transparency, bytes) else bytes([255, 255, 0, 255])
    np.testing.assert_array_equal(picture.alpha, np.array(list(table))[np.asarray(image)])
    assert picture.channels == (1 if gray else 3)


def png_with_key(bits, colour, rows, key):
    height, width = len(rows), len(rows[0])
    body = b"".join(b"\0" + bytes(row) for row in rows)
    samples = {0: 1, 2: 3}[colour]
    width = width * 8 // (bits * samples)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)),
        (b"tRNS", struct.pack(f">{samples}H", *key)),
        (b"IDAT", zlib.compress(body)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize(
    ("bits", "colour", "rows", "key", "alpha"),
    [
        (1, 0, [[0b10100000]], (1,), [0, 255, 0, 255, 255, 255, 255, 255]),
        (2, 0, [[0b00011011]], (2,), [255, 255, 0, 255]),
        (4, 0, [[0x3A]], (10,), [255, 0]),
        (8, 0, [[7, 9]], (9,), [255, 0]),
        (16, 0, [[1, 2, 1, 3]], (0x0103,), [65535, 0]),
        (8, 2, [[1, 2, 3, 1, 2, 4]], (1, 2, 4), [255, 0]),
        (16, 2, [[0, 1, 0, 2, 0, 3, 0, 1, 0, 2, 1, 3]], (1, 2, 3), [0, 65535]),
    ],
)
def test_png_colour_key_becomes_alpha(bits, colour, rows, key, alpha):
    picture = read(png_with_key(bits, colour, rows, key))
    assert picture.alpha[0].tolist() == alpha
    assert picture.channels == (1 if colour == 0 else 3)


@pytest.mark.parametrize(
    ("bits", "colour", "rows", "key"),
    [
        (1, 0, [[0b10100000]], (1,)),
        (4, 0, [[0x3A]], (10,)),
        (8, 2, [[1, 2, 3, 1, 2, 4]], (1, 2, 4)),
        (16, 2, [[1, 0, 2, 0, 3, 0, 1, 0, 2, 0, 4, 0]], (0x100, 0x200, 0x400)),
    ],
)
def test_pillow_images_keep_their_colour_key(bits, colour, rows, key):
    data = png_with_key(bits, colour, rows, key)
    wanted = read(data).alpha > 0
    for loaded in (False, True):
        image = Image.open(io.BytesIO(data))
        if loaded and bits in (1, 8):  # of others a loaded image does not tell
            image.load()
        assert np.array_equal(from_pil(image).alpha > 0, wanted)
        assert np.array_equal(from_pil(image).alpha > 0, wanted)  # and a second time
    image = Image.open(io.BytesIO(data))
    assert np.array_equal(_picture(image).alpha > 0, wanted)  # as `sccodec.encode` takes it


def test_palettes_with_alpha_keep_it():
    array = np.zeros((4, 4, 4), np.uint8)
    array[:2], array[2:] = (200, 10, 10, 255), (10, 200, 40, 0)
    image = Image.fromarray(array).quantize(4)
    assert image.palette.mode == "RGBA" and "transparency" not in image.info
    picture = from_pil(image)
    np.testing.assert_array_equal(picture.alpha, array[:, :, 3])
    np.testing.assert_allclose(picture.pixels[:2].astype(int), array[:2, :, :3], atol=8)


def with_chunk(kind, body):
    data = saved(Image.fromarray(noise(4, 4, 3)), "PNG")
    chunk = struct.pack(">I", len(body)) + kind + body
    return data[:33] + chunk + struct.pack(">I", zlib.crc32(kind + body)) + data[33:]


@pytest.mark.parametrize(
    ("kind", "body", "notes"),
    [
        (b"cICP", bytes([9, 16, 0, 1]), ("code points of the colour space (cICP) not kept",)),
        (b"cICP", bytes([1, 13, 0, 1]), ()),
        (b"gAMA", struct.pack(">I", 100000), ("gamma (gAMA) not kept",)),
        (b"gAMA", struct.pack(">I", 45455), ()),
        (
            b"cHRM",
            struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600),
            ("primaries (cHRM) not kept",),
        ),
        (b"sRGB", b"\0", ()),
    ],
)
def test_colours_of_png_that_are_not_what_all_assume_are_said(kind, body, notes):
    assert read(with_chunk(kind, body)).notes == notes


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_png_of_16_bits(channels, interlace, size):
    array = noise(*size, channels, dtype=np.uint16)
    picture = read(png16(array, interlace=interlace))
    assert picture.pixels.dtype == np.uint16
    np.testing.assert_array_equal(picture.stacked(), array)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", [(), (3,), (4,)])
def test_tiff_of_16_bits(shape, size, order):
    array = noise(*size, *shape, dtype=np.uint16)
    options = {"photometric": "rgb"} if shape else {}
    if shape == (4,):
        options["extrasamples"] = ["unassalpha"]
    picture = read(tiff(array, byteorder=order, **options))
    assert picture.pixels.dtype == np.uint16
    np.testing.assert_array_equal(picture.stacked().squeeze(), array.squeeze())


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"rowsperstrip": 5},
        {"tile": (16, 16)},
        {"compression": "zlib", "tile": (16, 16)},
        {"bigtiff": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_layouts_of_16_bits(options, order):
    if order == ">" and "bigtiff" in options:
        with pytest.raises(Unsupported, match="BigTIFF"):
            read(tiff(noise(4, 4), byteorder=order, **options))
        return
    array = noise(20, 37, 3, dtype=np.uint16)
    picture = read(tiff(array, photometric="rgb", byteorder=order, **options))
    np.testing.assert_array_equal(picture.pixels, array)


def test_tiff_that_says_once_how_many_bits_all_samples_have():
    array = noise(6, 5, 3, dtype=np.uint16)
    data = bytearray(tiff(array, photometric="rgb", byteorder="<"))
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    at = next(
        at
        for at in range(first + 2, first + 2 + 12 * count, 12)
        if struct.unpack_from("<H", data, at)[0] == 258
    )
    struct.pack_into("<IHH", data, at + 4, 1, 16, 0)
    np.testing.assert_array_equal(read(bytes(data)).pixels, array)


def test_tiff_planes_of_16_bits():
    planes = noise(3, 20, 37, dtype=np.uint16)
    options = {"photometric": "rgb", "planarconfig": "separate"}
    picture = read(tiff(planes, **options))
    np.testing.assert_array_equal(picture.pixels, planes.transpose(1, 2, 0))
    with pytest.raises(Unsupported, match="plane"):
        read(tiff(planes, compression="zlib", **options))


def test_tiff_where_white_is_zero():
    for dtype in (np.uint8, np.uint16):
        array = noise(6, 5, dtype=dtype)
        picture = read(tiff(array, photometric="miniswhite"))
        np.testing.assert_array_equal(picture.pixels[:, :, 0], np.iinfo(dtype).max - array)


@pytest.mark.parametrize("maximum", [256, 1023, 4095, 65535])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("plain", [False, True])
def test_pnm_above_255(maximum, channels, plain):
    array = (noise(5, 7, channels, dtype=np.uint16) % (maximum + 1.0)).astype(np.uint16)
    kind = {(1, False): 5, (3, False): 6, (1, True): 2, (3, True): 3}[channels, plain]
    header = f"P{kind}\n# a comment\n7 5 # another\n{maximum}\n".encode()
    body = " ".join(map(str, array.ravel())).encode() if plain else array.astype(">u2").tobytes()
    picture = read(header + body)
    expected = np.rint(array * (65535 / maximum)).astype(np.uint16)
    np.testing.assert_array_equal(picture.pixels, expected)
    assert bool(picture.notes) == (maximum != 65535)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tiff(np.zeros((4, 4), np.float32)), "float"),
        (tiff(np.zeros((4, 4), np.uint32)), "32-bit"),
        (tiff(np.zeros((4, 4), np.int16)), "signed"),
        (tiff(np.zeros((4, 4), np.int8)), "signed"),
        (tiff(np.zeros((4, 4), np.float64)), "cannot be read"),
        (tiff(np.zeros((4, 4, 3), np.float32), photometric="rgb"), "cannot be read"),
    ],
)
def test_float_and_wide_samples_are_refused(data, words):
    with pytest.raises(Unsupported, match=words) as refused:
        read(data)
    assert refused.value.hint


def cmyk_profile():
    """A profile in which every mix of inks is the same orange, L*a*b* about (60, 40, 50)."""
    table = struct.pack(
        ">4s4xBBBx9i", b"mft1", 4, 3, 2, *[0x10000 if i % 4 == 0 else 0 for i in range(9)]
    )
    table += bytes(range(256)) * 4 + bytes([153, 168, 178]) * 16 + bytes(range(256)) * 3
    white = struct.pack(">4s4x3i", b"XYZ ", 63190, 65536, 54061)
    tags, data, offset = [], b"", 128 + 4 + 12 * 2
    for name, body in ((b"A2B0", table), (b"wtpt", white)):
        body += bytes(-len(body) % 4)
        tags.append(struct.pack(">4sII", name, offset + len(data), len(body)))
        data += body
    rest = struct.pack(">I", 2) + b"".join(tags) + data
    header = struct.pack(
        ">I4sI4s4s4s12x4s", 128 + len(rest), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp"
    )
    header = header.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + rest


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk(format):
    image = Image.fromarray(smooth(8, 8)).convert("CMYK")
    picture = read(saved(image, format))
    assert picture.notes == ("CMYK converted to sRGB",)
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(picture.pixels - expected).max() <= (12 if format == "JPEG" else 0)


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_goes_through_its_profile_which_is_then_dropped(format):
    image = Image.new("CMYK", (4, 4), (200, 100, 50, 0))  # paper white would stay white
    picture = read(saved(image, format, icc_profile=cmyk_profile()))
    red, green, blue = picture.pixels[0, 0].tolist()
    assert red > 200 > green > 90 > blue
    assert "icc" not in picture.metadata


def test_cmyk_with_a_broken_profile_is_still_read():
    image = Image.new("CMYK", (4, 4), (0, 0, 0, 0))
    picture = read(saved(image, "JPEG", icc_profile=b"not a profile"))
    assert picture.pixels.min() > 250
    assert picture.metadata == {}


@pytest.mark.parametrize(
    ("format", "options"),
    [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})],
)
def test_several_frames_are_refused(format, options):
    frames = [Image.fromarray(noise(6, 6, 3, seed=seed)) for seed in range(3)]
    data = saved(frames[0], format, save_all=True, append_images=frames[1:], **options)
    with pytest.raises(Unsupported, match="3 pictures") as refused:
        read(data, name="dance")
    assert "dance" in str(refused.value)
    assert refused.value.hint == "extract one frame first"


def test_sources(tmp_path):
    data = saved(Image.fromarray(noise(3, 4, 3)), "PNG")
    path = tmp_path / "name without a meaning.jpg"
    path.write_bytes(data)
    expected = read(data).pixels
    for source in (path, str(path), bytearray(data), memoryview(data), io.BytesIO(data)):
        np.testing.assert_array_equal(read(source).pixels, expected)
    with path.open("rb") as file:
        np.testing.assert_array_equal(read(file).pixels, expected)


def test_a_missing_file_is_the_callers_mistake(tmp_path):
    with pytest.raises(BadRequest, match="no such file"):
        read(tmp_path / "none.png")


@pytest.mark.parametrize("data", [b"", b"hello", b"P7\n", b"P5", b"RIFF1234WAVE", bytes(100)])
def test_unknown_bytes(data):
    with pytest.raises(NotOurFile, match="thing") as refused:
        read(data, name="thing")
    assert "PNG" in refused.value.hint


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 2), (4, 5, 3), (4, 5, 4), (1, 1)])
def test_arrays(shape, dtype):
    array = noise(*shape, dtype=dtype)
    picture = from_array(array)
    assert (picture.height, picture.width, picture.bit_depth) == (*shape[:2], array.itemsize * 8)
    np.testing.assert_array_equal(picture.stacked().reshape(shape), array)
    np.testing.assert_array_equal(
        from_array(array.byteswap().view(array.dtype.newbyteorder())).pixels, picture.pixels
    )


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(5, np.uint8),
        np.zeros((2, 2, 5), np.uint8),
        np.zeros((2, 2, 3, 1), np.uint8),
        np.zeros((0, 2), np.uint8),
        np.zeros((2, 2), np.float32),
        np.zeros((2, 2), np.int32),
        np.zeros((2, 2), bool),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_that_are_no_pictures(array):
    with pytest.raises(BadRequest):
        from_array(array)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_pillow_round_trip(mode):
    dtype = np.uint16 if mode == "I;16" else np.uint8
    shape = (6, 5) if mode in ("L", "I;16") else (6, 5, len(mode))
    picture = from_array(noise(*shape, dtype=dtype), dpi=(72, 36))
    image = to_pil(picture)
    assert image.mode == mode
    np.testing.assert_array_equal(from_pil(image).stacked(), picture.stacked())
    assert from_pil(image).dpi == (72, 36)


def test_pillow_cannot_hold_deep_colour():
    with pytest.raises(BadRequest, match="16 bits"):
        to_pil(from_array(noise(4, 4, 3, dtype=np.uint16)))


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "RGBX", "La", "RGBa", "YCbCr", "HSV"])
def test_pillow_modes(mode):
    image = Image.fromarray(smooth(6, 5))
    if mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[mode])
    assert from_pil(image.convert(mode)).pixels.shape[:2] == (6, 5)


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_pillow_modes_that_are_refused(mode):
    with pytest.raises(Unsupported):
        from_pil(Image.new(mode, (3, 3)))


def test_a_pillow_image_is_turned_once():
    image = Image.fromarray(noise(4, 7, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    opened = Image.open(io.BytesIO(saved(image, "PNG", exif=exif)))
    upright = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(from_pil(opened).pixels, upright)
    np.testing.assert_array_equal(from_pil(ImageOps.exif_transpose(opened)).pixels, upright)


def test_import_leaves_pillow_alone():
    code = "import sys, sccodec.media.image; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
