"""sccodec info"""

from __future__ import annotations

import json

import click

from sccodec.cli import border
from sccodec.container.describe import describe, table
from sccodec.container.remote import is_url
from sccodec.errors import BadRequest, CodecError


@click.command("info")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@border.json_option
@border.border
def command(inputs, as_json):
    """Say what .scc files hold.

    Canvas, model, layers, and sizes that add up to the file. Reads header and directory only
    and needs no model, also of an http(s) address. --json prints one object a line.
    """

    if inputs.count(border.STREAM) > 1:
        raise BadRequest("only one input can be stdin")

    def show(source: str) -> int:
        try:
            with border.open_input(source) as reader:
                facts = describe(reader)
                text = table(facts)
                if is_url(source):
                    facts |= {"bytes_read": reader.bytes_read, "requests": reader.requests}
                    text += f"\n{reader.bytes_read} bytes fetched{border.fetched(reader)}"
        except (CodecError, OSError) as error:
            return border.complain(error)
        click.echo(json.dumps(facts) if as_json else text)
        return 0

    codes = [show(source) for source in inputs]
    return next((code for code in codes if code), 0)
