"""The float twin of `sccodec.latents.prior`: what each latent's table index is learnt from.

The same operations in the same order as the exact networks of `sccodec.entropy.fixed`
(1x1 and depthwise 3x3 convolutions, leaky ReLU, pixel shuffle), so that export only rounds.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from sccodec.train.networks import Shape, act, depthwise, pointwise

SMALLEST_LOG2 = -4.0  # log2(scale / step) of the narrowest table
TABLES_PER_OCTAVE = 8
OFFSET_OCTAVES = 4  # log2(scale / step) beyond which offsets stay as they are, both ways
TRACE = 2.0**-13  # share of the heavy tail in every table


def ste_round(v: torch.Tensor) -> torch.Tensor:
    """Rounds to the nearest, ties up as the exact path does; the gradient passes unchanged."""
    return v + (torch.floor(v + 0.5) - v).detach()


def context_pattern(steps: int) -> torch.Tensor:
    """(groups, 2, 2) int: in which step channel group g codes position (row % 2, column % 2).

    One step: no context. Two: a checkerboard, mirrored between two channel groups.
    Four: a Latin square over the 2x2 positions for four groups, so that every step codes
    one position of each group.
    """
    if steps == 1:
        return torch.zeros(1, 2, 2, dtype=torch.long)
    if steps == 2:
        return torch.tensor([[[0, 1], [1, 0]], [[1, 0], [0, 1]]])
    if steps == 4:
        return torch.tensor(
            [[[0, 1], [2, 3]], [[3, 2], [1, 0]], [[1, 0], [3, 2]], [[2, 3], [0, 1]]]
        )
    raise ValueError(f"no context pattern has {steps} steps")


def step_of(pattern: torch.Tensor, channels: int, height: int, width: int) -> torch.Tensor:
    """(channels, height, width) int: the step in which each latent is coded."""
    group = torch.arange(channels, device=pattern.device) % len(pattern)
    tiled = pattern[group].repeat(1, (height + 1) // 2, (width + 1) // 2)
    return tiled[:, :height, :width]


class Up(nn.Module):
    """Doubles the resolution: 1x1 to four times the channels, leaky ReLU, shuffle, depthwise."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.mix, self.spread = pointwise(n_in, 4 * n_out), depthwise(n_out)

    def forward(self, x):
        return self.spread(F.pixel_shuffle(act(self.mix(x)), 2))


class ContextStep(nn.Module):
    """Mean and log2-scale of every latent from the features and the latents known so far.

    The first layer is not linear, so that what spreads to the neighbours can be a latent's
    size as well as its value: scales are learnt from the one, means from the other.
    """

    def __init__(self, latents: int, wide: int):
        super().__init__()
        self.enter, self.spread = pointwise(latents, wide), depthwise(wide)
        self.mix = pointwise(2 * wide, wide)
        self.leave = pointwise(wide, 2 * latents, 0)

    def forward(self, known, features):
        u = torch.cat([self.spread(act(self.enter(known))), features], 1)
        return self.leave(act(self.mix(u)))


class Prior(nn.Module):
    """Hyper-latents, lower layers and context -> mean and log2-scale of one layer's latents."""

    def __init__(self, latents: int, hyper: int, wide: int, lower: int, steps: int):
        super().__init__()
        self.latents, self.steps = latents, steps
        self.up1, self.up2 = Up(hyper, wide), Up(wide, wide)
        self.lower_mix = pointwise(lower, wide) if lower else None
        self.lower_spread = depthwise(wide) if lower else None
        self.join = pointwise(2 * wide if lower else wide, wide)
        self.context = nn.ModuleList(ContextStep(latents, wide) for _ in range(steps))
        self.register_buffer("pattern", context_pattern(steps))
        # Power-of-two scales that bring latents to unit size; set by `start`.
        self.register_buffer("shift", torch.zeros(latents))
        self.register_buffer("lower_shift", torch.zeros(lower))
        # Hyper-latents: factorised, one mean and log2-scale a channel.
        self.hyper_mean = nn.Parameter(torch.zeros(hyper))
        self.hyper_log2 = nn.Parameter(torch.ones(hyper))

    def features(self, z_hat, lower):
        u = self.up2(self.up1(z_hat))
        if self.lower_mix is not None:
            low = lower * torch.exp2(-self.lower_shift)[:, None, None]
            u = torch.cat([u, self.lower_spread(act(self.lower_mix(low)))], 1)
        return act(self.join(u))

    def forward(self, y, z_hat, lower, step):
        """Quantises and predicts, step by step.

        y (N, M, h, w), z_hat (N, Z, h/4, w/4), lower (N, L, h, w) or None, step (N, 1, 1, 1).
        Returns mean, log2_scale, q (straight-through), all (N, M, h, w).
        """
        features = self.features(z_hat, lower)
        turn = step_of(self.pattern, y.shape[1], *y.shape[2:])
        unit = torch.exp2(-self.shift)[:, None, None]
        y_hat = torch.zeros_like(y)
        mean, log2_scale = torch.zeros_like(y), torch.zeros_like(y)
        q = torch.zeros_like(y)
        for k, net in enumerate(self.context):
            m, s = net(y_hat * unit, features).chunk(2, 1)
            m = m / unit
            now = turn == k
            mean, log2_scale = torch.where(now, m, mean), torch.where(now, s, log2_scale)
            q_now = ste_round((y - m) / step)
            q = torch.where(now, q_now, q)
            y_hat = torch.where(now, q_now * step + m, y_hat)
        return mean, log2_scale, q


