"""Rate and distortion, joined as paper 1 (arXiv 2402.18930) does.

loss = bits per pixel + lambda(step) * MSE of the whole picture
                      + base_weight * lambda(max(step, 4)) * MSE of the base alone,
MSE in 8-bit units and lambda = 0.18 / step^2, the law behind the paper's two lists. Below a
step of 4 nearly all of the base's error is the bands it does not have, so more weight on it
would only drown the rest.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from sccodec.latents.worth import FINEST_BELOW, LAMBDA
from sccodec.train.model import Coded
from sccodec.train.networks import BLOCK, UNIT


class Terms(NamedTuple):
    """The loss of a batch and what it is made of, each (N,)."""

    loss: torch.Tensor
    base_bpp: torch.Tensor
    bpp: torch.Tensor
    base_mse: torch.Tensor
    mse: torch.Tensor


def rate_distortion(x, coded: Coded, log2_step, base_weight: float, absent=None) -> Terms:
    """Terms for pictures x (N, 3, H, W) coded with log2 steps (N, 1, 1, 1).

    Where the enhancement is `absent` (N,) the whole picture counts as a base picture does.
    """
    pixels = x.shape[2] * x.shape[3]
    mse = (coded.full - x).square().mean((1, 2, 3))
    base_mse = (coded.base - x).square().mean((1, 2, 3))
    bpp = (coded.base_bits + coded.enhancement_bits) / pixels
    base_bpp = coded.base_bits / pixels
    weight = LAMBDA * torch.exp2(-2 * log2_step.reshape(-1))
    small_weight = base_weight * weight.clamp(max=LAMBDA / FINEST_BELOW**2)
    full_weight = weight
    if absent is not None:
        full_weight = torch.where(absent, small_weight, weight)
    loss = bpp + full_weight * mse + small_weight * base_mse
    return Terms(loss, base_bpp, bpp, base_mse, mse)


def likeness(found, wanted) -> torch.Tensor:
    """(N,): what latents `found` cost for not being `wanted`, both (N, C, h, w).

    In bits per pixel at a step of 1, if the synthesis keeps lengths.
    """
    return UNIT * (found - wanted).square().sum((1, 2, 3)) / (BLOCK**2 * found[0, 0].numel())
