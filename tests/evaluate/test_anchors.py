"""Tensors as gray pictures, and picture codecs at a given size."""

from __future__ import annotations

import numpy as np
import pytest

from sccodec.evaluate import anchors
from sccodec.evaluate.anchors import ANCHORS, SIDE_INFORMATION


@pytest.mark.parametrize("shape", [(1, 4, 5), (7, 4, 6), (16, 3, 3), (5, 1, 1), (12, 20, 2)])
def test_tiling_is_undone(shape):
    values = np.random.default_rng(1).random(shape)
    plane = anchors.tile(values)
    assert plane.ndim == 2 and values.size <= plane.size < 2 * values.size
    assert np.array_equal(anchors.untile(plane, shape), values)


def test_tiles_are_about_square():
    assert anchors.tile(np.zeros((256, 26, 26))).shape == (416, 416)


def test_samples_cover_the_range():
    values = np.linspace(-3, 5, 1000).astype(np.float32)
    samples, low, high = anchors.to_samples(values)
    assert samples.dtype == np.uint8 and (samples[0], samples[-1]) == (0, 255)
    error = np.abs(anchors.from_samples(samples, low, high) - values)
    assert error.max() <= 0.5 * 8 / 255 + 1e-6


def test_a_constant_tensor_is_exact():
    values = np.full((2, 3, 3), 1.5, np.float32)
    assert np.array_equal(anchors.from_samples(*anchors.to_samples(values)), values)


def features():
    """Smooth channels with some noise, (12, 16, 16)."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[0:16, 0:16] / 16
    planes = [np.sin(5 * a * y + 6 * b * x + c) for a, b, c in random.random((12, 3))]
    return (np.stack(planes) + random.normal(0, 0.05, (12, 16, 16))).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "package"), [("hevc", "av"), ("jpegxl", "imagecodecs"), ("avif", "PIL._avif")]
)
def test_a_file_of_the_size_asked_for(name, package):
    pytest.importorskip(package)
    anchor, values = ANCHORS[name], features()
    middle = anchor.settings[len(anchor.settings) // 2]
    plane = anchors.tile(anchors.to_samples(values)[0])
    target = len(anchor.encode(plane, anchor.settings[len(anchor.settings) // 5]))
    coded = anchor.code(values, target + SIDE_INFORMATION, middle)
    assert coded.size == pytest.approx(target + SIDE_INFORMATION, rel=0.1)
    assert coded.size == len(anchor.encode(plane, coded.setting)) + SIDE_INFORMATION
    assert coded.decoded.shape == values.shape
    assert np.square(coded.decoded - values).mean() < 0.2 * values.var()


@pytest.mark.parametrize("start", [0, 4, 9])
def test_the_search_ends_at_the_nearest_size(start):
    sizes = [1000, 700, 500, 350, 250, 180, 130, 90, 60, 40]
    for target, expected in [(2000, 0), (1000, 0), (840, 0), (830, 1), (240, 4), (45, 9), (1, 9)]:
        assert anchors._nearest(sizes.__getitem__, range(10), target, start) == expected
