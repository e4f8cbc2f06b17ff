"""Pillow as the only door: open, draft, load, save, and what goes wrong."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import picture
from PIL import Image, ImageFile, ImageOps

import sccodec.pillow

ICC = b"not a profile, but nobody looks" * 8
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


def exif(orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = orientation, "maker"
    return tags


def saved(image: Image.Image, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, "SCC", **{"profile": "tiny-1", **options})
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.fixture(scope="module")
def scc(tiny_model) -> bytes:
    """12 tiles in two layers: 0.5 KB of directory, 2.5 KB of base, 5 KB above it."""
    noise = np.random.default_rng(0).integers(0, 256, (130, 200, 3), np.uint8)
    return saved(Image.fromarray(noise), tile=64, step=0)


class Watched(io.BytesIO):
    """Counts bytes that are read."""

    count = 0

    def read(self, *size):
        data = super().read(*size)
        self.count += len(data)
        return data


# -- opening -------------------------------------------------------------------------------

SAMPLES = {
    "L": picture(70, 90, channels=1)[:, :, 0],
    "LA": picture(70, 90, channels=2),
    "RGB": picture(70, 90),
    "RGBA": picture(70, 90, channels=4),
    "I;16": picture(70, 90, channels=1)[:, :, 0].astype(np.uint16) * 257,
}


@pytest.mark.parametrize("mode", SAMPLES)
def test_modes_and_pixels(mode):
    image = Image.fromarray(SAMPLES[mode])
    assert image.mode == mode
    data = saved(image)
    with opened(data) as again:
        assert (again.format, again.mode, again.size) == ("SCC", mode, image.size)
        assert again.get_format_mimetype() == "image/x-scc"
        np.testing.assert_array_equal(np.asarray(again), sccodec.decode(data))
        if "A" in mode:
            np.testing.assert_array_equal(again.getchannel("A"), image.getchannel("A"))


@pytest.mark.parametrize("mode", ["LA", "RGB", "RGBA"])
def test_colour_or_alpha_of_16_bits_is_rounded_to_8(mode):
    """Pillow has no such mode, and opens PNG files of this kind so too."""
    deep = SAMPLES[mode].astype(np.uint16) * 200 + 77
    data = sccodec.encode(deep, profile="tiny-1")
    with opened(data) as image:
        assert (image.mode, image.info["sccodec"]["bit_depth"]) == (mode, 16)
        np.testing.assert_array_equal(np.asarray(image), np.rint(sccodec.decode(data) / 257))
        image.thumbnail((10, 10))
        assert image.mode == mode


def test_opening_reads_no_payload(scc):
    """Not a byte beyond the directory is needed, and the size of the file is not touched."""
    file = Watched(scc)
    image = Image.open(file, formats=["SCC"])  # other formats look at files too
    assert image.size == (200, 130)
    assert file.count < 1200 < len(scc) // 4
    spoiled = bytearray(scc)
    for place in sccodec.open(scc).reader.ranges():
        spoiled[place.offset : place.offset + place.length] = bytes(place.length)
    image = opened(bytes(spoiled))
    assert [layer["name"] for layer in image.info["sccodec"]["layers"]] == ["base", "enhancement"]
    with pytest.raises(OSError, match=r"layer 0 .*checksum"):
        image.load()


def test_opening_loads_no_runtime(scc, tmp_path):
    (tmp_path / "a.scc").write_bytes(scc)
    code = (
        "import sys, sccodec.pillow; from PIL import Image; im = Image.open(sys.argv[1]); "
        "print(im.size, [m for m in ('onnxruntime', 'constriction') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.scc"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(200, 130) []"


def test_a_path_is_closed_once_it_is_loaded(scc, tmp_path):
    path = tmp_path / "photo.scc"
    path.write_bytes(scc)
    image = Image.open(path)
    file = image.fp
    assert not file.closed
    image.load()
    assert file.closed
    with Image.open(path) as image:
        file = image.fp
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        image.load()


def test_a_stream_of_the_caller_stays_open(scc):
    file = io.BytesIO(scc)
    Image.open(file).load()
    assert not file.closed


def test_images_are_copied_pickled_and_fed_in_parts(scc):
    whole = np.asarray(opened(scc))
    np.testing.assert_array_equal(opened(scc).copy(), whole)
    again = pickle.loads(pickle.dumps(opened(scc)))
    np.testing.assert_array_equal(again, whole)
    parser = ImageFile.Parser()
    for at in range(0, len(scc), 700):
        parser.feed(scc[at : at + 700])
    np.testing.assert_array_equal(parser.close(), whole)


def test_many_threads_open_and_load(scc):
    whole, shared = np.asarray(opened(scc)), opened(scc)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: np.asarray(opened(scc) if n % 2 else shared), range(16)))
    assert all((result == whole).all() for result in results)


def test_pillows_own_limit_holds(scc, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError):
        opened(scc)


# -- drafts --------------------------------------------------------------------------------


def test_a_draft_of_half_the_size_is_the_base(scc):
    image = opened(scc)
    assert image.draft(None, (100, 65)) == ("RGB", (0, 0, 200, 130))
    np.testing.assert_array_equal(image, sccodec.decode(scc, "base"))
    assert image.draft(None, (10, 10)) is None  # too late


def test_a_draft_of_more_is_everything(scc):
    image = opened(scc)
    assert image.draft("RGB", (10, 10)) is not None
    assert image.draft(None, (101, 65)) is None
    np.testing.assert_array_equal(image, sccodec.decode(scc))


def test_a_thumbnail_reads_the_base_only(scc):
    file = Watched(scc)
    image = Image.open(file, formats=["SCC"])
    image.thumbnail((30, 30))
    layers = image.info["sccodec"]["layers"]
    assert file.count <= 1200 + layers[0]["bytes"] < len(scc)
    base = Image.fromarray(sccodec.decode(scc, "base"))
    base.thumbnail((30, 30))
    np.testing.assert_array_equal(image, base)


def test_a_file_of_one_layer_has_no_draft(scc):
    image = opened(sccodec.extract(scc, "base"))
    assert image.draft(None, (10, 10)) is None
    np.testing.assert_array_equal(image, sccodec.decode(scc, "base"))


# -- metadata ------------------------------------------------------------------------------


def test_metadata_goes_in_and_comes_out():
    image = Image.fromarray(SAMPLES["RGB"])
    image.info |= {"icc_profile": ICC, "xmp": XMP, "exif": exif().tobytes(), "dpi": (300, 150)}
    again = opened(saved(image))
    assert again.info["icc_profile"] == ICC
    assert again.info["xmp"] == XMP
    assert again.info["dpi"] == (300, 150)
    assert again.getexif()[0x010F] == "maker"
    out = io.BytesIO()
    again.save(out, "PNG", exif=again.getexif())
    assert Image.open(out).info["icc_profile"] == ICC


def test_what_save_is_given_counts_more():
    image = Image.fromarray(SAMPLES["RGB"])
    image.info |= {"icc_profile": ICC, "xmp": XMP, "exif": exif().tobytes(), "dpi": (300, 150)}
    tags = exif()
    tags[0x010F] = "other"
    given = {"icc_profile": None, "xmp": XMP * 2, "exif": tags, "dpi": (72, 72)}
    again = opened(saved(image, **given))
    assert "icc_profile" not in again.info
    assert again.info["xmp"] == XMP * 2
    assert again.info["dpi"] == (72, 72)
    assert again.getexif()[0x010F] == "other"
    assert image.info["dpi"] == (300, 150)  # the caller's image is left alone
    bare = opened(saved(image, metadata="none"))
    assert not {"icc_profile", "xmp", "exif", "dpi"} & set(bare.info)


@pytest.mark.parametrize("given", [False, True])
def test_the_file_is_upright(given):
    image = Image.fromarray(SAMPLES["RGB"])
    if given:
        data = saved(image, exif=exif(6))
    else:
        image.info["exif"] = exif(6).tobytes()
        data = saved(image)
    again = opened(data)
    assert again.size == (70, 90)
    assert again.getexif()[0x0112] == 1
    image.info["exif"] = exif(6).tobytes()
    upright = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(again, sccodec.decode(sccodec.encode(upright, profile="tiny-1")))


def test_the_maker_of_a_tiff_is_kept_beside_a_new_resolution(tmp_path):
    Image.fromarray(SAMPLES["RGB"]).save(tmp_path / "a.tiff", exif=exif())
    again = opened(saved(Image.open(tmp_path / "a.tiff"), dpi=(99, 99)))
    assert (again.getexif()[0x010F], again.info["dpi"]) == ("maker", (99, 99))


# -- saving --------------------------------------------------------------------------------


def test_saving_leaves_the_transparency_of_a_palette():
    image = Image.fromarray(SAMPLES["RGB"]).convert("P")
    image.info["transparency"] = 5
    assert opened(saved(image)).mode == opened(saved(image)).mode == "RGBA"
    assert image.info["transparency"] == 5


def through(image: Image.Image, kind: str | None) -> Image.Image:
    """The image as Pillow opens it from a file of this kind."""
    if kind is None:
        return image
    file = io.BytesIO()
    image.save(file, kind)
    return Image.open(file)


@pytest.mark.parametrize("kind", [None, "PNG", "TIFF"])
def test_what_save_is_given_is_of_the_pixels_as_they_lie(kind):
    image = through(Image.fromarray(SAMPLES["RGB"]), kind)
    with opened(saved(image, exif=exif(6), dpi=(300, 150))) as again:
        assert again.size == image.size[::-1]
        assert again.info["dpi"] == (150, 300)
    turned = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'
    for given in (turned, turned.decode()):
        with opened(saved(image, xmp=given)) as again:
            assert again.size == image.size[::-1]
            assert b'tiff:Orientation="1"' in again.info["xmp"]
    with opened(saved(image.convert("CMYK"), icc_profile=ICC)) as again:
        assert "icc_profile" not in again.info


def test_white_stays_white_in_a_tiff_that_says_how_it_counts():
    ramp = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "TIFF", tiffinfo={262: 0})
    for options in ({}, {"exif": None}, {"exif": b""}):
        found = sccodec.plugins.pillow._picture(Image.open(file), options)
        np.testing.assert_array_equal(found.pixels[:, :, 0], 65535 - ramp)


def test_threads_save_one_image_each_with_its_own_metadata():
    image = Image.fromarray(SAMPLES["RGB"]).convert("CMYK").resize((600, 600))
    own = dict(image.info)

    def told(dpi: float) -> tuple[float, float]:
        return sccodec.plugins.pillow._picture(image, {"dpi": (dpi, dpi)}).dpi

    wanted = [100.0 + n for n in range(24)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(told, wanted)) == [(dpi, dpi) for dpi in wanted]
    assert image.info == own
    with opened(saved(image, dpi=(0, 0))) as again:
        assert "dpi" not in again.info


@pytest.mark.parametrize("dpi", [(-1, 1), (float("inf"), 1), 300, (300, 300, 1), ("a", "b")])
def test_a_resolution_that_makes_no_sense_is_refused(dpi):
    with pytest.raises(OSError, match="makes no sense"):
        saved(Image.fromarray(SAMPLES["L"]), dpi=dpi)


def test_options_reach_the_encoder(tmp_path):
    image = Image.fromarray(picture(130, 200))
    low, high = saved(image, quality=0), saved(image, quality=100)
    assert len(low) < len(saved(image)) < len(high)
    assert len(saved(image, max_bytes=len(high) - 1)) < len(high)
    rate = 8 * (len(low) + len(high)) / 2 / (130 * 200)
    assert abs(8 * len(saved(image, rate=rate)) / (130 * 200) / rate - 1) < 0.1
    entries = sccodec.open(saved(image, roi=(0, 0, 9, 9), tile=64)).tiles["base"]
    assert entries[0].step_offset < entries[-1].step_offset == 0
    path = tmp_path / "photo.scc"
    image.save(path, profile="tiny-1")
    assert path.read_bytes() == saved(image)
    quick = sccodec.encode(picture(130, 200), profile="tiny-1", effort=1)
    assert saved(image, effort=1) == quick != saved(image)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "YCbCr"])
def test_other_modes_are_converted(mode):
    image = Image.fromarray(SAMPLES["RGB"]).convert(mode)
    assert opened(saved(image)).mode in ("L", "RGB")


def test_an_opened_picture_is_saved_again(scc):
    image = opened(scc)
    assert saved(image) == sccodec.encode(sccodec.decode(scc), profile="tiny-1")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quality": 101}, "quality 101"),
        ({"quality": 5, "rate": 1}, "exclude each other"),
        ({"max_bytes": 10}, "too few"),
        ({"profile": "nobody"}, "model nobody is needed"),
    ],
)
def test_options_that_make_no_sense(options, words, tmp_path):
    image = Image.fromarray(SAMPLES["RGB"])
    with pytest.raises(OSError, match=words):
        saved(image, **options)
    with pytest.raises(OSError, match=words):
        image.save(tmp_path / "a.scc", **{"profile": "tiny-1", **options})
    assert not list(tmp_path.iterdir())


def test_a_mode_that_cannot_be_coded():
    with pytest.raises(OSError, match="float samples"):
        saved(Image.new("F", (9, 9)))


# -- damage --------------------------------------------------------------------------------


def test_a_damaged_payload_is_an_oserror_on_load_and_on_verify(scc):
    place = sccodec.open(scc).reader.ranges([1])[3]
    at = place.offset + 1
    bad = scc[:at] + bytes([scc[at] ^ 1]) + scc[at + 1 :]
    for touch in ("load", "verify"):
        with pytest.raises(OSError, match=r"layer 1 .*, tile 3 .*checksum"):
            getattr(opened(bad), touch)()
    opened(scc).verify()


def test_a_cut_file_is_shown_if_pillow_is_told_to(scc, monkeypatch):
    cut = scc[: -len(scc) // 4]
    with pytest.raises(OSError, match="file ends at byte"):
        opened(cut)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert np.asarray(opened(cut)).shape == (130, 200, 3)


def test_a_file_spoiled_by_text_mode_says_so(scc):
    with pytest.raises(OSError, match="binary mode"):
        opened(scc.replace(b"\r\n", b"\n", 1))


def test_other_files_are_left_to_others():
    with pytest.raises(Image.UnidentifiedImageError):
        opened(b"\x89SCX\r\n\x1a\n" + bytes(100))
