"""sccodec info"""

from __future__ import annotations

import click

from sccodec.cli import batch, border, names
from sccodec.container.describe import describe, table
from sccodec.container.remote import is_url
from sccodec.errors import shown


@click.command("info")
@click.option(
    "--allow-partial",
    is_flag=True,
    help="Also of a file that is cut short or has a damaged end; exit code 2 if it is.",
)
@border.json_option
@border.border
@names.inputs
def command(inputs, allow_partial, as_json):
    """Say what .scc files hold.

    Canvas, model, layers, and sizes that add up to the file. Reads header, metadata and
    directory only and needs no model, also of an http(s) address. --json prints one object a
    line.
    """

    def work(job: batch.Job) -> batch.Done:
        with border.open_input(job.source, job.note, allow_partial=allow_partial) as reader:
            facts = {"input": job.source, **describe(reader)}
            text = table({**facts, "name": shown(reader.name)})
            problems = reader.check_frame() if allow_partial else []
            if is_url(job.source):
                facts |= {"bytes_read": reader.bytes_read, "requests": reader.requests}
                text += f"\n{reader.bytes_read} bytes fetched{border.fetched(reader)}"
        if allow_partial:
            facts["damaged"] = [problem.message for problem in problems]
        for problem in problems:
            job.note(f"damaged: {problem.message}")
        return batch.Done(facts, text, code=2 if problems else 0)

    tasks = [(name,) for name in inputs.names]
    return batch.first(batch.run(tasks, work, as_json=as_json, report=True))
