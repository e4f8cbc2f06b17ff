"""sccodec verify"""

from __future__ import annotations

import click

from sccodec.cli import batch, border, names
from sccodec.errors import CodecError, shown


@click.command("verify")
@border.jobs_option
@border.json_option
@border.border
@names.inputs
def command(inputs, jobs, as_json):
    """Check .scc files: every byte, then every decoded symbol.

    Says for each file: ok; damaged (bytes are wrong); not ours; differs (the bytes are whole,
    but this machine decodes them otherwise than the one that wrote them); no model (the bytes
    are whole, the symbols cannot be checked). Of a layer whose base lies in another file only
    the bytes are checked. Exit codes: 0 all ok, 2 damaged or not ours, 3
    differs or no model. Damage in one file decides over whatever else was found.
    """
    from sccodec.codecs import verify

    def work(job: batch.Job) -> batch.Done:
        try:
            with border.open_input(job.source, job.note, allow_partial=True) as reader:
                tensors = reader.header.kind == "tensor"
                threads = job.tensor_threads if tensors else job.threads
                result = verify.verify(reader, jobs=threads, progress=job.progress)
        except CodecError as error:
            result = verify.of_error(error)
        for message in result.messages:
            job.note(f"error: {message}")
        text = f"{shown(job.source)}: {result.verdict}"
        return batch.Done({"input": job.source, **result.facts()}, text, result.exit_code)

    tasks = [(name,) for name in inputs.names]
    codes = batch.run(tasks, work, jobs=jobs, as_json=as_json, report=True)
    return 2 if 2 in codes else max(codes, default=0)
