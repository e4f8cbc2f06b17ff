"""sccodec encode"""

from __future__ import annotations

from dataclasses import replace

import click

from sccodec.cli import batch, border, names
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
@click.option("-o", "--output", metavar="OUT", help="File, folder/, or - for stdout.")
@click.option("--profile", default="photo", show_default=True, help="Profile or model id.")
@click.option("--rate", type=float, metavar="BPP", help="Bits per pixel of the whole file.")
@click.option("-q", "--quality", type=float, metavar="0..100", help="Default 50.")
@click.option("--max-bytes", callback=border.size, metavar="N[k|M]", help="Never exceeded.")
@click.option("--step", type=int, metavar="0..511", help="Step index; 32 more double the step.")
@click.option(
    "-e", "--effort", type=int, default=5, show_default=True, metavar="1..9", help="1: fastest."
)
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
@border.size_option
@border.jobs_option
@batch.options
@border.border
@names.inputs
def command(
    inputs,
    output,
    profile,
    roi,
    roi_only,
    size_limit,
    jobs,
    force,
    skip_existing,
    keep_tree,
    as_json,
    **how,
):
    """Encode pictures into .scc files.

    IN is a picture file or - for stdin. Without -o, photo.png becomes photo.scc beside it.
    """
    from sccodec.codecs import image
    from sccodec.media.image import read
    from sccodec.profiles.registry import find

    if roi_only and not roi:
        raise BadRequest("--roi-only needs --roi")
    interest = image.Interest(*roi, roi_only) if roi else None
    settings = image.Settings(interest=interest, limits=border.limits(size_limit), **how)
    model = find(profile)

    def work(job: batch.Job) -> batch.Done:
        picture = read(
            border.read_input(job.source),
            name=job.source,
            max_pixels=settings.limits.max_pixels,
        )
        for note in picture.notes:
            job.note(f"{job.source}: {note}")
        data = image.encode(picture, replace(settings, jobs=job.threads), model, job.progress)
        with border.open_output(job.target, force) as out:
            out.write(data)
        bpp = 8 * len(data) / (picture.width * picture.height)
        return batch.Done(
            {
                "input": job.source,
                "output": job.target,
                "bytes": len(data),
                "bpp": round(bpp, 6),
            },
            f"{job.source} -> {job.target}: {len(data)} bytes, {bpp:.4f} bpp",
        )

    tasks = list(zip(inputs.names, names.outputs(inputs, output, ".scc", keep_tree), strict=True))
    return batch.first(
        batch.run(tasks, work, jobs=jobs, as_json=as_json, force=force, skip_existing=skip_existing)
    )
