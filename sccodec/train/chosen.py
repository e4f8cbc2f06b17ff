"""Crops as an encoder codes them: what a synthesis meets in files.

In training, latents are the analysis' own, rounded. An encoder that takes its time sends others:
those of the least bits + lambda * squared error with the synthesis that it has
(`sccodec.codecs.descent`). With the symbols held, training the synthesis lowers that very cost;
coding anew with the new synthesis lowers it again (alternating minimisation).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from sccodec.codecs.image import choices
from sccodec.entropy.tables import nearest_index, step_size
from sccodec.media.picture import Picture
from sccodec.profiles.registry import Model
from sccodec.threads import cores, each
from sccodec.train.data import Crops


class Plan(NamedTuple):
    """A crop to be coded: its pixels (H, W, 3) uint8, a step index and an effort."""

    pixels: np.ndarray
    step: int
    effort: int


class Batch(NamedTuple):
    """Coded crops: pixels x (N, 3, H, W) in -128..127, log2 steps (N, 1, 1, 1) and bits (N,) of
    both layers, and their latents (N, M, H/16, W/16) with offsets; all float32."""

    x: torch.Tensor
    base_log2: torch.Tensor
    log2_step: torch.Tensor
    base_bits: torch.Tensor
    bits: torch.Tensor
    base: torch.Tensor
    enhancement: torch.Tensor

    @classmethod
    def of(cls, paths: Iterable[Path], device: str) -> Batch:
        """Those of some files of `coded`, whose crops are of one size."""
        columns = zip(*map(_read, paths), strict=True)
        return cls(*(torch.from_numpy(np.stack(column)).to(device) for column in columns))


def drawn(
    crops: Crops, count: int, size: int, log2_step: tuple[float, float], efforts: Sequence[int]
) -> Iterator[Plan]:
    """`count` random crops of size x size pixels, always the same, with steps drawn
    log-uniformly and `efforts` in turn. Raises BadRequest if no picture is so large."""
    random, large = np.random.default_rng(5), crops.at_least(size)
    for n in range(count):
        picture = crops[random.choice(large)]
        top, left = (random.integers(side - size + 1) for side in picture.shape[:2])
        pixels = picture[top : top + size, left : left + size]
        yield Plan(pixels, nearest_index(random.uniform(*log2_step)), efforts[n % len(efforts)])


def coded(model: Model, plans: Iterable[Plan], folder: Path) -> list[Path]:
    """Files below `folder`, one for each plan, of what `model` codes.

    Those that it has coded there before are kept; what another model has, is not looked at, and
    what was coded for another plan is coded anew.
    """
    folder /= model.digest[:16]
    folder.mkdir(parents=True, exist_ok=True)
    numbered = [(folder / f"{n:05d}.npz", plan) for n, plan in enumerate(plans)]
    missing = [pair for pair in numbered if not _is_of(*pair)]
    each(lambda pair: _code(model, pair[1], pair[0]), missing, cores())
    return [path for path, _ in numbered]


def _is_of(path: Path, plan: Plan) -> bool:
    """Whether a file is there, and is that of this plan."""
    if not path.exists():
        return False
    with np.load(path, allow_pickle=False) as found:
        return "plan" in found and str(found["plan"]) == _digest(plan)


def _digest(plan: Plan) -> str:
    told = f"{plan.pixels.shape} {plan.step} {plan.effort}".encode()
    return hashlib.sha256(told + plan.pixels.tobytes()).hexdigest()


def _code(model: Model, plan: Plan, path: Path) -> None:
    layers = [found for _, found in choices(Picture(plan.pixels), plan.step, model, plan.effort)]
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(
            file,
            plan=_digest(plan),
            pixels=plan.pixels,
            log2_steps=[math.log2(step_size(layer.step(plan.step))) for layer in model.layers],
            bits=[chooser.bits for chooser, _ in layers],
            base=layers[0][1].latent,
            enhancement=layers[1][1].latent,
        )
    os.replace(part, path)


def _read(path: Path) -> tuple[np.ndarray, ...]:
    """One row of a `Batch`."""
    with np.load(path, allow_pickle=False) as found:
        x = found["pixels"].transpose(2, 0, 1).astype(np.float32) - 128
        logs = found["log2_steps"].astype(np.float32).reshape(2, 1, 1, 1)
        return x, *logs, *found["bits"].astype(np.float32), found["base"], found["enhancement"]


class Batches:
    """Batches of coded crops on any device, without end: all of them in a random order, then in
    another. `seed` fixes the sequence."""

    def __init__(self, paths: list[Path], batch: int, device: str, seed: int):
        self.order = _shuffled(paths, np.random.default_rng(seed))
        self.batch, self.device = batch, device

    def __iter__(self):
        return self

    def __next__(self) -> Batch:
        return Batch.of([next(self.order) for _ in range(self.batch)], self.device)


def _shuffled(paths: list[Path], random: np.random.Generator) -> Iterator[Path]:
    while True:
        yield from (paths[n] for n in random.permutation(len(paths)))
