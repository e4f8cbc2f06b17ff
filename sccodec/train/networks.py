"""Analysis and synthesis: pixels <-> latents, as trained.

Every transform is a linear path (a Karhunen-Loève basis of the wavelet bands, near-optimal
before the first step) plus a stack of cheap bricks whose last layer starts at zero. Nothing
convolves at full resolution: all work is at 1/8 and 1/16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from sccodec.entropy.fixed import SLOPE
from sccodec.latents.worth import LAMBDA
from sccodec.train import wavelet

# With orthonormal coefficients of 0..255 pixels times this gain, the slope of the
# high-rate theory, dR/dD, meets lambda = 0.18 / step^2 (see `loss.py`) for every step.
GAIN = 0.0833
# Bits that a squared error of one step of a latent is worth by the loss, which is lambda * step^2 *
# (pixels' error over latents'): what it costs if the synthesis keeps lengths and angles.
UNIT = LAMBDA / (3 * GAIN**2)

BLOCK = 16  # pixels along a side of what one latent's linear path sees
LOW = 48  # low-band coefficients of 16x16 pixels: 4x4 positions, 3 colours
HIGH = 720  # all others
BENDS = 24  # clipped filters of a pass of the finish
DILATIONS = (1, 2)  # of its passes, in pixels
CPU_HAS_BFLOAT16 = torch.cpu.get_capabilities().get("avx512_bf16", False)
COARSER = 7  # step indexes that the base's is above the enhancement's: best on held-out crops


@dataclass(frozen=True)
class Shape:
    """Sizes of one two-layer picture model; a recipe's [network] table."""

    base: int = 48  # base latents
    enhancement: int = 384  # enhancement latents
    hyper: tuple[int, int] = (16, 32)  # hyper-latents of base, enhancement
    wide8: int = 96  # channels at 1/8
    wide16: int = 160  # channels at 1/16
    analysis_wide8: int = 0  # of the analysis, which no decoder waits for; 0: as many as above
    analysis_wide16: int = 0
    analysis8: int = 3  # bricks of the analysis at 1/8
    analysis16: int = 2
    synthesis8: int = 4
    synthesis16: int = 3
    base_wide: int = 96  # base analysis and synthesis, at 1/16
    base_bricks: int = 3
    prior_wide: tuple[int, int] = (64, 128)
    context_steps: int = 2
    quick8: int = 0  # channels of the quick analysis at 1/8; 0: there is none
    quick16: int = 0
    quick_bricks: int = 2  # of it, at 1/8 and at 1/16

    @classmethod
    def read(cls, table: dict) -> Shape:
        """From a recipe or checkpoint, where tuples are lists; TypeError if it has other keys."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})

    def widths_of_analysis(self) -> tuple[int, int]:
        """Channels of the analysis at 1/8 and at 1/16."""
        return self.analysis_wide8 or self.wide8, self.analysis_wide16 or self.wide16


def act(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, SLOPE)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution; on a CPU in float32 a matrix product, channels last.

    The product and above all its gradients are up to twice as fast there, and with channels
    last so is what follows.
    """

    def __init__(self, n_in: int, n_out: int, bias: bool = True):
        super().__init__(n_in, n_out, 1, bias=bias)

    def forward(self, x):
        if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        return F.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


def pointwise(n_in: int, n_out: int, scale: float = 1.0) -> Pointwise:
    """A 1x1 convolution, started for leaky ReLU and shrunk by `scale` (0: starts silent)."""
    layer = Pointwise(n_in, n_out)
    nn.init.normal_(layer.weight, std=scale * math.sqrt(1.7 / n_in))
    nn.init.zeros_(layer.bias)
    return layer


class Depthwise(nn.Conv2d):
    """A depthwise 3x3 convolution; compiled for a GPU, nine products in one pass over x."""

    def __init__(self, n: int):
        super().__init__(n, n, 3, padding=1, groups=n)

    def forward(self, x):
        if x.is_cuda and torch.compiler.is_compiling():
            return self.as_products(x)
        return super().forward(x)

    def as_products(self, x):
        """The same; a library's gradient takes longer than that of what a compiler fuses."""
        height, width = x.shape[2:]
        padded, taps = F.pad(x, (1, 1, 1, 1)), self.weight.to(x.dtype)
        total = self.bias.to(x.dtype)[:, None, None]
        for i in range(3):
            for j in range(3):
                near = padded[:, :, i : i + height, j : j + width]
                total = total + taps[:, :, i, j, None] * near
        return total


def depthwise(n: int) -> nn.Conv2d:
    """A depthwise 3x3 convolution that starts near the identity."""
    layer = Depthwise(n)
    nn.init.normal_(layer.weight, std=0.1)
    with torch.no_grad():
        layer.weight[:, :, 1, 1] += 1
    nn.init.zeros_(layer.bias)
    return layer


