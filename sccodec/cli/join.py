"""sccodec join"""

from __future__ import annotations

import json
from contextlib import ExitStack

import click

from sccodec.cli import border
from sccodec.container import join
from sccodec.errors import BadRequest, CodecError


@click.command("join")
@click.argument("inputs", nargs=-1, required=True, metavar="A B...")
@click.option("-o", "--output", required=True, metavar="OUT", help="File, or - for stdout.")
@border.force_option
@border.json_option
@border.border
def command(inputs, output, force, as_json):
    """Put layers back into one file.

    The inputs, in any order, are files with layers of one picture. Joined again, the parts of a
    file give that file, byte for byte.
    """
    if as_json and output == border.STREAM:
        raise BadRequest("--json and the file itself cannot both go to stdout")
    if inputs.count(border.STREAM) > 1:
        raise BadRequest("only one input can be stdin")
    try:
        with ExitStack() as stack:
            readers = [stack.enter_context(border.open_input(name)) for name in inputs]
            with border.open_output(output, force) as out:
                length = join(readers, out)
    except (CodecError, OSError, MemoryError) as error:
        if as_json:
            message, code = border.explain(error)
            click.echo(json.dumps({"inputs": list(inputs), "error": message, "code": code}))
        raise
    facts = {"inputs": list(inputs), "output": output, "bytes": length}
    line = f"{' + '.join(inputs)} -> {output}: {length} bytes"
    click.echo(json.dumps(facts)) if as_json else border.say(line)
