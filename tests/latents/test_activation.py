"""The activation model of the papers: moments, fits, optimal clipping, against known values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sccodec.errors import BadRequest
from sccodec.latents.activation import (
    Activation,
    fit,
    laplace,
    moments,
    optimal_clip,
    symmetric_clip,
    tail_factor,
)
from sccodec.latents.scalar import Quantiser

RESNET = (1.1235656, 4.9280124)  # mean and variance of ResNet-50 at layer 21
YOLO = (0.4484323, 0.5742644)  # of YOLOv3 at layer 12

# N: cmax (cmin 0) and mse, and the free (cmin, cmax), of both.
CLIPS = {
    2: (5.184, 1.6447, (0.361, 5.544), 1.674, 0.2054, (0.171, 1.844), 0.66, 0.73),
    3: (7.511, 0.8339, (0.147, 7.658), 2.425, 0.1037, (0.087, 2.512), 0.95, 1.05),
    4: (9.036, 0.5255, (0.053, 9.089), 2.918, 0.0651, (0.047, 2.965), 1.13, 1.26),
    5: (10.175, 0.3705, (0.001, 10.176), 3.285, 0.0456, (0.026, 3.311), 1.27, 1.41),
    6: (11.084, 0.2798, (-0.030, 11.054), 3.579, 0.0343, (0.012, 3.591), 1.38, 1.54),
    7: (11.842, 0.2215, (-0.051, 11.792), 3.824, 0.0270, (0.003, 3.826), 1.48, 1.65),
    8: (12.492, 0.1814, (-0.065, 12.427), 4.033, 0.0219, (-0.004, 4.030), 1.56, 1.74),
}
TAILS = (2, 2.89784865, 3.48640084, 3.92569560, 4.27665477, 4.56910821, 4.81991523)  # exact


def test_the_fits_of_two_networks():
    resnet, yolo = fit(*RESNET, 0.1), fit(*YOLO, 0.1)
    assert (resnet.rate, resnet.mode) == pytest.approx((0.7716595, -1.4350621), abs=2e-7)
    assert (yolo.rate, yolo.mode) == pytest.approx((2.38995, -0.308878), abs=5e-6)
    assert (resnet.mean, resnet.variance) == pytest.approx(RESNET, abs=1e-6)


@given(
    mode=st.floats(-8, 8), slope=st.sampled_from([0.0, 0.05, 0.1, 1.0]), kappa=st.floats(0.3, 1.5)
)
def test_closed_moments_are_those_of_the_density(mode, slope, kappa):
    density = Activation(1.0, mode, slope, kappa)
    assert density.moment(0) == pytest.approx(1)
    assert (density.mean, density.moment(2)) == pytest.approx(moments(mode, slope, kappa))


@given(mean=st.floats(0.01, 100), spread=st.floats(0.3, 30), slope=st.sampled_from([0.0, 0.1, 0.2]))
def test_a_fit_has_the_mean_and_the_variance(mean, spread, slope):
    found = fit(mean, spread * mean**2, slope)
    assert found.mean == pytest.approx(mean, rel=1e-6)
    assert found.variance == pytest.approx(spread * mean**2, rel=1e-6)


@pytest.mark.parametrize("moments", [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (math.nan, 1.0)])
def test_what_no_rectifier_gives_is_refused(moments):
    with pytest.raises(BadRequest, match="no rectified density"):
        fit(*moments, 0.1)


@pytest.mark.parametrize(("levels", "factor"), list(enumerate(TAILS, start=2)))
def test_tail_factors(levels, factor):
    assert tail_factor(levels) == pytest.approx(factor, abs=5e-7)


@pytest.mark.parametrize("levels", CLIPS)
def test_optimal_clipping(levels):
    for density, row in (
        (fit(*RESNET, 0.1), (*CLIPS[levels][:3], CLIPS[levels][6])),
        (fit(*YOLO, 0.1), (*CLIPS[levels][3:6], CLIPS[levels][7])),
    ):
        low, high = optimal_clip(density, levels, 0.0)
        quantiser = Quantiser.uniform(low, high, levels)
        assert low == 0
        assert high == pytest.approx(row[0], abs=6e-4)
        assert density.error(quantiser) == pytest.approx(row[1], abs=6e-5)
        assert optimal_clip(density, levels) == pytest.approx(row[2], abs=2e-3)
        assert density.entropy(quantiser) == pytest.approx(row[3], abs=0.011)


def test_the_closed_form_is_the_optimum_that_a_search_finds():
    density = Activation(1.3, -0.4, slope=0.0)
    _, closed = optimal_clip(density, 5, 0.0)
    grid = np.linspace(0.9, 1.1, 201) * closed
    errors = [density.error(Quantiser.uniform(0, high, 5)) for high in grid]
    assert grid[np.argmin(errors)] == pytest.approx(closed, rel=2e-3)
    # Where the mode is above 0 there is no closed form.
    density = Activation(1.3, 4.0, slope=0.0)
    _, searched = optimal_clip(density, 5, 0.0)
    errors = [density.error(Quantiser.uniform(0, high, 5)) for high in grid]
    assert density.error(Quantiser.uniform(0, searched, 5)) <= min(errors)


@pytest.mark.parametrize("slope", [0.01, 0.1])
@pytest.mark.parametrize("levels", [8, 128, 1024])
def test_a_range_of_many_levels_is_as_good_as_any_near_it(slope, levels):
    density = Activation(1.3, -1.0, slope)
    low, high = optimal_clip(density, levels)
    found = density.error(Quantiser.uniform(low, high, levels))
    near = np.linspace(0.7, 1.3, 31)
    pairs = [(low * a, high * b) for a in near for b in near]
    errors = [density.error(Quantiser.uniform(*pair, levels)) for pair in pairs]
    assert found <= 1.03 * min(errors)


def test_a_density_without_a_rectifier_is_clipped_evenly():
    low, high = symmetric_clip(laplace(3.0, 2.0), 5)
    assert low + high == pytest.approx(6)
    # Each side is an exponential tail from the level in the middle on.
    assert high - 3 == pytest.approx(tail_factor(3), abs=1e-6)
    assert laplace(3.0, 2.0).variance == pytest.approx(2)


def test_fewer_than_two_levels_have_no_range():
    with pytest.raises(BadRequest, match="1 levels"):
        optimal_clip(Activation(1, -1), 1)
