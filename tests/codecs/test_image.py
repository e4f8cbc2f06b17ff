"""Pictures through the whole path: what comes back, and what each setting promises."""

import functools
import io
from dataclasses import replace

import numpy as np
import pytest
from conftest import picture
from tile_checks import words

from sccodec.codecs import image, payloads
from sccodec.codecs.canvas import canvas
from sccodec.codecs.image import Interest, Settings
from sccodec.codecs.verify import verify
from sccodec.container import ABSENT, Limits, extract, from_bytes, join, to_bytes
from sccodec.entropy import coder
from sccodec.errors import (
    BadRequest,
    CodecError,
    Damaged,
    LimitExceeded,
    Mismatch,
    Unsupported,
    WrongModel,
)
from sccodec.media.image import from_array
from sccodec.profiles import registry
from sccodec.profiles.registry import find
from sccodec.transform import graphs, synthesis
from sccodec.transform.graphs import Graph

FINE = Settings(step=220)
TILED = Settings(step=220, tile=64)
HALO = 2 * 16  # pixels; the widest synthesis of the model reaches two latents


def encoded(array, settings=FINE, **more) -> bytes:
    return image.encode(from_array(array, **more), settings, find("tiny-1"))


def decoded(data, *layers, **options) -> np.ndarray:
    result, _ = image.decode(from_bytes(data), *layers, **options)
    return result.stacked()


def extracted(data, *keep) -> bytes:
    out = io.BytesIO()
    extract(from_bytes(data), keep, out)
    return out.getvalue()


def joined(*files) -> bytes:
    out = io.BytesIO()
    join([from_bytes(data) for data in files], out)
    return out.getvalue()


def rewritten(data, header=None, change=None) -> bytes:
    """The file with another header, and each tile entry and payload through `change`."""
    reader = from_bytes(data)
    tiles, payloads, layers = {}, {}, []
    for layer in (header or reader.header).layers:
        pairs = [
            (e, reader.payload(layer.index, t)) for t, e in enumerate(reader.tiles[layer.index])
        ]
        if change:
            pairs = [change(layer.index, t, *pair) for t, pair in enumerate(pairs)]
        tiles[layer.index], payloads[layer.index] = zip(*pairs, strict=True)
        layers.append(replace(layer, bytes=sum(len(payload) for _, payload in pairs)))
    return to_bytes(replace(header or reader.header, layers=tuple(layers)), tiles, payloads)


def psnr(a, b) -> float:
    error = np.mean((a.astype(float) - b) ** 2)
    return 10 * np.log10(255**2 / error)


@pytest.fixture(scope="module")
def tiled():
    """A picture of 4x3 tiles and its file."""
    array = picture(130, 200, seed=3)
    return array, encoded(array, TILED)


# -- round trips ---------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 65), (65, 1), (63, 64), (130, 200)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_of_any_size_comes_back(height, width, channels):
    array = picture(height, width, seed=1, channels=channels)
    result = decoded(encoded(array))
    assert result.shape == array.shape
    assert result.dtype == np.uint8
    assert psnr(result, array) > 20


def test_sixteen_bits_come_back_as_sixteen_bits():
    array = picture(70, 90).astype(np.uint16) * 257 + 13
    result = decoded(encoded(array))
    assert result.dtype == np.uint16
    assert psnr(result / 257, array / 257) > 25
    assert (result % 257).any(), "the low byte is lost"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_exact(dtype, channels):
    array = picture(50, 60, channels=channels).astype(dtype)
    array[..., -1] = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (50, 60))
    result = decoded(encoded(array))
    np.testing.assert_array_equal(result[..., -1], array[..., -1])
    part = decoded(encoded(array), box=(7, 11, 20, 30))
    np.testing.assert_array_equal(part[..., -1], array[11:41, 7:27, -1])


def test_metadata_and_resolution_come_back():
    metadata = {"icc": b"profile", "exif": b"II*\0exif", "xmp": b"<x/>"}
    data = encoded(picture(20, 20), metadata=metadata, dpi=(300.0, 72.009))
    result, _ = image.decode(from_bytes(data))
    assert result.metadata == metadata
    assert result.dpi == (300.0, 72.009)


