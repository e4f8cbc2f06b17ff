"""Checkpoint -> model folder: rounds the entropy model to the exact grid and measures the cost.

The measurement codes held-out crops twice, once with the float prior as trained and once with
the exact one on the exported integer tables, and compares the bits for the same latents. Then
the tables are counted anew on training crops, with the symbols that the encoder chooses.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch

from sccodec.codecs.image import choices
from sccodec.entropy.fixed import ACTIVATION_BITS, WEIGHT_BITS
from sccodec.entropy.tables import STEPS, TOTAL, nearest_index
from sccodec.errors import CodecError
from sccodec.latents import quantize
from sccodec.latents.prior import OFFSET_BITS, OFFSET_EVERY
from sccodec.latents.quantize import Analysed
from sccodec.media.picture import Picture
from sccodec.profiles.registry import DIGEST, FORMAT, Model
from sccodec.threads import cores, each
from sccodec.train import onnx_graphs
from sccodec.train.data import Crops
from sccodec.train.model import PictureModel, save_weights
from sccodec.train.networks import BENDS, COARSER, DILATIONS, UNIT, Shape
from sccodec.train.prior import SMALLEST_LOG2, TABLES_PER_OCTAVE, Prior, Quantiser

LARGEST_LOG2 = 8.0
REACH = 512  # symbols further out use the escape
LAPPED = 1  # latents further that a lapped transform sees
BEYOND = -1.25, 1.0  # octaves of steps past those trained: rate and error go on smoothly there
BELIEF = 1000  # symbols that a trained table counts as
WORST_COST = 0.005  # share of the bits that rounding to the grid may cost


def _grid(value: torch.Tensor, bits: int, dtype) -> np.ndarray:
    scaled = np.floor(value.detach().double().numpy() * 2**bits + 0.5)
    limits = np.iinfo(dtype)
    if scaled.min() < limits.min or scaled.max() > limits.max:
        raise CodecError(f"export: a value of {float(value.abs().max()):.3f} leaves the exact grid")
    return scaled.astype(dtype)


def prior_arrays(prior: Prior) -> dict[str, np.ndarray]:
    """The integer arrays of one layer's prior, named as `latents.prior.LayerPrior` reads them."""
    arrays = {}
    for name, value in prior.named_parameters():
        if name.startswith("hyper_"):
            arrays[name] = _grid(value, ACTIVATION_BITS, np.int16)
        elif name.endswith(".weight"):
            squeezed = value[:, :, 0, 0] if value.shape[2] == 1 else value[:, 0]
            arrays[name] = _grid(squeezed, WEIGHT_BITS, np.int16)
        else:
            arrays[name] = _grid(value, WEIGHT_BITS, np.int32)
    arrays["pattern"] = prior.pattern.numpy().astype(np.uint8)
    arrays["shift"] = prior.shift.numpy().astype(np.int8)
    arrays["lower_shift"] = prior.lower_shift.numpy().astype(np.int8)
    return arrays


def table_arrays(quantiser: Quantiser) -> dict[str, np.ndarray]:
    """Integer tables of the trained mixture: counts of 2^-24, each at least one, escape last."""
    counts, reaches = [], []
    number = round((LARGEST_LOG2 - SMALLEST_LOG2) * TABLES_PER_OCTAVE) + 1
    for t in range(number):
        log2_scale = SMALLEST_LOG2 + t / TABLES_PER_OCTAVE
        reach = min(REACH, 3 + math.ceil(8 * 2**log2_scale))
        symbols = torch.arange(-reach, reach + 1).double()
        mass = quantiser.mass(symbols, torch.full_like(symbols, log2_scale)).detach().numpy()
        mass = np.append(mass, max(1 - mass.sum(), 2.0**-22))
        counts.append(to_counts(mass))
        reaches.append(reach)
    return {
        "tables.counts": np.concatenate(counts).astype(np.uint32),
        "tables.reach": np.array(reaches, np.int32),
    }


def worth(rounds: int) -> list[float]:
    """What a squared error of one step is worth in bits, for each round of a layer's latents.

    Six times UNIT, since later symbols are predicted from earlier ones and the finish sharpens what
    there is: best on held-out crops, where more for some rounds or channels than for others
    gained nothing.
    """
    return rounds * [round(6.0 * UNIT, 2)]


