"""Finds, checks and loads trained models: a folder each, `models/<id>/`.

A model folder holds `model.json` (what it is), `prior.npz` (integers of the entropy model)
and `.onnx` graphs; `weights.npz`, if it is there, is only for training to go on from. The
digest is a SHA-256 over all but the last; an .scc file names the digest that it was written
with, so a model is never mistaken for another of the same name. `digest.txt` holds it too, so
that a folder with a damaged file is refused before any of it is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from sccodec.entropy.coder import Models
from sccodec.entropy.tables import STEPS, Tables
from sccodec.errors import WrongModel
from sccodec.latents.prior import LayerPrior
from sccodec.threads import ahead, at_once
from sccodec.transform.finish import Finish
from sccodec.transform.graphs import Graph
from sccodec.transform.synthesis import Head

FORMAT = 1
DIGEST = "digest.txt"
DEFAULT = "photo-1"
PROFILES = {"photo": DEFAULT}  # the model that encodes a profile today
QUICK = 1  # effort up to which the quick analysis does


@dataclass(frozen=True)
class LayerPlan:
    """One layer of a profile, as `model.json` describes it."""

    name: str
    purpose: str
    latents: int
    hyper: int
    needs: tuple[int, ...]  # layers that must be decoded first; the prior sees all of them
    head: str  # synthesis graph that gives pixels from all layers up to this one
    halo: int  # its receptive field, in latents on each side
    # For the encoder alone: what a squared error of one step is worth in bits, in each round
    # of latents; None if the layer's symbols can only be the nearest.
    worth: tuple[float, ...] | None = None
    coarser: int = 0  # for the encoder alone: step indexes that it adds to a picture's
    finish: str | None = None  # graph that the head's pixels go through
    bends: int = 0  # its clipped filters that a tile may correct
    reach: int = 1  # pixels that it sees on each side
    # For the encoder alone: graphs of the head once more, telling the signs of its activations too,
    # and of the gradients of head and finish; and what a squared error of one step of a latent is
    # worth in bits, about. Without, latents are not moved along gradients.
    signs: str | None = None
    gradient: str | None = None
    finish_gradient: str | None = None
    unit: float = 0.0

    def step(self, step: int) -> int:
        """Its step index in a picture coded at `step`."""
        return min(step + self.coarser, STEPS - 1)


class Model:
    """A trained model, its parts loaded when first used.

    Raises WrongModel if the folder is incomplete or does not fit together.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            self.about = json.loads((folder / "model.json").read_text())
            if self.about["format"] != FORMAT:
                raise WrongModel(
                    f"model {folder.name} has format {self.about['format']}, we read {FORMAT}",
                    hint="a newer sccodec reads it",
                )
            self.id: str = self.about["id"]
            self.about["analysis"], self.about["steps"], self.about["tables"]  # all are needed
            self.profile: str = self.about["profile"]
            self.trained: dict[str, object] = dict(self.about.get("trained", {}))
            self.layers = tuple(
                LayerPlan(**{k: tuple(v) if isinstance(v, list) else v for k, v in layer.items()})
                for layer in self.about["layers"]
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise WrongModel(f"model folder {folder} cannot be read: {error}") from None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the names and contents of all files that coding needs, in hexadecimal."""
        needed = [
            path
            for path in sorted(self.folder.iterdir())
            if path.name in ("model.json", "prior.npz") or path.suffix == ".onnx"
        ]
        contents = at_once(_sha256, needed)
        lines = (
            f"{content}  {path.name}\n" for content, path in zip(contents, needed, strict=True)
        )
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def check(self) -> None:
        """Raises WrongModel unless the files are those that `digest.txt` was written for.

        A folder without `digest.txt` is taken as it is.
        """
        try:
            promised = (self.folder / DIGEST).read_text().strip()
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise WrongModel(f"model folder {self.folder}: {DIGEST}: {error}") from None
        if promised != self.digest:
            raise WrongModel(
                f"model folder {self.folder} is damaged: its files do not have the digest that "
                f"{DIGEST} names",
                hint="put a fresh copy of the folder in its place",
            )

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        try:
            with np.load(self.folder / "prior.npz", allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
            raise WrongModel(f"model {self.id}: prior.npz cannot be read: {error}") from None

    @cached_property
    def tables(self) -> Tables:
        plan = self.about["tables"]
        try:
            counts, reach = self._arrays["tables.counts"], self._arrays["tables.reach"]
        except KeyError as error:
            raise WrongModel(f"model {self.id}: prior.npz lacks {error}") from None
        return Tables(counts, reach, plan["per_octave"], plan["smallest"])

    @cached_property
    def models(self) -> Models:
        """The probability tables in the coder's form."""
        return Models(self.tables)

    @cached_property
    def priors(self) -> tuple[LayerPrior, ...]:
        """The exact prior of each layer."""
        return tuple(
            LayerPrior(
                {
                    name.removeprefix(f"{layer.name}."): array
                    for name, array in self._arrays.items()
                    if name.startswith(f"{layer.name}.")
                },
                self.tables,
                sum(self.layers[i].latents for i in layer.needs),
            )
            for layer in self.layers
        )

    @cached_property
    def analysis(self) -> Graph:
        return self._analysis(self.about["analysis"])

    @cached_property
    def quick_analysis(self) -> Graph:
        """One that takes a fraction of the time for latents nearly as good; `analysis` if the model
        has none."""
        plan = self.about["analysis"].get("quick")
        return self._analysis(plan) if plan else self.analysis

    def analysis_for(self, effort: int | None) -> Graph:
        """The analysis of an encoder's effort; None: of any that is not in a hurry."""
        return self.analysis if effort is None or effort > QUICK else self.quick_analysis

    def _analysis(self, plan: dict) -> Graph:
        return Graph(self.folder / plan["graph"], plan["halo"])

    @cached_property
    def heads(self) -> tuple[Head, ...]:
        """The synthesis of each layer."""
        return tuple(
            Head(
                Graph(self.folder / layer.head, layer.halo),
                self._finish(layer) if layer.finish else None,
                self._graph(layer.signs),
                self._graph(layer.gradient),
            )
            for layer in self.layers
        )

    def _finish(self, layer: LayerPlan) -> Finish:
        graph = Graph(self.folder / layer.finish, 0)
        return Finish(graph, layer.bends, layer.reach, self._graph(layer.finish_gradient))

    def _graph(self, name: str | None) -> Graph | None:
        return Graph(self.folder / name, 0) if name else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folders() -> list[Path]:
    """Where models are looked for: SCCODEC_MODELS (a path list), then the package."""
    extra = os.environ.get("SCCODEC_MODELS", "")
    return [Path(p) for p in extra.split(os.pathsep) if p] + [Path(__file__).parents[1] / "models"]


_loaded: dict[Path, Model] = {}


def installed() -> tuple[list[Model], list[WrongModel]]:
    """All installed models, those of SCCODEC_MODELS first, and why others cannot be used."""
    found, broken = [], []
    for folder in folders():
        for path in sorted(folder.glob("[!.]*/model.json")):  # hidden: one that is being exported
            try:
                found.append(_loaded.get(path) or _loaded.setdefault(path, Model(path.parent)))
            except WrongModel as error:
                broken.append(error)
    return found, broken


def find(name: str, digest_prefix: bytes | None = None) -> Model:
    """The installed model of this id, or profile, and (if given) these first digest bytes.

    Its files have been compared with its digest before it is returned; nothing is loaded yet.
    Raises WrongModel, which names those that are installed.
    """
    name = PROFILES.get(name, name)
    models, broken = installed()
    named, sound = [], list(models)
    for model in (model for model in models if model.id == name):
        try:
            model.check()
        except WrongModel as error:
            broken.append(error)
            sound.remove(model)
            continue
        named.append(model)
        if digest_prefix is None or bytes.fromhex(model.digest).startswith(digest_prefix):
            return model
    here = ", ".join(f"{m.id} ({m.digest[:16]})" for m in sound) or "none"
    wanted = name if digest_prefix is None else f"{name} ({digest_prefix.hex()})"
    other = "another model of that name is installed" if named else "it is not installed"
    unusable = "".join(f"; {error}" for error in broken)
    raise WrongModel(
        f"model {wanted} is needed and {other}; installed: {here}{unusable}",
        hint="put its folder below a folder that SCCODEC_MODELS names",
    )


def find_for_encoding(name: str, effort: int | None = None) -> Model:
    """`find`, which begins to load what encoding takes first, while the picture is still being
    read."""
    model = find(name)
    ahead(lambda: (model.analysis_for(effort).session, model.priors, model.models))
    return model
