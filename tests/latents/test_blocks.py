"""The transform of planes: its inverse gives the planes back, and errors stay as they are."""

import numpy as np
import pytest

from sccodec.container.tensors import Transform
from sccodec.latents import blocks


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (14, 14), (26, 13), (5, 1), (40, 17)])
def test_the_inverse_gives_planes_back(size):
    values = np.random.default_rng(1).normal(size=(3, *size))
    block = tuple(map(blocks.side, size))
    fine = np.rint(blocks.forward(values, block) * 1000 * blocks.PART).astype(np.int64)
    again = blocks.inverse(fine, block, size) / (1000 * blocks.UNIT)
    np.testing.assert_allclose(again, values, atol=0.01)


def test_no_energy_is_lost_or_won():
    values = np.random.default_rng(1).normal(size=(2, 24, 16))
    energy = np.square(blocks.forward(values, (8, 8))).sum()
    assert energy == pytest.approx(np.square(values).sum(), rel=1e-3)


def test_a_constant_plane_has_one_coefficient():
    found = blocks.forward(np.full((1, 14, 21), 3.0), (7, 7))
    assert found[0, 0, 0] == pytest.approx(3 * np.sqrt(14 * 21), rel=1e-3)
    found[0, 0, 0] = 0
    assert np.abs(found).max() < 0.1


def test_magnitudes_stand_for_what_the_file_says():
    numbers = np.array([[[0, 1, -2, 5]]], np.int32)
    parts = blocks.restored(numbers, Transform(1.0, (-8, 4, 16), (1, 1)))
    found = blocks.inverse(parts, (1, 1), (1, 4))
    table = blocks.matrix(4).T @ np.array([0, 64 - 8, -128 - 4, 320 + 16])
    wanted = (table * 2**14 + 2**27 >> 28) * 2**28
    np.testing.assert_array_equal(found[0, 0], wanted)


@pytest.mark.parametrize(("length", "block"), [(1, 1), (7, 7), (8, 8), (9, 5), (26, 7), (112, 8)])
def test_blocks_fill_an_axis_evenly(length, block):
    assert blocks.side(length) == block


def test_the_largest_coefficients_stay_within_64_bits():
    for size in (1, 4, 32):
        numbers = np.full((1, size * size, size * size), 65600, np.int32)
        exact = numbers.astype(object)
        parts = blocks.restored(numbers, Transform(1.0, (32, 32, 32), (size, size)))
        found = blocks.inverse(parts, (size, size), (size * size,) * 2)
        part = 64 * exact[0, 0, 0] + 32
        down = blocks.matrix(size).astype(object).T @ np.ones(size, object)
        mean = (np.outer(down, down) * part + 2**27) // 2**28
        block = np.full((size, size), part, object)
        block[0, 0] = mean[0, 0]
        table = blocks.matrix(size).astype(object)
        assert found[0, 0, 0] == (table.T @ block @ table)[0, 0]
