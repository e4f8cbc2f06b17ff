"""The min-norm solver against its optimality conditions, and the descent that it gives."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sccodec.train.objectives import descend, min_norm


@pytest.mark.parametrize(
    ("gradients", "weights"),
    [
        ([[1, 0], [0, 2]], [0.8, 0.2]),  # the foot of the perpendicular
        ([[1, 0], [3, 0]], [1, 0]),  # the shorter of two that agree
        ([[1, 0], [-1, 0]], [0.5, 0.5]),  # nothing is good for both
        ([[2, 1], [2, -1], [9, 0]], [0.5, 0.5, 0]),
        ([[0, 0], [1, 1]], [1, 0]),
    ],
)
def test_known_hulls(gradients, weights):
    g = torch.tensor(gradients, dtype=torch.float64)
    assert min_norm(g @ g.T).tolist() == pytest.approx(weights, abs=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_the_shortest_point_lowers_every_objective(seed):
    random = np.random.default_rng(seed)
    shared = random.normal(size=12)
    g = torch.from_numpy(random.normal(size=(4, 12)) + 1.5 * shared)
    weights = min_norm(g @ g.T)
    assert weights.min() >= 0
    assert weights.sum().item() == pytest.approx(1)
    shortest = weights @ g
    # By optimality no gradient has less along the shortest point than the point itself.
    assert (g @ shortest).min() >= 0.95 * shortest @ shortest
    assert (g @ shortest).min() > 0


def test_descent_sets_the_combined_gradient():
    p = torch.nn.Parameter(torch.tensor([3.0, 1.0]))
    unused = torch.nn.Parameter(torch.ones(2))
    weights = descend([p, unused], [p[0] ** 2, 4 * p[1] ** 2])
    # Per unit of loss the gradients are (2/3, 0) and (0, 2).
    assert weights.tolist() == pytest.approx([0.9, 0.1], abs=1e-3)
    mean = (9 + 4) / 2
    assert p.grad.tolist() == pytest.approx([0.9 * 2 / 3 * mean, 0.1 * 2 * mean], rel=1e-2)
    assert unused.grad.tolist() == [0, 0]
