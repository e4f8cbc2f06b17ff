"""sccodec eval"""

from __future__ import annotations

import click
from click.core import ParameterSource

from sccodec.cli import border
from sccodec.errors import BadRequest
from sccodec.extras import need


def numbers(_context, _option, value: str) -> list[float]:
    """`0.25,0.5,1` as numbers."""
    try:
        return [float(part) for part in value.split(",") if part.strip()]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 0.25,0.5,1") from None


def steps_or_none(_context, _option, value: str | None) -> list[int] | None:
    """`360,320` as whole numbers; None if nothing is given."""
    if value is None:
        return None
    try:
        return [int(part) for part in value.split(",") if part.strip()]
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not a list of step indexes such as 360,320"
        ) from None


def words(_context, _option, value: str) -> list[str]:
    """`a,b,c` as words."""
    return [part.strip() for part in value.split(",") if part.strip()]


images_argument = click.argument("images", nargs=-1, metavar="IMAGE...")
output_option = click.option(
    "-o", "--output", required=True, metavar="DIR", help="An existing one is gone on with."
)
rates_option = click.option(
    "--rates",
    default="0.15,0.25,0.5,0.75,1.0,1.5",
    show_default=True,
    callback=numbers,
    metavar="BPP[,BPP]",
    help="Bits per pixel of whole .scc files, rising.",
)
jobs_option = click.option(
    "-j",
    "--jobs",
    default="all",
    show_default=True,
    callback=border.jobs,
    metavar="N|all",
    help="Processes for what is not timed, threads for what is.",
)


@click.group("eval")
def command():
    """Measure rate and quality of written files, beside other codecs.

    Needs the [eval] extra.
    """


@command.command("rd")
@images_argument
@output_option
@click.option(
    "--codecs",
    default="scc,scc:base,jpeg,webp,jpeg2000,htj2k,avif,jxl,hevc",
    show_default=True,
    callback=words,
    metavar="NAME[,NAME]",
    help="scc, scc:LAYER, scc@MODEL and others; those that are not installed are left out.",
)
@rates_option
@click.option(
    "--steps",
    callback=steps_or_none,
    metavar="INDEX[,INDEX]",
    help="Step indexes of .scc files, falling, in place of --rates: as others take a quality, and "
    "as published curves are means.",
)
@click.option("--published", metavar="FILE", help="JSON of published curves, drawn as well.")
@click.option(
    "--curve", "wanted", multiple=True, metavar="NAME", help="Only this one of FILE; repeatable."
)
@click.option(
    "--anchor", "anchors", multiple=True, metavar="NAME", help="BD-rate against this; repeatable."
)
@click.option("--no-time", is_flag=True, help="No seconds and no memory: faster on many cores.")
@click.option(
    "--show",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="Pictures in the page's sliders.",
)
@jobs_option
@border.border
def rd(images, output, codecs, rates, steps, published, wanted, anchors, no_time, show, jobs):
    """Rate-distortion curves, BD-rate and a page to look at.

    Writes points.csv, report.json, an SVG for each measure and report.html, which needs no
    network. Stopped, it goes on where it was when called again.
    """
    need("this", "eval", "scipy")
    from pathlib import Path

    from sccodec.evaluate import comparison

    given = click.get_current_context().get_parameter_source("rates")
    if steps is not None and given is ParameterSource.COMMANDLINE:
        raise BadRequest("--rates and --steps exclude each other")

    plan = comparison.Plan(
        list(images),
        codecs,
        rates,
        published,
        list(wanted) or None,
        list(anchors) or None,
        not no_time,
        show,
        jobs,
        steps,
    )
    report, names = comparison.run(plan, Path(output), progress())
    for note in report.notes:
        border.say(f"sccodec: {note}")
    click.echo(comparison.summary(report))
    border.say(f"{output}: {', '.join(names)}")


@command.command("layers")
@images_argument
@output_option
@rates_option
@click.option("--profile", default="photo", show_default=True, help="Profile or model id.")
@click.option(
    "--tile", default=256, show_default=True, metavar="N", help="Tile side, for region and damage."
)
@click.option(
    "--against",
    default="scc,jpeg,webp",
    show_default=True,
    callback=words,
    metavar="NAME[,NAME]",
    help="Codecs whose smallest file as good as a layer tells what the layer costs.",
)
@jobs_option
@border.border
def layers(images, output, rates, profile, tile, against, jobs):
    """What layers cost and give: bytes, quality, region, damage.

    Prints means over the pictures and writes layers.json. Against scc: the file of the same
    model, whole, whose picture is as good as the layer's.
    """
    need("this", "eval", "scipy")
    from pathlib import Path

    from sccodec.evaluate import layers

    plan = layers.Plan(list(images), rates, profile, tile, tuple(against), jobs)
    rows = layers.run(plan, Path(output), progress())
    layers.write(Path(output), rows)
    click.echo(layers.summary(rows))


def progress():
    """Tells how far a long run is: in place on a terminal, else a line a minute."""
    import sys
    import time

    last = time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last
        if sys.stderr.isatty():
            end = "\r" if done < total else "\n"
            click.echo(f"\033[K{what}: {done} of {total}{end}", err=True, nl=False)
        elif time.monotonic() - last > 60:
            last = time.monotonic()
            border.say(f"{what}: {done} of {total}")

    return tell
