"""sccodec export"""

from __future__ import annotations

import json

import click

from sccodec.cli import border
from sccodec.errors import CodecError
from sccodec.extras import need

COUNTED = 600  # training pictures


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
@border.border
def command(checkpoint, output, name, recipe, data, cache, note):
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

    plan = read_recipe(recipe)
    model, state = load(checkpoint)
    trained = {"recipe": plan.name, "steps": state["step"], "data": ", ".join(plan.sources)}
    if note:
        trained["note"] = note
    exported = export.export(model, output, name, plan.log2_step, trained)
    held_out = pictures.load([Path(data) / s for s in plan.validation], cache)
    rows = export.rounding_cost(model, exported, held_out, 16, plan.validate_at)
    for row in rows:
        click.echo(json.dumps(row))
    worst = max(row["cost"] for row in rows)
    click.echo(f"rounding costs at most {worst:.3%} of the bits", err=True)
    if worst > export.WORST_COST:
        raise CodecError(f"rounding to the exact grid costs {worst:.2%} of the bits, over 0.5 %")
    crops = pictures.load([Path(data) / s for s in plan.sources], cache)
    exported = export.recount(exported, crops, COUNTED)
    click.echo(f"digest {exported.digest}", err=True)
