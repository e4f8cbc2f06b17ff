"""sccodec train"""

from __future__ import annotations

import click

from sccodec.cli import border
from sccodec.errors import BadRequest
from sccodec.extras import need


@click.command("train")
@click.argument("recipe")
@click.option("--data", required=True, metavar="DIR", help="Folder of the recipe's tar files.")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="DIR",
    help="Run folder: last.pt, best.pt, log.jsonl. An existing run is resumed.",
)
@click.option("--cache", metavar="DIR", help="Decoded pictures; default DIR/cache of the run.")
@click.option("--init", metavar="CHECKPOINT", help="Start a new run from these weights.")
@click.option(
    "--max-minutes",
    type=click.FloatRange(0, min_open=True),
    metavar="M",
    help="Stop after so long.",
)
@click.option(
    "--max-steps", type=click.IntRange(1), metavar="N", help="In place of the recipe's steps."
)
@click.option(
    "--batch", type=click.IntRange(1), metavar="N", help="Crops a step, in place of the recipe's."
)
@click.option(
    "--compile", "compiled", is_flag=True, help="On a GPU: begin later, steps a sixth faster."
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
@border.border
def command(recipe, data, output, cache, init, max_minutes, max_steps, batch, compiled, device):
    """Train a model from a recipe.

    RECIPE is a name that ships with sccodec, or a .toml file. Needs the [train] extra.
    Validation figures go to stderr and to log.jsonl.
    """
    need("training", "train", "onnx", "torch")
    from dataclasses import replace
    from pathlib import Path

    import torch

    from sccodec.train.loop import Run, check_values, read_recipe

    plan = read_recipe(recipe)
    if max_steps is not None:
        plan = replace(plan, steps=max_steps)
    if batch is not None:
        plan = replace(plan, batch=batch)
    check_values(recipe, plan)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise BadRequest("this PyTorch finds no CUDA device", hint="--device cpu")
    if init and not plan.chosen and (Path(output) / "last.pt").exists():
        border.say(f"going on from {output}/last.pt: --init is not read")
    run = Run(plan, data, output, cache or Path(output) / "cache", device, init, compiled)
    run.train(max_minutes, say=lambda line: click.echo(line, err=True))
