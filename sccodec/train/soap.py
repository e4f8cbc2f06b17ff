"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner.

Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", 2024 (arXiv 2409.11321). The
weights of a layer are a matrix (outputs, inputs * taps). Running means of G G^T and G^T G tell in
which directions of both sides gradients go together; there, and not weight by weight, Adam scales
them. Vectors, and sides longer than `LONGEST`, are left as Adam has them.
"""

from __future__ import annotations

import torch

LONGEST = 512  # a side's eigenvectors take memory and time by its square and cube
LOOK = 2  # every so many steps the gradient enters the preconditioners
RENEW = 20  # and the eigenbases follow them; both take as long as many a small batch
TINY = 1e-8


class Soap(torch.optim.Optimizer):
    """Takes the groups that Adam takes; its first step only begins the preconditioners."""

    def __init__(self, groups, lr: float = 1e-3, betas: tuple[float, float] = (0.95, 0.95)):
        super().__init__(groups, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group["lr"], *group["betas"])

    def _update(self, weight: torch.Tensor, rate: float, beta: float, beta2: float) -> None:
        gradient = weight.grad.reshape(len(weight) if weight.dim() else 1, -1)
        matrix = weight.dim() > 1 and min(gradient.shape) > 1
        state = self.state[weight]
        if not state:
            state["count"] = 0
            state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
            sides = gradient.shape if matrix else (LONGEST + 1,) * 2
            state["moments"] = [
                _moment(gradient, side) if size <= LONGEST else None
                for side, size in enumerate(sides)
            ]
            state["bases"] = [None if m is None else _eigenvectors(m) for m in state["moments"]]
            return
        state["count"] += 1
        mean, square, count = state["mean"], state["square"], state["count"]
        turned = _turn(gradient, state["bases"])
        mean.lerp_(turned, 1 - beta)
        square.lerp_(turned * turned, 1 - beta2)
        size = (square / (1 - beta2**count)).sqrt() + TINY
        change = _turn(mean / (1 - beta**count) / size, state["bases"], back=True)
        weight.add_(change.reshape(weight.shape), alpha=-rate)
        if count % LOOK == 0:
            for side, moment in enumerate(state["moments"]):
                if moment is not None:
                    moment.lerp_(_moment(gradient, side), 1 - beta2**LOOK)
        if count % RENEW == 0:
            self._renew(state)

    def _renew(self, state: dict) -> None:
        """One step of power iteration, eigenvectors in the order of their eigenvalues."""
        mean = _turn(state["mean"], state["bases"], back=True)
        for side, (moment, basis) in enumerate(zip(state["moments"], state["bases"], strict=True)):
            if moment is not None:
                grown = moment @ basis
                order = (grown * basis).sum(0).argsort(descending=True)
                state["square"] = state["square"].index_select(side, order)
                state["bases"][side] = torch.linalg.qr(grown[:, order])[0]
        state["mean"] = _turn(mean, state["bases"])


def _moment(gradient: torch.Tensor, side: int) -> torch.Tensor:
    return gradient.T @ gradient if side else gradient @ gradient.T


def _eigenvectors(moment: torch.Tensor) -> torch.Tensor:
    tiny = 1e-12 * torch.eye(len(moment), device=moment.device)
    return torch.linalg.eigh(moment + tiny)[1].flip(1)


def _turn(values: torch.Tensor, bases, back: bool = False) -> torch.Tensor:
    """Into the eigenbases of both sides, or back out of them."""
    rows, columns = bases
    if rows is not None:
        values = (rows if back else rows.T) @ values
    if columns is not None:
        values = values @ (columns.T if back else columns)
    return values
