"""sccodec verify"""

from __future__ import annotations

import json

import click

from sccodec.cli import border
from sccodec.errors import CodecError


@click.command("verify")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@border.jobs_option
@border.json_option
@border.border
def command(inputs, jobs, as_json):
    """Check .scc files: every byte, then every decoded symbol.

    Says for each file: ok; damaged (bytes are wrong); differs (the bytes are whole, but this
    machine decodes them otherwise than the one that wrote them); no model (the bytes are whole,
    the symbols cannot be checked). Exit codes: 0 all ok, 2 damaged, 3 differs or no model.
    """
    from sccodec.codecs import verify

    codes = []
    for name in inputs:
        try:
            with border.open_input(name, allow_partial=True) as reader:
                result = verify.verify(reader, jobs=jobs, progress=border.progress(name))
        except CodecError as error:
            result = verify.of_error(error)
        except OSError as error:
            codes.append(border.complain(error))
            continue
        codes.append(result.exit_code)
        if as_json:
            click.echo(json.dumps({"input": name, **result.facts()}))
            continue
        click.echo(f"{name}: {result.verdict}")
        for message in result.messages:
            click.echo(f"    {message}", err=True)
    # Damage is the worst news, so it decides over whatever else was found.
    return 2 if 2 in codes else max(codes)
