"""Components of what a rectifier has cut off, against mixtures whose every value is known."""

import numpy as np
import pytest

from sccodec.latents import rectified
from sccodec.latents.rectified import Components, Limits


def mixture(channels: int = 24, components: int = 4, places: int = 600, seed: int = 0):
    """(C, N) mixtures with means."""
    random = np.random.default_rng(seed)
    weights = np.random.default_rng(99).normal(size=(channels, components))
    return weights @ random.normal(size=(components, places)) + weights[:, :1] * 0.3


@pytest.mark.parametrize("limits", [(0.0, np.inf), (0.0, 2.0)])
def test_channels_tell_what_a_rectifier_cut_off(limits):
    whole = mixture()
    values = whole.clip(*limits)
    limits = Limits(values.min(), values.max())
    known = rectified.learn(mixture(seed=1).clip(*limits), limits)
    found = rectified.completed(values, Components(*(p.astype(float) for p in known)), limits)
    cut = (values <= limits.low) | (values >= limits.high)
    assert 0.4 < cut.mean() < 0.8
    np.testing.assert_array_equal(found[~cut], values[~cut])
    np.testing.assert_allclose(found.clip(*limits), values, rtol=0, atol=1e-12)
    lost = np.square(values - whole)[cut].mean()
    assert np.square(found - whole)[cut].mean() < 0.1 * lost


def test_what_is_learnt_has_few_components_again():
    values = mixture().clip(0, 2).astype(np.float32)
    limits = Limits(values.min(), values.max())
    known, clipped = rectified.learn(values, limits), rectified.principal(values)
    assert known.mixture.shape == (24, 24)
    np.testing.assert_allclose(known.mixture.T @ known.mixture, np.eye(24), rtol=0, atol=1e-5)
    beyond_four = [found.variances[4:].sum() / found.variances.sum() for found in (known, clipped)]
    assert beyond_four[0] < 0.002
    assert beyond_four[1] > 0.1


def test_learning_does_not_depend_on_the_unit():
    values = mixture(places=200).clip(0, None).astype(np.float32)
    small, large = (
        rectified.learn(values * unit, Limits(0.0, float(values.max() * unit)))
        for unit in (np.float32(1), np.float32(2.0**70))
    )
    np.testing.assert_array_equal(large.mixture, small.mixture)
    np.testing.assert_array_equal(large.mean, small.mean * np.float32(2.0**70))
    np.testing.assert_array_equal(large.variances, small.variances * 2.0**140)


@pytest.mark.parametrize(
    ("values", "clips"),
    [
        ([0, 0, 1, 2, 3], True),
        ([1, 2, 6, 6, 6], True),
        (np.arange(40), False),
        ([3, 3, 3], False),
    ],
)
def test_what_looks_like_a_rectifier(values, clips):
    values = np.array(values, np.float32)
    assert Limits(values.min(), values.max()).clipped(values) is clips


def test_beyond_the_limits_alone_values_change():
    limits = Limits(0.0, 6.0)
    values = np.array([[0.0, 0.0, 3.0, 6.0, 6.0]])
    told = np.array([[-2.0, 1.0, 9.0, 8.0, 4.0]])
    np.testing.assert_array_equal(limits.beyond(values, told), [[-2.0, 0.0, 3.0, 8.0, 6.0]])
