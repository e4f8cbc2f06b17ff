"""sccodec extract"""

from __future__ import annotations

import os
from contextlib import ExitStack

import click

from sccodec.cli import batch, border, names
from sccodec.container import extract, fit, layer_selection
from sccodec.errors import BadRequest


@click.command("extract")
@click.option(
    "-o", "--output", required=True, metavar="OUT", help="File, folder/, or - for stdout."
)
@click.option("--layers", metavar="base|NAME[,NAME]|N", help="Layers to keep; default base.")
@click.option(
    "--max-bytes",
    callback=border.size,
    metavar="N[k|M]",
    help="Keep as many layers from the first as fit.",
)
@click.option("--rest", metavar="OTHER", help="Write the other layers to this file or folder/.")
@batch.options
@border.border
@names.inputs
def command(inputs, output, layers, max_bytes, rest, force, skip_existing, keep_tree, as_json):
    """Keep some layers of .scc files.

    Nothing is decoded or encoded again; `sccodec join OUT OTHER` gives the original
    back, byte for byte.
    """
    if layers is not None and max_bytes is not None:
        raise BadRequest("--layers and --max-bytes exclude each other")

    def work(job: batch.Job) -> batch.Done:
        with border.open_input(job.source, job.note) as reader:
            header, size = reader.header, reader.size
            if max_bytes is not None:
                keep = fit(reader, max_bytes)
            else:
                keep = layer_selection(header, layers or "base")
            parts = [keep]
            if rest is not None:
                parts.append([index for index in header.present if index not in keep])
                if not parts[1]:
                    raise BadRequest(
                        f"no layer would be left; the file holds {header.layer_list()}"
                    )
            with ExitStack() as files:  # all appear, or none
                lengths = [
                    _part(files, reader, part, target, force, skip_existing)
                    for part, target in zip(parts, job.targets, strict=True)
                ]
        kept = [header.layer(index).name for index in keep]
        facts = {
            "input": job.source,
            "output": job.target,
            "layers": kept,
            "bytes": lengths[0],
            "of": size,
        }
        if rest is not None:
            facts |= {"rest": job.targets[1], "rest_bytes": lengths[1]}
        line = f"{job.source} -> {job.target}: {', '.join(kept)}, {lengths[0]} of {size} bytes"
        return batch.Done(facts, line)

    columns = [inputs.names, names.outputs(inputs, output, ".scc", keep_tree)]
    if rest is not None:
        columns.append(names.outputs(inputs, rest, ".scc", keep_tree))
    return batch.first(
        batch.run(
            names.distinct(zip(*columns, strict=True), "-o and --rest"),
            work,
            as_json=as_json,
            force=force,
            skip_existing=skip_existing,
        )
    )


def _part(files: ExitStack, reader, keep, target: str, force: bool, skip_existing: bool) -> int:
    """Writes some layers; what an interrupted run has finished is left as it is."""
    if skip_existing and os.path.isfile(target):
        return os.path.getsize(target)
    return extract(reader, keep, files.enter_context(border.open_output(target, force)))
