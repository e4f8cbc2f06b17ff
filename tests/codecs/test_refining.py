"""Efforts 7 to 9: latents refined by gradients cost less, and decode like any others."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import picture
from hypothesis import given
from hypothesis import strategies as st

from sccodec.codecs import image, reanalysis, refining
from sccodec.codecs.image import Interest, Settings
from sccodec.codecs.tiles import Box
from sccodec.container import from_bytes
from sccodec.errors import BadRequest
from sccodec.media.image import from_array

unit = st.integers(0, 40).map(lambda n: 4 * n)
side = st.integers(1, 60).map(lambda n: 4 * n)


@given(unit, unit, side, side)
def test_windows_cut_a_tile_up(left, top, width, height):
    box = Box(left, top, left + width, top + height)
    seen = np.zeros((top + height, left + width), int)
    for part in refining._windows(box):
        assert max(part.width, part.height) <= refining.WINDOW + 4
        assert not any(edge % 4 for edge in (part.left, part.top, part.right, part.bottom))
        seen[part.top : part.bottom, part.left : part.right] += 1
    assert (seen[top:, left:] == 1).all() and seen.sum() == width * height


@pytest.mark.parametrize("module", ["torch", "onnx"])
def test_without_the_extra_the_cure_is_told(monkeypatch, tiny_model, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BadRequest, match=f"effort 7 needs {module}, which is not") as caught:
        image.encode(from_array(picture(64, 64)), Settings(effort=7), tiny_model)
    assert caught.value.hint == "pip install 'sccodec[train]'"
    assert image.encode(from_array(picture(64, 64)), Settings(effort=6), tiny_model)


def costs(pixels, data, step):
    """Bits + lambda * squared error of both pictures, per pixel, and the base's squared error."""
    worth = 0.18 / 4 ** ((step - 256) / 32)
    unit = 257 if pixels.dtype == np.uint16 else 1
    error, base_error = (
        np.square(image.decode(from_bytes(data), n)[0].pixels / unit - pixels / unit).mean()
        for n in ("all", "base")
    )
    below = 0.1 * min(worth, 0.18 / 16)
    bits = 8 * len(data) / pixels[..., 0].size
    return bits + worth * error + below * base_error, base_error


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="refinement needs the [train] extra")


@pytest.fixture
def quick(torch, monkeypatch):
    monkeypatch.setitem(refining.ITERATIONS, 7, 12)


def test_refined_files_cost_less(torch, monkeypatch, tiny_model):
    monkeypatch.setattr(refining, "WINDOW", 8)  # so that there are two
    monkeypatch.setitem(refining.ITERATIONS, 7, 50)
    pixels, step = picture(100, 180, seed=5), 280
    files = [
        image.encode(from_array(pixels), Settings(step=step, effort=e), tiny_model) for e in (6, 7)
    ]
    before, after = (costs(pixels, data, step) for data in files)
    assert after[0] < 0.99 * before[0]
    assert after[1] < 1.05 * before[1]


def test_progress_counts_iterations(quick, tiny_model, monkeypatch):
    monkeypatch.setattr(refining, "WINDOW", 4)
    told = []
    image.encode(
        from_array(picture(64, 128)),
        Settings(effort=7),
        tiny_model,
        lambda done, most: told.append((done, most)),
    )
    assert told == [(1, 1), *((n, 24) for n in range(1, 25))]


def test_threads_are_left_as_they_were(quick, torch, tiny_model):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        image.encode(from_array(picture(64, 64)), Settings(effort=7, jobs=1), tiny_model)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_tiles_that_cost_no_less_stay_as_they_were(quick, tiny_model, monkeypatch):
    pixels, settings = picture(128, 192, seed=6), Settings(step=300, tile=64, effort=6)
    expected = image.encode(from_array(pixels), settings, tiny_model)
    costs = iter([[3.0] * 6, [2.0, 3.0, 4.0, 3.0, 3.0, 3.0]])
    monkeypatch.setattr(refining, "_costs", lambda *_: next(costs))
    refined = image.encode(from_array(pixels), replace(settings, effort=7), tiny_model)
    same = [
        from_bytes(refined).payload(1, tile) == from_bytes(expected).payload(1, tile)
        for tile in range(6)
    ]
    # The first tile's neighbours may be corrected otherwise, so only it must differ.
    assert not same[0] and sum(same) >= 2


def test_a_rate_is_met_and_a_region_of_interest_kept(quick, tiny_model):
    pixels = picture(128, 256, seed=7)
    plain = image.encode(from_array(pixels), Settings(step=300), tiny_model)
    rate = 8 * len(plain) / pixels[..., 0].size
    data = image.encode(from_array(pixels), Settings(rate=rate, effort=7), tiny_model)
    assert 8 * len(data) / pixels[..., 0].size == pytest.approx(rate, rel=0.03)
    interest = Interest((0, 0, 100, 100), only=True)
    data = image.encode(
        from_array(pixels), Settings(step=320, effort=7, interest=interest), tiny_model
    )
    present = [entry.present for entry in from_bytes(data).tiles[1]]
    assert any(present) and not all(present)
    decoded = image.decode(from_bytes(data))[0].pixels
    error = np.square(decoded - pixels.astype(float)).mean((0, 2))
    assert error[:100].mean() < error[150:].mean()


@pytest.mark.parametrize("shape", [(40, 52, 1), (40, 52, 3)])
def test_gray_deep_and_tiny_pictures(torch, monkeypatch, tiny_model, shape):
    monkeypatch.setitem(refining.ITERATIONS, 7, 60)
    # Where latents have been moved first, so small a tile may have nothing left to gain.
    monkeypatch.setattr(reanalysis, "PASSES", {1: 0})
    pixels = picture(*shape[:2], seed=8, channels=shape[2])
    for one in (pixels, pixels.astype(np.uint16) * 257):
        files = [
            image.encode(from_array(one), Settings(step=300, effort=e), tiny_model) for e in (6, 7)
        ]
        before, after = (costs(one, data, 300)[0] for data in files)
        assert after < before
