"""More latents for a trained enhancement, each begun as what its pictures still lack."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
import torch.nn.functional as F

from sccodec.train import wavelet
from sccodec.train.data import Crops
from sccodec.train.model import PictureModel
from sccodec.train.networks import COARSER, GAIN, HIGH, LOW

STEP = 0.8  # at which the lack is measured: more latents are for fine steps
LIKE = 60  # latents, the finest of before, whose scales tell those of the new ones
FAINT = 0.3  # new weights of networks that have yet to learn what a new latent tells them
FAINTER = 0.02  # those that change pixels


@torch.no_grad()
def widen(
    model: PictureModel, more: int, crops: Crops, pictures: int = 250, seed: int = 0
) -> PictureModel:
    """A model with `more` enhancement latents, which does nearly what `model` does.

    Reduced-rank regression: of all linear functions of the high bands and of the analysis's
    features, the new latents are those that tell most of the decoded pictures' errors.
    """
    enter, leave, std = _regression(model, more, crops, pictures)
    shape = dataclasses.replace(model.shape, enhancement=model.shape.enhancement + more)
    quantiser = model.entropy.quantiser
    wide = PictureModel(shape, quantiser.offsets, quantiser.hyper_steps)
    noise = torch.Generator().manual_seed(seed)
    before, after = model.state_dict(), wide.state_dict()
    count = model.shape.enhancement
    typical = before["analysis.hyper.unit"][-LIKE:].reciprocal().log2().mean()

    def faint(like: torch.Tensor, shape, size: float = FAINT) -> torch.Tensor:
        return size * like.std() * torch.randn(shape, generator=noise)

    for name, new in after.items():
        old = before[name]
        if old.shape == new.shape:
            new.copy_(old)
        elif name == "synthesis.enter.weight":  # latents, then the two step planes
            added = faint(old, (len(old), more, 1, 1), FAINTER)
            new.copy_(torch.cat([old[:, :-2], added, old[:, -2:]], 1))
        elif name.startswith("entropy.") and ".leave." in name:  # means, then log2-scales
            scale = old[count:][-LIKE:].mean(0, keepdim=True).repeat_interleave(more, 0)
            if name.endswith("bias"):
                scale = scale + std.log2() - typical
            new.copy_(torch.cat([old[:count], torch.zeros_like(scale), old[count:], scale]))
        else:
            axis = next(n for n, side in enumerate(old.shape) if side < new.shape[n])
            added = {
                "analysis.linear.weight": enter[:, :HIGH, None, None],
                "analysis.leave.weight": enter[:, HIGH:, None, None],
                "analysis.leave.bias": torch.zeros(more),
                "synthesis.linear.weight": leave[:, :, None, None],
                "analysis.hyper.unit": 1 / std,
                "synthesis.unit": 1 / std,
                "entropy.enhancement.shift": (std / 2).log2().round().clamp(0, 6),
            }.get(name)
            if added is None:  # what the entropy model makes of them
                added = faint(old, [more if n == axis else s for n, s in enumerate(old.shape)])
            new.copy_(torch.cat([old, added], axis))
    return wide


def _regression(model: PictureModel, more: int, crops: Crops, pictures: int):
    """From bands and features to new latents (more, F), from those to bands (B, more), and their
    deviations (more,)."""
    kernel = torch.from_numpy(wavelet.filters())
    log2_step = torch.full((1, 1, 1, 1), math.log2(STEP))
    size = HIGH + model.analysis.leave.in_channels
    square = torch.zeros(size, size).double()
    cross = torch.zeros(LOW + HIGH, size).double()
    blocks = 0

    def columns(x: torch.Tensor) -> torch.Tensor:
        return x[0].reshape(x.shape[1], -1).double()

    for n in np.linspace(0, len(crops) - 1, min(pictures, len(crops))).astype(int):
        x = crops.centred(n)
        bands = wavelet.forward(model.lap(x), kernel)
        high = F.pixel_unshuffle(bands[:, 3:], 4)
        seen = columns(torch.cat([high, model.analysis.features(bands, model.analysis)], 1))
        lacks = x - model(x, log2_step + COARSER / 32, log2_step).full
        lacks = columns(F.pixel_unshuffle(wavelet.forward(model.lap(lacks), kernel), 4))
        square += seen @ seen.T
        cross += lacks @ seen.T
        blocks += seen.shape[1]
    ridge = 1e-4 * square.diagonal().mean() * torch.eye(size).double()
    solved = torch.linalg.solve(square + ridge, cross.T).T
    explained = solved @ square @ solved.T
    _, vectors = torch.linalg.eigh((explained + explained.T) / 2)
    vectors = vectors.flip(1)[:, :more]
    enter = GAIN * vectors.T @ solved
    std = (enter @ square @ enter.T / blocks).diagonal().sqrt()
    return enter.float(), (vectors / GAIN).float(), std.float()
