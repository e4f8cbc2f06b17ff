"""Writes tests/models/tiny-1, an untrained model of all parts that codes in milliseconds.

Run by a person, and only when the model format changes: the golden files name its digest.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sccodec.train import export
from sccodec.train.data import Crops
from sccodec.train.model import PictureModel, start
from sccodec.train.networks import Quick, Shape

ROOT = Path(__file__).parent
SHAPE = Shape(
    base=8,
    enhancement=16,
    hyper=(4, 4),
    wide8=8,
    wide16=12,
    analysis8=1,
    analysis16=1,
    synthesis8=1,
    synthesis16=1,
    base_wide=8,
    base_bricks=1,
    prior_wide=(8, 12),
    context_steps=4,
)
QUICK = replace(SHAPE, quick8=4, quick16=6, quick_bricks=1)
STEPS = (-1.0, 4.5)  # log2 of the finest and coarsest step


def crops(count: int = 6) -> Crops:
    sys.path.insert(0, str(ROOT))
    from conftest import picture

    pictures = [picture(128, 128, seed) for seed in range(count)]
    index = [(n * pictures[0].size, 128, 128) for n in range(count)]
    return Crops(np.concatenate([p.reshape(-1) for p in pictures]), np.array(index))


@torch.no_grad()
def wake(model: PictureModel) -> None:
    """Gives the layers that start silent small weights, so that every path changes the result."""
    for net in (model.analysis.base_out, model.analysis.leave):
        net.weight.normal_(std=0.02)
    for net in (model.base_synthesis.leave, model.synthesis.leave):
        net.weight.normal_(std=0.5)
    for prior in (model.entropy.base, model.entropy.enhancement):
        for step in prior.context:
            step.leave.weight.normal_(std=0.05)
        prior.hyper_mean.normal_(std=0.5)
    for one in model.finish:
        one.mix.normal_(std=0.05)
        one.straight.normal_(std=0.02)
    quantiser = model.entropy.quantiser
    quantiser.offset_net[-1].weight.normal_(std=0.05)
    quantiser.hyper_net[-1].weight.normal_(std=0.2)


def main() -> None:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    model = PictureModel(SHAPE)
    start(model, crops())
    wake(model)
    model.shape, model.quick = QUICK, Quick(QUICK)  # after all else, so that nothing else changed
    with torch.no_grad():
        model.quick.leave.weight.normal_(std=0.02)
    about = {"note": "untrained; for tests"}
    folder = ROOT / "models" / "tiny-1"
    written = export.export(model, folder, "tiny-1", STEPS, about)
    (folder / "weights.npz").unlink()  # only training reads it
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size} bytes, digest {written.digest}")


if __name__ == "__main__":
    main()
