"""Tensors to .scc files and back: bounds that hold, layers that nest, damage that is found."""

import io
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import sccodec
from sccodec.codecs import tensor
from sccodec.codecs.calibration import Calibration, calibrate, calibrate_bases
from sccodec.codecs.tensor import Settings
from sccodec.codecs.tensor_statistics import grid_of
from sccodec.codecs.tensor_transform import Coefficients, at_step
from sccodec.codecs.verify import verify
from sccodec.container import extract, from_bytes, layout, tensors, to_bytes
from sccodec.container.describe import describe
from sccodec.entropy import bands, coder, planes
from sccodec.errors import BadRequest, Damaged, LimitExceeded, Mismatch, WrongModel
from sccodec.latents import blocks
from sccodec.latents.basis import Examples
from sccodec.media.tensor import Tensor, from_array, narrowed, widened


def features(shape=(24, 14, 14), seed=0, sided=False) -> np.ndarray:
    """What a network gives: channels of different strength, smooth in space, rectified or not."""
    random = np.random.default_rng(seed)
    *_, height, width = shape
    rough = random.normal(size=(*shape[:-2], (height + 1) // 2, (width + 1) // 2))
    values = np.repeat(np.repeat(rough, 2, -2), 2, -1)[..., :height, :width]
    values = values + random.normal(size=shape) / 2
    values += random.normal(size=(*shape[:-2], 1, 1)) - (0 if sided else 0.7)
    values *= random.gamma(2, 0.5, size=(*shape[:-2], 1, 1))
    return (values if sided else np.maximum(values, 0)).astype(np.float32)


def decoded(data: bytes, layers="all") -> np.ndarray:
    (found,), report = tensor.decode(data, layers)
    assert report.damaged == []
    return found.values


def mse(a, b) -> float:
    return float(np.square(a.astype(np.float64) - b.astype(np.float64)).mean())


# -- values that sums and float32 hardly tell apart ---------------------------------------------


def spread_of(mean: float, deviation: float, kind="float64", shape=(4, 64, 64)) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=shape)
    return (mean + deviation * noise).astype(kind)


@pytest.mark.parametrize("rate", [2.0, 3.0, 6.0])
@pytest.mark.parametrize("mean", [1000, -1000, 101325])
def test_where_values_lie_changes_nothing(mean, rate):
    """What is positive but far from 0 is no activation behind a rectifier."""
    here, there = (spread_of(m, 1, shape=(4, 48, 48)) for m in (0, mean))
    wanted = mse(here, decoded(tensor.encode(here, Settings(rate=rate))))
    data = tensor.encode(there, Settings(rate=rate))
    assert 8 * len(data) / there.size == pytest.approx(rate, rel=0.021)
    assert mse(there, decoded(data)) < 1.35 * wanted


@pytest.mark.parametrize(
    "values",
    [
        spread_of(288, 8, "float32"),  # temperatures
        spread_of(1e6, 0.01),
        spread_of(-1e6, 0.01),
        spread_of(0, 1e-46),  # float32 has nothing so small,
        spread_of(0, 1e39),  # and nothing so large
        spread_of(1.7e9, 1),  # seconds since 1970
    ],
    ids=lambda values: f"{values.max():.3g}",
)
@pytest.mark.parametrize(
    "how", [{}, {"levels": 64}, {"rate": 3.0}, {"levels": (2, 4), "layers": 2}]
)
def test_quantisers_fit_wherever_values_lie(values, how):
    unit = float(values.std(dtype=np.float64))
    again = decoded(tensor.encode(values, Settings(**how)))
    assert mse(values / unit, again / unit) < (
        0.05 if "rate" in how or how.get("levels") == 64 else 0.5
    )


@pytest.mark.parametrize("how", [{"rate": 0.01}, {"max_bytes": 500}, {"channelwise": True}, {}])
def test_few_values_among_many_zeros_are_found(how):
    """Those that a design looks at may all be zeros."""
    values = np.zeros((64, 64, 64), np.float32)
    values[3, 7, 9], values[40, 40, 40] = 1, 2
    again = decoded(tensor.encode(values, Settings(**how)))
    # The activation model clips what channels have one of, and scales with four levels are coarse.
    np.testing.assert_allclose(again, values, atol=0.4 if "channelwise" in how else 0.1)


@pytest.mark.parametrize("how", [{}, {"rate": 1.0}, {"rate": 2.0}, {"quantiser": "uniform"}])
def test_values_of_which_float32_has_only_a_few(how):
    for values in (spread_of(0.5, 1e-7, "float32"), spread_of(10, 1e-6, "float32")):
        again = decoded(tensor.encode(values, Settings(**how)))
        assert mse(values, again) < 0.7 * float(values.var(dtype=np.float64))


def test_the_range_of_all_values_is_that_of_all_values():
    values = np.random.default_rng(0).normal(size=(4, 256, 256)).astype(np.float32)
    values[1, 5, 6] = 50  # which a sample hardly meets
    for channelwise in (False, True):
        how = Settings(clip="minmax", levels=64, channelwise=channelwise)
        assert np.abs(decoded(tensor.encode(values, how)) - values).max() < 50 / 31


def test_what_is_too_far_from_zero_for_a_transform_is_refused():
    values = spread_of(101325, 1, shape=(4, 48, 48))
    with pytest.raises(BadRequest, match="too far from 0"):
        tensor.encode(values, Settings(rate=2.0, transform=True))


def walks(mean: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(8, 64, 64))
    return (mean + 0.3 * noise.cumsum(2)).astype(np.float32)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("mean", [0, 300, 3000])
def test_layers_of_values_far_from_zero(mean, layers):
    """Where a finer layer cannot restore the coefficients of a mean, levels do."""
    values = walks(mean)
    data = tensor.encode(values, Settings(rate=4.0, layers=layers))
    assert 8 * len(data) / values.size == pytest.approx(4, rel=0.03)
    assert mse(values, decoded(data)) < 0.02 * values.var(dtype=np.float64)
    if mean == 300 and layers > 1:
        with pytest.raises(BadRequest, match="too far from 0"):
            tensor.encode(values, Settings(rate=4.0, layers=layers, transform=True))


def test_a_basis_that_mixes_large_components_is_not_taken_where_it_cuts():
    values = np.random.default_rng(0).normal(size=(8, 64, 64))
    fitted = calibrate_bases([[from_array(values, "a")]], Settings())
    values[3] += 5000  # where the basis knows of no such mean
    how = Settings(rate=3.0, calibration=fitted)
    (found,), _ = tensor.decode(tensor.encode({"a": values}, how), calibration=fitted)
    assert mse(values, found.values) < 1e-4 * values.var()
    values[3] += 50_000
    with pytest.raises(BadRequest, match="too far from 0"):
        tensor.encode({"a": values}, replace(how, transform=True))


@pytest.mark.parametrize("rate", [2.4, 2.6, 2.8, 4.0])
def test_a_few_massive_channels_take_nothing_from_the_others(rate):
    values = np.random.default_rng(0).normal(size=(64, 768)).astype(np.float32)
    values[:, [7, 300]] *= 300
    data = tensor.encode(values, Settings(rate=rate))
    assert 8 * len(data) / values.size == pytest.approx(rate, rel=0.021)
    usual = np.delete(np.arange(768), [7, 300])
    assert mse(values[:, usual], decoded(data)[:, usual]) < 0.12


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("how", [{"rate": 2.0}, {"rate": 4.0}, {"max_bytes": 32768}])
def test_one_value_far_from_all_others_stays_where_it_is(how, seed):
    """Whether a sample would have met it or not."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(64, 32, 32)).astype(np.float32)
    values.flat[random.choice(values.size)] = 300
    for channelwise in (False, True):
        again = decoded(tensor.encode(values, Settings(**how, channelwise=channelwise)))
        assert abs(again.max() - 300) < 3
        assert mse(values, again) < (0.3 if how.get("rate") == 2 else 0.05)


@pytest.mark.parametrize("seed", range(3))
def test_tails_that_a_sample_hardly_meets(seed):
    values = np.random.default_rng(seed).standard_t(3, (64, 32, 32)).astype(np.float32)
    errors = []
    for rate in (3.0, 4.0, 6.0):
        data = tensor.encode(values, Settings(rate=rate))
        assert 8 * len(data) / values.size == pytest.approx(rate, rel=0.021)
        errors.append(mse(values, decoded(data)))
    assert errors[0] < 0.07 and errors[1] < 0.03 and errors[2] < 0.01


def test_heavy_tails_at_any_rate():
    values = np.random.default_rng(0).standard_cauchy(size=(8, 32, 32)).astype(np.float32)
    errors = []
    for rate in (2.0, 3.0, 5.0, 8.0):
        data = tensor.encode(values, Settings(rate=rate))
        assert 8 * len(data) / values.size == pytest.approx(rate, rel=0.021)
        errors.append(mse(values, decoded(data)) / values.var())
    assert errors[0] < 1e-3 and errors[1] < errors[0] / 2 and max(errors[2:]) < errors[1] / 2


def test_no_filter_is_paid_for_that_fine_levels_do_not_have():
    values = np.random.default_rng(0).normal(size=(8, 32, 32)).astype(np.float32)
    data = tensor.encode(values, Settings(rate=6.0, filter=True, transform=False))
    assert 8 * len(data) / values.size == pytest.approx(6, rel=0.021)


def test_the_unary_coder_takes_what_it_can():
    values = np.random.default_rng(0).normal(size=(9, 2))
    data = tensor.encode(values, Settings(max_bytes=9999, coder="unary"))
    assert len(data) < 9999 and mse(values, decoded(data)) < 1e-3
    tails = np.random.default_rng(0).standard_cauchy(size=(8, 32, 32))
    for rate, meets in ((3.0, True), (7.0, False)):
        how = Settings(rate=rate, coder="unary")
        if meets:
            assert 8 * len(tensor.encode(tails, how)) / tails.size == pytest.approx(rate, rel=0.021)
        else:
            with pytest.raises(BadRequest, match="out of reach"):
                tensor.encode(tails, how)


@pytest.mark.parametrize("clip", [(5.0, 6.0), (3.0, 3.0), (-2.0, -1.0)])
def test_a_range_beside_all_values_holds_one(clip):
    values = np.random.default_rng(0).random((16, 32, 32)).astype(np.float32)
    with pytest.raises(BadRequest, match="out of reach"):
        tensor.encode(values, Settings(rate=1.0, clip=clip))


def test_channels_far_from_zero_have_no_scales():
    values = 1.7e9 + np.random.default_rng(0).random((4, 16, 16)) * 10
    wanted = tensor.encode(values, Settings(levels=4))
    assert tensor.encode(values, Settings(levels=4, channelwise=True)) == wanted


@pytest.mark.parametrize("seed", range(4))
def test_one_value_far_from_all_others_is_kept(seed):
    values = np.random.default_rng(seed).normal(size=2048).astype(np.float32)
    values[-1] = 1e6
    data = tensor.encode(values.reshape(8, 16, 16), Settings(rate=1.0))
    assert np.square(decoded(data).ravel() - values).mean() < 10


def test_as_many_axes_are_written_as_are_read():
    values = np.arange(500, dtype=np.float32).reshape(2, *[1] * 29, 25, 10)
    assert decoded(tensor.encode(values)).shape == values.shape
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        return  # it has no more axes itself
    with pytest.raises(BadRequest, match="33 axes, a file has room for 32"):
        tensor.encode(values[None])


# -- kinds and shapes --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float32", "float16", "float64", "int8"])
def test_each_type_comes_back_as_it_was(kind):
    values = (features() * (20 if kind == "int8" else 1)).astype(kind)
    again = decoded(tensor.encode(values, Settings(levels=100, clip="minmax")))
    assert (again.dtype, again.shape) == (values.dtype, values.shape)
    assert mse(values, again) < 0.01 * values.astype(float).var()


def test_bfloat16_comes_back_as_bits():
    bits = narrowed(features())
    how = Settings(levels=100, clip="minmax")
    ((found,), _) = tensor.decode(tensor.encode(Tensor("", bits, "bfloat16"), how))
    assert (found.kind, found.values.dtype) == ("bfloat16", np.uint16)
    assert mse(widened(bits), found.array()) < 0.01 * features().var()


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((0, 3), np.float32),
        np.zeros((2, 0, 3), np.int8),
        np.array(3.7),
        np.array(-3, np.int8),
        np.full((3, 4, 5), 1.1),
        np.full(7, 1e300),
        np.float16(65504) * np.ones((2, 2), np.float16),
    ],
    ids=lambda values: f"{values.dtype}{values.shape}",
)
@pytest.mark.parametrize(
    "how", [{}, {"rate": 0.7}, {"max_abs_error": 0.1}, {"layers": 2}, {"max_bytes": 999}]
)
def test_tensors_without_information_are_exact(values, how):
    again = decoded(tensor.encode(values, Settings(**how)))
    assert again.dtype == values.dtype
    np.testing.assert_array_equal(again, values)


@given(
    shape=st.lists(st.integers(0, 7), max_size=4),
    kind=st.sampled_from(["float32", "float16", "float64", "int8"]),
    axis=st.sampled_from(["auto", None]),
    seed=st.integers(0, 99),
    tile=st.sampled_from([64, 1 << 20]),
)
@settings(max_examples=25, deadline=None)
def test_any_shape_within_its_bound(shape, kind, axis, seed, tile):
    values = (np.random.default_rng(seed).normal(0, 9, shape)).astype(kind)
    error = 1 if kind == "int8" else 0.25
    data = tensor.encode(values, Settings(max_abs_error=error, channel_axis=axis, tile=tile))
    again = decoded(data)
    assert (again.shape, again.dtype) == (values.shape, values.dtype)
    if values.size:
        assert np.abs(again.astype(np.float64) - values).max() <= error
    assert verify(from_bytes(data)).verdict == "ok"


def test_channels_may_be_anywhere():
    values = features((24, 10, 9))
    plain = tensor.encode(values)
    last = tensor.encode(values.transpose(1, 2, 0), Settings(channel_axis=-1))
    assert abs(len(plain) - len(last)) < 8
    np.testing.assert_array_equal(decoded(last).transpose(2, 0, 1), decoded(plain))
    with pytest.raises(BadRequest, match="axis 3"):
        tensor.encode(values, Settings(channel_axis=3))


@pytest.mark.usefixtures("all_cores")
def test_tiles_and_threads_change_no_value():
    values = features((6, 40, 30))
    whole = decoded(tensor.encode(values))
    for how in ({"tile": 4096}, {"tile": 320, "jobs": 2}, {"tile": 1216}):
        data = tensor.encode(values, Settings(**how))
        np.testing.assert_array_equal(decoded(data), whole)
        ((found,), _) = tensor.decode(data, jobs=2)
        np.testing.assert_array_equal(found.values, whole)


# -- rates and bounds --------------------------------------------------------------------------


@pytest.mark.parametrize("sided", [False, True])
@pytest.mark.parametrize("quantiser", [None, "uniform", "entropy-constrained"])
def test_a_rate_is_met_within_two_percent(sided, quantiser):
    values = features((48, 28, 28), sided=sided)
    data = tensor.encode(values, Settings(rate=0.7, quantiser=quantiser))
    assert 8 * len(data) / values.size == pytest.approx(0.7, rel=0.02)


def test_the_entropy_constrained_design_is_better_at_equal_bits():
    values = features((48, 28, 28))
    hows = (
        Settings(rate=0.7, quantiser=kind, filter=False)
        for kind in ("uniform", "entropy-constrained")
    )
    errors = [mse(values, decoded(tensor.encode(values, how))) for how in hows]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("rate", [0.45, 0.6, 0.85])
@pytest.mark.parametrize("shape", [(32, 32, 32), (128, 256)])
def test_a_rate_between_those_of_two_quantisers_is_met(shape, rate):
    # Elements of one value change their level together, at whatever threshold.
    values = np.random.default_rng(1).choice([0.0, 1.0, 6.0], shape, p=[0.6, 0.38, 0.02])
    coarse, fine = (
        8 * len(tensor.encode(values, Settings(levels=n, clip="minmax"))) / values.size
        for n in (2, 7)
    )
    assert coarse < 0.4 and fine > 0.9
    data = tensor.encode(values, Settings(rate=rate))
    assert 8 * len(data) / values.size == pytest.approx(rate, rel=0.02)


def test_a_rate_out_of_reach_is_refused():
    with pytest.raises(BadRequest, match="out of reach"):
        tensor.encode(features(), Settings(rate=20))
    with pytest.raises(BadRequest, match="too few"):
        tensor.encode(features(), Settings(rate=0.01))


@pytest.mark.parametrize("sided", [False, True])
def test_every_higher_rate_has_a_much_smaller_error(sided):
    values = features((24, 14, 14), sided=sided)
    errors = []
    for rate in (3, 6, 9):
        data = tensor.encode(values, Settings(rate=rate))
        # Sizes of what is sparse follow the step in leaps where low bits are sent as they are.
        assert 8 * len(data) / values.size == pytest.approx(rate, rel=0.02 if sided else 0.05)
        errors.append(mse(values, decoded(data)))
    # Three bits more are 18 dB for each element that is not zero.
    assert all(fine < coarse / 30 for coarse, fine in pairwise(errors))


@pytest.mark.parametrize("shape", [(3, 5), (24, 14, 14)])
def test_more_bytes_than_a_tensor_can_use_leave_hardly_an_error(shape):
    values = features((1, *shape)[-3:], sided=True).reshape(shape)
    again = decoded(tensor.encode(values, Settings(max_bytes=1_000_000)))
    assert mse(values, again) < 1e-7 * values.var()


@pytest.mark.parametrize("layers", [1, 2])
def test_a_rate_of_several_tensors_is_that_of_their_file(layers):
    values = {
        "few": features((2, 3, 3), sided=True),
        "many": features((96, 28, 28)),
        "none": np.zeros((0, 3), np.float32),
        "some": features((8, 8, 8), seed=1, sided=True),
        "one": np.float32(7),
    }
    elements = sum(np.size(each) for each in values.values())
    data = tensor.encode(values, Settings(rate=0.7, layers=layers))
    assert 8 * len(data) / elements == pytest.approx(0.7, rel=0.02)
    found, _ = tensor.decode(data)
    assert [each.name for each in found] == list(values)
    for each in found:
        if each.values.size:
            assert mse(each.values, values[each.name]) <= 0.6 * np.var(values[each.name])
    with pytest.raises(BadRequest, match="200 bytes for 5 tensors are too few"):
        tensor.encode(values, Settings(max_bytes=200))


@pytest.mark.parametrize("most", [700, 1500])
def test_max_bytes_is_never_passed(most):
    values = {"a": features(), "b": features(seed=1, sided=True)}
    data = tensor.encode(values, Settings(max_bytes=most))
    assert 0.8 * most < len(data) <= most
    with pytest.raises(BadRequest, match="too few"):
        tensor.encode(values, Settings(max_bytes=200))


@pytest.mark.parametrize("kind", ["float32", "float16", "float64"])
@pytest.mark.parametrize("error", [1.0, 0.03, 0.002])
def test_an_error_bound_holds_for_every_element(kind, error):
    values = (30 * features(sided=True)).astype(kind)
    values.flat[7] = 1000  # nothing is clipped
    again = decoded(tensor.encode(values, Settings(max_abs_error=error)))
    assert np.abs(again.astype(np.float64) - values.astype(np.float64)).max() <= error


def test_whole_numbers_can_be_kept():
    values = np.random.default_rng(0).integers(-128, 128, (5, 9, 9), np.int8)
    data = tensor.encode(values, Settings(max_abs_error=0))
    np.testing.assert_array_equal(decoded(data), values)
    with pytest.raises(BadRequest, match="more than"):
        tensor.encode(features(), Settings(max_abs_error=0))


def test_more_levels_are_nearer_and_longer():
    values = features()
    files = [tensor.encode(values, Settings(levels=n)) for n in (2, 3, 5, 9, 40, 300)]
    errors = [mse(values, decoded(data)) for data in files]
    assert errors == sorted(errors, reverse=True)
    assert [len(data) for data in files] == sorted(len(data) for data in files)


@pytest.mark.parametrize("clip", ["model", "moments", "minmax", (0.0, 12.5)])
@pytest.mark.parametrize("channelwise", [False, True])
def test_ways_to_clip(clip, channelwise):
    values = features()
    data = tensor.encode(values, Settings(levels=6, clip=clip, channelwise=channelwise))
    again = decoded(data)
    assert mse(values, again) < 0.4 * values.var()
    if clip == (0.0, 12.5) and not channelwise:
        assert set(np.unique(again)) <= set(np.linspace(0, 12.5, 6).astype(np.float32))
    if clip == "minmax" and not channelwise:
        assert again.max() == values.max()


def test_the_model_clips_where_a_search_would():
    """On data of the model itself, the closed form is as good as any other limit."""
    random = np.random.default_rng(0)
    values = np.maximum(random.exponential(2, 100_000) - 1, 0).astype(np.float32)
    fitted = mse(values, decoded(tensor.encode(values, Settings(levels=4))))
    for high in np.linspace(3, 12, 19):
        other = decoded(tensor.encode(values, Settings(levels=4, clip=(0.0, float(high)))))
        assert fitted < 1.02 * mse(values, other)


# -- layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("coder", ["context", "unary"])
def test_a_stripped_file_decodes_to_what_an_encode_at_that_level_gives(coder):
    values = features()
    clip = (0.0, 2.75)
    data = tensor.encode(values, Settings(levels=(2, 4, 10), clip=clip, coder=coder))
    for count, levels in ((1, 2), (2, 4), (3, 10)):
        alone = decoded(tensor.encode(values, Settings(levels=levels, clip=clip)))
        stripped = sccodec.extract(data, count)
        np.testing.assert_array_equal(decoded(stripped), alone)
        np.testing.assert_array_equal(decoded(data, count), alone)


def test_layers_cost_next_to_nothing_and_join_again():
    values = features((48, 28, 28))
    one, two = (tensor.encode(values, Settings(levels=n)) for n in (4, (2, 4)))
    np.testing.assert_array_equal(decoded(one), decoded(two))
    assert len(two) < 1.08 * len(one)
    base, rest = sccodec.extract(two, "base"), sccodec.extract(two, "enhancement")
    assert sccodec.join(rest, base) == two
    with pytest.raises(BadRequest, match="which this file does not hold"):
        tensor.decode(rest)
    assert verify(from_bytes(rest)).verdict == "ok"


@pytest.mark.parametrize(
    "how", [{"rate": 1.0}, {"max_bytes": 800}, {"max_abs_error": 0.3}, {"levels": 8}]
)
def test_any_quantiser_can_have_layers(how):
    values = features()
    data = tensor.encode(values, Settings(layers=2, **how))
    assert from_bytes(data).header.present_layers == 2
    assert mse(values, decoded(data)) < mse(values, decoded(data, "base"))


def test_calibrated_layers_are_those_of_the_calibration():
    """What a stripped file decodes to is what its base quantiser alone gives."""
    values = features()
    fitted = calibrate([[from_array(values)]], Settings(rate=1.0, layers=2))
    data = tensor.encode(values, Settings(calibration=fitted))
    (design,) = fitted.designs.values()
    base = design.embedded.quantisers[0]
    np.testing.assert_array_equal(
        decoded(data, "base"), base.levels[base.index(values)].astype(np.float32)
    )


# -- transforms --------------------------------------------------------------------------------


def smooth(shape=(16, 28, 21), kind="float32") -> np.ndarray:
    """Linear features whose neighbours are much alike."""
    random = np.random.default_rng(3)
    noise = np.cumsum(np.cumsum(random.normal(size=shape), -1), -2)
    noise -= noise.mean((-2, -1), keepdims=True)
    return (noise / noise.std() * 20).astype(kind)


def coder_of(data: bytes) -> str:
    (entry,) = tensor.open_tensors(from_bytes(data))
    return entry.coder


def test_dense_smooth_values_are_transformed_where_that_pays():
    values = smooth()
    data = tensor.encode(values, Settings(rate=0.8))
    assert coder_of(data) == "transform"
    assert 8 * len(data) / values.size == pytest.approx(0.8, rel=0.02)
    levels = tensor.encode(values, Settings(rate=0.8, transform=False))
    assert coder_of(levels) == "context"
    assert mse(values, decoded(data)) < 0.5 * mse(values, decoded(levels))
    rectified = np.maximum(np.random.default_rng(1).normal(size=values.shape) - 1, 0)
    assert coder_of(tensor.encode(rectified, Settings(rate=0.8))) == "context"


@pytest.mark.parametrize("kind", ["float32", "float16", "float64", "int8", "bfloat16"])
def test_coefficients_in_tiles_of_each_type(kind):
    values = smooth((2, 8, 28, 21), "float32" if kind == "bfloat16" else kind)
    given = Tensor("", narrowed(values), kind) if kind == "bfloat16" else values
    data = tensor.encode(given, Settings(max_bytes=3000, transform=True, tile=3200))
    assert len(data) <= 3000
    assert len(from_bytes(data).tiles[0]) == 4
    (found,), _ = tensor.decode(data, jobs=2)
    again = found.floats(found.values)
    assert (found.kind, again.shape) == (kind, values.shape)
    assert mse(values, again) < 0.1 * values.astype(float).var()
    assert verify(from_bytes(data)).verdict == "ok"


def test_a_rate_is_found_though_one_channel_is_far_from_the_others():
    values = smooth((20, 18, 10))
    values[3] += 50 * values.std()
    data = tensor.encode(values, Settings(rate=1.5, transform=True))
    assert 8 * len(data) / values.size == pytest.approx(1.5, rel=0.02)


def test_rectified_values_stay_in_their_range():
    values = np.maximum(smooth(), 0)
    data = tensor.encode(values, Settings(rate=0.8, transform=True))
    again = decoded(data)
    assert again.min() >= 0
    assert again.max() <= values.max()
    # What the rectifier set to zero is zero again, mostly.
    (entry,) = tensor.open_tensors(from_bytes(data))
    zeros = again[values == 0] == 0
    assert entry.transform.snap > 0
    assert zeros.mean() > 0.8
    plain = replace(entry, transform=replace(entry.transform, snap=0))
    chunk = layout.Chunk("TENS", 2, tensors.pack([plain]))
    before = decoded(rewritten(data, chunks=(chunk,)))
    assert mse(values, again) < mse(values, before)


@pytest.mark.parametrize(
    "how",
    [
        *({"tile": 512}, {"coder": "unary"}, {"offsets": True}, {"filter": True}),
        *({"channelwise": True}, {"quantiser": "uniform"}, {"clip": "minmax"}),
    ],
    ids=str,
)
def test_a_transform_is_one_choice_instead_of_others(how):
    with pytest.raises(BadRequest, match="cannot be transformed"):
        tensor.encode(smooth(), Settings(rate=0.8, transform=True, **how))


def test_a_transform_needs_a_size_and_planes_that_blocks_cover():
    with pytest.raises(BadRequest, match="transform needs a rate"):
        Settings(transform=True, levels=4)
    with pytest.raises(BadRequest, match="cannot be transformed"):
        tensor.encode(smooth((16, 28, 257)), Settings(rate=0.8, transform=True))
    with pytest.raises(BadRequest, match="no transform"):
        calibrate([[from_array(smooth())]], Settings(rate=0.8, transform=True))


def test_a_damaged_tile_of_coefficients_is_zeros():
    values = smooth()
    data = bytearray(tensor.encode(values, Settings(rate=0.8, transform=True, tile=4800)))
    place = from_bytes(bytes(data)).ranges([0])[0]
    data[place.offset + 9] ^= 1
    with pytest.raises(Damaged):
        tensor.decode(bytes(data))
    (found,), report = tensor.decode(bytes(data), allow_partial=True)
    assert len(report.damaged) == 1
    assert not found.values[:8].any()
    assert found.values[8:].any()


# -- transforms in layers ----------------------------------------------------------------------


@pytest.mark.parametrize("low", [-np.inf, 0])
def test_each_layer_of_coefficients_halves_the_step(low):
    values = np.maximum(smooth(), low)
    data = tensor.encode(values, Settings(rate=1.5, transform=True, layers=3))
    assert 8 * len(data) / values.size == pytest.approx(1.5, rel=0.02)
    assert coder_of(data) == "transform"
    errors = [mse(values, decoded(data, n)) for n in (1, 2, 3)]
    for coarse, fine in pairwise(errors):
        assert fine < 0.45 * coarse
    single = decoded(tensor.encode(values, Settings(rate=1.5, transform=True)))
    assert errors[-1] < 2 * mse(values, single)  # of so small a tensor
    assert verify(from_bytes(data)).verdict == "ok"
    facts = sccodec.info(data)["tensors"][0]
    assert facts["steps"] == [facts["step"] / 2**n for n in range(3)]


def test_layers_of_coefficients_are_stripped_and_put_back():
    values = smooth()
    whole = sccodec.encode(values, profile="tensor", rate=1.2, layers=2, transform=True)
    base, rest = (sccodec.extract(whole, [name]) for name in ("base", "enhancement"))
    assert len(base) < 0.6 * len(whole)
    assert sccodec.join(base, rest) == whole
    np.testing.assert_array_equal(sccodec.decode(base), sccodec.decode(whole, layers="base"))


def test_a_base_of_coefficients_is_what_encoding_at_its_step_gives():
    values, settings = smooth(), Settings(rate=1.2, transform=True, layers=2)
    data = tensor.encode(values, settings)
    (entry,) = tensor.open_tensors(from_bytes(data))
    given = from_array(values)
    source = Coefficients(given, grid_of(given, settings), settings)
    alone = at_step(source, replace(entry.transform, inward=(0, 0, 0), finer=())).design.transform
    assert alone == entry.transform.layer(0)
    numbers = source.chosen(source.grid.parts[0], alone)[1].numbers
    shape = blocks.shape(values.shape, alone.block)
    assert bands.encode(shape, numbers) == from_bytes(data).payload(0, 0)


def test_layers_are_of_coefficients_where_that_pays():
    values = smooth()
    data = tensor.encode(values, Settings(rate=0.8, layers=2))
    assert coder_of(data) == "transform"
    levels = tensor.encode(values, Settings(rate=0.8, layers=2, transform=False))
    assert coder_of(levels) == "context"
    assert mse(values, decoded(data)) < 0.5 * mse(values, decoded(levels))


def test_a_file_of_other_layers_takes_in_transforms():
    first, out = tensor.encode({"a": features()}, Settings(levels=(2, 4, 10))), io.BytesIO()
    added = {"b": smooth()}
    tensor.append(from_bytes(first), added, out, Settings(rate=1.0, transform=True, layers=2))
    (_, found), _ = tensor.decode(out.getvalue())
    assert mse(added["b"], found.values) < 0.1 * added["b"].var()
    more = Settings(rate=1.0, transform=True, layers=4)
    with pytest.raises(BadRequest, match="4 layers"):
        tensor.append(from_bytes(first), added, io.BytesIO(), more)


def test_components_come_in_layers_too():
    fitted, values = basis_of(1, 2), mixed(7, 3)
    settings = Settings(rate=1.0, layers=2, tile=5120, calibration=fitted)
    data = tensor.encode(values, settings)
    (base,), _ = tensor.decode(data, "base", calibration=fitted)
    (whole,), _ = tensor.decode(data, calibration=fitted)
    assert mse(values, whole.values) < 0.45 * mse(values, base.values)


def test_a_damaged_refinement_leaves_the_coarse_coefficients():
    values = smooth()
    data = tensor.encode(values, Settings(rate=1.2, transform=True, layers=2, tile=4800))
    (found,), report = tensor.decode(flipped(data, 1, 0), allow_partial=True)
    wanted = decoded(data).copy()
    wanted[:8] = decoded(data, "base")[:8]
    np.testing.assert_array_equal(found.values, wanted)
    assert [(lost.layer, lost.tile, lost.lower) for lost in report.damaged] == [
        ("enhancement", 0, True)
    ]


# -- bases of channels -------------------------------------------------------------------------


def mixed(seed: int, items: int | None = None) -> np.ndarray:
    """Linear features of which twelve channels are mixtures of five, each with noise."""
    weights = np.random.default_rng(8).normal(size=(12, 5))
    random = np.random.default_rng(seed)
    planes = np.cumsum(np.cumsum(random.normal(size=(items or 1, 5, 20, 18)), -1), -2)
    found = np.einsum("ck,nkhw->nchw", weights, planes)
    found += random.normal(size=found.shape) + np.arange(12)[:, None, None]
    return (found if items else found[0]).astype(np.float32)


def basis_of(*seeds: int, name: str = "") -> Calibration:
    return calibrate_bases([[from_array(mixed(seed), name)] for seed in seeds], Settings())


def test_a_basis_codes_once_what_channels_share(tmp_path):
    basis_of(1, 2, 3).write(tmp_path / "c.json")
    values, stored = mixed(9), tmp_path / "c.json"
    alone = sccodec.encode(values, profile="tensor", rate=0.8)
    data = sccodec.encode(values, profile="tensor", rate=0.8, calibration=stored)
    assert 8 * len(data) / values.size == pytest.approx(0.8, rel=0.02)
    assert coder_of(data) == "transform"
    again = sccodec.decode(data, calibration=stored)
    assert mse(values, again) < 0.5 * mse(values, decoded(alone))
    (facts,) = sccodec.info(data)["tensors"]
    assert facts["basis"] == Calibration.read(stored).bases[""].digest.hex()
    assert verify(from_bytes(data)).verdict == "ok"  # which needs no basis
    with sccodec.open(data) as file:
        np.testing.assert_array_equal(file.tensors(calibration=basis_of(1, 2, 3)), again)


def test_without_its_basis_a_tensor_is_not_decoded():
    data = tensor.encode(mixed(9), Settings(rate=0.8, calibration=basis_of(1)))
    with pytest.raises(WrongModel, match=r"tensor '' was encoded with the basis [0-9a-f]{16}"):
        sccodec.decode(data)
    with pytest.raises(WrongModel, match="not in the calibration"):
        sccodec.decode(data, calibration=basis_of(2))
    with sccodec.open(data) as file:
        ((name, values),) = file.progressive(calibration=basis_of(1))
    assert name == "base" and values.shape == mixed(9).shape


@pytest.mark.parametrize("kind", ["float32", "float16", "float64", "int8"])
def test_components_in_tiles_of_whole_items(kind):
    fitted, values = basis_of(1, 2), mixed(7, 3).clip(-120, 120).astype(kind)
    settings = Settings(max_bytes=3000, transform=True, tile=5120, calibration=fitted)
    data = tensor.encode(values, settings)
    assert len(data) <= 3000
    assert len(from_bytes(data).tiles[0]) == 3  # where fourteen planes would fit
    (found,), _ = tensor.decode(data, calibration=fitted, jobs=2)
    assert (found.kind, found.shape) == (kind, values.shape)
    assert mse(values, found.values) < 0.1 * values.astype(float).var()


def test_a_basis_is_used_where_it_pays_and_refused_where_it_cannot():
    fitted = basis_of(1)
    sparse = np.maximum(np.random.default_rng(1).normal(size=(12, 20, 18)) - 1, 0)
    assert coder_of(tensor.encode(sparse, Settings(rate=0.8, calibration=fitted))) == "context"
    constant = tensor.encode(np.ones((12, 20, 18)), Settings(rate=0.8, calibration=fitted))
    np.testing.assert_array_equal(sccodec.decode(constant), 1)
    with pytest.raises(BadRequest, match="needs a rate"):
        Settings(calibration=fitted)
    with pytest.raises(BadRequest, match="and a transform"):
        Settings(calibration=fitted, rate=0.8, transform=False)
    with pytest.raises(BadRequest, match="cannot be transformed"):
        tensor.encode(mixed(9), Settings(rate=0.8, calibration=fitted, tile=4096))
    with pytest.raises(BadRequest, match="has 5 channels, its calibration 12"):
        tensor.encode(mixed(9)[:5], Settings(rate=0.8, calibration=fitted))
    named = Calibration(bases={"a": fitted.bases[""], "b": fitted.bases[""]})
    with pytest.raises(BadRequest, match="nothing for a tensor 'c'"):
        tensor.encode({"c": mixed(9)}, Settings(rate=0.8, calibration=named))
    with pytest.raises(BadRequest, match="for tensors"):
        sccodec.decode(Path(__file__).parents[1] / "golden" / "tiny.scc", calibration=fitted)


def test_what_a_basis_is_learnt_from():
    with pytest.raises(BadRequest, match="no tensors"):
        calibrate_bases([], Settings())
    with pytest.raises(BadRequest, match="has no basis"):
        calibrate_bases([[from_array(mixed(1)[:1])]], Settings())
    with pytest.raises(BadRequest, match="has 5 channels, its calibration 12"):
        calibrate_bases([[from_array(mixed(1))], [from_array(mixed(1)[:5])]], Settings())
    for shape in ((0, 8, 4, 4), (1, 8, 0, 4), (1, 8, 4, 0), (0, 3)):
        with pytest.raises(BadRequest, match="too few elements"):
            calibrate_bases([[from_array(np.zeros(shape, np.float32))]], Settings())
    with pytest.raises(BadRequest, match="too few elements"):
        calibrate_bases([[from_array(mixed(1)[:, :1, :1])]], Settings())
    with pytest.raises(BadRequest, match="too large"):
        calibrate_bases([[from_array(mixed(1).astype(float) * 1e200)]], Settings())
    broken = mixed(1)
    broken[0, 0, 0] = np.nan
    with pytest.raises(BadRequest, match="1 of 4320 elements"):
        calibrate_bases([[from_array(broken)]], Settings())


def test_an_item_larger_than_a_tile_still_teaches():
    whole = calibrate_bases([[from_array(mixed(1, 2))]], Settings())
    small = calibrate_bases([[from_array(mixed(1, 2))]], Settings(tile=64))
    assert whole.bases[""].digest == small.bases[""].digest


def rectified(*seeds: int) -> list[np.ndarray]:
    """Mixtures of few components, of which ReLU6 has cut off about half."""
    return [(mixed(seed) / 20).clip(0, 6) for seed in seeds]


def test_a_basis_behind_a_rectifier_is_of_what_was_before_it(tmp_path):
    fitted = calibrate_bases([[from_array(each)] for each in rectified(1, 2, 3)], Settings())
    basis = fitted.bases[""]
    assert basis.variances.shape == (12,)
    fitted.write(tmp_path / "c.json")
    stored = Calibration.read(tmp_path / "c.json")
    assert stored.text() == fitted.text()
    blind = Calibration(bases={"": replace(basis, variances=None)})
    assert blind.bases[""].digest == basis.digest  # decoders need not know
    (values,) = rectified(9)
    assert 0.3 < ((values == 0) | (values == 6)).mean() < 0.8
    data, without = (
        tensor.encode(values, Settings(rate=1.0, transform=True, calibration=known))
        for known in (stored, blind)
    )
    again = sccodec.decode(data, calibration=blind)
    assert again.min() >= 0
    assert again.max() <= 6
    assert mse(values, again) < 0.5 * mse(values, sccodec.decode(without, calibration=blind))


@pytest.mark.parametrize("rate", [1.0, 2.0, 3.0])
def test_fine_steps_are_found_too(rate):
    """There a size changes by far less than the step does."""
    (values,) = rectified(9)
    settings = Settings(rate=rate, transform=True)
    known = calibrate_bases([[from_array(each)] for each in rectified(1, 2)], Settings())
    data = tensor.encode(values, replace(settings, calibration=known))
    assert 8 * len(data) / values.size == pytest.approx(rate, rel=0.01)


def test_examples_of_a_basis_stay_few():
    examples = Examples(3)
    for n in range(50):
        examples.add(np.full((3, 100), n, np.float32))
    kept = examples.all()
    assert 24 <= kept.shape[1] <= 48
    assert len(set(kept[0])) > 15  # from all over


@pytest.mark.parametrize("wrong", [[1.0], [-1.0] * 12, [np.nan] * 12])
def test_variances_of_a_stored_basis_are_checked(tmp_path, wrong):
    fitted = calibrate_bases([[from_array(each)] for each in rectified(1)], Settings())
    basis = replace(fitted.bases[""], variances=np.array(wrong))
    Calibration(bases={"": basis}).write(tmp_path / "c.json")
    with pytest.raises(BadRequest, match="no calibration: variances"):
        Calibration.read(tmp_path / "c.json")


# -- filters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sided", "layers", "share"), [(False, 1, 0.97), (True, 1, 0.87), (True, 2, 0.92)]
)
def test_filters_lower_the_error_at_the_same_rate(sided, layers, share):
    values = features((48, 28, 28), sided=sided)
    common = Settings(rate=0.7, layers=layers, offsets=False, transform=False)
    plain, moved = (tensor.encode(values, replace(common, filter=how)) for how in (False, None))
    for data in (plain, moved):
        assert 8 * len(data) / values.size == pytest.approx(0.7, rel=0.02)
    assert mse(values, decoded(moved)) < share * mse(values, decoded(plain))
    assert decoded(moved).min() >= values.min()
    assert decoded(moved).max() <= values.max()
    assert len(np.unique(decoded(plain))) < 40 < len(np.unique(decoded(moved)))


def test_channels_far_from_zero_are_counted_from_their_means():
    values = features((32, 28, 28), sided=True)
    values += 9 * np.random.default_rng(2).random((32, 1, 1), np.float32)
    plain, shifted = (
        tensor.encode(values, Settings(rate=0.7, offsets=how, transform=False))
        for how in (False, None)
    )
    assert 8 * len(shifted) / values.size == pytest.approx(0.7, rel=0.02)
    assert mse(values, decoded(shifted)) < 0.8 * mse(values, decoded(plain))
    (entry,) = tensor.open_tensors(from_bytes(shifted))
    offsets = np.array(entry.offsets) * 2.0**entry.offset_unit
    np.testing.assert_allclose(offsets, values.mean((1, 2)), atol=0.1)
    rectified = features((32, 28, 28))
    (entry,) = tensor.open_tensors(from_bytes(tensor.encode(rectified, Settings(rate=0.7))))
    assert entry.offsets == ()


def test_values_that_float32_cannot_hold_have_no_filter():
    values = features((16, 20, 20)).astype(np.float64) * 1e39
    again = decoded(tensor.encode(values, Settings(rate=1.5, filter=True)))
    assert again.max() == pytest.approx(values.max(), rel=0.2)
    assert mse(values / 1e39, again / 1e39) < 0.2 * (values / 1e39).var()


def test_channels_that_hold_one_value_each_need_no_offsets():
    values = np.repeat(np.arange(4.0, dtype=np.float32), 900).reshape(4, 30, 30)
    files = [
        tensor.encode(values, Settings(max_bytes=400, offsets=offsets)) for offsets in (False, True)
    ]
    assert files[0] == files[1]


def test_a_filter_that_does_not_pay_is_left_out():
    noise = np.random.default_rng(1).normal(size=(16, 20, 20)).astype(np.float32)
    wanted = tensor.encode(noise, Settings(rate=0.9, filter=False))
    assert tensor.encode(noise, Settings(rate=0.9)) == wanted
    assert tensor.encode(noise, Settings(rate=0.9, filter=True)) != wanted


@pytest.mark.parametrize("how", [{"levels": 4}, {"max_abs_error": 0.1}])
def test_levels_and_bounds_are_never_filtered(how):
    values = features((48, 28, 28))
    reader = from_bytes(tensor.encode(values, Settings(**how)))
    (entry,) = tensor.open_tensors(reader)
    assert entry.layers[0].filter is None
    with pytest.raises(BadRequest, match="filter needs a rate"):
        Settings(filter=True, **how)


def test_the_filters_of_a_calibration_hold_back_no_larger_value(tmp_path):
    values = features((48, 28, 28))
    fitted = calibrate([[from_array(values)]], Settings(rate=0.7, layers=2))
    fitted.write(tmp_path / "c.json")
    (design,) = Calibration.read(tmp_path / "c.json").designs.values()
    assert design.filters == next(iter(fitted.designs.values())).filters
    assert {(one.low, one.high) for one in design.filters} == {(0, float(np.finfo("f4").max))}


# -- several tensors ---------------------------------------------------------------------------


def test_names_through_the_front_door():
    arrays = {"a": features(), "b": features((3, 5, 5), 1), "c": np.ones(3, np.int8)}
    data = sccodec.encode(arrays, levels=4)
    found = sccodec.decode(data)
    assert list(found) == list(arrays)
    with sccodec.open(data) as file:
        assert file.layers == ("base",)
        (only,) = file.tensors(names=["b"]).values()
        np.testing.assert_array_equal(only, found["b"])
        with pytest.raises(BadRequest, match="no tensor 'x'; it holds a, b, c"):
            file.tensors(names=["x"])
    assert [t["shape"] for t in sccodec.info(data)["tensors"]] == [[24, 14, 14], [3, 5, 5], [3]]


@pytest.mark.parametrize("suffix", ["png", "npy"])
def test_open_files_are_encoded_and_stay_open(suffix, tiny_model, tmp_path):
    path = tmp_path / f"x.{suffix}"
    if suffix == "png":
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
        how = {"profile": "tiny-1", "step": 300}
    else:
        np.save(path, features())
        how = {"profile": "tensor", "levels": 5}
    wanted = sccodec.encode(path, **how)
    for opened in (
        lambda: path.open("rb"),
        lambda: path.open("rb", buffering=0),
        lambda: io.BytesIO(path.read_bytes()),
    ):
        with opened() as file:
            assert sccodec.encode(file, **how) == wanted
            file.seek(0)
            assert len(file.read(4)) == 4


@pytest.mark.parametrize("shape", [(4, 4), (8, 8, 3), (4, 8, 8)])
@pytest.mark.parametrize("kind", [">f2", ">f4", ">f8"])
def test_the_order_of_bytes_makes_no_picture_of_a_tensor(shape, kind):
    values = np.linspace(0, 1, math.prod(shape)).reshape(shape)
    again = sccodec.decode(sccodec.encode(values.astype(kind), levels=64))
    np.testing.assert_array_equal(
        again, sccodec.decode(sccodec.encode(values.astype(kind.replace(">", "<")), levels=64))
    )


def test_addresses_are_not_taken_for_files():
    with pytest.raises(BadRequest, match="is an address"):
        sccodec.encode("http://127.0.0.1:1/x.png")


def test_tensors_of_pytorch_are_taken_as_they_are():
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    values = torch.from_numpy(features())
    wanted = sccodec.encode(features(), levels=5)
    assert sccodec.encode(values.requires_grad_(), levels=np.int64(5)) == wanted
    data = sccodec.encode({"a": values, "b": values.bfloat16()}, levels=9)
    assert [one["kind"] for one in sccodec.info(data)["tensors"]] == ["float32", "bfloat16"]
    near = sccodec.encode(values.bfloat16(), max_abs_error=0.01)
    assert np.abs(sccodec.decode(near) - values.detach().bfloat16().float().numpy()).max() <= 0.01
    picture = np.random.default_rng(0).integers(0, 256, (70, 64, 3), np.uint8)
    how = {"profile": "tiny-1", "step": 300}
    coded = sccodec.encode(torch.from_numpy(picture), roi=[0, 0, 9, 9], **how)
    assert coded == sccodec.encode(picture, roi=(0, 0, 9, 9), **how)
    with pytest.raises(BadRequest, match=r"step index 300\.0 is no whole number"):
        sccodec.encode(picture, profile="tiny-1", step=300.0)


def test_the_profile_is_told_by_what_is_given(tiny_model, tmp_path):
    picture = np.full((64, 64, 3), 99, np.uint8)
    assert sccodec.info(sccodec.encode(picture, profile="tiny-1"))["modality"] == "picture"
    for array in (features(), features((4, 4)), np.ones((8, 8, 3), np.int8)):
        data = sccodec.encode(array)
        assert sccodec.info(data)["modality"] == "tensor"
        assert sccodec.decode(data).shape == array.shape
    np.save(tmp_path / "x.npy", features())
    np.testing.assert_array_equal(
        sccodec.decode(sccodec.encode(tmp_path / "x.npy", levels=5)),
        sccodec.decode(sccodec.encode(features(), levels=5)),
    )
    with pytest.raises(BadRequest, match="quality is for pictures"):
        sccodec.encode(features(), quality=3)
    with pytest.raises(TypeError, match="no argument 'levels' for pictures"):
        sccodec.encode(picture, levels=3)
    with pytest.raises(TypeError, match="no argument 'level' for tensors"):
        sccodec.encode(features(), level=3)


def appended(data: bytes, arrays: dict, how: Settings = tensor.DEFAULTS) -> bytes:
    out = io.BytesIO()
    assert tensor.append(from_bytes(data), arrays, out, how) == len(out.getvalue())
    return out.getvalue()


def test_tensors_can_be_appended():
    first = {"a": features(), "b": features(seed=1)}
    more = {"c": features((3, 30, 5), 2), "d": np.zeros((0, 3), np.float16)}
    data = appended(tensor.encode(first, Settings(levels=(2, 4))), more)
    found = sccodec.decode(data)
    assert list(found) == ["a", "b", "c", "d"]
    for name, array in sccodec.decode(sccodec.encode({**first, **more})).items():
        np.testing.assert_array_equal(found[name], array)
    assert verify(from_bytes(data)).verdict == "ok"
    # The new ones have one layer, which is all that the base of the file shows of them.
    base = sccodec.decode(sccodec.extract(data, "base"))
    np.testing.assert_array_equal(base["c"], found["c"])
    assert not np.array_equal(base["a"], found["a"])


def test_what_cannot_be_appended():
    data = tensor.encode({"a": features()}, Settings(levels=(2, 4)))
    with pytest.raises(BadRequest, match="holds a tensor 'a' already"):
        appended(data, {"a": features()})
    with pytest.raises(BadRequest, match="3 layers"):
        appended(data, {"b": features()}, Settings(levels=(2, 4, 10)))
    with pytest.raises(BadRequest, match="layers are missing"):
        appended(sccodec.extract(data), {"b": features()})
    small = tensor.encode({"a": features()}, Settings(tile=64))
    with pytest.raises(BadRequest, match="more than 65535 tiles of 64 elements, as <bytes> has"):
        appended(small, {"b": np.zeros(65536 * 64, np.float32)})


def test_a_calibration_serves_a_stream(tmp_path):
    stream = [features(seed=n) for n in range(4)]
    fitted = calibrate([[from_array(x)] for x in stream[:2]], Settings(rate=0.9))
    fitted.write(tmp_path / "c.json")
    again = Calibration.read(tmp_path / "c.json")
    for values in stream:
        data = tensor.encode(values, Settings(calibration=again))
        assert data == sccodec.encode(values, calibration=tmp_path / "c.json")
        assert 8 * len(data) / values.size == pytest.approx(0.9, rel=0.25)
        assert mse(values, decoded(data)) < 0.25 * values.var()
    with pytest.raises(BadRequest, match="exclude each other"):
        Settings(calibration=again, rate=1)
    with pytest.raises(BadRequest, match="a calibration has none"):
        calibrate([[from_array(stream[0])]], Settings(rate=0.9, offsets=True))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": 9}',
        '{"format": 1, "tensors": {"": {"layers": [], "first": [], "scales": []}}}',
        '{"format": 1, "tensors": {"": {"layers": [{"limits": [1, 0], "levels": 3}], '
        '"first": [], "scales": []}}}',
        '{"format": 1, "tensors": {"": {"layers": [{"limits": [0, 1], "levels": 2}], '
        '"first": [], "scales": [], "filters": [{"unit": -9, "shift": 3, "low": 1, "high": 0, '
        '"taps": [[0, 0, 0, 0], [0, 0, 0, 0]]}]}}}',
        '{"format": 1, "tensors": {"": {"layers": [{"limits": [0, 1], "levels": 2}], '
        '"first": [], "scales": [], "filters": [{"unit": -9, "shift": 3, "low": 0, "high": 1, '
        '"taps": [[0, 0, 0, 0], [0, 0, 0, 200]]}]}}}',
        '{"format": 1, "tensors": {"": {"channels": 2, "mean": "AAAAAAAAAAA=", "matrix": "AAA="}}}',
        '{"format": 1, "tensors": {"": {"channels": 2, "mean": "AADAfwAAAAA=", '
        '"matrix": "AQAAAAAAAQA="}}}',
        '{"format": 1, "tensors": {"": {"channels": 2, "mean": "?", "matrix": "AQAAAAAAAQA="}}}',
        '{"format": 1, "tensors": {"": {"channels": -1, "mean": "", "matrix": "AQA="}}}',
        '{"format": 1, "tensors": {"a": {"channels": 2, "mean": "AAAAAAAAAAA=", '
        '"matrix": "AQAAAAAAAQA="}, "b": {"layers": [{"limits": [0, 1], "levels": 2}], '
        '"first": [], "scales": []}}}',
        "[" * 100_000,
    ],
)
def test_what_is_no_calibration(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(BadRequest, match="no calibration"):
        Calibration.read(tmp_path / "c.json")


def test_a_calibration_keeps_all_that_meets_its_rate(tmp_path):
    values = (np.random.default_rng(0).random((16, 32, 32)) < 0.5).astype(np.float32)
    empty = np.zeros((0, 4, 4), np.float32)
    fitted = calibrate([[from_array(x)] for x in (empty, values)], Settings(rate=0.5))
    fitted.write(tmp_path / "c.json")
    data = tensor.encode(values, Settings(calibration=Calibration.read(tmp_path / "c.json")))
    assert data == tensor.encode(values, Settings(calibration=fitted))
    assert 8 * len(data) / values.size == pytest.approx(0.5, rel=0.03)


def test_a_calibration_must_fit():
    fitted = calibrate([[from_array(features(), "a")]], Settings(channelwise=True))
    tensor.encode({"other": features()}, Settings(calibration=fitted))
    with pytest.raises(BadRequest, match="has 3 channels"):
        tensor.encode(features((3, 5, 5)), Settings(calibration=fitted))
    both = Calibration({"a": fitted.designs["a"], "b": fitted.designs["a"]})
    with pytest.raises(BadRequest, match="nothing for a tensor 'c'"):
        tensor.encode({"c": features()}, Settings(calibration=both))
    for count in (3, 30):
        others = [[from_array(x)] for x in (features(), features((count, 5, 5)))]
        with pytest.raises(BadRequest, match=f"has {count} channels, its calibration 24"):
            calibrate(others, Settings(channelwise=True))


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float32", "float16", "float64"])
def test_what_is_not_finite_is_refused_by_name_and_number(kind):
    values = features().astype(kind)
    values.flat[[3, 700, 900]] = np.nan, np.inf, -np.inf
    for how in (
        {},
        {"max_abs_error": 1.0},
        {"calibration": calibrate([[from_array(features())]], Settings())},
    ):
        with pytest.raises(BadRequest, match="tensor 'x': 3 of 4704 elements"):
            tensor.encode({"x": values}, Settings(**how))
    again = decoded(tensor.encode(values, Settings(nonfinite="clamp", levels=16)))
    usual = features().astype(kind)
    assert np.isfinite(again).all()
    assert again.flat[700] == again.max()
    assert mse(np.delete(usual, [3, 700, 900]), np.delete(again, [3, 700, 900])) < 0.1


@pytest.mark.parametrize("tile", [64, 1 << 20])
def test_infinities_become_what_is_nearest_in_the_whole_tensor(tile):
    values = np.stack([np.linspace(-2, 10, 64), np.full(64, np.inf)]).astype(np.float32)
    values[0, 5], values[1, 5] = -np.inf, np.nan
    how = Settings(nonfinite="clamp", max_abs_error=1e-3, tile=tile, channel_axis=None)
    again = decoded(tensor.encode(values, how))
    wanted = np.nan_to_num(values, nan=0, posinf=10, neginf=-2)
    np.testing.assert_allclose(again, wanted, rtol=0, atol=1e-3)


def test_huge_finite_values_are_not_mistaken_for_infinite():
    values = np.array([1e38, 3e38, 3e38, -3e38], np.float32)
    again = decoded(tensor.encode(values, Settings(clip="minmax", levels=3)))
    assert again.max() == np.float32(3e38)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 1, "levels": 3},
        {"rate": 0},
        {"rate": float("nan")},
        {"levels": 1},
        {"levels": (4, 2)},
        {"levels": (2, 4), "layers": 3},
        {"max_abs_error": -1},
        {"max_bytes": 0},
        {"clip": "best"},
        {"clip": (1, 0)},
        {"quantiser": "other"},
        {"coder": "other"},
        {"tile": 100},
        {"layers": 33},
        {"slope": -1},
        {"slope": float("nan")},
    ],
    ids=str,
)
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(BadRequest):
        tensor.encode(features((3, 4, 4)), Settings(**wrong))


@pytest.mark.parametrize("how", [{"levels": 4}, {"rate": 1.0, "transform": True}])
def test_what_is_written_is_read_back_unless_told_otherwise(monkeypatch, how):
    values = smooth()
    wanted = tensor.encode(values, Settings(**how))
    for module in (planes, bands):
        other = module.decode
        monkeypatch.setattr(module, "decode", lambda *a, other=other, **k: other(*a, **k) + 1)
    with pytest.raises(Mismatch, match="does not read back what it wrote"):
        tensor.encode(values, Settings(**how))
    assert tensor.encode(values, Settings(**how, check=False)) == wanted


def test_limits_hold_for_tensors(monkeypatch):
    data = tensor.encode(features())
    monkeypatch.setenv("SCCODEC_MAX_PIXELS", "1000")
    with pytest.raises(LimitExceeded, match="elements"):
        tensor.decode(data)
    with pytest.raises(LimitExceeded, match="elements"):
        tensor.encode(features())


def test_memory_is_bounded_by_tiles(tmp_path):
    """A tensor that is mapped is never held as floats as a whole."""
    import tracemalloc

    values = np.zeros((64, 128, 128), np.int8)  # 1 MiB, 4 as float32
    values[:, ::3] = np.arange(43, dtype=np.int8)[:, None]
    np.save(tmp_path / "x.npy", values)
    tracemalloc.start()
    sccodec.encode(tmp_path / "x.npy", levels=3, tile=1 << 14)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 << 20


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("tensors", ["relu", "both", "int"]),
        ("transformed", ["linear", "relu"]),
        ("refined", ["linear", "relu"]),
    ],
)
def test_the_golden_files_decode_as_they_always_did(monkeypatch, file, names):
    golden = Path(__file__).parents[1] / "golden"
    with np.load(golden / f"{file}.npz") as wanted:
        assert list(wanted) == names
        for plain in (False, True):
            if plain:  # as on a machine without constriction
                monkeypatch.setattr(coder, "AnsCoder", None)
            for name, array in sccodec.decode(golden / f"{file}.scc").items():
                np.testing.assert_array_equal(array, wanted[name])
                assert array.dtype == wanted[name].dtype


def test_a_golden_file_of_components_decodes_as_it_always_did():
    golden = Path(__file__).parents[1] / "golden" / "basis"
    found = sccodec.decode(golden / "components.scc", calibration=golden / "calibration.json")
    with np.load(golden / "components.npz") as wanted:
        np.testing.assert_array_equal(found, wanted["arr_0"])


# -- damage ------------------------------------------------------------------------------------


def flipped(data: bytes, layer: int, tile: int) -> bytes:
    place = next(p for p in from_bytes(data).ranges([layer]) if p.tile == tile)
    at = place.offset + place.length // 2
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


def test_a_damaged_tile_shows_the_layer_below_there_and_nowhere_else():
    values = features((8, 16, 16))
    data = tensor.encode(values, Settings(levels=(2, 4), tile=1024))
    wrong = flipped(data, 1, 1)
    with pytest.raises(Damaged, match=r"layer 1 \(enhancement\), tile 1"):
        tensor.decode(wrong)
    assert verify(from_bytes(wrong)).verdict == "damaged"
    (found,), report = tensor.decode(wrong, allow_partial=True)
    wanted = decoded(data).copy()
    wanted[4:8] = decoded(data, "base")[4:8]
    np.testing.assert_array_equal(found.values, wanted)
    assert [(lost.layer, lost.tile, lost.lower) for lost in report.damaged] == [
        ("enhancement", 1, True)
    ]
    (found,), report = tensor.decode(flipped(data, 0, 0), allow_partial=True)
    assert not found.values[:4].any()
    np.testing.assert_array_equal(found.values[4:], decoded(data)[4:])
    assert report.damaged[0].facts()["layer"] == "base"


def test_a_file_that_is_cut_still_has_its_base():
    data = tensor.encode(features(), Settings(levels=(2, 4)))
    cut = data[: from_bytes(data).ranges([1])[0].offset + 5]
    with pytest.raises(Damaged):
        sccodec.decode(cut)
    with sccodec.open(cut, allow_partial=True) as file:
        np.testing.assert_array_equal(file.decode(), decoded(data, "base"))
        assert len(file.report.damaged) == 1


def rewritten(data: bytes, **header) -> bytes:
    """The same file with other fields of its header."""
    from dataclasses import replace

    reader = from_bytes(data)
    payloads = {
        n: [reader.payload(n, tile) for tile in range(reader.header.layer(n).tiles)]
        for n in reader.header.present
    }
    chunks = header.pop("chunks", reader.chunks)
    return to_bytes(replace(reader.header, **header), reader.tiles, payloads, extra=chunks)


def test_transforms_whose_planes_no_tile_holds():
    fitted = basis_of(1)
    data = tensor.encode(mixed(9), Settings(rate=0.8, transform=True, calibration=fitted))
    with pytest.raises(Damaged, match="20x18 elements in blocks of 7x6 and tiles of 320"):
        tensor.decode(rewritten(data, tile_size=320), calibration=fitted)
    reader = from_bytes(data)
    (entry,) = tensor.open_tensors(reader)
    wrong = replace(entry, shape=(12, 300, 18))
    chunk = layout.Chunk("TENS", 2, tensors.pack([wrong]))
    with pytest.raises(Damaged, match="300x18 elements"):
        tensor.decode(rewritten(data, chunks=(chunk,), width=12 * 300 * 18), calibration=fitted)


def test_headers_that_contradict_the_tensors():
    data = tensor.encode(features())
    for wrong, error in (
        (rewritten(data, width=7), Damaged),
        (rewritten(data, height=2), Damaged),
        (rewritten(data, tile_size=64), Damaged),
        (rewritten(data, chunks=()), Damaged),
        (rewritten(data, chunks=(layout.Chunk("TENS", 2, b"\1\0\0"),)), Damaged),
        (rewritten(data, model="tensor-2"), WrongModel),
        (rewritten(data, digest=bytes(8)), WrongModel),
    ):
        with pytest.raises(error):
            tensor.decode(wrong)
        assert verify(from_bytes(wrong)).verdict in ("damaged", "no model")


def test_a_chunk_that_makes_no_sense_is_named_with_file_and_place():
    wrong = rewritten(tensor.encode(features()), chunks=(layout.Chunk("TENS", 2, b"\1\0\0"),))
    reader = from_bytes(wrong, name="f.scc")
    for read in (tensor.decode, describe):
        with pytest.raises(Damaged, match=r"f\.scc: chunk TENS at byte \d+: tensor entry ends"):
            read(reader)


def test_whole_bytes_with_other_levels_are_a_mismatch():
    data = tensor.encode(features())
    reader = from_bytes(data)
    entry = reader.tiles[0][0]._replace(symbols=5)
    wrong = to_bytes(reader.header, {0: (entry,)}, {0: [reader.payload(0, 0)]}, extra=reader.chunks)
    with pytest.raises(Mismatch, match="other levels than were written"):
        tensor.decode(wrong)
    assert verify(from_bytes(wrong)).verdict == "differs"


def test_extraction_needs_nothing_of_tensors():
    data = tensor.encode(features(), Settings(levels=(2, 4)))
    out = io.BytesIO()
    extract(from_bytes(data), [0], out)
    assert from_bytes(out.getvalue()).metadata["TENS"] == from_bytes(data).metadata["TENS"]