class Brick(nn.Module):
    """1x1, depthwise 3x3, 1x1 with residual; then two 1x1 with residual. (N, C, h, w) kept."""

    def __init__(self, n: int):
        super().__init__()
        self.enter, self.spread, self.leave = pointwise(n, n), depthwise(n), pointwise(n, n, 0.3)
        self.widen, self.narrow = pointwise(n, 2 * n), pointwise(2 * n, n, 0.3)

    def forward(self, x):
        x = x + self.leave(self.spread(act(self.enter(x))))
        return x + self.narrow(act(self.widen(x)))

    def silence(self) -> None:
        """Begins as the identity, for use within a trained stack."""
        for layer in (self.leave, self.narrow):
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)


class Bricks(nn.Sequential):
    """Bricks in a row; while training in bfloat16 on a GPU, and on a CPU that multiplies it.

    What they add to the linear path is small, so its rounding is too. The linear path and the
    prior stay in float32: theirs would cost decibels at fine steps.
    """

    def __init__(self, n: int, count: int):
        super().__init__(*(Brick(n) for _ in range(count)))

    def forward(self, x):
        on_cpu = x.device.type == "cpu"
        if not self.training or (on_cpu and not CPU_HAS_BFLOAT16):
            return super().forward(x)
        with torch.autocast(x.device.type, torch.bfloat16):
            x = super().forward(x.contiguous(memory_format=torch.channels_last)).float()
        return x.contiguous() if on_cpu else x  # its float32 convolutions want channels first


