"""sccodec models"""

from __future__ import annotations

import json

import click

from sccodec.cli import border
from sccodec.errors import WrongModel, shown


@click.command("models")
@border.json_option
@border.border
def command(as_json):
    """List installed models.

    For each its id, digest, profile and size, its layers, and what it was trained on.
    """
    from sccodec.profiles.registry import installed

    models, broken = installed()
    if not models and not broken:
        raise WrongModel(
            "no model is installed",
            hint="put a model folder below a folder that SCCODEC_MODELS names",
        )
    for model in models:
        try:
            model.check()
        except (WrongModel, OSError) as error:
            broken.append(error)
            continue
        size = sum(p.stat().st_size for p in model.folder.iterdir() if p.is_file())
        facts = {
            "id": model.id,
            "profile": model.profile,
            "digest": model.digest,
            "bytes": size,
            "layers": [
                {"name": plan.name, "purpose": plan.purpose, "latents": plan.latents}
                for plan in model.layers
            ],
            "trained": model.trained,
            "folder": str(model.folder),
        }
        if as_json:
            click.echo(json.dumps(facts))
            continue
        layers = ", ".join(f"{plan.name} ({plan.latents} latents)" for plan in model.layers)
        click.echo(shown(model.id) + f"  {model.digest[:16]}  {model.profile}  {size} bytes")
        click.echo(f"    layers: {layers}")
        for key, value in model.trained.items():
            click.echo(shown(f"    {key}: {value}"))
    return max((border.complain(error) for error in broken), default=0)
