"""The finish: in one piece or in many, and what a correction changes."""

import numpy as np
import pytest

from sccodec.transform.finish import STRIP, Correction

WIDTH, HEIGHT = 5, 4 * STRIP + 1  # latents
WHOLE = (0, 0, WIDTH, HEIGHT)


@pytest.fixture
def finish(tiny_model):
    return tiny_model.heads[1].finish


@pytest.fixture
def pixels():
    return np.random.default_rng(1).normal(0, 30, (3, 16 * HEIGHT, 16 * WIDTH)).astype(np.float32)


@pytest.fixture
def correction(finish):
    random = np.random.default_rng(2)
    mix = random.normal(0, 0.2, (3, finish.bends)).astype(np.float32)
    return Correction(mix, random.normal(0, 0.1, (3, 3, 8)).astype(np.float32))


STEPS = np.full((HEIGHT, WIDTH), 3, np.float32)


def test_a_correction_changes_its_piece_and_nothing_else(finish, pixels, correction):
    plain = finish(pixels, STEPS, WHOLE, [])
    everywhere = finish(pixels, STEPS, WHOLE, [(WHOLE, correction)])
    halves = [((0, 0, 2, HEIGHT), correction), ((2, 0, WIDTH, HEIGHT), None)]
    mixed = finish(pixels, STEPS, WHOLE, halves)
    np.testing.assert_allclose(mixed[:, :, :32], everywhere[:, :, :32], atol=1e-4)
    np.testing.assert_allclose(mixed[:, :, 32:], plain[:, :, 32:], atol=1e-4)
    assert np.abs(everywhere - plain).mean() > 1


def test_a_window_is_a_part_of_the_whole(finish, pixels, correction):
    pieces = [((0, 0, 3, HEIGHT), correction), ((3, 0, WIDTH, HEIGHT), finish.none)]
    whole = finish(pixels, STEPS, WHOLE, pieces)
    part = finish(pixels, STEPS, (1, 2, 4, 7), pieces)
    np.testing.assert_allclose(part, whole[:, 32:112, 16:64], atol=1e-4)


def test_what_no_piece_covers_is_left(finish, pixels, correction):
    found = finish(pixels, STEPS, WHOLE, [((0, 0, 1, 1), correction)])
    assert not found[:, 16:].any()
    assert found[:, :16, :16].any()


def test_constants_pass_whatever_the_correction(finish, correction):
    flat = np.full((3, 16 * HEIGHT, 16 * WIDTH), 77, np.float32)
    np.testing.assert_allclose(finish(flat, STEPS, WHOLE, [(WHOLE, correction)]), flat, atol=1e-3)
    np.testing.assert_allclose(correction.kernel.sum((2, 3)), 0, atol=1e-6)


def test_the_graph_is_seen_strip_by_strip(finish, pixels):
    places = []

    def see(place, step, seen):
        left, top, right, bottom = place
        places.append(place)
        assert step == 3
        inner = found[:, 16 * top : 16 * bottom, 16 * left : 16 * right]
        np.testing.assert_allclose(seen["pixels"][0], inner, atol=1e-4)
        assert np.abs(seen["bent"]).max() <= 1

    found = finish(pixels, STEPS, WHOLE, [])
    finish(pixels, STEPS, WHOLE, [], see)
    tops = range(0, HEIGHT, STRIP)
    assert places == [(0, top, WIDTH, min(top + STRIP, HEIGHT)) for top in tops]


def test_each_piece_is_finished_with_its_own_step(finish, pixels):
    pieces = [((0, 0, 2, HEIGHT), None), ((2, 0, WIDTH, HEIGHT), None)]
    steps = np.where(np.arange(WIDTH) < 2, 3, 12).astype(np.float32) * np.ones_like(STEPS)
    found = finish(pixels, steps, WHOLE, pieces)
    for one, columns in ((3, slice(0, 32)), (12, slice(32, None))):
        alone = finish(pixels, np.full_like(STEPS, one), WHOLE, [])
        np.testing.assert_allclose(found[:, :, columns], alone[:, :, columns], atol=1e-4)