class Lap(nn.Module):
    """Lets 16x16 blocks overlap: filters across their edges, undone after the synthesis.

    A block transform behind such a pre-filter is a lapped transform (Tran, Liang and Tu,
    "Lapped transform via time-domain pre- and post-filtering", 2003). The eight pixels on
    either side of an edge are split into their even and odd part about it, and `odd` (8, 8)
    mixes the odd part: the identity would leave the pixels as they are. It starts as in the
    lapped orthogonal transform (Malvar 1992) and is trained on. Picture edges are not filtered.
    Works on (N, C, H, W), H and W multiples of 16.
    """

    def __init__(self):
        super().__init__()
        same = torch.eye(BLOCK // 2)
        self.odd = nn.Parameter((cosines(2).T @ cosines(4)).flip(0, 1))
        parts = [torch.cat([same, same.flip(0)], 1), torch.cat([same.flip(0), -same], 1)]
        self.register_buffer("parts", torch.cat(parts) / math.sqrt(2), persistent=False)
        self.register_buffer("last", torch.eye(BLOCK // 2), persistent=False)

    def matrix(self, undo: bool = False) -> torch.Tensor:
        """(16, 16), applied to the pixels across one edge."""
        odd = self.inverse() if undo else self.odd
        even = torch.eye(len(odd), device=odd.device)
        return self.parts @ torch.block_diag(even, odd) @ self.parts

    def inverse(self) -> torch.Tensor:
        """That of `odd`.

        A CUDA graph cannot hold a solver, so there it goes on from the last one: Newton's step
        squares what that is off by, and has the inverse's gradient.
        """
        if self.odd.is_cuda and torch.cuda.is_current_stream_capturing():
            last = self.last.clone()
            inverse = 2 * last - last @ self.odd @ last
        else:
            inverse = torch.linalg.inv(self.odd)
        self.last.copy_(inverse.detach())
        return inverse

    def forward(self, x, undo: bool = False):
        matrix = self.matrix(undo)
        return lap_rows(lap_rows(x, matrix).mT, matrix).mT


def cosines(kind: int) -> torch.Tensor:
    """The orthonormal discrete cosine transform of 8 points and kind 2 or 4."""
    count = BLOCK // 2
    n = torch.arange(count).double()
    row = n[:, None] + (0.5 if kind == 4 else 0)
    matrix = math.sqrt(2 / count) * torch.cos(math.pi / count * row * (n + 0.5))
    if kind == 2:
        matrix[0] /= math.sqrt(2)
    return matrix.float()


def lap_rows(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Applies a matrix (16, 16) to the rows of pixels across every inner edge of 16 rows."""
    half, (count, colours, height, width) = BLOCK // 2, x.shape
    inner = x[:, :, half : height - half].reshape(count, colours, -1, BLOCK, width)
    inner = (matrix @ inner).reshape(count, colours, -1, width)
    return torch.cat([x[:, :, :half], inner, x[:, :, height - half :]], 2)


class Pass(nn.Module):
    """One pass of the finish: bends differences between pixels `dilation` apart.

    A difference of a step or two is as likely the quantiser's doing as the picture's, a large
    one is an edge. So filters of 3x3 pixels that see no constant are clipped, the reach of each
    being so many steps, and mixed; with a linear filter beside them, small differences can be
    weakened and large ones kept or sharpened. That is the idea of the clipped adaptive loop
    filters of VVC (Taquet et al., "Non-linear adaptive loop filter", 2019), trained here.

    x (N, 3, H, W), step (N, 1, H, W) in pixels' units -> (N, 3, H - 2 d, W - 2 d).
    """

    def __init__(self, dilation: int):
        super().__init__()
        self.dilation = dilation
        # Starts with a pixel's differences from its eight neighbours, clipped at two steps.
        around = torch.eye(9)[[0, 1, 2, 3, 5, 6, 7, 8]] - torch.eye(9)[4]
        bends = torch.zeros(BENDS // 3, 3, 3, 9)
        for colour in range(3):
            bends[:, colour, colour] = around / 2
        self.bends = nn.Parameter(bends.reshape(BENDS, 3, 3, 3))
        self.mix = nn.Parameter(torch.zeros(3, BENDS))
        self.straight = nn.Parameter(torch.zeros(3, 3, 3, 3))

    def kernels(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`bends` (BENDS, 3, 3, 3) and `straight` (3, 3, 3, 3), blind to constants."""
        both = (self.bends, self.straight)
        return tuple(kernel - kernel.mean((2, 3), keepdim=True) for kernel in both)

    def forward(self, x, step):
        bends, straight = self.kernels()
        bent = F.hardtanh(F.conv2d(x / step, bends, dilation=self.dilation))
        # Not a convolution, whose gradient would have channels first and `bent` has them last.
        mixed = self.inner(step) * F.linear(bent.movedim(1, -1), self.mix).movedim(-1, 1)
        return self.inner(x) + F.conv2d(x, straight, dilation=self.dilation) + mixed

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        """The pixels of x (N, C, H, W) that come out."""
        d = self.dilation
        return x[:, :, d:-d, d:-d]


class Finish(nn.Sequential):
    """What a synthesis does at full resolution: a few passes over its pixels.

    x (N, 3, H, W), step (N, 1, H/16, W/16) in pixels' units -> (N, 3, H, W).
    """

    def __init__(self):
        super().__init__(*map(Pass, DILATIONS))

    def forward(self, x, step):
        # What lies beyond the edges is filtered like the rest, as it is in the exported graph.
        edge = (sum(DILATIONS),) * 4
        x, step = F.pad(x, edge, mode="replicate"), F.interpolate(step, scale_factor=BLOCK)
        step = F.pad(step, edge, mode="replicate")
        if not x.is_cuda:  # twice as fast at so few channels
            x = x.contiguous(memory_format=torch.channels_last)
        for one in self:
            x, step = one(x, step), one.inner(step)
        return x.contiguous()


class Down(nn.Module):
    """Halves the resolution with a strided 2x2 convolution."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 2, stride=2)
        nn.init.normal_(self.conv.weight, std=math.sqrt(1 / (4 * n_in)))
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        return self.conv(x)


class Analysis(nn.Module):
    """Pixels -> unquantised latents and hyper-latents of both layers.

    (N, 3, H, W) in -128..127, H and W multiples of 64 ->
    base (N, 48, H/16, W/16), enhancement (N, 384, ...), hyper (N, 16, H/64, W/64), (N, 32, ...).
    The base sees the low band alone; the enhancement sees every band.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        s = shape
        self.register_buffer("kernel", torch.from_numpy(wavelet.filters()), persistent=False)
        self.base_linear = nn.Conv2d(LOW, s.base, 1, bias=False)
        self.base_in = pointwise(LOW, s.base_wide)
        self.base_bricks = Bricks(s.base_wide, s.base_bricks)
        self.base_out = pointwise(s.base_wide, s.base, 0)
        self.linear = nn.Conv2d(HIGH, s.enhancement, 1, bias=False)
        wide8, wide16 = s.widths_of_analysis()
        self.enter = Down(LOW, wide8)
        self.bricks8 = Bricks(wide8, s.analysis8)
        self.down = Down(wide8, wide16)
        self.bricks16 = Bricks(wide16, s.analysis16)
        # Sees the bricks at 1/8 too: 16x16 pixels are more than `wide16` channels can tell.
        self.leave = pointwise(wide16 + 4 * wide8, s.enhancement, 0)
        self.base_hyper = HyperAnalysis(s.base, s.base_wide, s.hyper[0])
        self.hyper = HyperAnalysis(s.enhancement, s.wide8, s.hyper[1])
        # Filled in by `start`: brings wavelet bands to unit size for the bricks.
        self.register_buffer("band_scale", torch.ones(LOW))

    def forward(self, x, quick: Quick | None = None):
        """`quick`: what takes the place of the bricks of the enhancement."""
        bands = wavelet.forward(x, self.kernel)  # (N, 48, H/4, W/4)
        low = F.pixel_unshuffle(bands[:, :3], 4)  # (N, 48, H/16, W/16)
        high = F.pixel_unshuffle(bands[:, 3:], 4)
        y_base = self.base_linear(low)
        unit = low * self.band_scale[:3].repeat_interleave(16)[:, None, None]
        y_base = y_base + self.base_out(self.base_bricks(self.base_in(unit)))
        bricks = quick or self
        y = self.linear(high) + bricks.leave(self.features(bands, bricks))
        return y_base, y, self.base_hyper(y_base), self.hyper(y)

    def features(self, bands, bricks: Analysis | Quick):
        """Wavelet bands (N, 48, 4 h, 4 w) -> (N, C, h, w), what `bricks.leave` makes latents of."""
        u = bricks.bricks8(bricks.enter(bands * self.band_scale[:, None, None]))
        return torch.cat([bricks.bricks16(bricks.down(u)), F.pixel_unshuffle(u, 2)], 1)


class Quick(nn.Module):
    """Smaller bricks for the enhancement of an `Analysis`, where an encoder is in a hurry.

    All else is the analysis' own, and its latents are what these learn to give.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        s = shape
        self.enter = Down(LOW, s.quick8)
        self.bricks8 = Bricks(s.quick8, s.quick_bricks)
        self.down = Down(s.quick8, s.quick16)
        self.bricks16 = Bricks(s.quick16, s.quick_bricks)
        self.leave = pointwise(s.quick16 + 4 * s.quick8, s.enhancement, 0)


class HyperAnalysis(nn.Module):
    """Latents (N, M, h, w) -> hyper-latents (N, Z, h/4, w/4)."""

    def __init__(self, latents: int, wide: int, hyper: int):
        super().__init__()
        self.enter = pointwise(latents, wide)
        self.down1, self.brick, self.down2 = Down(wide, wide), Brick(wide), Down(wide, wide)
        self.leave = pointwise(wide, hyper, 2.0)
        self.register_buffer("unit", torch.ones(latents))

    def forward(self, y):
        u = act(self.enter(y * self.unit[:, None, None]))
        return self.leave(act(self.down2(act(self.brick(self.down1(u))))))


class BaseSynthesis(nn.Module):
    """Base latents (N, 48, h, w) and step plane (N, 1, h, w) -> pixels (N, 3, 16h, 16w)."""

    def __init__(self, shape: Shape):
        super().__init__()
        s = shape
        self.register_buffer("kernel", torch.from_numpy(wavelet.filters()), persistent=False)
        self.register_buffer("unit", torch.ones(s.base))
        self.linear = nn.Conv2d(s.base, LOW, 1, bias=False)
        self.enter = pointwise(s.base + 1, s.base_wide)
        self.bricks = Bricks(s.base_wide, s.base_bricks)
        self.leave = pointwise(s.base_wide, LOW + HIGH, 0)

    def forward(self, y, step):
        u = torch.cat([y * self.unit[:, None, None], step], 1)
        c = self.leave(self.bricks(self.enter(u)))
        c = torch.cat([c[:, :LOW] + self.linear(y), c[:, LOW:]], 1)
        return wavelet.inverse(F.pixel_shuffle(c, 4), self.kernel)


class Synthesis(nn.Module):
    """All latents (N, 48 + 384, h, w) and step planes (N, 2, h, w) -> pixels (N, 3, 16h, 16w)."""

    def __init__(self, shape: Shape):
        super().__init__()
        s = shape
        self.register_buffer("kernel", torch.from_numpy(wavelet.filters()), persistent=False)
        self.register_buffer("unit", torch.ones(s.base + s.enhancement))
        self.linear = nn.Conv2d(s.base + s.enhancement, LOW + HIGH, 1, bias=False)
        self.enter = pointwise(s.base + s.enhancement + 2, s.wide16)
        self.bricks16 = Bricks(s.wide16, s.synthesis16)
        self.up = pointwise(s.wide16, 4 * s.wide8)
        # Shows the bricks at 1/8 what the linear path makes, of which the bricks at 1/16 have
        # `wide16` channels for 16x16 pixels.
        self.see = Down(LOW, s.wide8)
        self.bricks8 = Bricks(s.wide8, s.synthesis8)
        self.leave = pointwise(s.wide8, 4 * LOW, 0)
        self.register_buffer("band_scale", torch.ones(LOW))  # as in the analysis

    def forward(self, y, step):
        u = torch.cat([y * self.unit[:, None, None], step], 1)
        c = F.pixel_shuffle(self.linear(y), 4)
        u = F.pixel_shuffle(self.up(self.bricks16(self.enter(u))), 2)
        u = u + self.see(c * self.band_scale[:, None, None])
        c = c + F.pixel_shuffle(self.leave(self.bricks8(u)), 2)
        return wavelet.inverse(c, self.kernel)