def to_counts(mass: np.ndarray) -> np.ndarray:
    """Probabilities -> integers of at least one that add up to 2^24; the largest takes the rest."""
    share = mass / mass.sum()
    counts = np.maximum(1, np.floor(share * (TOTAL - len(share)) + 0.5)).astype(np.int64)
    counts[np.argmax(counts)] += TOTAL - counts.sum()
    return counts


def step_arrays(quantiser: Quantiser) -> dict[str, np.ndarray]:
    """Paper 1's networks as tables: hyper-latent step index and offsets for every step index."""
    with torch.no_grad():
        index = torch.arange(STEPS).float()
        hyper = 256 + 32 * quantiser.hyper_log2_step((index - 256) / 32)
        nodes = torch.arange(0, STEPS, OFFSET_EVERY).float()
        number = round((LARGEST_LOG2 - SMALLEST_LOG2) * TABLES_PER_OCTAVE) + 1
        ratio = SMALLEST_LOG2 + torch.arange(number).float() / TABLES_PER_OCTAVE
        step = torch.exp2((nodes - 256) / 32)
        offsets = quantiser.offset(
            ratio[:, None].expand(-1, len(nodes)), step[None].expand(number, -1)
        )
    return {
        "hyper_steps": hyper.round().clamp(0, STEPS - 1).numpy().astype(np.int16),
        "offsets": np.floor(offsets.numpy() * 2**OFFSET_BITS + 0.5).astype(np.int16),
    }


