"""Pictures a second of a model's networks in PyTorch: python benchmarks/gpu_speed.py MODEL

    python benchmarks/gpu_speed.py MODEL [--device cuda] [--size 1920x1080] [--turns 20]

MODEL is a folder with `weights.npz`. Analysis (pixels to latents and hyper-latents) and synthesis
(latents to the base's picture and the whole one) of one picture at a time, and of four; bricks are
in bfloat16, as training has them. The entropy coder, which runs on a CPU, is left out, and so is
moving pixels to the device. Sides are rounded up to a multiple of 64.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from sccodec.train.model import PictureModel, load
from sccodec.train.networks import COARSER, Bricks
from sccodec.transform.graphs import HYPER

BATCHES = (1, 4)
STEP = 4.0
PER_OCTAVE = 32  # step indexes


def seconds(function: Callable[[], object], device: str, turns: int) -> float:
    """The median of some turns; three before do not count."""
    found = []
    for _ in range(turns + 3):
        begin = time.perf_counter()
        function()
        if device != "cpu":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - begin)
    return statistics.median(found[3:])


def measure(model: PictureModel, size: tuple[int, int], count: int, device: str, turns: int):
    """(seconds of analysis, seconds of synthesis) of `count` pictures at once."""
    width, height = (-(-side // HYPER) * HYPER for side in size)
    pixels = torch.rand(count, 3, height, width, device=device) * 255 - 128
    if device != "cpu":
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    step = torch.full((count, 1, 1, 1), math.log2(STEP), device=device)
    with torch.inference_mode():
        base, rest, *_ = model.analyse(pixels)
        latents = base.round(), rest.round(), step + COARSER / PER_OCTAVE, step
        analysis = seconds(lambda: model.analyse(pixels), device, turns)
        synthesis = seconds(lambda: model.synthesise(*latents), device, turns)
    return analysis, synthesis


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--turns", type=int, default=20)
    options = parser.parse_args()
    size = tuple(int(side) for side in options.size.split("x"))
    model, _ = load(options.model / "weights.npz")
    model.eval().requires_grad_(False).to(options.device)
    for part in (part for part in model.modules() if isinstance(part, Bricks)):
        part.training = True  # which is when they are in bfloat16
    name = "CPU"
    if options.device != "cpu":
        model.to(memory_format=torch.channels_last)
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        name = torch.cuda.get_device_name()
    print(f"{name}, PyTorch {torch.__version__}, {options.size}, median of {options.turns}\n")
    print("| pictures at once | analysis, pictures a second | synthesis |\n|---|---|---|")
    for count in BATCHES:
        times = measure(model, size, count, options.device, options.turns)
        print(f"| {count} | {count / times[0]:.1f} | {count / times[1]:.1f} |")


if __name__ == "__main__":
    main()
