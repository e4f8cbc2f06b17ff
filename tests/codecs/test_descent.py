"""Latents that follow the gradient of what symbols cost."""

from collections import Counter
from importlib import resources

import numpy as np
import pytest
from conftest import picture
from PIL import Image

from sccodec.codecs import descent, image
from sccodec.codecs.canvas import Latents
from sccodec.codecs.descent import PASSES, descended, descends
from sccodec.codecs.finishing import corrections
from sccodec.codecs.image import Interest, Settings
from sccodec.codecs.payloads import TileCoder
from sccodec.codecs.reanalysis import analysed
from sccodec.codecs.tiles import Grid
from sccodec.container import from_bytes
from sccodec.media.image import from_array
from sccodec.profiles.registry import find
from sccodec.transform import synthesis
from sccodec.transform.graphs import Graph

STEP = 300


def coder_of(model, original, tile=1024, skipped=(), effort=5) -> TileCoder:
    grid = Grid(original.width, original.height, tile)
    latents = analysed(model, original, grid.canvas, 1)
    return TileCoder(model, grid, latents, [0] * len(grid), set(skipped), effort)


def quantised(coder: TileCoder, original) -> Latents:
    """With corrections, so that the gradient has to go through them."""
    found, _ = coder.quantised(STEP, 1)
    corrections(coder, found, original, 1)
    return found


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("model_id", ["tiny-1", "photo-1"])
def test_slopes_are_those_of_the_costs(model_id, channels):
    model = find(model_id)
    original = from_array(picture(100, 120, seed=1, channels=channels))
    found = quantised(coder_of(model, original, tile=64), original)
    random = np.random.default_rng(1)
    worths = random.uniform(0.1, 1, found.planes.shape)
    _, slopes = found.slopes(original, worths)
    off = 1e-3 * random.normal(0, 1, found.values.shape).astype(np.float32)
    off += 1e-3 * np.sign(slopes)
    values, costs = found.values.copy(), []
    for side in (1, -1):
        found.values[:] = values + side * off
        found.kept.clear()
        costs.append(found.slopes(original, worths, wanted=False)[0].sum())
    assert (costs[0] - costs[1]) / 2 == pytest.approx(float((off * slopes).sum()), rel=0.02)


def test_costs_are_what_errors_of_the_pictures_are_worth(tiny_model):
    original = from_array(picture(100, 120, seed=2))
    found = quantised(coder_of(tiny_model, original, tile=64, skipped=[1]), original)
    worths = np.zeros(found.planes.shape)
    worths[0], worths[1, :, :4] = 0.25, 0.5
    costs, none = found.slopes(original, worths, wanted=False)
    assert none is None
    whole = Grid(120, 100, 1024).pixels(0)
    base = found.squared_error(0, whole, original)
    assert costs[0].sum() == pytest.approx(0.25 * base / 3, rel=0.01)
    left = Grid(64, 100, 1024).pixels(0)
    full = found.squared_error(1, left, original)
    assert costs[1].sum() == pytest.approx(0.5 * full / 3, rel=0.01)


def test_windows_add_up(tiny_model, monkeypatch):
    original = from_array(picture(192, 192, seed=3))
    found = quantised(coder_of(tiny_model, original, tile=64), original)
    worths = np.ones(found.planes.shape)
    costs, slopes = found.slopes(original, worths)
    monkeypatch.setattr(synthesis, "WINDOW", 96)
    found.kept.clear()
    parts, sums = found.slopes(original, worths, 2)
    np.testing.assert_allclose(parts, costs, rtol=1e-3)
    assert np.abs(sums - slopes).mean() < 0.01 * np.abs(slopes).mean()


def test_networks_run_once_for_pixels_corrections_and_gradients(tiny_model, monkeypatch):
    runs, run = Counter(), Graph.run

    def counted(graph, *args, **inputs):
        runs[graph.path.stem] += 1
        return run(graph, *args, **inputs)

    monkeypatch.setattr(Graph, "run", counted)
    image.encode(from_array(picture(64, 64, seed=4)), Settings(step=STEP, effort=5), tiny_model)
    passes = PASSES[5]
    assert runs["enhancement.signs"] == runs["base.signs"] == passes
    assert runs["enhancement.gradient"] == runs["base.gradient"] == passes
    assert runs["enhancement"] == runs["base"] == 2  # after the last pass, and of what is sent


def cost(pixels, data, model, step=STEP):
    """Bits + lambda * squared error of a file, per pixel."""
    decoded = image.decode(from_bytes(data), model=model)[0].pixels
    scale = 257.0 if pixels.dtype == np.uint16 else 1.0
    error = np.square(decoded / scale - pixels / scale).mean()
    return 8 * len(data) / pixels[..., 0].size + 0.18 / 4 ** ((step - 256) / 32) * error