def test_metadata_can_be_left_out():
    data = encoded(picture(20, 20), Settings(metadata="xmp"), metadata={"icc": b"p", "xmp": b"x"})
    assert list(from_bytes(data).metadata) == ["XMP_"]


def test_eight_bits_widened_to_sixteen_are_coded_as_the_same_symbols():
    array = picture(70, 90)
    plain, wide = from_bytes(encoded(array)), from_bytes(encoded(array.astype(np.uint16) * 257))
    assert [plain.payload(n, 0) for n in (0, 1)] == [wide.payload(n, 0) for n in (0, 1)]


# -- layers --------------------------------------------------------------------------------


def test_the_enhancement_adds_quality_and_the_header_tells_how_much(tiled):
    array, data = tiled
    for count, layer in enumerate(from_bytes(data).header.layers, 1):
        assert layer.quality / 100 == pytest.approx(psnr(decoded(data, count), array), abs=0.02)
    assert psnr(decoded(data, "all"), array) > psnr(decoded(data, "base"), array)


def test_an_extracted_base_decodes_bit_for_bit_like_the_base_of_the_whole(tiled):
    _, data = tiled
    np.testing.assert_array_equal(decoded(extracted(data, 0)), decoded(data, "base"))


def test_joining_what_was_extracted_gives_the_file_back(tiled):
    _, data = tiled
    assert joined(extracted(data, 1), extracted(data, 0)) == data


def test_the_rest_without_its_base_is_refused_with_a_hint(tiled):
    _, data = tiled
    with pytest.raises(BadRequest, match="needs layer 0") as caught:
        decoded(extracted(data, 1))
    assert "join" in caught.value.hint


# -- tiles and regions ---------------------------------------------------------------------

BOXES = [(0, 0, 1, 1), (70, 40, 60, 50), (199, 129, 1, 1), (64, 64, 64, 64), (-5, 100, 500, 500)]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("layers", ["base", "all"])
def test_a_region_is_that_part_of_the_whole(tiled, box, layers):
    _, data = tiled
    x, y, w, h = box
    crop = decoded(data, layers)[max(y, 0) : y + h, max(x, 0) : x + w].astype(int)
    assert np.abs(decoded(data, layers, box=box) - crop).max() <= 1


def test_a_region_reads_only_its_tiles(tiled):
    _, data = tiled
    reader = from_bytes(data)
    _, report = image.decode(reader, box=(0, 0, 16, 16))
    touched = sum(place.length for place in reader.ranges() if place.tile in (0, 1, 4, 5))
    assert report.bytes_read <= 1024 + touched < len(data)


@pytest.mark.parametrize("box", [(200, 0, 5, 5), (0, 0, 0, 4), (-9, 0, 9, 9)])
def test_a_region_outside_the_picture_is_refused(tiled, box):
    with pytest.raises(BadRequest, match="no pixel"):
        decoded(tiled[1], box=box)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i4", "u8"])
def test_a_region_may_be_of_numpys_integers(tiled, dtype):
    box = np.array((30, 40, 100, 30), dtype)
    wanted = decoded(tiled[1], box=(30, 40, 100, 30))
    np.testing.assert_array_equal(decoded(tiled[1], box=box), wanted)
    np.testing.assert_array_equal(decoded(tiled[1], box=tuple(box)), wanted)


@pytest.mark.parametrize("box", [(0.0, 0.0, 9.0, 9.0), (1, 2, 3), "0,0,9,9", 5, ()])
def test_a_region_that_is_none_is_refused(tiled, box):
    with pytest.raises(BadRequest, match="whole pixels"):
        decoded(tiled[1], box=box)


def test_the_number_of_jobs_changes_nothing(tiled):
    array, data = tiled
    assert encoded(array, replace(TILED, jobs=4)) == data
    np.testing.assert_array_equal(decoded(data, jobs=4), decoded(data))


def test_the_order_in_which_tiles_are_decoded_changes_nothing(tiled, monkeypatch):
    _, data = tiled
    expected = decoded(data)

    def backwards(work, items, *_):
        return [work(item) for item in [*items][::-1]]

    monkeypatch.setattr(payloads, "each", backwards)
    np.testing.assert_array_equal(decoded(data), expected)


