"""The exact networks against the same arithmetic in plain Python integers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sccodec.entropy.fixed import LIMIT, Depthwise, Pointwise, shuffle
from sccodec.errors import WrongModel

WEIGHT = st.integers(-(2**15), 2**15 - 1) | st.sampled_from([-(2**15), 2**15 - 1, 0, 1, -1])
BIAS = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([-(2**31), 2**31 - 1, 0, 8, -8])
VALUE = st.integers(-LIMIT, LIMIT) | st.sampled_from([-LIMIT, LIMIT, 0, 1, -1])


def settled(total: int, leaky: bool) -> int:
    """A sum in units of 2^-20 as an activation, by the words of formats/entropy.md."""
    bits = 15 if leaky and total < 0 else 12  # a slope of 2^-3 is three bits more
    return max(-LIMIT, min(LIMIT, (total + (1 << bits - 1)) >> bits))


def pointwise(weight, bias, x, leaky):
    _, height, width = x.shape
    result = np.zeros((len(weight), height, width), np.int64)
    for o, i, j in np.ndindex(result.shape):
        products = [int(w) * int(v) for w, v in zip(weight[o], x[:, i, j], strict=True)]
        result[o, i, j] = settled(sum(products) + 256 * int(bias[o]), leaky)
    return result


def depthwise(weight, bias, x):
    result = np.zeros(x.shape, np.int64)
    for c, i, j in np.ndindex(x.shape):
        total = 256 * int(bias[c])
        for di, dj in np.ndindex(3, 3):
            row, column = i + di - 1, j + dj - 1
            if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                total += int(weight[c, di, dj]) * int(x[c, row, column])
        result[c, i, j] = settled(total, leaky=False)
    return result


def filled(draw, values, shape, dtype):
    flat = draw(st.lists(values, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    return np.array(flat, dtype).reshape(shape)


@st.composite
def pointwise_cases(draw):
    outputs, inputs = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    return (
        filled(draw, WEIGHT, (outputs, inputs), np.int16),
        filled(draw, BIAS, (outputs,), np.int32),
        filled(draw, VALUE, (inputs, draw(st.integers(1, 2)), 2), np.float64),
        draw(st.booleans()),
    )


@st.composite
def depthwise_cases(draw):
    channels = draw(st.integers(1, 2))
    return (
        filled(draw, WEIGHT, (channels, 3, 3), np.int16),
        filled(draw, BIAS, (channels,), np.int32),
        filled(draw, VALUE, (channels, draw(st.integers(1, 3)), 2), np.float64),
    )


def wide_case(seed=0):
    """A layer of a size at which a BLAS blocks and reorders its sums."""
    random = np.random.default_rng(seed)
    weight = random.integers(-(2**15), 2**15, (64, 300)).astype(np.int16)
    bias = random.integers(-(2**31), 2**31, 64).astype(np.int32)
    x = random.integers(-LIMIT, LIMIT + 1, (300, 9, 7)).astype(np.float64)
    return weight, bias, x


@given(pointwise_cases())
@settings(max_examples=150, deadline=None)
def test_a_pointwise_layer_equals_integer_arithmetic(case):
    weight, bias, x, leaky = case
    result = Pointwise(weight, bias, leaky)(x)
    np.testing.assert_array_equal(result, pointwise(weight, bias, x, leaky))


@given(depthwise_cases())
@settings(max_examples=100, deadline=None)
def test_a_depthwise_layer_equals_integer_arithmetic(case):
    weight, bias, x = case
    np.testing.assert_array_equal(Depthwise(weight, bias)(x), depthwise(weight, bias, x))


@pytest.mark.parametrize(("bias", "kind"), [(122, np.int32), (123, np.float64)])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_in_32_bits_fit_there(bias, kind, sign):
    weight = np.zeros((1, 3, 3), np.int16)
    weight[0, 1] = sign * np.array([32767, 32767, 66051 - 2 * 32767])
    bias = np.array([sign * bias], np.int32)
    layer = Depthwise(weight, bias)
    assert layer.kind == kind  # the largest sum and its rounding end just below 2^31, or at it
    x = np.full((1, 1, 3), float(LIMIT))
    for values in (x, -x):
        np.testing.assert_array_equal(layer(values), depthwise(weight, bias, values))


@pytest.mark.parametrize(
    ("total", "expected"),
    [(2047, 0), (2048, 1), (-2048, 0), (-2049, -1), (6143, 1), (6144, 2), (-6144, -1)],
)
def test_halves_are_rounded_up(total, expected):
    layer = Pointwise(np.array([[1]], np.int16), np.array([0], np.int32), leaky=False)
    assert layer(np.full((1, 1, 1), float(total)))[0, 0, 0] == expected


def test_the_order_of_summation_does_not_matter():
    weight, bias, x = wide_case()
    expected = Pointwise(weight, bias, True)(x)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(x))
        np.testing.assert_array_equal(Pointwise(weight[:, order], bias, True)(x[order]), expected)


def test_outputs_may_be_computed_in_any_order():
    weight, bias, x = wide_case()
    order = np.random.default_rng(1).permutation(len(weight))
    shuffled = Pointwise(weight[order], bias[order], True)(x)
    np.testing.assert_array_equal(shuffled, Pointwise(weight, bias, True)(x)[order])


def test_columns_may_be_computed_apart():
    weight, bias, x = wide_case()
    layer = Pointwise(weight, bias, False)
    parts = [layer(x[:, :, begin : begin + 2]) for begin in range(0, x.shape[2], 2)]
    np.testing.assert_array_equal(np.concatenate(parts, 2), layer(x))


def test_a_wide_layer_equals_integer_sums():
    weight, bias, x = wide_case()
    total = weight.astype(np.int64) @ x.reshape(300, -1).astype(np.int64)
    total += 256 * bias.astype(np.int64)[:, None]
    expected = np.array([settled(int(v), True) for v in total.ravel()]).reshape(64, 9, 7)
    np.testing.assert_array_equal(Pointwise(weight, bias, True)(x), expected)


def test_activations_are_clamped():
    layer = Pointwise(np.array([[2**15 - 1]], np.int16), np.array([0], np.int32), False)
    assert layer(np.full((1, 1, 1), float(LIMIT)))[0, 0, 0] == LIMIT
    assert layer(np.full((1, 1, 1), float(-LIMIT)))[0, 0, 0] == -LIMIT


def test_a_layer_whose_sums_may_pass_two_to_the_53_is_refused():
    wide = np.full((1, 2**23 + 2**18), 2**15 - 1, np.int16)
    with pytest.raises(WrongModel, match="2\\^53"):
        Pointwise(wide, np.zeros(1, np.int32), True)
    huge = np.full((1, 3, 3), 2.0**40)
    with pytest.raises(WrongModel, match="2\\^53"):
        Depthwise(huge, np.zeros(1, np.int32))


def test_shuffle_interleaves_four_channels_into_one():
    x = np.arange(8 * 2 * 3, dtype=np.float64).reshape(8, 2, 3)
    result = shuffle(x)
    assert result.shape == (2, 4, 6)
    for c, i, j in np.ndindex(result.shape):
        assert result[c, i, j] == x[4 * c + 2 * (i % 2) + j % 2, i // 2, j // 2]
