"""The one training loop: resumable, CPU or CUDA, validated on held-out crops."""

from __future__ import annotations

import copy
import functools
import json
import math
import sys
import time
import tomllib
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

from sccodec.entropy.tables import nearest_index
from sccodec.errors import BadRequest, CodecError
from sccodec.profiles.registry import Model
from sccodec.threads import undisturbed
from sccodec.train import chosen as encoder
from sccodec.train import data
from sccodec.train.cuda import RENEW, Recorded, compile_parts, precisely
from sccodec.train.loss import Terms, likeness, rate_distortion
from sccodec.train.model import Coded, PictureModel, load, save, start, warm_start
from sccodec.train.networks import COARSER, HIGH, LOW, Shape
from sccodec.train.objectives import descend
from sccodec.train.soap import Soap
from sccodec.train.widen import widen
from sccodec.transform.graphs import HYPER

MOST_LOST = 20  # steps in a row without a finite gradient
AVERAGE = 0.999  # what the average of the weights keeps of itself at each step
RECIPES = Path(__file__).parent / "recipes"
OPTIMISERS = {
    "adam": functools.partial(torch.optim.Adam, betas=(0.9, 0.99), fused=True),
    "soap": Soap,
}


@dataclass(frozen=True)
class Recipe:
    """A training run as data; see the comments in `recipes/photo.toml`."""

    name: str
    network: Shape
    offsets: bool = True
    hyper_steps: bool = True
    sources: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    steps: int = 100_000
    batch: int = 8
    crop: int = 128
    optimiser: str = "adam"
    rate: float = 1e-3
    linear_rate: float = 1e-4
    warm_up: int = 200
    hold: float = 0.0
    clip: float = 10.0
    log2_step: tuple[float, float] = (-0.75, 4.2)
    base_jitter: float = 0.3
    base_weight: float = 0.1
    absent: float = 0.06
    only_entropy: bool = False
    only_quick: bool = False
    imitate: bool = True
    chosen: int = 0
    efforts: tuple[int, ...] = (5,)
    objectives: int = 0
    balance: float = 0.0
    validate_at: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    validate_crops: int = 24


def read_recipe(name: str | Path) -> Recipe:
    """A recipe by name (one that ships with the package) or by path.

    Raises BadRequest for an unknown recipe or key.
    """
    path, table = _table(name)
    try:
        network = Shape.read(table.pop("network"))
    except (TypeError, AttributeError) as error:
        raise BadRequest(f"{path}: network: {error}") from None
    known = {f.name for f in fields(Recipe)}
    unknown = sorted(set(table) - known)
    if unknown:
        raise BadRequest(f"{path}: unknown keys {', '.join(unknown)}")
    _check_types(path, table | {"network": network})
    recipe = Recipe(network=network, **{k: _tuple(v) for k, v in table.items()})
    check_values(path, recipe)
    if recipe.only_quick and not network.quick8:
        raise BadRequest(f"{path}: only_quick, but quick8 is 0: there is no quick analysis")
    alone = _parts_alone(recipe)
    if len(alone) > 1:
        raise BadRequest(f"{path}: {' and '.join(alone)} exclude each other")
    if not set(recipe.efforts) <= set(range(1, 10)) or not recipe.efforts:
        raise BadRequest(f"{path}: efforts are {list(recipe.efforts)}, not each from 1 to 9")
    if not 0 <= recipe.hold < 1:
        raise BadRequest(f"{path}: hold is {recipe.hold}, not from 0 to below 1")
    if recipe.optimiser not in OPTIMISERS:
        raise BadRequest(f"{path}: no optimiser {recipe.optimiser}; known: {', '.join(OPTIMISERS)}")
    return recipe


def _parts_alone(recipe: Recipe) -> list[str]:
    """The keys by which a recipe trains a part of the networks alone."""
    return [name for name in ("only_entropy", "only_quick", "chosen") if getattr(recipe, name)]


WIDTHS = ("wide8", "wide16", "base_wide", "hyper", "prior_wide")
KINDS = {"str": str, "bool": bool, "int": int, "float": (int, float)}


