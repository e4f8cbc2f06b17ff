"""One two-layer picture model as trained: analysis, priors, two syntheses."""

from __future__ import annotations

import dataclasses
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sccodec.container.writer import whole_file
from sccodec.errors import BadRequest
from sccodec.train import wavelet
from sccodec.train.data import Crops
from sccodec.train.networks import (
    GAIN,
    HIGH,
    LOW,
    Analysis,
    BaseSynthesis,
    Brick,
    Finish,
    Lap,
    Quick,
    Shape,
    Synthesis,
)
from sccodec.train.prior import Entropy
from sccodec.transform.graphs import ABSENT, log2_of_plane, step_plane

TRANSFORMS = ("analysis.", "synthesis.")  # whose bricks a warm start may widen
QUICK = "quick."
TOLD_BY_BOTH = "analysis.leave.weight"  # its inputs: channels at 1/16, then those at 1/8


@dataclass
class Coded:
    """What one forward pass gives: pictures (N, 3, H, W) in -128..127, bits (N,) a layer."""

    base: torch.Tensor
    full: torch.Tensor
    base_bits: torch.Tensor
    enhancement_bits: torch.Tensor


class PictureModel(nn.Module):
    """The photo profile: base from the low band, enhancement from all bands given the base."""

    def __init__(self, shape: Shape, offsets: bool = True, hyper_steps: bool = True):
        super().__init__()
        self.shape = shape
        self.lap = Lap()
        self.analysis = Analysis(shape)
        self.base_synthesis = BaseSynthesis(shape)
        self.synthesis = Synthesis(shape)
        self.finish = Finish()
        self.entropy = Entropy(shape, offsets, hyper_steps)
        self.quick = Quick(shape) if shape.quick8 else None

    def switches(self) -> dict[str, bool]:
        """Which parts of paper 1 the quantiser has, as a checkpoint says it."""
        quantiser = self.entropy.quantiser
        return {"offsets": quantiser.offsets, "hyper_steps": quantiser.hyper_steps}

    def forward(self, x, base_log2, log2_step, absent=None, quick: bool = False) -> Coded:
        """Codes x (N, 3, H, W) with one log2 step a sample and layer, each (N, 1, 1, 1).

        `absent` (N,) bool marks samples whose enhancement the synthesis must do without;
        `quick`: as with the quick analysis.
        """
        base_hat, y_hat, base_bits, bits = self.code(x, base_log2, log2_step, quick)
        pictures = self.synthesise(base_hat, y_hat, base_log2, log2_step, absent)
        return Coded(*pictures, base_bits, bits)

    def synthesise(self, base_hat, y_hat, base_log2, log2_step, absent=None):
        """Latents as decoded (N, M, h, w) of both layers -> the base's picture and the whole."""
        plane = step_plane(log2_step)
        if absent is not None:
            gone = absent[:, None, None, None]
            y_hat = torch.where(gone, 0.0, y_hat)
            plane = torch.where(gone, ABSENT, plane)
        size = (-1, -1, *y_hat.shape[2:])
        base_plane = step_plane(base_log2).expand(size)
        planes = torch.cat([base_plane, plane.expand(size)], 1)
        base = self.lap(self.base_synthesis(base_hat, base_plane), undo=True)
        full = self.lap(self.synthesis(torch.cat([base_hat, y_hat], 1), planes), undo=True)
        return base, self.finish(full, torch.exp2(log2_of_plane(planes[:, 1:])))

    def analyse(self, x, quick: bool = False):
        """Pixels x -> unquantised latents and hyper-latents of both layers, see `Analysis`."""
        return self.analysis(self.lap(x), self.quick if quick else None)

    def code(self, x, base_log2, log2_step, quick: bool = False):
        """Latents as the syntheses get them, and bits (N,): base, enhancement, base, ..."""
        y_base, y, z_base, z = self.analyse(x, quick)
        entropy = self.entropy
        base_bits, base_hat, base_seen = entropy.layer(
            entropy.base, y_base, z_base, None, base_log2
        )
        bits, y_hat, _ = entropy.layer(entropy.enhancement, y, z, base_seen, log2_step)
        return base_hat, y_hat, base_bits, bits