def test_tiles_and_no_tiles_give_the_same_picture_but_for_roundings(tiled):
    array, data = tiled
    assert psnr(decoded(data), decoded(encoded(array))) > 35


def test_windows_leave_no_seam(monkeypatch, tiny_model):
    array = picture(200, 330, seed=5)
    data = encoded(array)

    def analysed() -> dict:
        cut = functools.partial(canvas, from_array(array))
        return graphs.analyse(tiny_model.analysis, cut, 256, 384)

    whole, latents = decoded(data), analysed()
    for module in (graphs, synthesis):
        monkeypatch.setattr(module, "WINDOW", 64)
    assert np.abs(decoded(data).astype(int) - whole).max() <= 1
    for name, pieces in analysed().items():
        np.testing.assert_allclose(pieces, latents[name], atol=1e-3)


# -- settings ------------------------------------------------------------------------------


def test_quality_rises_with_the_setting():
    array = picture(130, 200)
    files = [encoded(array, Settings(quality=q)) for q in (0, 30, 60, 100)]
    sizes = [len(data) for data in files]
    assert sizes == sorted(sizes)
    assert psnr(decoded(files[-1]), array) > psnr(decoded(files[0]), array) + 2
    assert encoded(array) != encoded(array, Settings(quality=50))
    assert encoded(array, Settings()) == encoded(array, Settings(quality=50))


@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.7, 0.95])
def test_a_rate_is_met_within_two_percent_or_one_step(share, tile):
    array = picture(130, 200, seed=6)
    limits = (len(encoded(array, Settings(step=s, tile=tile))) for s in (410, 208))
    target = np.interp(share, [0, 1], list(limits))
    data = encoded(array, Settings(rate=8 * target / (130 * 200), tile=tile))
    step = from_bytes(data).header.layers[1].step
    near = [len(encoded(array, Settings(step=s, tile=tile))) for s in (step + 1, step - 1)]
    assert abs(len(data) / target - 1) <= 0.02 or near[0] <= target <= near[1]


def test_a_rate_out_of_reach_is_refused_with_the_range():
    with pytest.raises(BadRequest, match="out of reach"):
        encoded(picture(130, 200), Settings(rate=20.0))
    with pytest.raises(BadRequest, match="out of reach"):
        encoded(picture(130, 200), Settings(rate=0.01))


@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize("most", [1000, 1111, 1500, 2000, 10**6])
def test_max_bytes_is_used_and_never_passed(most, tile):
    array = picture(130, 200, seed=2)
    # What latents are moved by depends on the step: without, one step is like any other.
    settings = Settings(max_bytes=most, tile=tile, effort=2)
    data, moved = encoded(array, settings), encoded(array, replace(settings, effort=None))
    assert len(data) <= most and len(moved) <= most
    step = from_bytes(data).header.layers[1].step
    if step > 208:  # two steps finer would not have fitted
        settings = Settings(step=max(step - 2, 208), tile=tile, effort=2)
        assert len(encoded(array, settings)) > most
        assert len(moved) > 0.94 * most


@pytest.mark.parametrize("effort", [1, 4, 5])
def test_any_finite_size_is_a_size(effort):
    array = picture(64, 64)
    assert len(encoded(array, Settings(max_bytes=10**400, effort=effort))) > 0
    for rate in (1e300, 1e308):
        with pytest.raises(BadRequest, match="out of reach"):
            encoded(array, Settings(rate=rate, effort=effort))


def test_metadata_beyond_the_limit_is_refused_before_anything_is_coded(monkeypatch):
    monkeypatch.setattr(image, "analysed", None)
    settings = replace(FINE, limits=Limits(max_metadata=99))
    with pytest.raises(LimitExceeded, match="bytes of metadata"):
        encoded(picture(64, 64), settings, metadata={"exif": bytes(100)})


def test_too_few_bytes_are_refused():
    with pytest.raises(BadRequest, match="too few"):
        encoded(picture(130, 200), Settings(max_bytes=200))