def _is(value: object, kind: str) -> bool:
    """Whether a value of TOML is of a field's type, such as `tuple[float, ...]`."""
    if kind.startswith("tuple["):
        parts = kind[6:-1].split(", ")
        if not isinstance(value, list | tuple):
            return False
        if parts[-1] == "...":
            return all(_is(v, parts[0]) for v in value)
        return len(value) == len(parts) and all(map(_is, value, parts))
    if isinstance(value, bool) and kind != "bool":
        return False
    return isinstance(value, KINDS[kind]) and value == value  # no NaN


def _check_types(path: Path, table: dict) -> None:
    """Raises BadRequest for a key of another type than a recipe's, or a recipe without a name."""
    if "name" not in table:
        raise BadRequest(f"{path}: name is missing")
    for of, where in ((Recipe, table), (Shape, asdict(table["network"]))):
        for field in fields(of):
            value = where.get(field.name, field.default)
            if field.type != "Shape" and value is not MISSING and not _is(value, field.type):
                raise BadRequest(f"{path}: {field.name} is {value!r}, no {field.type}")


def check_values(path: Path | str, recipe: Recipe) -> None:
    """Raises BadRequest for values that no run can have."""
    low, high = recipe.log2_step
    shape = recipe.network
    if recipe.crop < HYPER or recipe.crop % HYPER:
        raise BadRequest(f"{path}: a crop of {recipe.crop} is no multiple of {HYPER}")
    wrong = {
        "steps": recipe.steps < 1,
        "batch": recipe.batch < max(1, recipe.objectives),
        "rate": not 0 <= recipe.rate < math.inf,
        "linear_rate": not 0 <= recipe.linear_rate < math.inf,
        "warm_up": recipe.warm_up < 0,
        "clip": recipe.clip <= 0,
        "log2_step": not -8 <= low <= high < 8 or bool(low == high and recipe.balance),
        "base_jitter": not 0 <= recipe.base_jitter < math.inf,
        "absent": not 0 <= recipe.absent <= 1,
        "chosen": recipe.chosen < 0,
        "objectives": recipe.objectives < 0,
        "validate_at": not recipe.validate_at or min(recipe.validate_at) <= 0,
        "validate_crops": recipe.validate_crops < 1,
        "network": np.hstack(list(asdict(shape).values())).min() < 0,
        **{name: np.min(getattr(shape, name)) < 1 for name in WIDTHS},
        "quick16": shape.quick8 > 0 and shape.quick16 < 1,
        "base": not 1 <= shape.base <= LOW,
        "enhancement": not 1 <= shape.enhancement <= HIGH,
        "context_steps": shape.context_steps not in (1, 2, 4),
    }
    for name, bad in wrong.items():
        if bad:
            value = getattr(shape if hasattr(shape, name) else recipe, name)
            hint = "at least one crop for each of its objectives" if name == "batch" else None
            raise BadRequest(f"{path}: {name} cannot be {value}", hint=hint)


def _table(name: str | Path, above: tuple[Path, ...] = ()) -> tuple[Path, dict]:
    """A recipe's path, and what it and those that it extends say; it has a network.

    above: the recipes that extend it.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = RECIPES / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise BadRequest(f"no recipe {name}", hint=f"known recipes: {known}; or give a .toml file")
    if path.resolve() in above:
        raise BadRequest(f"{path} extends itself")
    try:
        table = tomllib.loads(path.read_text())
    except ValueError as error:
        raise BadRequest(f"{path}: {error}") from None
    table = {"network": {}} | table
    if not isinstance(table["network"], dict):
        raise BadRequest(f"{path}: network is {table['network']!r}, no table")
    if "extends" in table:
        basis, above = str(table.pop("extends")), (*above, path.resolve())
        _, common = _table(path.parent / basis if basis.endswith(".toml") else basis, above)
        table = common | table | {"network": common["network"] | table["network"]}
    return path, table


def share_of_peak(progress: float, hold: float) -> float:
    """What is left of the peak learning rate at a share `progress` of the budget, 1..0.01."""
    fallen = max(0.0, progress - hold) / (1 - hold)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fallen))


def _tuple(value):
    return tuple(value) if isinstance(value, list) else value


def _check_shape(found: Shape, wanted: Shape, path) -> None:
    """Raises BadRequest if a checkpoint is of another network than the recipe's."""
    for name, value in asdict(wanted).items():
        if getattr(found, name) != value:
            raise BadRequest(f"{path}: {name} is {getattr(found, name)}, the recipe's is {value}")