class Quantiser(nn.Module):
    """What depends on the step: table shape, reconstruction offset, hyper-latent step.

    The last two are paper 1's (arXiv 2402.18930) small networks; `offsets` and `hyper_steps`
    switch them off, which means a zero offset and a hyper-latent step of 1.
    """

    def __init__(self, offsets: bool = True, hyper_steps: bool = True):
        super().__init__()
        self.offsets, self.hyper_steps = offsets, hyper_steps
        self.offset_net = nn.Sequential(
            nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 1)
        )
        self.hyper_net = nn.Sequential(
            nn.Linear(1, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 1)
        )
        nn.init.zeros_(self.offset_net[-1].weight)
        nn.init.constant_(self.offset_net[-1].bias, 0.05)
        nn.init.zeros_(self.hyper_net[-1].weight)
        nn.init.zeros_(self.hyper_net[-1].bias)
        # The tables' shape: a mixture of two zero-mean Gaussians, since latents given their
        # prior have heavier tails than one Gaussian, and a trace of a Cauchy distribution,
        # so that no symbol is ever absurdly dear and every outlier has a gradient.
        self.mix_logit = nn.Parameter(torch.tensor(-1.0))
        self.log_ratio = nn.Parameter(torch.tensor(0.9))

    def offset(self, log2_ratio, step):
        """Offset in units of the step, 0..0.5, from log2(scale/step) and the step."""
        if not self.offsets:
            return torch.zeros_like(log2_ratio)
        ratio = torch.exp2(log2_ratio.detach().clamp(-OFFSET_OCTAVES, OFFSET_OCTAVES))
        inverse = (1 / step).expand_as(ratio)
        return self.offset_net(torch.stack([ratio, inverse], -1)).squeeze(-1).clamp(0, 0.5)

    def offset_of_tables(self, log2_ratio, step):
        """`offset` of the nearest table, as coding has it: log2_ratio (N, ...), step (N, 1, 1, 1).

        There are few tables, so this takes a fraction of the time.
        """
        most = OFFSET_OCTAVES * TABLES_PER_OCTAVE
        tables = torch.arange(-most, most + 1, device=step.device) / TABLES_PER_OCTAVE
        offsets = self.offset(tables.expand(len(step), -1), step.reshape(-1, 1))
        near = (log2_ratio.detach() * TABLES_PER_OCTAVE).round().clamp(-most, most)
        at = near.nan_to_num() + most  # a loss that is no number is told of later
        return offsets.gather(1, at.long().reshape(len(step), -1)).reshape(log2_ratio.shape)

    def hyper_log2_step(self, log2_step):
        """log2 of the hyper-latent step for log2 of the latent step, same shape; at least -1."""
        if not self.hyper_steps:
            return torch.zeros_like(log2_step)
        return self.hyper_net(log2_step.reshape(-1, 1)).reshape(log2_step.shape).clamp(-1, 4)

    def mass(self, v, log2_ratio):
        """Probability of the unit-wide bin at v (in steps, prior mean removed)."""
        scale = torch.exp2(log2_ratio.clamp(min=SMALLEST_LOG2))
        weight = torch.sigmoid(self.mix_logit)
        wide = torch.exp(self.log_ratio)
        v = v.abs()

        def bins(sigma):
            k = math.sqrt(0.5) / sigma
            return 0.5 * (torch.erfc((v - 0.5) * k) - torch.erfc((v + 0.5) * k))

        gauss = (1 - weight) * bins(scale) + weight * bins(scale * wide)
        tail = (torch.atan((v + 0.5) / scale) - torch.atan((v - 0.5) / scale)) / math.pi
        return (1 - TRACE) * gauss + TRACE * tail

    def bits(self, v, log2_ratio):
        return -torch.log2(self.mass(v, log2_ratio).clamp(min=1e-12))


class Entropy(nn.Module):
    """Both layers' priors and the shared quantiser."""

    def __init__(self, shape: Shape, offsets: bool = True, hyper_steps: bool = True):
        super().__init__()
        s = shape
        self.quantiser = Quantiser(offsets, hyper_steps)
        self.base = Prior(s.base, s.hyper[0], s.prior_wide[0], 0, s.context_steps)
        self.enhancement = Prior(
            s.enhancement, s.hyper[1], s.prior_wide[1], s.base, s.context_steps
        )

    def layer(self, prior: Prior, y, z, lower, log2_step):
        """One layer: bits a sample (N,), reconstruction with offsets, and what context sees.

        Rates use additive uniform noise; reconstructions use straight-through rounding.
        """
        step = torch.exp2(log2_step)
        quantiser = self.quantiser
        hyper_log2 = quantiser.hyper_log2_step(log2_step)
        hyper_step = torch.exp2(hyper_log2)
        v = (z - prior.hyper_mean[:, None, None]) / hyper_step
        z_hat = ste_round(v) * hyper_step + prior.hyper_mean[:, None, None]
        z_ratio = (prior.hyper_log2[:, None, None] - hyper_log2).expand_as(v)
        bits = quantiser.bits(self.noisy(v), z_ratio).sum((1, 2, 3))
        mean, log2_scale, q = prior(y, z_hat, lower, step)
        ratio = log2_scale - log2_step
        bits = bits + quantiser.bits(self.noisy((y - mean) / step), ratio).sum((1, 2, 3))
        context = q * step + mean
        offset = quantiser.offset_of_tables(ratio, step)
        recon = (q - torch.sign(q.detach()) * offset) * step + mean
        return bits, recon, context

    def noisy(self, v):
        if self.training:
            return v + (torch.rand_like(v) - 0.5)
        return torch.floor(v + 0.5)
