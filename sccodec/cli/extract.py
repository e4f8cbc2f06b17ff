"""sccodec extract"""

from __future__ import annotations

import json
import os

import click

from sccodec.cli import border
from sccodec.container import extract, fit, layer_selection, split
from sccodec.errors import BadRequest


@click.command("extract")
@click.argument("source", metavar="IN")
@click.option("-o", "--output", required=True, metavar="OUT", help="File, or - for stdout.")
@click.option("--layers", metavar="base|NAME[,NAME]|N", help="Layers to keep; default base.")
@click.option(
    "--max-bytes",
    callback=border.size,
    metavar="N[k|M]",
    help="Keep as many layers from the first as fit.",
)
@click.option("--rest", metavar="OTHER", help="Write the other layers to this file.")
@border.force_option
@border.json_option
@border.border
def command(source, output, layers, max_bytes, rest, force, as_json):
    """Keep some layers of an .scc file.

    Nothing is decoded or encoded again; `sccodec join OUT OTHER` gives the original
    back, byte for byte.
    """
    if layers is not None and max_bytes is not None:
        raise BadRequest("--layers and --max-bytes exclude each other")
    if rest is not None and os.path.realpath(rest) == os.path.realpath(output):
        raise BadRequest(f"--rest and -o both name {rest}")
    if as_json and border.STREAM in (output, rest):
        raise BadRequest("--json and the file itself cannot both go to stdout")
    with border.open_input(source) as reader:
        if max_bytes is not None:
            keep = fit(reader, max_bytes)
        else:
            keep = layer_selection(reader.header, layers or "base")
        with border.open_output(output, force) as out:
            if rest is None:
                lengths = [extract(reader, keep, out)]
            else:
                with border.open_output(rest, force) as other:
                    lengths = split(reader, keep, out, other)
        names = [reader.header.layer(n).name for n in keep]
        facts = {
            "input": source,
            "output": output,
            "layers": names,
            "bytes": lengths[0],
            "of": reader.size,
        }
        if rest is not None:
            facts |= {"rest": rest, "rest_bytes": lengths[1]}
    line = f"{source} -> {output}: {', '.join(names)}, {lengths[0]} of {facts['of']} bytes"
    click.echo(json.dumps(facts) if as_json else line, err=not as_json)
