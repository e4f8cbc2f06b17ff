"""Profiles, EXIF, XMP and resolution survive; orientation is applied exactly once."""

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import noise, png16, saved, tiff
from PIL import Image, ImageCms, ImageOps
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

from sccodec.errors import BadRequest
from sccodec.media.image import from_array, parse_selection, read, select_metadata, write
from sccodec.media.metadata import make_upright

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="%d"/></x:xmpmeta>'
EXIF_IFD, ORIENTATION, MAKE, WIDE, HIGH = 0x8769, 0x0112, 0x010F, 0xA002, 0xA003
ARTIST, OWNER = 0x013B, 0xA430


def exif_with(orientation=None, **inner):
    exif = Image.Exif()
    exif[MAKE] = "A maker"
    if orientation is not None:
        exif[ORIENTATION] = orientation
    exif[EXIF_IFD] = {WIDE: 70, HIGH: 40, 0x9286: b"ASCII\0\0\0a comment", **inner}
    return exif.tobytes().removeprefix(b"Exif\0\0")


def parsed(payload):
    exif = Image.Exif()
    exif.load(payload)
    return exif


def round_trip(picture, format):
    stream = io.BytesIO()
    notes = write(picture, stream, format=format)
    return read(stream.getvalue()), notes


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_round_trip(format, dtype):
    if dtype == np.uint16 and format in ("jpeg", "webp"):
        pytest.skip("the format has 8 bits only")
    metadata = {"icc": ICC, "exif": exif_with(), "xmp": XMP % 1}
    picture = from_array(noise(6, 5, 3, dtype=dtype), metadata=metadata, dpi=(300, 150))
    again, notes = round_trip(picture, format)
    if format == "tiff":  # its tags are the file's own, so the payload is rebuilt
        exif = parsed(again.metadata["exif"])
        assert exif[MAKE] == "A maker"
        assert exif.get_ifd(EXIF_IFD) == parsed(metadata["exif"]).get_ifd(EXIF_IFD)
        metadata.pop("exif")
    for kind, payload in metadata.items():
        assert again.metadata[kind] == payload
    if format == "webp":
        assert again.dpi is None
        assert notes == ("resolution not kept: WEBP has no place for it",)
    else:
        assert again.dpi == pytest.approx((300, 150), rel=1e-3)
        assert notes == ()


@pytest.mark.parametrize("format", ["bmp", "ppm"])
def test_what_has_no_place_is_said(format):
    metadata = {"icc": ICC, "exif": exif_with(), "xmp": XMP % 1}
    again, notes = round_trip(from_array(noise(6, 5, 3), metadata=metadata), format)
    assert again.metadata == {}
    assert [note.split()[0] for note in notes] == ["ICC", "EXIF", "XMP"]


def test_nothing_is_made_up():
    for format in ("png", "jpeg", "webp", "tiff", "bmp", "ppm"):
        again, notes = round_trip(from_array(noise(6, 5, 3)), format)
        assert again.metadata == {}
        assert again.dpi is None
        assert notes == ()


@pytest.mark.parametrize(("kind", "limit"), [("exif", 65527), ("xmp", 65504)])
def test_metadata_too_large_for_jpeg(kind, limit):
    start = exif_with() if kind == "exif" else XMP % 1
    for length, fits in ((limit, True), (limit + 1, False)):
        payload = start.ljust(length)
        again, notes = round_trip(from_array(noise(4, 4), metadata={kind: payload}), "jpeg")
        assert again.metadata == ({kind: payload} if fits else {})
        assert bool(notes) != fits


