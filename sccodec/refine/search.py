"""Latents that cost less than those of the analysis, found by stochastic Gumbel annealing.

An analysis network guesses good latents in one pass; gradients find better ones for the picture
at hand, and the decoder need not know (Yang, Bamler and Mandt, "Improving inference for neural
image compression", 2020). Rounding has no gradient, so each latent is rounded at random, up or
down, softly at first and harder as the annealing goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from sccodec.entropy.tables import step_size
from sccodec.latents.worth import worths
from sccodec.profiles.registry import Model
from sccodec.refine.graphs import TorchGraph
from sccodec.refine.prior import Rounding, SmoothPrior, SmoothTables
from sccodec.transform.graphs import log2_of_plane

RATE = 0.02  # steps by which a latent moves at once
WARM, COLD = 0.5, 0.15  # temperatures of the rounding, first and last
NEAR = 1e-4  # how close to a whole number a latent is told from it


@dataclass(frozen=True)
class Window:
    """Latents of all layers that may change, and what lies around them.

    y[n] (M, h, w), z[n] (Z, h/4, w/4): unquantised, of layer n; steps[n]: its step index.
    around[n] (M, H, W): what a decoder has, of the window and its surroundings; the window begins
    at row `top` and column `left` of it. planes (layers, H, W): step planes of all of it.
    pixels (3, 16 H, 16 W) in -128..127; counted (16 H, 16 W): which errors count. All float32.
    """

    y: list[np.ndarray]
    z: list[np.ndarray]
    steps: list[int]
    around: list[np.ndarray]
    planes: np.ndarray
    top: int
    left: int
    pixels: np.ndarray
    counted: np.ndarray


@dataclass(frozen=True)
class Refined:
    """Unquantised latents whose nearest symbols cost less, and what a decoder makes of them."""

    y: list[np.ndarray]
    z: list[np.ndarray]
    latents: list[np.ndarray]


class Refiner:
    """A model's syntheses and priors in PyTorch."""

    def __init__(self, model: Model):
        self.model = model
        tables = SmoothTables(model.tables)
        self.priors = [SmoothPrior(exact, tables) for exact in model.priors]
        self.heads = [TorchGraph(model.folder / layer.head) for layer in model.layers]
        self.finishes = [
            TorchGraph(model.folder / layer.finish) if layer.finish else None
            for layer in model.layers
        ]

    def __call__(
        self,
        window: Window,
        iterations: int,
        told: Callable[[int], None] = lambda done: None,
        seed: int = 0,
    ) -> Refined:
        """Gradient descent on bits + lambda * squared error; `told` hears of each iteration."""
        place = _Place(window)
        start = [torch.from_numpy(v)[None] for v in (*window.y, *window.z)]
        units = [step_size(step) for step in window.steps]
        units += [
            prior.hyper_step(step) for prior, step in zip(self.priors, window.steps, strict=True)
        ]
        moved = [torch.zeros_like(v, requires_grad=True) for v in start]
        optimiser = torch.optim.Adam(moved, lr=RATE, betas=(0.9, 0.99))
        noise = torch.Generator().manual_seed(seed)

        def values() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            found = [v + unit * m for v, unit, m in zip(start, units, moved, strict=True)]
            return found[: len(window.y)], found[len(window.y) :]

        for n in range(iterations):
            done = n / iterations
            for group in optimiser.param_groups:
                group["lr"] = RATE * min(1.0, 2 * (1 - done))
            heat = WARM * (COLD / WARM) ** done
            optimiser.zero_grad()
            bits, latents = self._code(*values(), window.steps, _softly(heat, noise))
            (bits + self._distortion(latents, window, place)).backward()
            optimiser.step()
            told(n + 1)
        with torch.no_grad():
            y, z = values()
            _, latents = self._code(y, z, window.steps, lambda v: torch.floor(v + 0.5))
        return Refined(*([v[0].numpy() for v in found] for found in (y, z, latents)))

    def _code(self, y, z, steps, rounded: Rounding) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Bits of all layers, and the latents of each as the syntheses see them."""
        bits, latents, seen = torch.zeros(()), [], []
        for n, prior in enumerate(self.priors):
            needs = self.model.layers[n].needs
            lower = torch.cat([seen[i] for i in needs], 1) if needs else None
            more, latent, known = prior(y[n], z[n], lower, steps[n], rounded)
            bits = bits + more
            latents.append(latent)
            seen.append(known)
        return bits, latents

    def _distortion(self, latents: list[torch.Tensor], window: Window, place: _Place):
        """What the errors of all layers' pictures are worth in bits."""
        total = torch.zeros(())
        whole = [around.clone() for around in place.around]
        for around, latent in zip(whole, latents, strict=True):
            around[:, place.rows, place.columns] = latent[0]
        for n, worth in enumerate(worths([step_size(step) for step in window.steps])):
            pixels = self._pixels(n, torch.cat(whole[: n + 1])[None], place)
            error = ((pixels - place.pixels).square() * place.counted).sum() / 3
            total = total + worth * error
        return total

    def _pixels(self, n: int, latents: torch.Tensor, place: _Place) -> torch.Tensor:
        """The picture of layers 0..n, (1, 3, H, W)."""
        pixels = self.heads[n](latents=latents, steps=place.planes[None, : n + 1])["pixels"]
        finish, plan = self.finishes[n], self.model.layers[n]
        if finish is None:
            return pixels
        pixels = F.pad(pixels, (plan.reach,) * 4, mode="replicate")
        return finish(
            plain=pixels.contiguous(memory_format=torch.channels_last),
            step=place.unit[n : n + 1],
            mix=torch.zeros(3, plan.bends, 1, 1),
            straight=torch.zeros(3, 3, 3, 3),
        )["pixels"]


class _Place:
    """The fixed parts of a window as tensors."""

    def __init__(self, window: Window):
        height, width = window.y[0].shape[1:]
        self.rows = slice(window.top, window.top + height)
        self.columns = slice(window.left, window.left + width)
        self.around = [torch.from_numpy(one) for one in window.around]
        self.planes = torch.from_numpy(window.planes)
        self.pixels = torch.from_numpy(window.pixels)
        self.counted = torch.from_numpy(window.counted)
        # One step for all of the window: a neighbour with another one is fixed anyway.
        self.unit = torch.exp2(log2_of_plane(self.planes[:, window.top, window.left]))


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """So many for PyTorch, until the block ends."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _softly(heat: float, noise: torch.Generator) -> Rounding:
    """Rounds up with a probability that grows with the fraction; the gradient knows it."""

    def rounded(v: torch.Tensor) -> torch.Tensor:
        below = torch.floor(v.detach())
        along = (v - below).clamp(NEAR, 1 - NEAR)
        even = torch.rand(v.shape, generator=noise).clamp(1e-7, 1 - 1e-7)
        odds = (torch.atanh(along) - torch.atanh(1 - along)) / heat + torch.logit(even)
        return below + torch.sigmoid(odds / heat)

    return rounded
