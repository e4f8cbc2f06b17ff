"""Multi-objective descent: one direction that lets no rate pay for another.

Every step size is an objective of its own, L_i = R(step_i) + lambda_i D(step_i). Their plain
sum follows whichever gradient is longest; the shortest vector in the convex hull of the
gradients lowers all of them at once (multiple-gradient descent, Sener and Koltun 2018), which
paper 1 (arXiv 2402.18930) uses to post-train one model for all rates.
"""

from __future__ import annotations

import torch

MOST_ROUNDS = 50
ENOUGH = 1e-5  # a change of the weights that is not worth another round


def min_norm(gram: torch.Tensor) -> torch.Tensor:
    """Weights (T,) >= 0 of sum 1 for which sum(w_i g_i) is the shortest, by Frank-Wolfe.

    gram (T, T) holds the gradients' inner products g_i . g_j.
    """
    count = len(gram)
    weights = torch.full((count,), 1 / count, dtype=gram.dtype, device=gram.device)
    for _ in range(MOST_ROUNDS):
        product = gram @ weights
        best = int(product.argmin())
        here, across, there = weights @ product, product[best], gram[best, best]
        # The shortest point of the line from the present point to the best gradient alone.
        span = here - 2 * across + there
        keep = ((there - across) / span).clamp(0, 1) if span > 0 else torch.ones_like(span)
        weights = keep * weights
        weights[best] += 1 - keep
        if 1 - keep < ENOUGH:
            break
    return weights


def descend(parameters: list[torch.nn.Parameter], losses: list[torch.Tensor]) -> torch.Tensor:
    """Sets every parameter's `grad` to the min-norm combination of the losses' gradients.

    The losses are scalars with graphs of their own. Each gradient counts per unit of its loss,
    since losses at fine steps are several times those at coarse ones. Returns the weights (T,).
    """
    gradients = []
    for loss in losses:
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        gradients.append(
            [
                torch.zeros_like(p) if g is None else g / loss.detach()
                for p, g in zip(parameters, found, strict=True)
            ]
        )
    flat = torch.stack([torch.cat([g.reshape(-1) for g in one]) for one in gradients])
    weights = min_norm((flat @ flat.T).double()).to(flat.dtype)
    # As long as the mean of the losses would be, so that the learning rate means the same.
    scale = torch.stack([loss.detach() for loss in losses]).mean()
    for n, p in enumerate(parameters):
        p.grad = sum(w * one[n] for w, one in zip(weights, gradients, strict=True)) * scale
    return weights
