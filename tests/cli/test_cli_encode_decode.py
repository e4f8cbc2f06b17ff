"""Pictures become .scc files and pictures again, on the command line."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageCms
from shell import flip, pixels, run

import sccodec

TINY = ("--profile", "tiny-1")
SIZE = 160, 128  # width, height


def make_picture(seed: int = 0) -> np.ndarray:
    width, height = SIZE
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(seed).normal(0, 6, (height, width, 3))
    waves = 60 * np.sin(x / 9 + seed)[..., None] + 40 * np.cos(y / 7)[..., None]
    return np.clip(128 + waves + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def photo(tmp_path):
    """A picture in an empty folder, which is the working folder of nobody."""
    path = tmp_path / "photo.png"
    Image.fromarray(make_picture()).save(path)
    return path


@pytest.fixture(scope="module")
def scc(tiny_model) -> bytes:
    """The same picture, encoded in tiles of 64 pixels."""
    return sccodec.encode(make_picture(), profile="tiny-1", tile=64, step=280)


@pytest.fixture
def scc_file(tmp_path, scc):
    path = tmp_path / "photo.scc"
    path.write_bytes(scc)
    return path


# -- names ----------------------------------------------------------------------------------


def test_without_output_a_file_goes_beside_its_input(photo):
    there = photo.with_suffix(".scc")
    encoded = run("encode", *TINY, photo)
    assert encoded.code == 0
    assert f"{photo} -> {there}: {there.stat().st_size} bytes" in encoded.err
    assert encoded.out == b""
    photo.unlink()
    assert run("decode", there).code == 0
    assert pixels(photo).shape == (*SIZE[::-1], 3)


def test_stdin_and_stdout(photo, scc):
    encoded = run("encode", *TINY, "-", "--tile", 64, "--step", 280, stdin=photo.read_bytes())
    assert encoded.out == scc
    assert run("encode", *TINY, photo, "-o", "-", "--tile", 64, "--step", 280).out == scc
    decoded = run("decode", "-", stdin=scc)
    assert np.array_equal(pixels(decoded.out), sccodec.decode(scc))
    assert run("decode", "-", "-o", "-", "--format", "ppm", stdin=scc).out.startswith(
        b"P6\n160 128"
    )


def test_several_inputs_go_to_a_folder(tmp_path):
    for n in range(3):
        Image.fromarray(make_picture(n)).save(tmp_path / f"{n}.png")
    inputs = [tmp_path / f"{n}.png" for n in range(3)]
    refused = run("encode", *TINY, *inputs, "-o", tmp_path / "one.scc")
    assert refused.code == 1
    assert refused.hints == [f"sccodec: hint: -o {tmp_path / 'one.scc'}/ makes it a folder"]
    done = run("encode", *TINY, *inputs, "-o", f"{tmp_path / 'out'}/")
    assert done.code == 0
    assert "[3/3] " in done.err
    there = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in there] == ["0.scc", "1.scc", "2.scc"]
    assert run("decode", *there, "-o", tmp_path / "out", "--format", "webp").code == 0
    assert (tmp_path / "out" / "2.webp").exists()


def test_two_inputs_of_one_name_are_refused(photo, tmp_path, monkeypatch):
    other = photo.with_suffix(".jpg")
    Image.open(photo).save(other)
    result = run("encode", *TINY, photo, other)
    assert result.errors == [
        f"sccodec: error: several inputs would become {photo.with_suffix('.scc')}"
    ]
    monkeypatch.chdir(photo.parent)
    result = run("encode", *TINY, photo.name, other, "-f")
    assert result.errors[0].startswith("sccodec: error: several inputs would become ")
    assert run("encode", *TINY, "-", "-").code == 1
    result = run("encode", *TINY, "-", "-o", tmp_path, stdin=photo.read_bytes())
    assert (result.code, result.out) == (1, b"")


def test_existing_output_needs_force(photo):
    there = photo.with_suffix(".scc")
    there.write_bytes(b"precious")
    result = run("encode", *TINY, photo)
    assert result.code == 1
    assert result.errors == [f"sccodec: error: {there} exists"]
    assert result.hints == ["sccodec: hint: --force replaces it"]
    assert there.read_bytes() == b"precious"
    assert run("encode", *TINY, photo, "-f").code == 0
    assert run("decode", there).code == 1  # photo.png is there
    assert run("decode", there, "--force").code == 0


# -- what is said -----------------------------------------------------------------------------


def test_json_facts(photo):
    there = photo.with_suffix(".scc")
    (row,) = run("encode", *TINY, photo, "--json").rows()
    assert row["bytes"] == there.stat().st_size
    assert row["bpp"] == round(8 * row["bytes"] / (SIZE[0] * SIZE[1]), 6)
    (row,) = run("decode", there, "-f", "--json").rows()
    assert (row["width"], row["height"], row["bytes"]) == (*SIZE, there.stat().st_size)
    assert row["damaged"] == []
    for command in ("encode", "decode"):
        result = run(command, there, *(TINY if command == "encode" else ()), "-o", "-", "--json")
        assert result.errors == [
            "sccodec: error: --json and the file itself cannot both go to stdout"
        ]


def test_a_note_says_what_was_converted_or_not_kept(tmp_path):
    image = Image.fromarray(make_picture())
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "a.png", icc_profile=profile, dpi=(300, 300))
    image.convert("P").save(tmp_path / "b.gif")
    result = run("encode", *TINY, tmp_path / "a.png", tmp_path / "b.gif")
    assert f"sccodec: {tmp_path / 'b.gif'}: palette converted to RGB" in result.err.splitlines()
    result = run("decode", tmp_path / "a.scc", "-o", tmp_path / "a.ppm")
    assert result.code == 0
    assert (
        f"sccodec: {tmp_path / 'a.scc'}: ICC not kept: PPM has no place for it"
        in result.err.splitlines()
    )
    assert run("decode", tmp_path / "a.scc", "-f").code == 0
    assert Image.open(tmp_path / "a.png").info["icc_profile"] == profile
    assert run("encode", *TINY, tmp_path / "a.png", "-f", "--metadata", "dpi").code == 0
    assert list(sccodec.info(tmp_path / "a.scc")["metadata"]) == ["DPI_"]


# -- how much ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.7])
def test_rate_is_met_within_two_per_cent_or_one_step(photo, rate):
    there, target = photo.with_suffix(".scc"), rate * SIZE[0] * SIZE[1] / 8
    assert run("encode", *TINY, photo, "--rate", rate).code == 0
    info = sccodec.info(there)
    if abs(info["bytes"] / target - 1) > 0.02:
        step = info["layers"][0]["step"]
        near = [len(sccodec.encode(there.with_suffix(".png"), profile="tiny-1", step=step + d))
                for d in (1, -1)]  # fmt: skip
        assert near[0] <= target <= near[1]


def test_rate_out_of_reach(photo):
    for rate in (0.001, 90):
        result = run("encode", *TINY, photo, "--rate", rate)
        assert result.code == 1
        assert "out of reach" in result.errors[0]


@pytest.mark.parametrize("most", ["700", "1k", "1.5k", "1M"])
def test_max_bytes_is_never_exceeded(photo, most):
    there = photo.with_suffix(".scc")
    assert run("encode", *TINY, photo, "--max-bytes", most).code == 0
    number, factor = (most[:-1], {"k": 1e3, "M": 1e6}[most[-1]]) if most[-1] in "kM" else (most, 1)
    assert there.stat().st_size <= float(number) * factor


def test_max_bytes_too_few(photo):
    result = run("encode", *TINY, photo, "--max-bytes", 50)
    assert result.code == 1
    assert "50 bytes are too few" in result.errors[0]
    assert not photo.with_suffix(".scc").exists()


@pytest.mark.usefixtures("all_cores")
def test_threads_do_not_change_the_bytes(photo, scc, tmp_path):
    options = [*TINY, photo, "--tile", 64, "--step", 280, "-o"]
    assert run("encode", *options, tmp_path / "a.scc", "-j", 2).code == 0
    assert (tmp_path / "a.scc").read_bytes() == scc
    assert run("decode", tmp_path / "a.scc", "-j", "all").code == 0
    assert np.array_equal(pixels(tmp_path / "a.png"), sccodec.decode(scc))


# -- which part -------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", ["base", "1", "all", "2", "enhancement"])
def test_layers(scc_file, scc, layers):
    assert run("decode", scc_file, "--layers", layers).code == 0
    assert np.array_equal(pixels(scc_file.with_suffix(".png")), sccodec.decode(scc, layers))


def test_layers_that_are_not_there(scc_file):
    result = run("decode", scc_file, "--layers", "detail")
    assert result.code == 1
    assert result.errors == [
        "sccodec: error: no layer 'detail'; the file holds 0 (base), 1 (enhancement)"
    ]


def test_region_is_a_crop_and_reads_less(scc_file, scc):
    x, y, w, h = 70, 10, 40, 30
    (row,) = run("decode", scc_file, "--region", f"{x},{y},{w},{h}", "--json").rows()
    assert np.array_equal(
        pixels(scc_file.with_suffix(".png")), sccodec.decode(scc)[y : y + h, x : x + w]
    )
    assert row["bytes_read"] < len(scc)
    assert run("decode", scc_file, "-f", "--region", "999,0,4,4").code == 1


def test_region_of_interest_is_better_there(photo, tmp_path):
    # Effort 2: what is moved at higher ones depends on tiles around, which the tiny model blurs.
    common = [*TINY, photo, "--tile", 64, "--step", 320, "-e", 2]
    assert run("encode", *common, "-o", tmp_path / "plain.scc").code == 0
    assert run("encode", *common, "-o", tmp_path / "roi.scc", "--roi", "10,10,40,40:64").code == 0
    assert (
        run("encode", *common, "-o", tmp_path / "only.scc", "--roi", "0,0,9,9", "--roi-only").code
        == 0
    )

    def error(name):
        decoded = sccodec.decode(tmp_path / name).astype(float)
        return np.square(decoded - make_picture())[10:50, 10:50].mean()

    assert error("roi.scc") < error("plain.scc")
    only = sccodec.info(tmp_path / "only.scc")["layers"]
    assert [layer["tiles_present"] for layer in only] == [6, 1]
    assert run("encode", *common, "--roi-only").errors == ["sccodec: error: --roi-only needs --roi"]


# -- damage -----------------------------------------------------------------------------------


def test_a_damaged_tile_shows_the_base_there_and_nowhere_else(scc_file, scc):
    png = scc_file.with_suffix(".png")
    scc_file.write_bytes(flip(scc, layer=1, tile=5))
    strict = run("decode", scc_file)
    assert strict.code == 2
    assert "layer 1 (enhancement), tile 5" in strict.errors[0]
    assert not png.exists()

    partial = run("decode", scc_file, "--allow-partial", "--json")
    assert partial.code == 2
    assert partial.err.startswith(f"sccodec: damaged: {scc_file}: layer 1 (enhancement), tile 5")
    (row,) = partial.rows()
    assert [(d["layer"], d["tile"]) for d in row["damaged"]] == [("enhancement", 5)]

    got, whole = pixels(png), sccodec.decode(scc)
    assert np.array_equal(got[:, :64], whole[:, :64])  # further than any halo
    assert not np.array_equal(got[64:, 128:], whole[64:, 128:])
    assert run("decode", scc_file, "-f", "--layers", "base").code == 0  # untouched


def test_a_damage_map_shows_where_and_how_badly(scc_file, scc):
    """In pixels of the region: 0 whole, 128 the layer below, 255 nothing."""
    scc_file.write_bytes(flip(flip(scc, layer=1, tile=5), layer=0, tile=0))
    there = scc_file.with_name("map.png")
    options = ["--allow-partial", "--damage-map", there, "--json"]
    result = run("decode", scc_file, *options)
    assert (result.code, result.rows()[0]["damage_map"]) == (2, str(there))
    expected = np.zeros(SIZE[::-1], np.uint8)
    expected[64:, 128:], expected[:64, :64] = 128, 255
    assert np.array_equal(pixels(there), expected)
    assert run("decode", scc_file, *options).code == 1  # it exists
    result = run("decode", scc_file, *options, "-f", "--region", "60,50,90,60")
    assert np.array_equal(pixels(there), expected[50:110, 60:150])
    scc_file.write_bytes(scc)
    assert run("decode", scc_file, *options, "-f").code == 0
    assert not pixels(there).any()


def test_info_of_a_cut_file(scc_file, scc):
    scc_file.write_bytes(scc[:-100])
    assert run("info", scc_file).code == 2
    result = run("info", scc_file, "--allow-partial", "--json")
    (row,) = result.rows()
    assert (result.code, row["bytes"]) == (2, len(scc))
    ends = f"file ends at byte {len(scc) - 100}, at least {len(scc)} are needed"
    assert row["damaged"] == [f"{scc_file}: {ends}"]
    assert result.err == f"sccodec: damaged: {row['damaged'][0]}\n"
    scc_file.write_bytes(scc)
    result = run("info", scc_file, "--allow-partial", "--json")
    assert (result.code, result.rows()[0]["damaged"]) == (0, [])


def test_damaged_tiles_look_like_tiles_that_were_left_out(scc_file, photo):
    # Without moved latents and corrections, which depend on how the tiles around look.
    options = ["--tile", 64, "--step", 280, "-e", 2, "-f"]
    assert run("encode", *TINY, photo, *options).code == 0
    scc = scc_file.read_bytes()
    for tile in range(1, 6):
        scc = flip(scc, layer=1, tile=tile)
    scc_file.write_bytes(scc)
    assert run("decode", scc_file, "--allow-partial", "-o", photo.with_name("got.png")).code == 2
    options += ["--roi", "0,0,64,64:0", "--roi-only"]
    assert run("encode", *TINY, photo, *options).code == 0
    assert np.array_equal(pixels(photo.with_name("got.png")), sccodec.decode(scc_file))


def test_a_cut_file_opens_as_what_is_whole(scc_file, scc):
    end_of_base = max(p.offset + p.length for p in sccodec.open(scc).reader.ranges([0]))
    scc_file.write_bytes(scc[: end_of_base + 20])
    assert run("decode", scc_file).code == 2
    assert not scc_file.with_suffix(".png").exists()
    partial = run("decode", scc_file, "--allow-partial")
    assert partial.code == 2
    assert partial.err.count("sccodec: damaged: ") == 6
    assert pixels(scc_file.with_suffix(".png")).shape == (*SIZE[::-1], 3)


def test_formats_of_the_option_are_those_that_can_be_written(scc_file):
    from sccodec.cli.decode import PICTURES, TENSORS, command
    from sccodec.media.image import supported_formats

    (option,) = (p for p in command.params if p.name == "kind")
    assert set(option.type.choices) == {*PICTURES, *TENSORS}
    assert set(supported_formats()) == set(PICTURES) - {"jpg", "tif"}
    for name in PICTURES:
        assert run("decode", scc_file, "--format", name).code == 0
        assert scc_file.with_suffix(f".{name}").stat().st_size > 1000
    assert run("decode", scc_file, "--format", "../x").code == 1