@torch.no_grad()
def start(model: PictureModel, crops: Crops, pictures: int = 600) -> None:
    """Sets the linear paths to the Karhunen-Loève bases of the pictures' wavelet bands.

    Also scales: what enters a network has unit size, and every latent's log2-scale starts at
    its own standard deviation.
    """
    kernel = torch.from_numpy(wavelet.filters())
    moments = {LOW: torch.zeros(LOW, LOW).double(), HIGH: torch.zeros(HIGH, HIGH).double()}
    band_power, blocks = torch.zeros(LOW).double(), 0
    for n in np.linspace(0, len(crops) - 1, min(pictures, len(crops))).astype(int):
        x = crops.centred(n, 16)
        bands = wavelet.forward(model.lap(x), kernel)
        band_power += bands.double().pow(2).sum((0, 2, 3)) / 16
        for part, count in ((bands[:, :3], LOW), (bands[:, 3:], HIGH)):
            rows = torch.pixel_unshuffle(part, 4)[0].reshape(count, -1).double()
            moments[count] += rows @ rows.T
        blocks += (x.shape[2] // 16) * (x.shape[3] // 16)
    shape = model.shape
    bases, stds = {}, {}
    for count, kept in ((LOW, shape.base), (HIGH, shape.enhancement)):
        power, vectors = torch.linalg.eigh(moments[count] / blocks)
        bases[count] = vectors.flip(1)[:, :kept].float()
        stds[count] = GAIN * power.flip(0)[:kept].clamp(min=1e-6).sqrt().float()
    analysis, full, base = model.analysis, model.synthesis, model.base_synthesis
    analysis.base_linear.weight.copy_((GAIN * bases[LOW].T)[:, :, None, None])
    analysis.linear.weight.copy_((GAIN * bases[HIGH].T)[:, :, None, None])
    for net in (analysis, full):
        net.band_scale.copy_((band_power / blocks).clamp(min=1e-6).rsqrt().float())
    base.linear.weight.copy_((bases[LOW] / GAIN)[:, :, None, None])
    full.linear.weight.zero_()
    full.linear.weight[:LOW, : shape.base].copy_((bases[LOW] / GAIN)[:, :, None, None])
    full.linear.weight[LOW:, shape.base :].copy_((bases[HIGH] / GAIN)[:, :, None, None])
    base.unit.copy_(1 / stds[LOW])
    full.unit.copy_(1 / torch.cat([stds[LOW], stds[HIGH]]))
    analysis.base_hyper.unit.copy_(1 / stds[LOW])
    analysis.hyper.unit.copy_(1 / stds[HIGH])
    for prior, std in ((model.entropy.base, stds[LOW]), (model.entropy.enhancement, stds[HIGH])):
        prior.shift.copy_((std / 2).log2().round().clamp(0, 6))
        for net in prior.context:
            net.leave.bias[len(std) :] = std.log2()
    model.entropy.enhancement.lower_shift.copy_(model.entropy.base.shift)


def save(path, model: PictureModel, **more) -> None:
    """Writes a checkpoint that `load` and a resumed run read."""
    held = io.BytesIO()  # PyTorch has its own errors for a full disk, and a zip file needs seeks
    torch.save(
        {"shape": dataclasses.asdict(model.shape), "model": model.state_dict(), **more}, held
    )
    with whole_file(path, force=True) as file:
        file.write(held.getbuffer())


def load(path) -> tuple[PictureModel, dict]:
    """Reads a checkpoint: the model, and everything else that was saved with it.

    `path` is a run's .pt file, or the `weights.npz` of a model folder (float16 weights alone).
    Raises BadRequest if it is neither, or of another version of the networks.
    """
    weights, state = _read(Path(path))
    try:
        model = PictureModel(Shape.read(state["shape"]), **state.get("quantiser", {}))
        for name, value in model.state_dict().items():
            weights[name] = weights[name].to(value.dtype)
        model.load_state_dict(weights)
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
    ) as error:
        raise BadRequest(
            f"{path}: not a checkpoint of these networks: {error}",
            hint="sccodec train --init takes from it what still fits",
        ) from None
    return model, state


