"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner.

Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", 2024 (arXiv 2409.11321). The
weights of a layer are a matrix (outputs, inputs * taps). Running means of G G^T and G^T G tell in
which directions of both sides gradients go together; there, and not weight by weight, Adam scales
them. Vectors, and sides longer than `LONGEST`, are left as Adam has them.

Weights of the same shape are updated as one stack: a network has hundreds, most of them small.
"""

from __future__ import annotations

import torch

from sccodec.train.networks import CPU_HAS_BFLOAT16

LONGEST = 512  # a side's eigenvectors take memory and time by its square and cube
LOOK = 2  # every so many steps the gradient enters the preconditioners
RENEW = 20  # and the eigenbases follow them; both take as long as many a small batch
TINY = 1e-8
LARGE = 64  # sides from which on bfloat16 pays where a CPU multiplies it


class Soap(torch.optim.Optimizer):
    """Takes the groups that Adam takes; its first step only begins the preconditioners.

    The state of a stack of weights is kept with the first of them.
    """

    def __init__(self, groups, lr: float = 1e-3, betas: tuple[float, float] = (0.95, 0.95)):
        super().__init__(groups, {"lr": lr, "betas": betas})
        self.taken = 0

    @torch.no_grad()
    def step(self, closure=None):
        self.taken += 1
        self.update(look=self.taken % LOOK == 0)
        if self.taken % RENEW == 0:
            self.renew()

    @torch.no_grad()
    def update(self, look: bool = True) -> None:
        """A step without what follows every so many: may be held in a CUDA graph, once there is a
        state, if the groups' rates are tensors."""
        for group in self.param_groups:
            for weights in _stacks(group["params"]):
                if any(weight.grad is not None for weight in weights):
                    self._update(weights, group["lr"], *group["betas"], look)

    @torch.no_grad()
    def renew(self) -> None:
        """Turns the eigenbases after the preconditioners, in place."""
        for state in self.state.values():
            _renew(state)

    def _update(self, weights: list, rate, beta: float, beta2: float, look: bool) -> None:
        grads = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        gradient = torch.stack([_matrix(grad) for grad in grads]).nan_to_num_(0, 0, 0)
        state, sizes = self.state[weights[0]], gradient.shape[1:]
        if not state:
            state["count"] = torch.zeros((), device=gradient.device)
            state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
            state["moments"] = [
                _moment(gradient, side) if min(sizes) > 1 and size <= LONGEST else None
                for side, size in enumerate(sizes)
            ]
            state["bases"] = [None if m is None else _eigenvectors(m) for m in state["moments"]]
            return
        state["count"] += 1
        mean, square, count = state["mean"], state["square"], state["count"]
        turned = _turn(gradient, state["bases"])
        mean.lerp_(turned, 1 - beta)
        square.lerp_(turned * turned, 1 - beta2)
        size = (square / (1 - beta2**count)).sqrt_().add_(TINY)
        change = _turn((mean / (1 - beta**count)).div_(size), state["bases"], back=True)
        pairs = zip(change.mul_(-rate), weights, strict=True)
        torch._foreach_add_(weights, [one.reshape(weight.shape) for one, weight in pairs])
        if look:
            for side, moment in enumerate(state["moments"]):
                if moment is not None:
                    moment.lerp_(_moment(gradient, side), 1 - beta2**LOOK)


def _renew(state: dict) -> None:
    """One step of power iteration, eigenvectors in the order of their eigenvalues."""
    mean = _turn(state["mean"], state["bases"], back=True)
    for side, (moment, basis) in enumerate(zip(state["moments"], state["bases"], strict=True)):
        if moment is not None:
            grown = moment @ basis
            order = (grown * basis).sum(1, keepdim=True).argsort(descending=True)
            along = order if side else order.mT
            state["square"].copy_(state["square"].take_along_dim(along, 1 + side))
            basis.copy_(_orthonormal(grown.take_along_dim(order, 2)))
    state["mean"].copy_(_turn(mean, state["bases"]))


def _orthonormal(columns: torch.Tensor) -> torch.Tensor:
    """The Q of a QR factorisation, at which GPUs are slow."""
    return by_cholesky(columns) if columns.is_cuda else torch.linalg.qr(columns)[0]


def by_cholesky(columns: torch.Tensor) -> torch.Tensor:
    """The Q of a QR factorisation of matrices (N, n, n), up to signs, from the triangular factors
    of the columns' products.

    These have the square of the columns' condition, so columns get one length first, and it is
    done twice, in float64.
    """
    found = columns.double()
    for _ in range(2):
        found = found / found.norm(dim=1, keepdim=True).clamp(min=1e-30)
        products = found.mT @ found
        products.diagonal(dim1=1, dim2=2).add_(1e-12)
        lower = torch.linalg.cholesky_ex(products)[0]
        found = torch.linalg.solve_triangular(lower.mT, found, upper=True, left=False)
    return found.to(columns.dtype)


def _stacks(weights: list) -> list[list]:
    """Weights by the shape of their matrices, in order."""
    stacks: dict = {}
    for weight in weights:
        stacks.setdefault((*_matrix(weight).shape, weight.device), []).append(weight)
    return list(stacks.values())


def _matrix(weight: torch.Tensor) -> torch.Tensor:
    return weight.reshape(len(weight) if weight.dim() else 1, -1)


def _moment(gradient: torch.Tensor, side: int) -> torch.Tensor:
    return _product(gradient.mT, gradient) if side else _product(gradient, gradient.mT)


def _eigenvectors(moment: torch.Tensor) -> torch.Tensor:
    tiny = 1e-12 * torch.eye(moment.shape[-1], device=moment.device)
    return torch.linalg.eigh(moment + tiny)[1].flip(2)


def _turn(values: torch.Tensor, bases, back: bool = False) -> torch.Tensor:
    """Into the eigenbases of both sides, or back out of them."""
    rows, columns = bases
    if rows is not None:
        values = _product(rows if back else rows.mT, values)
    if columns is not None:
        values = _product(values, columns.mT if back else columns)
    return values


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a @ b; of large matrices in bfloat16 where that is faster, whose rounding is far below the
    noise of a gradient."""
    if CPU_HAS_BFLOAT16 and a.device.type == "cpu" and min(*a.shape[1:], *b.shape[1:]) >= LARGE:
        return (a.bfloat16() @ b.bfloat16()).float()
    return a @ b