def test_a_large_profile_is_cut_into_segments_and_joined():
    profile = ICC + noise(150_000).tobytes()
    again, _ = round_trip(from_array(noise(4, 4, 3), metadata={"icc": profile}), "jpeg")
    assert again.metadata["icc"] == profile


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(format, orientation):
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(format, {})
    image = Image.fromarray(noise(7, 5, 3))
    exif = exif_with(orientation)
    given_exif = parsed(exif) if format == "TIFF" else b"Exif\0\0" + exif
    if format != "WEBP":
        options["dpi"] = (200, 100)
    data = saved(image, format, exif=given_exif, **options)

    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    picture = read(data)
    np.testing.assert_array_equal(picture.pixels, expected)
    kept = parsed(picture.metadata["exif"])
    assert kept.get(ORIENTATION, 1) == 1
    assert kept[MAKE] == "A maker"
    inner = kept.get_ifd(EXIF_IFD)
    assert (inner[WIDE], inner[HIGH]) == ((70, 40) if orientation < 5 else (40, 70))
    if format != "WEBP":
        turned = (200, 100) if orientation < 5 else (100, 200)
        assert picture.dpi == pytest.approx(turned, rel=1e-3)

    again, _ = round_trip(picture, "png")
    np.testing.assert_array_equal(again.pixels, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_with_16_bits_and_alpha(orientation):
    array = noise(5, 7, 4, dtype=np.uint16)
    end = png16(array)
    exif = exif_with(orientation)
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif
    chunk += struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    first = Image.fromarray(array[:, :, 0])
    first.getexif()[ORIENTATION] = orientation
    picture = read(end[:33] + chunk + end[33:])
    expected = np.asarray(ImageOps.exif_transpose(first))
    np.testing.assert_array_equal(picture.pixels[:, :, 0], expected)
    last = read(end[:-12] + chunk + end[-12:])  # behind the pixels is allowed too
    np.testing.assert_array_equal(last.stacked(), picture.stacked())


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_in_tiff(orientation, dtype, compression):
    array = noise(5, 7, 3, dtype=dtype)
    if dtype == np.uint8:
        options = {"compression": compression, "tiffinfo": {ORIENTATION: orientation}}
        data = saved(Image.fromarray(array), "TIFF", **options)
    else:
        if compression == "tiff_lzw":
            pytest.skip("nothing here writes LZW with 16 bits")
        options = {"photometric": "rgb", "compression": compression and "zlib"}
        data = tiff(array, extratags=[(ORIENTATION, 3, 1, orientation, True)], **options)
    first = Image.fromarray(array[:, :, 0])
    first.getexif()[ORIENTATION] = orientation
    expected = np.asarray(ImageOps.exif_transpose(first))
    picture = read(data)
    assert picture.pixels.dtype == dtype
    np.testing.assert_array_equal(picture.pixels[:, :, 0], expected)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_orientations_that_mean_nothing(orientation):
    array = noise(4, 6, 3)
    data = saved(Image.fromarray(array), "PNG", exif=exif_with(orientation))
    np.testing.assert_array_equal(read(data).pixels, array)


def test_xmp_orientation_counts_only_where_exif_has_none():
    image = Image.fromarray(noise(4, 6, 3))
    alone = read(saved(image, "WEBP", lossless=True, xmp=XMP % 6))
    assert alone.pixels.shape == (6, 4, 3)
    assert alone.metadata["xmp"] == XMP % 1
    both = read(saved(image, "WEBP", lossless=True, xmp=XMP % 6, exif=exif_with(3)))
    np.testing.assert_array_equal(both.pixels, np.asarray(image)[::-1, ::-1])
    assert both.metadata["xmp"] == XMP % 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_only_the_tag_changes(order):
    """Makers' notes hold offsets from the start, so nothing may move."""
    mark = {"<": b"II", ">": b"MM"}[order]
    exif = mark + struct.pack(f"{order}HIH", 42, 8, 1)
    exif += struct.pack(f"{order}HHIHH", ORIENTATION, 3, 1, 8, 0) + struct.pack(f"{order}I", 0)
    exif += b"a maker's note"
    fixed, orientation = make_upright({"exif": exif})
    assert orientation == 8
    assert [i for i in range(len(exif)) if fixed["exif"][i] != exif[i]] == [
        18 if order == "<" else 19
    ]


def test_a_thumbnail_that_would_lie_goes_and_one_that_fits_stays():
    thumbnail = b"\xff\xd8thumbnail\xff\xd9"
    for orientation in (1, 6):
        exif = b"II*\0" + struct.pack("<IH", 8, 1)
        exif += struct.pack("<HHIHHI", ORIENTATION, 3, 1, orientation, 0, 26)
        exif += struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, len(thumbnail), 0)
        exif += thumbnail
        fixed, found = make_upright({"exif": exif})
        assert found == orientation
        assert (thumbnail in fixed["exif"]) == (orientation == 1)
        if orientation == 6:
            assert parsed(fixed["exif"]).get_ifd(1) == {}


