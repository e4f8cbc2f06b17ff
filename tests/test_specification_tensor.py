"""What formats/tensor.md says is what the program does."""

import re
from pathlib import Path

import numpy as np
import pytest
import spec_tensor
from hypothesis import given, settings
from hypothesis import strategies as st

from sccodec.codecs import tensor
from sccodec.codecs.calibration import calibrate_bases
from sccodec.codecs.tensor import Settings
from sccodec.container import from_bytes, layout, tensors
from sccodec.container.tensors import FILTER, FINER, QUANTISER, SCALED, TENSOR, TRANSFORM
from sccodec.entropy import bands, flags, planes, unary
from sccodec.latents import blocks
from sccodec.latents.basis import Basis
from sccodec.media.tensor import from_array

PAGE = (Path(__file__).parents[1] / "formats/tensor.md").read_text()


def levels_like(shape, count, seed, sided):
    """Levels with what features have: planes of different means, and neighbours alike."""
    random = np.random.default_rng(seed)
    planes_, height, width = shape
    rough = random.normal(size=(planes_, (height + 2) // 3, (width + 2) // 3))
    smooth = np.repeat(np.repeat(rough, 3, 1), 3, 2)[:, :height, :width]
    values = smooth + random.normal(size=(planes_, 1, 1)) + random.normal(size=shape) / 2
    centre = (count - 1) / 2 if sided else -0.3
    found = np.clip(np.rint(values * count / 5 + centre), 0, count - 1)
    return found.astype(np.uint8 if count <= 256 else np.int32)


CASES = [
    ((3, 5, 7), 2, False),
    ((40, 17, 16), 4, False),
    ((5, 9, 8), 5, True),
    ((20, 16, 17), 7, True),
    ((2, 1, 30), 300, True),
    ((1, 4, 4), 6000, False),
    ((4, 3, 1), 40, True),
]


@pytest.mark.parametrize(("shape", "count", "sided"), CASES)
def test_a_decoder_written_from_the_specification_reads_planes(shape, count, sided):
    levels = levels_like(shape, count, seed=count, sided=sided)
    levels[shape[0] // 2] = 0
    payload = planes.encode(levels, count)
    again = spec_tensor.Planes(payload, shape, count)
    np.testing.assert_array_equal(again.levels, levels)


@pytest.mark.parametrize(("shape", "count", "sided"), CASES[1:])
def test_and_finer_layers_on_coarser_ones(shape, count, sided):
    levels = levels_like(shape, count, seed=7, sided=sided)
    first = np.array([0, 1, count // 2 + 1, count])
    parents = (np.searchsorted(first, levels, side="right") - 1).astype(np.uint8)
    payload = planes.encode(levels, count, first, parents)
    again = spec_tensor.Planes(payload, shape, count, first.tolist(), parents)
    np.testing.assert_array_equal(again.levels, levels)
    payload = unary.encode(levels, count, first, parents)
    again = spec_tensor.unary(payload, shape, count, first.tolist(), parents)
    np.testing.assert_array_equal(again, levels)


@given(seed=st.integers(0, 999), count=st.integers(2, 12), sided=st.booleans())
@settings(max_examples=15, deadline=None)
def test_small_tiles_of_any_kind(seed, count, sided):
    shape = tuple(np.random.default_rng(seed).integers(1, 8, 3).tolist())
    levels = levels_like(shape, count, seed, sided)
    payload = planes.encode(levels, count)
    np.testing.assert_array_equal(spec_tensor.Planes(payload, shape, count).levels, levels)
    payload = unary.encode(levels, count)
    np.testing.assert_array_equal(spec_tensor.unary(payload, shape, count), levels)


@pytest.mark.parametrize("coder", ["context", "unary"])
def test_a_whole_file(coder):
    values = np.abs(levels_like((6, 9, 10), 50, 3, True).astype(np.float32) - 25)
    data = tensor.encode({"x": values}, Settings(levels=(2, 4), coder=coder, channelwise=True))
    reader = from_bytes(data)
    (entry,) = spec_tensor.tens(reader.metadata["TENS"])
    below, first = None, None
    for n, layer in enumerate(entry["layers"]):
        payload, count = reader.payload(n, 0), len(layer)
        if coder == "unary":
            below = spec_tensor.unary(payload, (6, 9, 10), count, first, below)
        else:
            below = spec_tensor.Planes(payload, (6, 9, 10), count, first, below).levels
        assert spec_tensor.checksum(below, count) == reader.tiles[n][0].symbols
        first = entry["first"][n] if n < len(entry["first"]) else None
    scale = np.array([(16 + s % 16) / 32 / 2 ** (s // 16) for s in entry["scales"]])
    wanted = (np.array(layer)[below] * scale[:, None, None]).astype(np.float32)
    (found,), _ = tensor.decode(data)
    np.testing.assert_array_equal(found.values, wanted)


@pytest.mark.parametrize("channelwise", [False, True])
@pytest.mark.parametrize("offsets", [False, True])
def test_values_that_filters_and_offsets_move(channelwise, offsets):
    values = np.abs(levels_like((6, 33, 32), 50, 3, True).astype(np.float32) - 25)
    how = Settings(
        rate=2.0, layers=2, filter=True, channelwise=channelwise, offsets=offsets, tile=3200
    )
    data = tensor.encode({"x": values}, how)
    reader = from_bytes(data)
    (entry,) = spec_tensor.tens(reader.metadata["TENS"])
    assert None not in entry["filters"]
    assert any(any(taps) for taps in entry["filters"][1]["taps"])
    scale = np.ones(6)
    if channelwise:
        scale = np.array([(16 + s % 16) / 32 / 2 ** (s // 16) for s in entry["scales"]])
    for tile in range(2):  # of three planes
        below, first = None, None
        at = slice(3 * tile, 3 * tile + 3)
        for n, layer in enumerate(entry["layers"]):
            payload = reader.payload(n, tile)
            planes_ = spec_tensor.Planes(payload, (3, 33, 32), len(layer), first, below)
            below, first = planes_.levels, entry["first"][0]
            wanted = spec_tensor.filtered(layer, entry["filters"][n], below)
            wanted = wanted * scale[at, None, None]
            if offsets:
                wanted = wanted + np.array(entry["offsets"])[at, None, None]
            filter_ = entry["filters"][n]
            wanted = np.clip(wanted, filter_["low"], filter_["high"]).astype(np.float32)
            (found,), _ = tensor.decode(data, layers=n + 1)
            np.testing.assert_array_equal(found.values[at], wanted)


# planes, grid and block of some tiles
TILES = [(1, (1, 1), (1, 1)), (3, (1, 2), (7, 1)), (9, (3, 2), (4, 5)), (6, (4, 4), (2, 2))]


@pytest.mark.parametrize(("planes_", "grid", "block"), TILES)
@pytest.mark.parametrize("large", [1, 60, 40000])
def test_a_decoder_written_from_the_specification_reads_coefficients(planes_, grid, block, large):
    random = np.random.default_rng(planes_)
    shape = planes_, grid[0], block[0], grid[1], block[1]
    size = random.exponential(size=shape) ** 2 * large / np.arange(1, block[0] + 1)[:, None, None]
    numbers = np.clip(random.normal(size=shape) * size, -65535, 65535).astype(np.int32)
    numbers = numbers.reshape(planes_, grid[0] * block[0], -1)
    payload = bands.encode(shape, numbers)
    np.testing.assert_array_equal(bands.decode(shape, payload), numbers)
    np.testing.assert_array_equal(bands.decode(shape, payload, plain=True), numbers)
    again = spec_tensor.Coefficients(payload, planes_, grid, block)
    np.testing.assert_array_equal(again.found, numbers)


@pytest.mark.parametrize("size", range(1, 33))
def test_the_matrix_of_a_transform_is_the_same_however_cosines_are_rounded(size):
    assert blocks.matrix(size).tolist() == spec_tensor.matrix(size)
    u, x = np.arange(size)[:, None], np.arange(size)
    scale = np.sqrt(np.where(u == 0, 1, 2) / size)
    exact = 2**14 * scale * np.cos(np.pi * (2 * x + 1) * u / (2 * size)) + 0.5
    apart = np.abs(exact - np.rint(exact))
    assert apart.min() > 1e-6


@pytest.mark.parametrize(("kind", "low"), [("float32", -9), ("float16", 0.0), ("int8", -9)])
def test_a_whole_file_of_coefficients(kind, low):
    values = levels_like((12, 19, 16), 40, 3, True).astype(np.float64) - 20
    values = np.maximum(values, low).astype(kind)
    data = tensor.encode({"x": values}, Settings(rate=4.0, transform=True, tile=1280))
    reader = from_bytes(data)
    (entry,) = spec_tensor.tens(reader.metadata["TENS"])
    assert entry["shape"] == [12, 19, 16]
    assert entry["block"] == [7, 8]
    assert (entry["limits"] is None) == (low < 0)
    assert (entry["snap"] > 0) == (low == 0)
    (found,), _ = tensor.decode(data)
    for tile in range(3):  # of four planes
        payload = reader.payload(0, tile)
        numbers = spec_tensor.Coefficients(payload, 4, (3, 2), entry["block"]).found
        assert spec_tensor.checksum(numbers, 1 << 24) == reader.tiles[0][tile].symbols
        wanted = spec_tensor.elements([numbers], entry, 19, 16)
        wanted = np.rint(wanted) if kind == "int8" else wanted
        np.testing.assert_array_equal(found.values[4 * tile : 4 * tile + 4], wanted.astype(kind))


@pytest.mark.parametrize("low", [-9.0, 0.0])
@pytest.mark.parametrize("based", [False, True])
def test_a_whole_file_of_coefficients_in_layers(low, based):
    values = np.maximum(levels_like((12, 9, 8), 40, 3, True) - 20.0, low).astype("float32")
    fitted = calibrate_bases([[from_array(values)]], Settings()) if based else None
    settings = Settings(rate=5.0, transform=True, layers=3, calibration=fitted)
    data = tensor.encode(values, settings)
    reader = from_bytes(data)
    (entry,) = spec_tensor.tens(reader.metadata["TENS"])
    assert len(entry["finer"]) == 2
    basis = None
    if based:
        basis = fitted.bases[""].mean.tolist(), fitted.bases[""].matrix.tolist()
    layers = []
    for layer in range(3):
        payload = reader.payload(layer, 0)
        layers.append(spec_tensor.Coefficients(payload, 12, (2, 1), entry["block"]).found)
        wanted = spec_tensor.elements(layers, entry, 9, 8, basis)
        (found,), _ = tensor.decode(data, layer + 1, calibration=fitted)
        np.testing.assert_array_equal(found.values, wanted.astype("float32"))


def test_refined_coefficients_are_bounded():
    fine = tensors.Transform(1.0, (0, 0, 0), (1, 1), finer=(tensors.Finer(40, (0, 1, -1)),))
    numbers = np.array([[[65548, -65548, 3, -2, 0]]])
    below = np.array([[[1 << 22, -(1 << 22), -7, 9, 8]]])
    assert blocks.restored(numbers, fine, 1, below).tolist() == [
        [[1 << 22, -(1 << 22), 191 - 17, -129 + 23, 20]]
    ]


@pytest.mark.parametrize("low", [-9.0, 0.0])
def test_a_whole_file_of_components(low):
    values = np.maximum(levels_like((12, 9, 8), 40, 3, True) - 20.0, low).astype("float32")
    values = values.reshape(2, 6, 9, 8)
    fitted = calibrate_bases([[from_array(values)]], Settings())
    settings = Settings(rate=4.0, transform=True, tile=512, calibration=fitted)
    data = tensor.encode(values, settings)
    reader = from_bytes(data)
    (entry,) = spec_tensor.tens(reader.metadata["TENS"])
    (found,), _ = tensor.decode(data, calibration=fitted)
    given = fitted.bases[""]
    basis = given.mean.tolist(), given.matrix.tolist()
    assert entry["basis"] == spec_tensor.digest(*basis) == given.digest
    assert len(reader.tiles[0]) == 2  # of an item each, and not of seven planes
    for tile in range(2):
        payload = reader.payload(0, tile)
        numbers = spec_tensor.Coefficients(payload, 6, (2, 1), entry["block"]).found
        wanted = spec_tensor.elements([numbers], entry, 9, 8, basis)
        np.testing.assert_array_equal(found.values[tile], wanted.astype("float32"))


def test_what_components_are_mixed_to_is_bounded():
    random = np.random.default_rng(2)
    matrix = random.integers(-(1 << 15), 1 << 15, (5, 5)).astype(np.int16)
    basis = Basis(np.zeros(5, np.float32), matrix)
    parts = random.integers(-(1 << 22), 1 << 22, (10, 2, 3))
    wanted = spec_tensor.channels(parts.tolist(), matrix.tolist())
    assert np.abs(wanted).max() == 1 << 22
    np.testing.assert_array_equal(basis.mixed(parts), wanted)


def test_probabilities_and_counts_are_those_of_the_specification():
    assert [spec_tensor.probability(c) for c in range(128)] == flags.PROBABILITY.tolist()
    for code in (0, 1, 7, 64, 65, 127):
        for k in (1, 2, 3, 4):
            assert spec_tensor.counts(code, k) == flags.counts_of(code, k).tolist()


def test_fields_of_the_chunk_are_documented_in_their_order():
    block = re.search(r"```\n(count.*?)```", PAGE, re.DOTALL)[1]
    names = re.findall(
        r"^ +(\w+),?(?: (\w+))? +(?:u8|u16|u32|u64|text|f32|i8)", block, re.MULTILINE
    )
    assert [name for both in names for name in both if name] == [
        *(*TENSOR.names, *SCALED.names, "shape", "scale", "offset_unit", "offset"),
        *(*QUANTISER.names, "value", *FILTER.names, "children"),
    ]
    block = re.search(r"```\n( +size.*?)```", PAGE, re.DOTALL)[1]
    names = re.findall(r"^ +(\w+),?(?: (\w+))? +(?:u8|varint|f32|i8|8 bytes)", block, re.MULTILINE)
    assert [name for both in names for name in both if name] == [
        *("size", *TRANSFORM.names, "low", "high", "snap", "basis", "layers", *FINER.names),
    ]


def test_a_file_of_tensors_is_a_sound_container():
    data = tensor.encode(np.ones((3, 4), np.float32))
    header = from_bytes(data).header
    assert (header.width, header.height, header.channels, header.frames) == (12, 1, 1, 1)
    assert header.modality == 2
    assert layout.pack_header(header)
