"""The optimiser: it goes where Adam goes, and faster where weights are mixed."""

import io

import pytest

torch = pytest.importorskip("torch", reason="training needs the [train] extra")

from sccodec.train.soap import LONGEST, Soap, by_cholesky


def mixed(seed: int = 0):
    """(weights, their loss): a matrix with sides that are stretched in mixed directions."""
    random = torch.Generator().manual_seed(seed)

    def stretched(size: int) -> torch.Tensor:
        turned = torch.linalg.qr(torch.randn(size, size, generator=random))[0]
        return turned @ torch.diag(torch.logspace(0, -1.5, size)) @ turned.T

    left, right = stretched(8), stretched(6)
    goal = torch.randn(8, 6, generator=random)
    weight = torch.nn.Parameter(torch.zeros(8, 6))
    return weight, lambda: (left @ (weight - goal) @ right).square().sum()


def descend(optimiser, loss, steps: int) -> float:
    for n in range(steps):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - n / steps)
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    return loss().item()


def test_it_beats_adam_where_directions_are_mixed():
    weight, loss = mixed()
    start = loss().item()
    ours = descend(Soap([weight]), loss, 150)
    weight, loss = mixed()
    adam = descend(torch.optim.Adam([weight]), loss, 150)
    assert ours < 0.5 * adam < 0.5 * start


def test_vectors_scalars_and_long_sides_have_no_basis():
    shapes = [(5,), (), (4, 1), (LONGEST + 1, 3), (4, 3, 1, 1)]
    random = torch.Generator().manual_seed(1)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=random)) for shape in shapes]
    before = [w.square().sum().item() for w in weights]
    optimiser = Soap(weights, lr=1e-2)
    for _ in range(12):
        optimiser.zero_grad()
        sum(w.square().sum() for w in weights).backward()
        optimiser.step()
    sides = [[b is not None for b in optimiser.state[w]["bases"]] for w in weights]
    assert sides == [[False] * 2] * 3 + [[False, True], [True, True]]
    assert all(w.square().sum() < old for w, old in zip(weights, before, strict=True))


def test_a_saved_state_goes_on_the_same_way():
    weight, loss = mixed()
    optimiser = Soap([weight])
    descend(optimiser, loss, 25)
    stored = io.BytesIO()
    torch.save({"weight": weight.data, "optimiser": optimiser.state_dict()}, stored)
    expected = descend(optimiser, loss, 15)
    state = torch.load(io.BytesIO(stored.getvalue()), weights_only=True)
    weight.data.copy_(state["weight"])
    again = Soap([weight])
    again.load_state_dict(state["optimiser"])
    assert descend(again, loss, 15) == pytest.approx(expected, rel=1e-5)


def test_columns_are_made_orthonormal_in_their_order_without_a_qr_factorisation():
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(3, 20, 20))[0]
    # As eigenvectors grow: by lengths that differ by orders of magnitude, and nearly orthogonal.
    columns = basis * torch.logspace(0, -9, 20) + 1e-10 * torch.randn(3, 20, 20)
    found, expected = by_cholesky(columns), torch.linalg.qr(columns)[0]
    signs = (found * expected).sum(1, keepdim=True).sign()
    torch.testing.assert_close(found.mT @ found, torch.eye(20).expand(3, 20, 20))
    torch.testing.assert_close(found * signs, expected, rtol=0, atol=1e-3)