@pytest.mark.parametrize(
    "bad",
    [
        {"quality": 101},
        {"quality": 50, "rate": 1.0},
        {"rate": 0.0},
        {"rate": float("nan")},
        {"step": 512},
        {"step": -1},
    ],
)
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(BadRequest):
        Settings(**bad)


@pytest.mark.parametrize("tile", [0, 63, 100, -64])
def test_a_tile_that_is_no_multiple_of_64_is_refused(tile):
    with pytest.raises(BadRequest, match="multiple of 64"):
        encoded(picture(20, 20), Settings(tile=tile))


# -- region of interest --------------------------------------------------------------------


def test_a_region_of_interest_gains_quality_there():
    array = picture(192, 192, seed=4)
    box, inside = (64, 64, 64, 64), np.s_[72:120, 72:120]
    # Higher efforts see farther: in each pass what is around a tile, and around that.
    settings = Settings(step=380, tile=64, effort=4)
    plain = encoded(array, settings)
    better = encoded(array, replace(settings, interest=Interest(box, finer=128 - 1)))
    offsets = [entry.step_offset for entry in from_bytes(better).tiles[0]]
    assert offsets == [0, 0, 0, 0, -127, 0, 0, 0, 0]
    gain = [psnr(decoded(data)[inside], array[inside]) for data in (plain, better)]
    assert gain[1] > gain[0] + 3
    far = np.s_[:, 128 + HALO :]
    assert np.abs(decoded(plain)[far].astype(int) - decoded(better)[far]).max() <= 1


def test_an_enhancement_only_in_the_region_of_interest_is_absent_elsewhere():
    array = picture(192, 192, seed=4)
    interest = Interest((64, 64, 64, 64), finer=0, only=True)
    # Without moving latents, for which the whole picture counts.
    settings = replace(TILED, effort=2)
    everywhere = from_bytes(encoded(array, settings))
    only = from_bytes(encoded(array, replace(settings, interest=interest)))
    assert all(entry.present for entry in only.tiles[0])
    assert [t for t, entry in enumerate(only.tiles[1]) if entry.present] == [4]
    assert words(only, find("tiny-1"), 1, 4) == words(everywhere, find("tiny-1"), 1, 4)
    result, report = image.decode(only)
    assert not report.damaged
    stored = only.header.layers[1].quality / 100
    assert stored == pytest.approx(psnr(result.pixels, array), abs=0.02)
    elsewhere = np.ones((192, 192), bool)
    elsewhere[64:128, 64:128] = False
    base, _ = image.decode(only, "base")
    difference = result.pixels.astype(int) - base.pixels
    assert np.abs(difference[elsewhere]).max() <= 1
    assert np.abs(difference[~elsewhere]).max() > 1


def test_a_region_of_interest_outside_the_picture_is_refused():
    with pytest.raises(BadRequest, match="region of interest"):
        encoded(picture(64, 64), Settings(interest=Interest((90, 0, 5, 5))))


# -- damage --------------------------------------------------------------------------------


