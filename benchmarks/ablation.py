"""What paper 1's parts are worth in a trained model: each is switched off, or replaced.

    python benchmarks/ablation.py MODEL CROPS [--count 24] [--cache DIR]

MODEL is a folder with `weights.npz`, CROPS a tar or folder of held-out pictures. Rates are those of
the networks before export, with rounded latents; BD-rate is against the model as it was trained.
Nothing is trained again, so a row says what the part does in this model, not what a model that
never had it would do.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch

from sccodec.evaluate import markdown
from sccodec.evaluate.curves import bd_rate
from sccodec.train import data
from sccodec.train.loss import rate_distortion
from sccodec.train.model import PictureModel, load

STEPS = (1.0, 2.0, 4.0, 8.0, 14.0)


def laplace(log2_ratio: torch.Tensor, _step) -> torch.Tensor:
    """The offset in steps at which cells of a Laplace density with this scale have their mean."""
    b = torch.exp2(log2_ratio.clamp(-4, 4)) / math.sqrt(2)
    return 0.5 / torch.tanh(1 / (2 * b)) - b


VARIANTS = {  # what becomes another attribute of the model's quantiser
    "as trained": {},
    "no reconstruction offset": {"offsets": False},
    "closed-form offset (Laplace)": {"offset": laplace},
    "hyper-latent step 1": {"hyper_steps": False},
}


@torch.no_grad()
def curve(model: PictureModel, crops: data.Crops, count: int) -> list[tuple[float, float]]:
    """(bits per pixel, PSNR of the mean error) at each step, means over the crops."""
    points = []
    for step in STEPS:
        log2_step = torch.full((1, 1, 1, 1), math.log2(step))
        found = []
        for n in range(min(count, len(crops))):
            x = crops.centred(n)
            coded = model(x, log2_step, log2_step)
            coded.full.clamp_(-128, 127)
            terms = rate_distortion(x, coded, log2_step, 0.0)
            found.append((terms.bpp.item(), 10 * math.log10(255**2 / terms.mse.item())))
        points.append(tuple(np.mean(found, 0).tolist()))
    return points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("crops", type=Path)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--cache", type=Path, help="where decoded pictures are kept")
    options = parser.parse_args()
    crops = data.load([options.crops], options.cache)
    curves = {}
    for name, parts in VARIANTS.items():
        model = load(options.model / "weights.npz")[0].eval()
        for part, other in parts.items():
            setattr(model.entropy.quantiser, part, other)
        curves[name] = curve(model, crops, options.count)
    rows = [
        [name, f"{bd_rate(curves['as trained'], points).percent:+.2f} %"]
        + [f"{bpp:.3f}, {psnr:.2f}" for bpp, psnr in points]
        for name, points in curves.items()
    ]
    heads = ["variant", "BD-rate", *(f"bpp, dB at step {step:g}" for step in STEPS)]
    print(markdown.table(heads, rows))


if __name__ == "__main__":
    main()