@given(st.binary(max_size=80), st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""]))
def test_broken_exif_never_stops_a_picture(noise, start):
    fixed, orientation = make_upright({"exif": start + noise, "xmp": noise})
    assert orientation in range(1, 9)
    assert set(fixed) == {"exif", "xmp"}


def text_in(payload):
    """What a directory says in words, as bytes, from the outer and the inner directory."""
    exif = parsed(payload)
    return [text.encode("latin-1") for text in (exif[ARTIST], exif.get_ifd(EXIF_IFD)[OWNER])]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_of_people_go_through_tiff_byte_by_byte(encoding):
    words = ("Jose" if encoding == "ascii" else "© José Núñez").encode(encoding)
    exif = Image.Exif()
    exif[ARTIST] = words
    exif[EXIF_IFD] = {OWNER: "placeholder for it"}
    inner = words.ljust(len("placeholder for it"), b".")
    payload = exif.tobytes().replace(b"placeholder for it", inner).removeprefix(b"Exif\0\0")
    assert text_in(payload) == [words, inner]
    back, notes = round_trip(
        replace(from_array(noise(6, 8, 3)), metadata={"exif": payload}), "tiff"
    )
    assert not notes
    assert text_in(back.metadata["exif"]) == [words, inner]


def test_broken_exif_never_stops_a_tiff():
    """What can be written is, and the rest is said."""
    directory = ImageFileDirectory_v2()
    directory.tagtype[270] = 5  # a description that is a fraction
    directory[270], directory[ARTIST] = IFDRational(1, 2), "someone"
    odd = b"II*\0\x08\0\0\0" + directory.tobytes(8)
    for payload, kept in ((b"hello world, not exif", None), (odd, "someone")):
        picture = replace(from_array(noise(6, 8, 3)), metadata={"exif": payload})
        back, notes = round_trip(picture, "tiff")
        assert notes == ("EXIF not kept whole: some of it is damaged",)
        assert parsed(back.metadata.get("exif", b"")).get(ARTIST) == kept
        np.testing.assert_array_equal(back.pixels, picture.pixels)


def test_selection():
    metadata = {"icc": ICC, "exif": exif_with(), "xmp": XMP % 1}
    picture = from_array(noise(2, 2), metadata=metadata, dpi=(72, 72))
    for spec, kinds in {
        "all": {"icc", "exif", "xmp", "dpi"},
        "none": set(),
        "icc": {"icc"},
        "icc, dpi": {"icc", "dpi"},
        "exif,xmp": {"exif", "xmp"},
    }.items():
        kept = select_metadata(picture, spec)
        assert set(kept.metadata) == kinds - {"dpi"}
        assert (kept.dpi is not None) == ("dpi" in kinds)
        assert kept.pixels is picture.pixels
        assert parse_selection(spec) == kinds
    for spec in ("", "iptc", "icc,,xmp", "ALL"):
        with pytest.raises(BadRequest, match="unknown kind") as refused:
            select_metadata(picture, spec)
        assert "icc, exif, xmp, dpi" in refused.value.hint