def flipped(data, layer, tile) -> bytes:
    place = next(p for p in from_bytes(data).ranges([layer]) if p.tile == tile)
    broken = bytearray(data)
    broken[place.offset + place.length // 2] ^= 4
    return bytes(broken)


def far_from_tile_5(array):
    """Pixels that no network of the model can reach from tile 5, x 64..127 and y 64..127."""
    kept = np.ones(array.shape[:2], bool)
    kept[64 - HALO :, 64 - HALO : 128 + HALO] = False
    return array[kept].astype(int)


def test_a_damaged_enhancement_tile_is_refused_unless_asked(tiled):
    _, data = tiled
    with pytest.raises(Damaged, match=r"layer 1 \(enhancement\), tile 5"):
        decoded(flipped(data, 1, 5))


@pytest.mark.parametrize("layer", [0, 1])
def test_a_damaged_tile_spoils_only_its_place_and_is_reported(tiled, layer):
    _, data = tiled
    whole = decoded(data)
    result, report = image.decode(from_bytes(flipped(data, layer, 5)), allow_partial=True)
    name = ("base", "enhancement")[layer]
    assert [(d.layer, d.tile) for d in report.damaged] == [(name, 5)]
    assert np.abs(far_from_tile_5(result.pixels) - far_from_tile_5(whole)).max() <= 1
    assert (result.pixels != whole).any()


def test_damage_to_the_enhancement_leaves_the_base_decodable(tiled):
    _, data = tiled
    np.testing.assert_array_equal(decoded(flipped(data, 1, 5), "base"), decoded(data, "base"))


def test_an_absent_base_tile_is_reported(tiled):
    _, data = tiled

    def without(layer, tile, entry, payload):
        return (ABSENT, b"") if (layer, tile) == (0, 5) else (entry, payload)

    _, report = image.decode(from_bytes(rewritten(data, change=without)))
    assert [(d.layer, d.tile) for d in report.damaged] == [("base", 5)]


def test_a_truncated_file_decodes_as_far_as_it_goes(tiled):
    _, data = tiled
    last = from_bytes(data).ranges([1])[3]
    reader = from_bytes(data[: last.offset], allow_partial=True)
    _, report = image.decode(reader, allow_partial=True)
    assert [(d.layer, d.tile) for d in report.damaged] == [
        ("enhancement", tile) for tile in range(3, 12)
    ]


def test_payloads_swapped_between_tiles_are_noticed(tiled):
    _, data = tiled
    reader = from_bytes(data)
    other = reader.tiles[0][1]._replace(symbols=reader.tiles[0][0].symbols)

    def swap(layer, tile, entry, payload):
        return (other, reader.payload(0, 1)) if (layer, tile) == (0, 0) else (entry, payload)

    with pytest.raises(Mismatch, match="tile 0"):
        decoded(rewritten(data, change=swap))


def test_a_symbol_checksum_that_differs_is_told_from_damage(tiled):
    def another(layer, tile, entry, payload):
        return entry._replace(symbols=entry.symbols ^ 1), payload

    with pytest.raises(Mismatch, match="other symbols") as caught:
        decoded(rewritten(tiled[1], change=another))
    assert "sccodec doctor" in caught.value.hint


@pytest.mark.parametrize("bad", ["needs", "total", "step"])
def test_a_header_that_contradicts_the_model_is_damaged(tiled, bad):
    header = from_bytes(tiled[1]).header
    base, rest = header.layers
    if bad == "needs":
        header = replace(header, layers=(base, replace(rest, needs=0)))
    elif bad == "total":
        header = replace(header, total_layers=3)
    else:
        header = replace(header, layers=(replace(base, step=600), rest))
    with pytest.raises(Damaged):
        decoded(rewritten(tiled[1], header))


def test_verify_counts_what_it_decodes_and_no_more(tiled):
    """And no header that contradicts the model is fine because a layer above would be decoded."""

    def verdict(data):
        return verify(from_bytes(data, allow_partial=True))

    def wrong(layer, tile, entry, payload):
        return entry._replace(symbols=entry.symbols ^ 1), payload

    def gap(layer, tile, entry, payload):
        if tile == 0:
            return (ABSENT, b"") if layer == 0 else (entry._replace(symbols=5), payload)
        return entry, payload

    header = from_bytes(tiled[1]).header
    base, rest = header.layers
    three = replace(header, total_layers=3, layers=(base, replace(rest, index=2, needs=0b11)))
    reader = from_bytes(tiled[1])
    entries, parts = (
        {n: [read(layer, tile) for tile in range(12)] for n, layer in ((0, 0), (2, 1))}
        for read in (lambda n, t: reader.tiles[n][t], reader.payload)
    )
    assert verdict(to_bytes(three, entries, parts)).verdict == "damaged"
    rest_alone = from_bytes(extracted(tiled[1], 1)).header
    assert verdict(extracted(tiled[1], 1)).verdict == "ok"
    assert verdict(rewritten(extracted(tiled[1], 1), replace(rest_alone, total_layers=5))).exit_code
    found = verdict(rewritten(tiled[1], change=gap))
    assert (found.verdict, found.symbols) == ("ok", 22)
    assert verdict(rewritten(tiled[1], change=wrong)).verdict == "differs"


def test_layers_of_two_encodes_are_no_fault_of_the_machine(tiled):
    other = encoded(picture(130, 200, seed=4), TILED)
    with pytest.raises(Mismatch) as caught:
        decoded(joined(extracted(tiled[1], 0), extracted(other, 1)))
    assert "layers of different encodes" in caught.value.hint


def test_what_is_not_a_still_picture_is_unsupported(tiled):
    header = replace(from_bytes(tiled[1]).header, modality=1, frames=2)
    with pytest.raises(Unsupported, match="not a still picture"):
        decoded(rewritten(tiled[1], header))


@pytest.mark.parametrize(("height", "dtype"), [(30, np.uint8), (40, np.uint16)])
def test_alpha_of_another_size_or_depth_is_damaged(height, dtype):
    whole = from_bytes(encoded(picture(40, 40, channels=4)))
    small = from_bytes(encoded(picture(height, 40, channels=4).astype(dtype)))
    data = to_bytes(
        whole.header,
        whole.tiles,
        {n: [whole.payload(n, 0)] for n in (0, 1)},
        {"ALPH": small.metadata["ALPH"]},
    )
    with pytest.raises(Damaged, match="alpha"):
        decoded(data)


def test_an_alpha_that_is_no_picture_is_damaged():
    whole = from_bytes(encoded(picture(40, 40)))
    payloads = {n: [whole.payload(n, 0)] for n in (0, 1)}
    with pytest.raises(Damaged, match="alpha"):
        decoded(to_bytes(whole.header, whole.tiles, payloads, {"ALPH": b"none"}))


# -- models --------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"model": "other-1"}, {"digest": b"8 others"}])
def test_a_model_that_is_not_installed_is_named(tiled, change):
    data = rewritten(tiled[1], replace(from_bytes(tiled[1]).header, **change))
    with pytest.raises(WrongModel, match="tiny-1"):
        decoded(data)


@pytest.mark.parametrize(
    "spoiled",
    [lambda data: data[:-4], lambda data: data + bytes(4), lambda data: data[:5] + b"?" + data[6:]],
    ids=["short", "long", "changed"],
)
def test_a_payload_that_cannot_be_read_back_is_never_written(monkeypatch, spoiled):
    real = coder.encode
    monkeypatch.setattr(coder, "encode", lambda *arguments: spoiled(real(*arguments)))
    with pytest.raises(CodecError, match="could not read back"):
        encoded(picture(20, 20))


def test_every_changed_byte_of_the_header_is_noticed(tiled):
    _, data = tiled
    for at in range(8, 120):
        broken = bytearray(data)
        broken[at] ^= 0x15
        with pytest.raises(CodecError):
            decoded(bytes(broken))


def test_effort_buys_bytes_at_a_little_error(monkeypatch):
    monkeypatch.setattr(registry, "QUICK", 0)  # from the same latents
    pixels = picture(128, 192, seed=3)
    near, cheap = (encoded(pixels, Settings(step=340, effort=effort)) for effort in (1, 2))
    errors = [np.square(decoded(data) - pixels.astype(float)).mean() for data in (near, cheap)]
    files = [from_bytes(data) for data in (near, cheap)]
    sizes = [sum(len(words(file, find("tiny-1"), n, 0)) for n in (0, 1)) for file in files]
    assert sizes[1] < sizes[0]
    assert errors[1] < 1.2 * errors[0]


def test_effort_1_takes_the_quick_analysis(tiny_model, monkeypatch):
    ran, run = set(), Graph.run

    def told(graph, *args, **inputs):
        ran.add(graph.path.name)
        return run(graph, *args, **inputs)

    monkeypatch.setattr(Graph, "run", told)
    pixels = from_array(picture(64, 64, seed=3))
    for effort, wanted in ((1, "analysis.quick.onnx"), (2, "analysis.onnx")):
        ran.clear()
        image.encode(pixels, Settings(step=340, effort=effort), tiny_model)
        assert {name for name in ran if "analysis" in name} == {wanted}


@pytest.mark.parametrize("effort", [0, 10])
def test_efforts_are_one_to_nine(effort):
    with pytest.raises(BadRequest, match=f"effort {effort} is not within 1..9"):
        Settings(effort=effort)
