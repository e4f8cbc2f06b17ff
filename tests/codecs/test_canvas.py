"""Tiles land in their place of the latent grid, together with their steps."""

import numpy as np
from conftest import picture

from sccodec.codecs.canvas import Latents, canvas
from sccodec.codecs.tiles import Box
from sccodec.media.image import from_array
from sccodec.spans import Span
from sccodec.transform.finish import Correction
from sccodec.transform.graphs import ABSENT, Graph
from sccodec.transform.synthesis import Kept


def test_a_tile_fills_its_part_of_the_window_and_of_its_layers_planes(tiny_model):
    latents = Latents(tiny_model, Box(2, 0, 8, 4))
    tile = np.random.default_rng(0).normal(size=(16, 4, 4)).astype(np.float32)
    latents.put(1, Box(4, 0, 8, 4), tile, step=320)
    np.testing.assert_array_equal(latents.values[8:, :, 2:], tile)
    assert not latents.values[:8].any()
    assert not latents.values[8:, :, :2].any()
    assert (latents.planes[1, :, 2:] == 0.0).all()  # step 4: log2 is 2
    assert (latents.planes[1, :, :2] == ABSENT).all()
    assert (latents.planes[0] == ABSENT).all()


def test_a_tile_that_sticks_out_of_the_window_is_cut(tiny_model):
    latents = Latents(tiny_model, Box(2, 1, 6, 4))
    tile = np.random.default_rng(0).normal(size=(8, 4, 4)).astype(np.float32)
    latents.put(0, Box(0, 0, 4, 4), tile, step=256)
    np.testing.assert_array_equal(latents.values[:8, :, :2], tile[:, 1:, 2:])
    assert (latents.planes[0, :, :2] == -0.5).all()


def test_networks_run_once_for_latents_that_are_kept_and_again_for_others(tiny_model, monkeypatch):
    random, box = np.random.default_rng(0), Box(0, 0, 4, 4)
    tiles = random.normal(0, 4, (2, 24, 4, 4)).astype(np.float32)
    like, pixels = from_array(picture(1, 1)), Box(0, 0, 64, 64)
    bends = tiny_model.layers[1].bends
    correction = Correction(np.ones((3, bends), np.float32), np.zeros((3, 3, 8), np.float32))
    runs, run = [], Graph.run

    def counted(graph, *args, **inputs):
        runs.append(graph.path.name)
        return run(graph, *args, **inputs)

    monkeypatch.setattr(Graph, "run", counted)

    def shown(kept: Kept | None) -> tuple[list[np.ndarray], int]:
        latents, found = Latents(tiny_model, box, kept), []
        runs.clear()
        for tile in tiles:
            latents.put(0, box, tile[:8], step=256)
            latents.put(1, box, tile[8:], step=256)
            found.append(latents.pixels(1, pixels, like))
            latents.correct(1, box, correction)
            found.append(latents.pixels(1, pixels, like))
        return found, runs.count(tiny_model.heads[1].graph.path.name)

    (plain, often), (kept, once) = shown(None), shown(Kept())
    np.testing.assert_array_equal(plain, kept)
    assert (plain[0] != plain[1]).any() and (plain[0] != plain[2]).any()
    assert (often, once) == (4, 2)


def test_gray_is_the_mean_of_the_three_colours_and_sixteen_bits_are_257_times_eight(tiny_model):
    latents = Latents(tiny_model, Box(0, 0, 4, 4))
    box = Box(0, 0, 64, 64)
    colour = latents.pixels(0, box, from_array(picture(1, 1))).astype(float)
    gray = latents.pixels(0, box, from_array(picture(1, 1, channels=1)))
    deep = latents.pixels(0, box, from_array(picture(1, 1).astype(np.uint16)))
    assert np.abs(gray[..., 0] - colour.mean(-1)).max() <= 1
    assert np.abs(deep / 257 - colour).max() <= 0.51


def test_a_canvas_repeats_the_last_row_and_column():
    array = picture(70, 90)
    rows, columns = Span(64, 128, 0, 128), Span(64, 128, 64, 128)
    grown = np.pad(array, ((0, 58), (0, 38), (0, 0)), mode="edge")[:, 64:]
    expected = grown.transpose(2, 0, 1).astype(np.float32) - 128
    np.testing.assert_array_equal(canvas(from_array(array), rows, columns), expected)
