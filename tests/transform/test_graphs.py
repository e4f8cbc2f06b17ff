"""Windows cover everything once, and failures of a graph are ours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sccodec.errors import CodecError
from sccodec.spans import even, spans
from sccodec.transform.graphs import ABSENT, step_plane


@given(st.integers(0, 50), st.integers(1, 200), st.integers(1, 64), st.integers(0, 9))
def test_windows_cover_the_range_once_with_a_halo_inside_the_limit(begin, length, size, halo):
    end, limit = begin + length, begin + length + 5
    windows = list(spans(begin, end, size, halo, limit))
    kept = [place for w in windows for place in range(w.begin, w.end)]
    assert kept == list(range(begin, end))
    for w in windows:
        assert w.outer_begin == max(0, w.begin - halo)
        assert w.outer_end == min(limit, w.end + halo)


@given(st.integers(0, 50), st.integers(1, 400), st.integers(1, 64), st.sampled_from([1, 4]))
def test_even_windows_are_about_as_large_as_asked(begin, length, about, unit):
    end = begin + length
    windows = list(even(begin, end, about * unit, 3, end, unit))
    assert [w.begin for w in windows] == [begin, *(w.end for w in windows[:-1])]
    assert windows[-1].end == end
    sizes = [w.end - w.begin for w in windows]
    assert set(sizes[:-1]) <= {sizes[0]} and sizes[-1] <= sizes[0]
    assert sizes[0] < 1.5 * about * unit + unit
    assert len(windows) == 1 or sizes[0] % unit == 0


def test_the_step_plane_is_the_one_of_training():
    assert [step_plane(log2) for log2 in (-2, 0, 2, 6)] == [-1.0, -0.5, 0.0, 1.0]
    assert step_plane(-8) > ABSENT < -3, "an absent tile must not look like a step"


def test_a_graph_that_fails_is_a_codec_error(tiny_model):
    with pytest.raises(CodecError, match=r"base\.onnx"):
        tiny_model.heads[0].graph.run(latents=np.zeros((1, 1, 4, 4), np.float32))
