"""sccodec export"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import click

from sccodec.cli import border
from sccodec.container.rules import is_model_id
from sccodec.errors import BadRequest, CodecError
from sccodec.extras import need

COUNTED = 600  # training pictures
MODEL_FILES = ("model.json", "digest.txt", "*.npz", "*.onnx")  # by the first it is found
PART = ".sccodec-"  # begins the name of a folder that is being written


@click.command("export")
@click.argument("checkpoint")
@click.option("-o", "--output", required=True, metavar="DIR", help="Model folder to write.")
@click.option("--id", "name", required=True, metavar="ID", help="Model id, such as photo-1.")
@click.option("--recipe", default="photo", show_default=True, help="Recipe that it was trained by.")
@click.option("--data", required=True, metavar="DIR", help="Folder of the pictures.")
@click.option(
    "--cache", default=".cache", show_default=True, metavar="DIR", help="Decoded pictures."
)
@click.option("--note", default="", help="Words for `sccodec models`.")
@border.force_option
@border.border
def command(checkpoint, output, name, recipe, data, cache, note, force):
    """Export a checkpoint as a model folder.

    Rounds the entropy model to the exact grid, measures what the rounding costs on validation
    pictures and fails above 0.5 % of the bits. Then counts the tables on training pictures.
    Needs the [train] extra.
    """
    need("export", "train", "onnx", "torch")
    from pathlib import Path

    from sccodec.train import data as pictures
    from sccodec.train import export
    from sccodec.train.loop import read_recipe
    from sccodec.train.model import load

    _check_id(name)
    folder = Path(output).absolute()
    if folder.exists() and not folder.is_dir():
        raise BadRequest(f"{folder} is not a folder")
    if folder.exists() and any(not path.name.startswith(PART) for path in folder.iterdir()):
        if not (folder / "model.json").exists():
            raise BadRequest(f"{folder} holds other files than a model's")
        if not force:
            raise BadRequest(
                f"{folder} exists",
                hint="files need the very model that they were coded with; --force replaces it",
            )
    plan = read_recipe(recipe)
    model, state = load(checkpoint)
    if "step" not in state:
        raise BadRequest(f"{checkpoint} is not a checkpoint of a run", hint="export its best.pt")
    held_out = pictures.load([Path(data) / s for s in plan.validation], cache)
    crops = pictures.load([Path(data) / s for s in plan.sources], cache)
    trained = {"recipe": plan.name, "steps": state["step"], "data": ", ".join(plan.sources)}
    if note:
        trained["note"] = note
    with whole_folder(folder) as part:  # a model that is not whole is never found
        digest = _exported(export, model, part, name, plan, trained, held_out, crops)
    click.echo(f"digest {digest}", err=True)


def _exported(export, model, folder, name, plan, trained, held_out, crops) -> str:
    """Writes the folder, and returns its digest."""
    import numpy as np

    exported = export.export(model, folder, name, plan.log2_step, trained)
    rows = export.rounding_cost(model, exported, held_out, 16, plan.validate_at)
    for row in rows:
        click.echo(json.dumps(row))
    worst = float(np.max([row["cost"] for row in rows]))  # of no number, if one is none
    click.echo(f"rounding costs at most {worst:.3%} of the bits", err=True)
    if not worst <= export.WORST_COST:
        raise CodecError(f"rounding to the exact grid costs {worst:.2%} of the bits, over 0.5 %")
    return export.recount(exported, crops, COUNTED).digest


def _check_id(name: str) -> None:
    """Raises BadRequest for an id that files cannot name, or `--profile` takes otherwise."""
    from sccodec.profiles.registry import PROFILES

    if name in PROFILES:
        raise BadRequest(f"{name} is a profile, no id of a model")
    if not is_model_id(name) or len(name.encode()) > 255:
        raise BadRequest(f"model id {name!r} is not allowed")


@contextmanager
def whole_folder(folder) -> Iterator:
    """A folder whose files take the place of a model's in `folder` when the block ends; if it
    raises, what was there is there.

    It lies inside, since a link, a mount point or where one stands cannot be replaced, and what is
    no model's stays.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{PART}{os.urandom(6).hex()}"
    before = part / "before"
    try:
        before.mkdir(parents=True)
        yield part
        _move([*_model(folder, before), *reversed(_model(part, folder))])
        new = False
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if new:
            folder.rmdir()


def _model(here, there) -> list[tuple]:
    """Where a model's files are, and where they go."""
    files = [path for pattern in MODEL_FILES for path in here.glob(pattern)]
    return [(path, there / path.name) for path in files]


def _move(pairs: list[tuple]) -> None:
    """Moves all of them, or none if it raises."""
    done = []
    try:
        for was, now in pairs:
            done.append((was, now))
            was.replace(now)
    except BaseException:
        for was, now in reversed(done):
            if now.exists():
                now.replace(was)
        raise