def export(
    model: PictureModel,
    folder: str | Path,
    name: str,
    log2_step: tuple[float, float],
    trained: dict,
) -> Model:
    """Writes the model folder and returns it loaded. `trained`: free words for `sccodec models`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = model.cpu().eval()
    shape, entropy = model.shape, model.entropy
    with torch.no_grad():
        path = folder / "analysis.onnx"
        onnx_graphs.analysis_graph(model.analysis, model.lap, path)
        if model.quick is not None:
            onnx_graphs.analysis_graph(model.analysis, model.lap, path, model.quick)
        onnx_graphs.base_graph(model.base_synthesis, model.lap, folder / "base.onnx")
        onnx_graphs.full_graph(model.synthesis, model.lap, folder / "enhancement.onnx")
        onnx_graphs.finish_graph(model.finish, folder / "finish.onnx")
        onnx_graphs.base_gradient(model.base_synthesis, model.lap, folder / "base.onnx")
        onnx_graphs.full_gradient(model.synthesis, model.lap, folder / "enhancement.onnx")
        onnx_graphs.finish_gradient(model.finish, folder / "finish.onnx")
    arrays = table_arrays(entropy.quantiser)
    for layer, prior in (("base", entropy.base), ("enhancement", entropy.enhancement)):
        both = {**prior_arrays(prior), **step_arrays(entropy.quantiser)}
        arrays.update({f"{layer}.{key}": value for key, value in both.items()})
    np.savez(folder / "prior.npz", **arrays)  # compressed it takes longer to load
    save_weights(folder / "weights.npz", model, quantiser=model.switches(), **trained)
    low, high = (end + more for end, more in zip(log2_step, BEYOND, strict=True))
    analysis = {"graph": "analysis.onnx", "halo": _halo(shape, shape.analysis8, shape.analysis16)}
    if model.quick is not None:
        halo = _halo(shape, shape.quick_bricks, shape.quick_bricks)
        analysis["quick"] = {"graph": "analysis.quick.onnx", "halo": halo}
    about = {
        "format": FORMAT,
        "id": name,
        "profile": "photo",
        "layers": [
            {
                "name": "base",
                "purpose": "base",
                "latents": shape.base,
                "hyper": shape.hyper[0],
                "needs": [],
                "head": "base.onnx",
                "halo": LAPPED + shape.base_bricks,
                "worth": worth(shape.context_steps),
                "coarser": COARSER,
                "signs": "base.signs.onnx",
                "gradient": "base.gradient.onnx",
                "unit": round(UNIT, 2),
            },
            {
                "name": "enhancement",
                "purpose": "enhancement",
                "latents": shape.enhancement,
                "hyper": shape.hyper[1],
                "needs": [0],
                "head": "enhancement.onnx",
                "halo": LAPPED + shape.synthesis16 + math.ceil(shape.synthesis8 / 2),
                "worth": worth(shape.context_steps),
                "finish": "finish.onnx",
                "bends": BENDS,
                "reach": sum(DILATIONS),
                "signs": "enhancement.signs.onnx",
                "gradient": "enhancement.gradient.onnx",
                "finish_gradient": "finish.gradient.onnx",
                "unit": round(UNIT, 2),
            },
        ],
        "analysis": analysis,
        "steps": [min(max(0, nearest_index(v)), STEPS - 1) for v in (low, high)],
        "tables": {"per_octave": TABLES_PER_OCTAVE, "smallest": int(SMALLEST_LOG2)},
        "trained": trained,
    }
    (folder / "model.json").write_text(json.dumps(about, indent=1) + "\n")
    return _sealed(folder)


def _halo(shape: Shape, bricks8: int, bricks16: int) -> int:
    """Latents around one that an analysis sees: bricks at 1/8 and 1/16, and two for the brick of
    the hyper-analysis."""
    return LAPPED + 2 + max(bricks16 + math.ceil(bricks8 / 2), shape.base_bricks)


@torch.no_grad()
def rounding_cost(
    model: PictureModel, exported: Model, crops: Crops, count: int, steps: tuple[float, ...]
) -> list[dict]:
    """Bits of the float prior and of the exact one for the same latents, for each step."""
    model = model.cpu().eval()
    entropy = model.entropy
    rows = []
    for step in steps:
        index = nearest_index(math.log2(step))
        log2_step = torch.full((1, 1, 1, 1), (index - 256) / 32)
        totals = np.zeros(2)
        for n in range(min(count, len(crops))):
            y_base, y, z_base, z = model.analyse(crops.centred(n))
            base_bits, _, seen = entropy.layer(entropy.base, y_base, z_base, None, log2_step)
            bits, _, _ = entropy.layer(entropy.enhancement, y, z, seen, log2_step)
            totals[0] += (base_bits + bits).item()
            lower = None
            for prior, ys, zs in zip(exported.priors, (y_base, y), (z_base, z), strict=True):
                tile = Analysed(ys[0].numpy(), zs[0].numpy())
                chooser, coded = quantize.choose(prior, tile, index, lower)
                totals[1] += chooser.bits
                lower = coded.seen
        rows.append(
            {
                "step": step,
                "float_bits": totals[0],
                "exact_bits": totals[1],
                "cost": totals[1] / totals[0] - 1,
            }
        )
    return rows


def recount(exported: Model, crops: Crops, count: int) -> Model:
    """Replaces the tables of a model folder by what its own encoder meets on `count` crops, at its
    default effort.

    The trained ones are of one shape and know nothing of rate-distortion optimised symbols.
    They count as BELIEF symbols each. Returns the model.
    """
    tables = exported.tables
    met = np.zeros(len(tables.counts))
    low, high = exported.about["steps"]
    random = np.random.default_rng(1)
    some = np.linspace(0, len(crops) - 1, min(count, len(crops))).astype(int)
    steps = random.integers(low, high + 1, len(some))

    def meet(n: int, step: int) -> np.ndarray:
        found = np.zeros(len(met), np.int64)
        for _, (chooser, _) in choices(Picture(crops.cut(n)), step, exported):
            for symbols, table in chooser.rounds:
                found += np.bincount(tables.places(symbols, table), minlength=len(found))
        return found

    for found in each(lambda pair: meet(*pair), zip(some, steps.tolist(), strict=True), cores()):
        met += found
    counts = [
        recounted(part, tables.table(t))
        for t, part in enumerate(np.split(met, tables.starts[1:-1]))
    ]
    path = exported.folder / "prior.npz"
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["tables.counts"] = np.concatenate(counts).astype(np.uint32)
    np.savez(path, **arrays)
    return _sealed(exported.folder)


def recounted(met: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """How often each place of one table was met, and its trained counts -> new counts."""
    share = trained / trained.sum()
    symbols, escape = met[:-1], met[-1:]
    even = np.concatenate([(symbols + symbols[::-1]) / 2, escape])
    return to_counts(even + BELIEF * share)


def _sealed(folder: Path) -> Model:
    """The model of a folder whose files are all there, with its digest beside them."""
    exported = Model(folder)
    (folder / DIGEST).write_text(f"{exported.digest}\n")
    return exported
