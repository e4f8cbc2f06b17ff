"""Corrections of a finish come back from their bytes, and damage is found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sccodec.errors import Damaged
from sccodec.latents.corrections import NONE, STRAIGHT, Numbers, pack, rice_bits, size, unpack

BENDS = 5
VALUES = st.one_of(st.just(0), st.integers(-2, 2), st.integers(-40, 40))


def numbers(shape):
    values = arrays(np.int64, shape, elements=VALUES, fill=st.just(0))
    return st.builds(Numbers, values, st.integers(0, 15))


@given(numbers((3, BENDS)), numbers(STRAIGHT), st.binary(max_size=9))
def test_a_correction_comes_back_and_so_does_what_lies_behind_it(mix, straight, behind):
    front = pack(mix, straight)
    correction, rest = unpack(front + behind, BENDS)
    assert rest == behind
    if front == NONE:
        assert correction is None
        assert not mix.values.any()
        assert not straight.values.any()
        return
    assert len(front) == size(mix, straight) == 1 + front[0]
    np.testing.assert_array_equal(correction.mix, mix.values * 2.0**-mix.unit)
    np.testing.assert_array_equal(correction.straight, straight.values * 2.0**-straight.unit)


def test_the_parameter_is_the_one_of_the_fewest_bits():
    values = np.array([0, -9, 30, 4])
    bits = [int(rice_bits(values, k).sum()) for k in range(8)]
    assert bits[Numbers(values, 0).rice] == min(bits)
    assert bits[0] == 0 + 17 + 60 + 8 + 4, "ones of the folded numbers, and a zero each"


def one() -> bytes:
    mix = Numbers(np.arange(-7, 8).reshape(3, BENDS), 6)
    return pack(mix, Numbers(np.tile(np.arange(-4, 4), (3, 3, 1)), 9))


def test_one_that_is_cut_anywhere_is_damage():
    front = one()
    for length in range(len(front)):
        with pytest.raises(Damaged, match="correction"):
            unpack(front[:length], BENDS)
        if length > 1:  # and if its length is made to fit
            with pytest.raises(Damaged, match="correction ends too early"):
                unpack(bytes([length - 1]) + front[1:length], BENDS)


def test_one_with_more_than_its_numbers_is_damage():
    front = one()
    longer = bytes([front[0] + 1]) + front[1:] + b"\0"
    with pytest.raises(Damaged, match="more than its numbers"):
        unpack(longer, BENDS)
    with pytest.raises(Damaged, match="correction"):
        unpack(front, BENDS - 1)


def test_ones_without_an_end_are_damage():
    with pytest.raises(Damaged, match="too early"):
        unpack(b"\xff" * 256, BENDS)


def test_one_that_is_too_long_is_not_written():
    with pytest.raises(ValueError, match="too long"):
        pack(Numbers(np.full((3, BENDS), 10**4), 0), Numbers(np.full(STRAIGHT, 1), 0))
