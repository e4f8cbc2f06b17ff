"""Every element of a tensor lies in one tile, whatever its shape."""

import numpy as np
import pytest

from sccodec.codecs.tensor_grid import Grid, Window, default_channel_axis

SHAPES = [(), (5,), (0,), (3, 4), (2, 3, 4), (3, 0, 2), (2, 3, 4, 5), (2, 2, 3, 4, 5), (70, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("tile", [1, 7, 64, 1000])
def test_tiles_cover_a_tensor_once(shape, tile):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(float)
    for axis in (None, *range(len(shape))):
        grid, copy = Grid(shape, axis, tile), np.full(shape, np.nan)
        source, target, met = Window(grid, array), Window(grid, copy), 0
        for part in grid.parts:
            values = source.get(part)
            assert values.shape == part.shape
            assert values.size <= tile
            target.put(part, values)
            met += values.size
        assert met == array.size
        np.testing.assert_array_equal(copy, array)


def test_channels_are_planes_in_order():
    array = np.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3)  # items, rows, columns, channels
    grid = Grid(array.shape, 3, 1 << 10)
    assert grid.planes == (6, 4, 5)
    (part,) = grid.parts
    np.testing.assert_array_equal(
        Window(grid, array).get(part), array.transpose(0, 3, 1, 2).reshape(6, 4, 5)
    )
    assert [default_channel_axis(axes) for axes in range(5)] == [None, None, 1, 0, 1]