@torch.no_grad()
def warm_start(model: PictureModel, path) -> tuple[int, int]:
    """Takes from a checkpoint every weight whose name and shape agree, so that a change of
    architecture need not start from nothing; returns how many, and of how many.

    Bricks that the checkpoint does not have begin silent, and so do channels at 1/8 and 1/16 that
    it does not have and what they are shown: a deeper or wider model does what it did.
    Raises BadRequest if `path` is not a checkpoint.
    """
    weights, state = _read(Path(path))
    own, taken = model.state_dict(), 0
    for name, part in model.named_modules():
        added = isinstance(part, Brick) and f"{name}.leave.weight" not in weights
        if added and not name.startswith(QUICK):
            part.silence()
    narrow = _narrower(state.get("shape"), model.shape)
    if narrow and "synthesis.see.conv.weight" not in weights:
        for part in (model.synthesis.see.conv.weight, model.synthesis.see.conv.bias):
            part[: narrow.wide8] = 0
    for name, new in own.items():
        old = weights.get(name)
        if old is not None and old.shape == new.shape:
            new.copy_(old)
        elif old is not None and narrow and name.startswith(TRANSFORMS):
            new[: len(old)] = 0  # those of before do not see what is new
            if name == TOLD_BY_BOTH:
                at16, now16 = (s.widths_of_analysis()[1] for s in (narrow, model.shape))
                new[:, now16 : now16 + old.shape[1] - at16] = old[:, at16:]
                old = old[:, :at16]
            new[tuple(map(slice, old.shape))] = old
        else:
            continue
        taken += 1
    return taken, len(own)


def _narrower(table: dict | None, now: Shape) -> Shape | None:
    """A checkpoint's shape if only channels of bricks, and bricks, are fewer than in these."""
    if table is None:
        return None
    try:
        before = Shape.read(table)
    except (TypeError, AttributeError):
        return None
    may_differ = ("wide8", "wide16", "analysis_wide8", "analysis_wide16")
    may_differ += ("analysis8", "analysis16", "synthesis8", "synthesis16")
    may_differ += ("quick8", "quick16", "quick_bricks")
    same = dataclasses.replace(before, **{name: getattr(now, name) for name in may_differ}) == now
    widths = ((s.wide8, s.wide16, *s.widths_of_analysis()) for s in (before, now))
    return before if same and all(a <= b for a, b in zip(*widths, strict=True)) else None


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                state = json.loads(str(archive["about"]))
                names = [name for name in archive.files if name != "about"]
                arrays = {name: archive[name].astype(np.float32) for name in names}
            return {name: torch.from_numpy(array) for name, array in arrays.items()}, state
        state = torch.load(path, map_location="cpu", weights_only=True)
        weights = state.pop("model")
        if not all(isinstance(value, torch.Tensor) for value in weights.values()):
            raise ValueError("not weights")
        return weights, state
    except OSError:
        raise
    except Exception as error:  # pickle, zip, JSON and PyTorch each have their own
        raise BadRequest(f"{path} is not a checkpoint of sccodec") from error


def save_weights(path, model: PictureModel, **more) -> None:
    """Writes what training can start from again, at half the size: float16, no optimiser.

    `more` must be fit for JSON and comes back from `load`.
    """
    about = json.dumps({"shape": dataclasses.asdict(model.shape), **more})
    weights = {k: v.cpu().numpy().astype(np.float16) for k, v in model.state_dict().items()}
    np.savez_compressed(path, about=np.array(about), **weights)
