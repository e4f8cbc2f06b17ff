"""sccodec encode"""

from __future__ import annotations

import click

from sccodec.cli import border
from sccodec.errors import BadRequest


def _roi(_context, _option, value: str | None):
    """`x,y,w,h` or `x,y,w,h:STEPS`."""
    if value is None:
        return None
    place, _, finer = value.partition(":")
    box = border.rectangle(None, None, place)
    try:
        return box, int(finer) if finer else 32
    except ValueError:
        raise click.BadParameter(f"{finer!r} is not a number of step indexes") from None


@click.command("encode")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("-o", "--output", metavar="OUT", help="File, folder/, or - for stdout.")
@click.option("--profile", default="photo", show_default=True, help="Profile or model id.")
@click.option("--rate", type=float, metavar="BPP", help="Bits per pixel of the whole file.")
@click.option("-q", "--quality", type=float, metavar="0..100", help="Default 50.")
@click.option("--max-bytes", callback=border.size, metavar="N[k|M]", help="Never exceeded.")
@click.option("--step", type=int, metavar="0..511", help="Step index; 32 more double the step.")
@click.option("--tile", type=int, metavar="N", help="Tile side in pixels, a multiple of 64.")
@click.option(
    "--roi",
    callback=_roi,
    metavar="x,y,w,h[:STEPS]",
    help="Spend more bits here: step indexes finer, default 32.",
)
@click.option("--roi-only", is_flag=True, help="With --roi: base layer only elsewhere.")
@click.option(
    "--metadata",
    default="all",
    show_default=True,
    metavar="all|none|icc,exif,xmp",
    help="What to keep.",
)
@border.jobs_option
@border.force_option
@border.json_option
@border.border
def command(
    inputs,
    output,
    profile,
    rate,
    quality,
    max_bytes,
    step,
    tile,
    roi,
    roi_only,
    metadata,
    jobs,
    force,
    as_json,
):
    """Encode pictures into .scc files.

    IN is a picture file or - for stdin. Without -o, photo.png becomes photo.scc beside it.
    """
    from sccodec.codecs import image
    from sccodec.media.image import read
    from sccodec.profiles.registry import find

    if roi_only and not roi:
        raise BadRequest("--roi-only needs --roi")
    interest = image.Interest(roi[0], roi[1], roi_only) if roi else None
    settings = image.Settings(quality, rate, max_bytes, step, tile, interest, metadata, jobs)
    model = find(profile)

    def work(source: str, target: str) -> dict:
        picture = read(border.read_input(source), name=source)
        for note in picture.notes:
            click.echo(f"sccodec: {source}: {note}", err=True)
        data = image.encode(picture, settings, model, border.progress(source))
        with border.open_output(target, force) as out:
            out.write(data)
        bpp = 8 * len(data) / (picture.width * picture.height)
        return {
            "input": source,
            "output": target,
            "bytes": len(data),
            "bpp": round(bpp, 6),
            "line": f"{source} -> {target}: {len(data)} bytes, {bpp:.4f} bpp",
        }

    names = border.output_names(inputs, output, ".scc")
    return border.each_file(inputs, names, work, as_json, force)
