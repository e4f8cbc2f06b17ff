"""The search for a step index: neighbours around the target, whatever the cost looks like."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sccodec.latents.rate import bracket, nearest_step, smallest_step_within


@st.composite
def falling_costs(draw):
    """A cost a step index that never rises: straight, kinked or flat in places."""
    drops = draw(st.lists(st.floats(0, 0.5), min_size=1, max_size=300))
    values = [draw(st.floats(20, 1e7))]
    for drop in drops:
        values.append(max(1.0, values[-1] * (1 - drop)))
    return values


@given(falling_costs(), st.floats(1, 1e7))
def test_the_bracket_are_neighbours_around_the_target(costs, target):
    high = len(costs) - 1
    low, up = bracket(costs.__getitem__, target, 0, high)
    if low == up == 0:
        assert costs[0] <= target
    elif low == up:
        assert low == high
        assert costs[high] > target
    else:
        assert up == low + 1
        assert costs[low] > target >= costs[up]


@given(falling_costs(), st.floats(1, 1e7))
def test_no_index_is_nearer_than_the_nearest(costs, target):
    step = nearest_step(costs.__getitem__, target, 0, len(costs) - 1)
    assert abs(costs[step] - target) == min(abs(cost - target) for cost in costs)


@given(falling_costs(), st.floats(1, 1e7))
def test_the_smallest_step_within_is_the_first_that_fits(costs, most):
    step = smallest_step_within(costs.__getitem__, most, 0, len(costs) - 1)
    fitting = [index for index, cost in enumerate(costs) if cost <= most]
    assert step == (fitting[0] if fitting else len(costs) - 1)


@given(st.lists(st.floats(1, 1e6), min_size=2, max_size=300), st.floats(1, 1e6))
def test_a_cost_that_rises_in_places_still_ends_within_the_target(costs, target):
    _, up = bracket(costs.__getitem__, target, 0, len(costs) - 1)
    assert costs[up] <= target or up == len(costs) - 1


@pytest.mark.parametrize("target", [30, 200, 5_000, 90_000])
def test_a_dozen_costs_are_enough_and_none_is_computed_twice(target):
    asked = []

    def cost(step):
        asked.append(step)
        return 20 + 1e5 * math.exp(-((step / 60) ** 1.3))

    nearest_step(cost, target, 0, 511)
    assert len(asked) == len(set(asked)) <= 14
