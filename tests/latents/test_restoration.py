"""Filters that move values by their neighbours."""

import numpy as np
import pytest

from sccodec.container.tensors import MOST_SEEN, MOST_SHIFT, LevelFilter
from sccodec.latents import restoration

LEVELS = np.array([0.0, 1.0, 2.0])


def smooth(shape, seed=1):
    """Values whose neighbours are alike, and planes of different means."""
    random = np.random.default_rng(seed)
    planes, height, width = shape
    rough = random.normal(size=(planes, height + 2, width + 2))
    near = sum(rough[:, y : y + height, x : x + width] for y in range(3) for x in range(3)) / 3
    return np.maximum(near + random.normal(size=(planes, 1, 1)) / 2, 0).astype(np.float32)


def rounded(values):
    return np.clip(np.rint(values), 0, 2).astype(np.uint8)


def test_surroundings_repeat_edges_and_take_whole_means():
    plane = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    beside, corner, mean = restoration.surroundings(plane)
    assert beside.tolist() == [[[4, 7, 10], [10, 13, 16]]]
    assert corner[0, 0, 1] == 0 + 2 + 3 + 5
    assert mean.tolist() == [[[2]]]  # of 2.5


def test_a_filter_fitted_to_planes_restores_others_like_them():
    values = smooth((40, 24, 24))
    found, share = restoration.fit(LEVELS, [(rounded(values), values)], 0.0, 9.0)
    assert share < 0.9
    other = smooth((40, 24, 24), seed=2)
    numbers = rounded(other)
    restored = restoration.restore(found, LEVELS, numbers)
    before = np.square(LEVELS[numbers] - other).mean()
    assert np.square(restored - other).mean() < 0.93 * before


def test_the_error_that_a_fit_tells_is_the_error_of_its_filter():
    values = smooth((9, 20, 20))
    numbers = rounded(values)
    found, share = restoration.fit(LEVELS, [(numbers, values)], -99.0, 99.0)
    error = [
        np.square(one - values.astype(np.float64)).sum()
        for one in (restoration.restore(found, LEVELS, numbers), LEVELS[numbers])
    ]
    assert error[0] / error[1] == pytest.approx(share, rel=1e-9)


def test_the_largest_sums_are_exact():
    taps = ((2**15 - 1, 127, 127, 127),) * 2
    levels = np.array([0.0, float(MOST_SEEN)])
    filter_ = LevelFilter(0, MOST_SHIFT, -1e9, 1e9, taps)
    numbers = np.ones((1, 5, 5), np.uint8)
    wanted = MOST_SEEN + 2**15 - 1 + 9 * 127 * MOST_SEEN / 2**MOST_SHIFT
    assert (restoration.restore(filter_, levels, numbers) == wanted).all()


def test_white_noise_gives_nothing_to_filter():
    values = np.random.default_rng(3).normal(size=(30, 20, 20)) + 1
    numbers = rounded(values)
    exact = np.array([values[numbers == n].mean() for n in range(3)])
    _, share = restoration.fit(exact, [(numbers, values)], -99.0, 99.0)
    assert 0.99 < share <= 1


@pytest.mark.parametrize("levels", [[1.0], [2.0, 2.0], [-1e300, 1e300], [0.0, 1e-300]], ids=str)
def test_levels_without_a_unit_have_no_filter(levels):
    numbers = np.zeros((1, 4, 4), np.uint8)
    assert restoration.fit(np.array(levels), [(numbers, numbers)], 0.0, 1.0) == (None, 1.0)


def test_nothing_in_nothing_out():
    filter_ = LevelFilter(0, 0, 0.0, 1.0, ((0, 0, 0, 0),) * 3)
    assert restoration.restore(filter_, LEVELS, np.zeros((2, 0, 5), np.uint8)).shape == (2, 0, 5)
