"""Quantisers: pinned uniform, pinned entropy-constrained, and coarse ones inside fine ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sccodec.errors import BadRequest
from sccodec.latents.activation import Activation
from sccodec.latents.scalar import (
    FEW,
    PIECE,
    Quantiser,
    Sample,
    embedded_uniform,
    entropy_constrained,
    merged,
    uniform_children,
)


def draws(density: Activation, count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    a, b = density.rate * density.kappa, density.rate / density.kappa
    right = random.random(count) < b / (a + b)
    sides = np.where(right, random.exponential(1 / a, count), -random.exponential(1 / b, count))
    x = density.mode + sides
    return np.where(x < 0, density.slope * x, x)


@pytest.mark.parametrize("count", [FEW, FEW + 1])
def test_many_values_have_the_indexes_of_a_binary_search(count):
    quantiser = Quantiser.uniform(-1, 1, count)
    values = np.random.default_rng(2).normal(size=(3, PIECE)).astype(np.float32)
    values[1, :count] = quantiser.levels  # and on thresholds
    values[2, : count - 1] = quantiser.thresholds
    expected = np.searchsorted(quantiser.thresholds.astype(np.float32), values)
    np.testing.assert_array_equal(quantiser.index(values), expected)
    np.testing.assert_array_equal(quantiser.index(values.T), expected.T)


def test_uniform_levels_lie_on_the_limits():
    quantiser = Quantiser.uniform(0, 9, 4)
    assert quantiser.levels.tolist() == [0, 3, 6, 9]
    assert quantiser.thresholds.tolist() == [1.5, 4.5, 7.5]
    assert quantiser.index(np.array([-5, 1.4, 1.6, 7.4, 7.6, 99.0])).tolist() == [0, 0, 1, 2, 3, 3]


@given(count=st.integers(2, 40), seed=st.integers(0, 99))
def test_an_index_is_that_of_the_nearest_level(count, seed):
    values = np.random.default_rng(seed).normal(0, 3, 50)
    quantiser = Quantiser.uniform(-2.5, 4.5, count)
    nearest = np.abs(values[:, None] - quantiser.levels).argmin(1)
    np.testing.assert_array_equal(quantiser.index(values), nearest)


@pytest.mark.parametrize(
    ("weight", "entropy", "error"),
    [(0, 1.295, 0.442), (0.03, 1.215, 0.453), (0.06, 1.135, 0.486), (0.1, 1.037, 0.558)],
)
def test_the_reference_run_of_the_pinned_design(weight, entropy, error):
    sample = Sample(draws(Activation(0.7716595, -1.4350621, 0.1), 400_000, seed=1))
    found = entropy_constrained(sample, 0.0, 9.036, 4, weight * (9.036 / 3) ** 2)
    assert found.levels[[0, -1]].tolist() == [0, 9.036]
    assert sample.entropy(found) == pytest.approx(entropy, abs=0.008)
    assert sample.error(found) == pytest.approx(error, abs=0.02)  # the tail of the sample


def test_at_equal_entropy_the_pinned_design_beats_the_uniform_one():
    sample = Sample(draws(Activation(0.7716595, -1.4350621, 0.1), 200_000))
    uniform = Quantiser.uniform(0, 9.036, 4)
    best = entropy_constrained(sample, 0, 9.036, 4, 0.06 * 3.012**2)
    assert sample.entropy(best) < sample.entropy(uniform) + 0.015
    assert sample.error(best) < 0.97 * sample.error(uniform)


def test_cells_that_become_empty_are_deleted_and_the_outer_ones_are_not():
    sample = Sample(np.array([0.0] * 90 + [10.0] * 10))
    found = entropy_constrained(sample, 0, 10, 6, 0.5)
    assert found.levels.tolist() == [0, 10]
    assert sample.error(found) == 0
    symmetric = Sample(np.random.default_rng(0).laplace(0, 1, 20_000))
    found = entropy_constrained(symmetric, -4, 4, 7, 0.2)
    assert abs(found.levels.sum()) < 1  # no side is favoured


@pytest.mark.parametrize("counts", [(2, 4, 10), (3, 7), (2, 6), (4, 10, 28)])
def test_embedded_uniform_quantisers_are_the_quantisers_themselves(counts):
    values = np.random.default_rng(3).exponential(2, 5000).astype(np.float32)
    embedded = embedded_uniform(0.0, 7.3, counts)
    thresholds = embedded.quantisers[0].thresholds.astype(np.float32)
    values[: len(thresholds)] = thresholds  # ties are where rounding could differ
    for count, found in zip(counts, embedded.indexes(values), strict=True):
        np.testing.assert_array_equal(found, Quantiser.uniform(0.0, 7.3, count).index(values))


@pytest.mark.parametrize("counts", [(2, 3), (3, 4), (4, 4), (4, 2)])
def test_counts_that_do_not_nest_are_refused(counts):
    with pytest.raises(BadRequest, match="do not refine"):
        embedded_uniform(0, 1, counts)
    assert uniform_children(1, 5).tolist() == [0, 5]


@pytest.mark.parametrize("layers", [2, 3])
def test_any_quantiser_can_be_merged_into_coarser_ones(layers):
    sample = Sample(draws(Activation(1.0, -0.5), 20_000))
    fine = entropy_constrained(sample, 0, 8, 8, 0.02)
    embedded = merged(fine, sample, layers)
    assert len(embedded) == layers
    errors = [sample.error(quantiser) for quantiser in embedded.quantisers]
    assert errors == sorted(errors, reverse=True)
    for quantiser, found in zip(embedded.quantisers, embedded.indexes(sample.values), strict=True):
        np.testing.assert_array_equal(found, quantiser.index(sample.values))
        assert quantiser.levels[[0, -1]].tolist() == [0, 8]
    lone = merged(Quantiser.uniform(0, 1, 2), sample, 3)
    assert [len(quantiser) for quantiser in lone.quantisers] == [1, 1, 2]


def test_what_is_no_quantiser_is_refused():
    for make in (
        lambda: Quantiser.uniform(1, 0, 3),
        lambda: Quantiser.uniform(0, np.inf, 3),
        lambda: Quantiser(np.array([1.0, 0.0]), np.array([0.5])),
        lambda: Quantiser(np.array([0.0, 1.0]), np.array([])),
    ):
        with pytest.raises(BadRequest):
            make()