class Run:
    """One training run in a folder: `last.pt` to resume, `best.pt` to export, `log.jsonl`."""

    def __init__(
        self, recipe: Recipe, data_dir, out, cache, device: str, init=None, compiled: bool = False
    ):
        self.recipe, self.device = recipe, device
        self.out = Path(out)
        self.out.mkdir(parents=True, exist_ok=True)
        root = Path(data_dir)
        self.crops = data.load([root / s for s in recipe.sources], cache)
        self.held_out = data.load([root / s for s in recipe.validation], cache)
        self.chosen = self.chosen_held_out = None
        if recipe.chosen:
            self._choose(init)
        self.step, self.best, self.lost, self.terms = 0, math.inf, 0, None
        last = self.out / "last.pt"
        if last.exists():
            self.model, state = load(last)
            _check_shape(self.model.shape, recipe.network, last)
            for name, value in self.model.switches().items():
                if value != getattr(recipe, name):
                    raise BadRequest(f"{last}: {name} is {value}, the recipe says otherwise")
        else:
            torch.manual_seed(0)
            self.model = PictureModel(recipe.network, recipe.offsets, recipe.hyper_steps)
            start(self.model, self.crops)
            if init is not None:
                self._begin(init)
        self.model.to(device)
        if device != "cpu":
            self.model.to(memory_format=torch.channels_last)
            torch.backends.cudnn.benchmark = True
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        self.average = copy.deepcopy(self.model).eval()
        # On a GPU a step is recorded once; the min-norm solver looks at numbers on its way.
        self.records = device != "cpu" and recipe.optimiser == "soap" and not recipe.objectives
        self.recorded = None
        if compiled and device != "cpu":
            compile_parts(self.model)
        if (alone := self._alone()) is not None:
            self.model.requires_grad_(False)
            for part in alone:
                part.requires_grad_(True)
        elif self.model.quick is not None:
            self.model.quick.requires_grad_(False)  # it learns from the whole analysis, afterwards
        pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
        trained = [(old, new) for old, new in pairs if new.requires_grad]
        self.averaged, self.trained = map(list, zip(*trained, strict=True))
        self.optimiser = self._optimiser()
        if last.exists():
            peaks = [group["peak"] for group in self.optimiser.param_groups]
            self._go_on(last, state)
            for group, peak in zip(self.optimiser.param_groups, peaks, strict=True):
                group["peak"] = peak  # as the recipe has it now

    def _go_on(self, last: Path, state: dict) -> None:
        """Takes what a checkpoint has beside the model; BadRequest if it is not of such a run."""
        try:
            made_by = state.get("made_by", self._made_by())
            if made_by != self._made_by():
                raise BadRequest(
                    f"{last} was trained with {made_by}, the recipe says {self._made_by()}",
                    hint="another folder with --init best.pt begins anew from its weights",
                )
            self.step, self.best = int(state["step"]), float(state["best"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise BadRequest(
                f"{last}: no run of this recipe can go on from it: {error}",
                hint="another folder with --init begins anew from its weights",
            ) from None

    def _made_by(self) -> str:
        """What an optimiser's state is of."""
        return " ".join([self.recipe.optimiser, *_parts_alone(self.recipe)])

    def _choose(self, init) -> None:
        """Has the encoder of the model folder whose weights `init` is code crops; what is coded
        stays in the run's folder."""
        if init is None or not (Path(init).parent / "model.json").exists():
            raise BadRequest(
                f"{self.recipe.name} trains on what an encoder chooses",
                hint="give --init the weights.npz of its model folder",
            )
        recipe, model = self.recipe, Model(Path(init).parent)
        plans = encoder.drawn(
            self.crops, recipe.chosen, recipe.crop, recipe.log2_step, recipe.efforts
        )
        self.chosen = encoder.coded(model, plans, self.out / "chosen")
        held_out = {
            (n, step): encoder.Plan(
                self.held_out.cut(n), nearest_index(math.log2(step)), recipe.efforts[0]
            )
            for step in recipe.validate_at
            for n in range(self._counted())
        }
        paths = encoder.coded(model, held_out.values(), self.out / "chosen-held-out")
        self.chosen_held_out = dict(zip(held_out, paths, strict=True))

    def _counted(self) -> int:
        """Held-out crops of each validation."""
        return min(self.recipe.validate_crops, len(self.held_out))

    def _alone(self) -> list[torch.nn.Module] | None:
        """What is trained if not all is."""
        model = self.model
        if self.recipe.only_entropy:
            return [model.entropy]
        if self.recipe.only_quick:
            return [model.quick]
        if self.recipe.chosen:
            return [model.base_synthesis, model.synthesis, model.finish]
        return None

    def _begin(self, init) -> None:
        """Takes from a checkpoint what it can."""
        narrow = self._narrower(init)
        if narrow is not None:
            more = self.recipe.network.enhancement - narrow.shape.enhancement
            self.model = widen(narrow, more, self.crops)
            print(f"{more} latents added to those of {init}", file=sys.stderr)
            return
        taken, of = warm_start(self.model, init)
        if not taken:
            raise BadRequest(f"{init}: none of its weights fit the recipe's network")
        print(f"{taken} of {of} arrays taken from {init}", file=sys.stderr)

    def _narrower(self, init) -> PictureModel | None:
        """The model of a checkpoint that only lacks enhancement latents for the recipe."""
        try:
            model, state = load(init)
        except BadRequest:
            return None  # of other networks, or none at all
        wanted, switches = self.recipe.network, state.get("quantiser", {})
        wide = replace(model.shape, enhancement=wanted.enhancement) == wanted
        same = all(getattr(self.recipe, name) == value for name, value in switches.items())
        return model if wide and same and model.shape.enhancement < wanted.enhancement else None

    def _optimiser(self):
        trained = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        slow = [p for n, p in trained if "linear.weight" in n]
        fast = [p for n, p in trained if "linear.weight" not in n]
        groups = [{"params": fast, "peak": self.recipe.rate}]
        groups.append({"params": slow, "peak": self.recipe.linear_rate})
        return OPTIMISERS[self.recipe.optimiser](groups, lr=self.recipe.rate)

    def _set_rate(self, group, rate: float) -> None:
        """Where a recorded step reads it, if steps are recorded."""
        if self.recorded is not None:
            group["lr"].fill_(rate)
        else:
            group["lr"] = torch.tensor(rate, device=self.device) if self.records else rate

    def train(self, max_minutes: float | None = None, say=print) -> None:
        """Trains to the recipe's steps or for `max_minutes`, whichever ends first.

        Of the budget that ends first, the learning rate stays at its peak for the share `hold`, and
        falls along a half cosine over the rest.
        """
        recipe, begin, first = self.recipe, time.monotonic(), self.step
        budget = math.inf if max_minutes is None else 60 * max_minutes
        batches = self._batches(seed=1 + first)
        draw = np.random.default_rng(7 + first)
        told = validated = begin
        torch.manual_seed(3 + first)
        self.model.train()
        try:
            while True:
                spent = time.monotonic() - begin
                progress = max(self.step / recipe.steps, spent / budget)
                if progress >= 1:
                    break
                warm = min(1.0, (self.step - first + 1) / max(1, recipe.warm_up))
                left = share_of_peak(progress, recipe.hold)
                with undisturbed():  # half a step is none that a run can go on from
                    for group in self.optimiser.param_groups:
                        self._set_rate(group, group["peak"] * warm * left)
                    self.terms = self._update(next(batches), draw)
                    self.step += 1
                now = time.monotonic()
                if now - told > 30 or self.step - first in (1, 10, 50):
                    say(self._line(self.terms, (self.step - first) / (now - begin)))
                    told = now
                if now - validated > min(600, budget / 4):
                    self.checkpoint(say)
                    validated = time.monotonic()
            self.checkpoint(say)
        except (KeyboardInterrupt, SystemExit):  # told to stop; the next run goes on from here
            if self.terms is not None and self._sound():
                self._keep()  # what has diverged does not replace what has not
            raise

    def _batches(self, seed: int):
        recipe = self.recipe
        if self.chosen:
            return encoder.Batches(self.chosen, recipe.batch, self.device, seed)
        return data.Batches(self.crops, recipe.batch, recipe.crop, self.device, seed)

    def _update(self, batch, draw):
        inputs = self._chosen_inputs(batch, draw) if self.chosen else self._inputs(batch, draw)
        if not self.records:
            return self._step(*inputs)
        if self.recorded is None:
            self._step(*inputs)  # begins the optimiser's state
            self.recorded = Recorded(self._step, inputs)
        terms = self.recorded(*inputs)
        if self.step % RENEW == 0:
            self.optimiser.renew()
            torch.cuda.synchronize()  # no further ahead, or clocks would mean little
        return terms

    def _inputs(self, x, draw):
        """What a step works on: pictures, both layers' log2 steps, who lacks the enhancement."""
        recipe, count = self.recipe, len(x)
        low, high = recipe.log2_step
        # Stratified over the batch: every step of the optimiser sees the whole range of rates.
        spread = (np.arange(count) + draw.random(count)) / count
        log2_step = low + (high - low) * spread
        base_log2 = log2_step + COARSER / 32 + draw.normal(0, recipe.base_jitter, count)
        absent = torch.tensor(draw.random(count) < recipe.absent)
        logs = (torch.tensor(v).float()[:, None, None, None] for v in (base_log2, log2_step))
        # Not blocking: a GPU is steps behind, and need not be waited for.
        return x - 128, *(v.to(x.device, non_blocking=True) for v in (*logs, absent))

    def _chosen_inputs(self, batch: encoder.Batch, draw):
        """The same of coded crops, and their latents and bits."""
        absent = torch.tensor(draw.random(len(batch.x)) < self.recipe.absent)
        absent = absent.to(self.device, non_blocking=True)
        return batch.x, batch.base_log2, batch.log2_step, absent, *batch[3:]

    def _step(self, x, base_log2, log2_step, absent, *chosen) -> Terms:
        """`chosen`: bits and latents of both layers if an encoder chose them, as in a `Batch`."""
        recipe = self.recipe
        self.optimiser.zero_grad(set_to_none=True)
        if recipe.objectives:
            # Neighbours in the batch have similar steps: each part of it is an objective.
            parts = np.array_split(np.arange(len(x)), recipe.objectives)
            inputs = x, base_log2, log2_step, absent, *chosen
            all_terms = [self._terms(*(value[part] for value in inputs)) for part in parts]
            descend(self.trained, [terms.loss.mean() for terms in all_terms])
            terms = Terms(*(torch.cat(term) for term in zip(*all_terms, strict=True)))
        else:
            terms = self._terms(x, base_log2, log2_step, absent, *chosen)
            (terms.loss * self._balance(log2_step.flatten())).mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(self.trained, recipe.clip)
        if self.records:
            self.optimiser.update()
        elif torch.isfinite(norm):
            self.optimiser.step()
            self.lost = 0
        else:
            self._lose()
        with torch.no_grad():
            decay = AVERAGE if self.records else min(AVERAGE, self.step / (self.step + 20))
            torch._foreach_lerp_(self.averaged, self.trained, 1 - decay)
        return terms

    def _lose(self) -> None:
        """Counts steps in a row without a finite gradient; CodecError if there are many."""
        self.lost += 1
        if self.lost == MOST_LOST:
            raise self._diverged()

    def _diverged(self) -> CodecError:
        return CodecError(
            f"training has diverged: at step {self.step} the loss is no number",
            hint="lower the recipe's rate; last.pt, if there is one, is from before",
        )

    def _balance(self, log2_step):
        """(N,) what the losses of crops count: steps to the power `balance`, 1 on average.

        The loss at a fine step is several times that at a coarse one, and a per cent of either is
        worth the same.
        """
        power, (low, high) = self.recipe.balance * math.log(2), self.recipe.log2_step
        if not power:
            return torch.ones_like(log2_step)
        mean = (math.exp(power * high) - math.exp(power * low)) / (power * (high - low))
        return torch.exp(power * log2_step) / mean

    def _terms(self, x, base_log2, log2_step, absent, *chosen) -> Terms:
        quick = self.recipe.only_quick
        if quick and self.recipe.imitate:
            with torch.no_grad():
                _, wanted, *_ = self.model.analyse(x)
            _, found, *_ = self.model.analyse(x, quick=True)
            nothing = torch.zeros(len(x), device=x.device)
            return Terms(likeness(found, wanted), nothing, nothing, nothing, nothing)
        if chosen:
            base_bits, bits, *latents = chosen
            pictures = self.model.synthesise(*latents, base_log2, log2_step, absent)
            coded = Coded(*pictures, base_bits, bits)
        elif self.recipe.only_entropy:
            *_, base_bits, bits = self.model.code(x, base_log2, log2_step)
            coded = Coded(x, x, base_bits, bits)  # no synthesis, so no distortion
        else:
            coded = self.model(x, base_log2, log2_step, absent, quick)
        return rate_distortion(x, coded, log2_step, self.recipe.base_weight, absent)

    def _line(self, terms, speed: float) -> str:
        return (
            f"step {self.step} loss {terms.loss.mean():.3f} bpp {terms.bpp.mean():.3f} "
            f"base {terms.base_bpp.mean():.3f} mse {terms.mse.mean():.1f} {speed:.2f} steps/s"
        )

    @torch.no_grad()
    @precisely()
    def validate(self) -> dict:
        """Rates and PSNR of the averaged weights on held-out crops, with real rounding."""
        rows, losses = [], []
        for step in self.recipe.validate_at:
            sums = []
            for n in range(self._counted()):
                x, log2_step, coded = self._coded_held_out(n, step)
                coded.full.clamp_(-128, 127), coded.base.clamp_(-128, 127)
                terms = rate_distortion(x, coded, log2_step, self.recipe.base_weight)
                psnr = [
                    10 * math.log10(255**2 / max(v.item(), 1e-3))
                    for v in (terms.mse, terms.base_mse)
                ]
                sums.append([terms.loss.item(), terms.bpp.item(), terms.base_bpp.item(), *psnr])
            means = np.mean(sums, 0).round(4).tolist()
            rows.append(
                dict(
                    zip(("loss", "bpp", "base_bpp", "psnr", "base_psnr"), means, strict=True),
                    step=step,
                )
            )
            losses.append(means[0])
        counts = np.array(self.recipe.validate_at) ** self.recipe.balance
        loss = round(float(np.average(losses, weights=counts)), 4)
        return {"at_step": self.step, "loss": loss, "points": rows}

    def _coded_held_out(self, n: int, step: float):
        """Held-out crop n at one of the steps of a validation: pixels, log2 step, and as coded.

        An encoder's choice stays what it was for the networks that it was made for.
        """
        if self.chosen_held_out:
            found = encoder.Batch.of([self.chosen_held_out[n, step]], self.device)
            logs = found.base_log2, found.log2_step
            pictures = self.average.synthesise(found.base, found.enhancement, *logs)
            return found.x, found.log2_step, Coded(*pictures, found.base_bits, found.bits)
        x = self.held_out.centred(n).to(self.device)
        log2_step = torch.full((1, 1, 1, 1), math.log2(step), device=self.device)
        logs = log2_step + COARSER / 32, log2_step
        return x, log2_step, self.average(x, *logs, quick=self.recipe.only_quick)

    def checkpoint(self, say=print) -> None:
        """Validates, appends to the log, writes `last.pt`, and `best.pt` if it is."""
        result = self.validate()
        if not (math.isfinite(result["loss"]) and self._sound()):
            raise self._diverged()  # and keeps last.pt
        with (self.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(result) + "\n")
        say(json.dumps(result))
        switches = self.model.switches()
        if result["loss"] < self.best:
            save(self.out / "best.pt", self.average, quantiser=switches, step=self.step)
            self.best = result["loss"]
        self._keep()

    def _sound(self) -> bool:
        """Whether the last step had a loss; steps on a GPU do not look."""
        return self.terms is None or bool(torch.isfinite(self.terms.loss).all())

    def _keep(self) -> None:
        """Writes `last.pt`."""
        save(
            self.out / "last.pt",
            self.model,
            quantiser=self.model.switches(),
            step=self.step,
            best=self.best,
            average=self.average.state_dict(),
            optimiser=self.optimiser.state_dict(),
            made_by=self._made_by(),
        )