@pytest.mark.parametrize("effort", [5, 6])
def test_a_photo_costs_less(effort):
    model = find("photo-1")
    pixels = np.asarray(Image.open(resources.files("sccodec") / "demo/photo.png"))[:256, :256]
    before, after = (
        cost(pixels, image.encode(from_array(pixels), Settings(step=STEP, effort=e), model), model)
        for e in (4, effort)
    )
    assert after < (0.99 if effort == 5 else 0.98) * before


@pytest.mark.parametrize("shape", [(40, 52, 1), (40, 52, 3), (128, 192, 3)])
@pytest.mark.parametrize("deep", [False, True])
def test_gray_deep_and_tiny_pictures_cost_less(tiny_model, shape, deep):
    pixels = picture(*shape[:2], seed=8, channels=shape[2])
    if deep:
        pixels = pixels.astype(np.uint16) * 257
    before, after = (
        image.encode(from_array(pixels), Settings(step=STEP, effort=e), tiny_model) for e in (2, 6)
    )
    assert cost(pixels, after, tiny_model) < cost(pixels, before, tiny_model)


def test_a_tile_keeps_the_cheapest_symbols_that_it_met(tiny_model, monkeypatch):
    original = from_array(picture(64, 192, seed=4))
    coder = coder_of(tiny_model, original, tile=64)
    met = []
    look = descent._Descent.look

    def seen(self, now, on, told):
        found = look(self, now, on, told)
        met.append((self.costs.copy(), now))
        return found

    monkeypatch.setattr(descent._Descent, "look", seen)
    chosen = descended(coder, STEP, original, 1)
    costs = np.array([one for one, _ in met])
    assert len(met) == descent.PASSES[5] + 1
    assert (np.diff(costs, axis=0) <= 0).all() and (costs[-1] < costs[0]).any()
    for tile in range(3):
        # The last look at which the tile became cheaper, or the first.
        better = [0, *(np.flatnonzero(np.diff(costs[:, tile])) + 1)][-1]
        for (_, (_, kept)), (_, (_, was)) in zip(
            chosen.choices(tile, STEP), met[better][1].choices(tile, STEP), strict=True
        ):
            np.testing.assert_array_equal(kept.seen, was.seen)


def test_the_number_of_threads_changes_nothing(tiny_model):
    original = from_array(picture(128, 192, seed=5))
    files = {
        image.encode(original, Settings(step=STEP, tile=64, jobs=jobs), tiny_model)
        for jobs in (1, 3)
    }
    assert len(files) == 1


def test_progress_counts_tiles_of_all_passes(tiny_model):
    told = []
    image.encode(
        from_array(picture(64, 128)),
        Settings(tile=64),
        tiny_model,
        lambda done, most: told.append((done, most)),
    )
    most = 2 * (descent.PASSES[5] + 1)
    assert told == [(n, most) for n in range(1, most + 1)]


def test_a_rate_is_met_and_a_region_of_interest_kept(tiny_model):
    pixels = picture(128, 256, seed=7)
    plain = image.encode(from_array(pixels), Settings(step=STEP), tiny_model)
    rate = 8 * len(plain) / pixels[..., 0].size
    data = image.encode(from_array(pixels), Settings(rate=rate), tiny_model)
    assert 8 * len(data) / pixels[..., 0].size == pytest.approx(rate, rel=0.03)
    interest = Interest((0, 0, 100, 100), only=True)
    data = image.encode(from_array(pixels), Settings(step=320, interest=interest), tiny_model)
    present = [entry.present for entry in from_bytes(data).tiles[1]]
    assert any(present) and not all(present)
    decoded = image.decode(from_bytes(data))[0].pixels
    error = np.square(decoded - pixels.astype(float)).mean((0, 2))
    assert error[:100].mean() < error[150:].mean()


def test_a_model_without_gradients_does_with_its_analysis(tiny_model, monkeypatch):
    original = from_array(picture(64, 64, seed=9))
    assert descends(coder_of(tiny_model, original))
    assert not descends(coder_of(tiny_model, original, effort=4))
    for head in tiny_model.heads:
        monkeypatch.setattr(head, "gradient", None)
    assert not descends(coder_of(tiny_model, original))
    data = image.encode(original, Settings(step=STEP), tiny_model)
    assert image.decode(from_bytes(data))[0].pixels.shape == (64, 64, 3)


@pytest.mark.parametrize("name", ["base", "enhancement"])
def test_gradients_look_up_the_weights_of_their_graphs(name):
    folder = find("photo-1").folder
    sizes = [(folder / f"{name}{end}").stat().st_size for end in (".onnx", ".gradient.onnx")]
    assert sizes[1] < 0.05 * sizes[0]
