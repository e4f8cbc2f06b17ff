"""sccodec bench"""

from __future__ import annotations

import click

from sccodec.cli import border
from sccodec.cli.eval import numbers, output_option, progress, words
from sccodec.extras import need


def _threads(_context, _option, value: str) -> list[int]:
    """`1,all` as numbers, each once."""
    return list(dict.fromkeys(border.jobs(None, None, part) for part in value.split(",")))


@click.command("bench")
@output_option
@click.option(
    "--codecs",
    default="scc,jpeg,webp,jpeg2000,htj2k,avif,jxl,hevc",
    show_default=True,
    callback=words,
    metavar="NAME[,NAME]",
    help="scc, scc@MODEL and others; those that are not installed are left out.",
)
@click.option(
    "--sizes",
    default="0.1,0.4,1.5",
    show_default=True,
    callback=numbers,
    metavar="MP[,MP]",
    help="Megapixels, rising.",
)
@click.option(
    "--threads",
    default="1,all",
    show_default=True,
    callback=_threads,
    metavar="N|all[,...]",
    help="Cores that a codec may use.",
)
@click.option("--picture", metavar="FILE", help="Mirrored to each size; default: the demo photo.")
@click.option("--repeat", default=3, show_default=True, metavar="N", help="Medians are of these.")
@click.option("--no-process", is_flag=True, help="Leave out the timing of whole processes.")
@border.border
def command(output, codecs, sizes, threads, picture, repeat, no_process):
    """Measure seconds and memory by size of picture.

    Warm, per stage and as whole processes, beside other codecs in the same run. Writes
    bench.json and bench.html. Needs the [eval] extra.
    """
    need("this", "eval", "scipy")
    from pathlib import Path

    from sccodec.evaluate import machine, speed, speed_report

    plan = speed.Plan(codecs, sizes, threads, picture or str(speed.PICTURE), repeat, not no_process)
    rows, notes = speed.run(plan, Path(output), progress())
    names = speed_report.write(Path(output), machine.about(), rows, notes)
    for note in notes:
        border.say(f"sccodec: {note}")
    click.echo(speed_report.summary(rows))
    border.say(f"{output}: {', '.join(names)}")
