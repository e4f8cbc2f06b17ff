"""sccodec decode"""

from __future__ import annotations

import click

from sccodec.cli import border


@click.command("decode")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("-o", "--output", metavar="OUT", help="File, folder/, or - for stdout.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["png", "jpeg", "jpg", "webp", "tiff", "tif", "bmp", "ppm"], False),
    metavar="NAME",
    help="png, jpeg, webp, tiff, bmp or ppm; default: by OUT's name, else png.",
)
@click.option(
    "--layers",
    default="all",
    show_default=True,
    metavar="base|all|NAME[,NAME]|N",
    help="Layers to decode; those that they need are decoded too.",
)
@click.option(
    "--region",
    callback=border.rectangle,
    metavar="x,y,w,h",
    help="Only this rectangle; reads only the tiles that it needs.",
)
@click.option(
    "--allow-partial",
    is_flag=True,
    help="Show what can be decoded of a damaged or cut file; exit code 2 if it is.",
)
@click.option(
    "--size-limit",
    type=click.IntRange(min=0),
    metavar="PIXELS",
    help="Refuse larger pictures; 0 for no limit. SCCODEC_MAX_PIXELS sets it for every command.",
)
@border.jobs_option
@border.force_option
@border.json_option
@border.border
def command(inputs, output, kind, layers, region, allow_partial, size_limit, jobs, force, as_json):
    """Decode .scc files into pictures.

    Without -o, photo.scc becomes photo.png beside it. IN may be an http(s) address, of which
    only what is needed is fetched. --json says how many bytes were read, and in how many
    requests.
    """
    from sccodec.codecs import image
    from sccodec.media.image import guess_format, write

    def work(source: str, target: str) -> dict:
        form = kind or ("png" if target == border.STREAM else guess_format(target))
        with border.open_input(source, size_limit, allow_partial) as reader:
            picture, report = image.decode(
                reader,
                layers,
                box=region,
                allow_partial=allow_partial,
                jobs=jobs,
                progress=border.progress(source),
            )
            size, requests, fetched = reader.size, reader.requests, border.fetched(reader)
        with border.open_output(target, force) as out:
            notes = write(picture, out, format=form)
        for note in notes:
            click.echo(f"sccodec: {source}: {note}", err=True)
        for damage in report.damaged:
            click.echo(f"sccodec: damaged: {damage.message}", err=True)
        return {
            "input": source,
            "output": target,
            "width": picture.width,
            "height": picture.height,
            "bytes_read": report.bytes_read,
            "bytes": size,
            "requests": requests,
            "damaged": [damage.facts() for damage in report.damaged],
            "code": 2 if report.damaged else 0,
            "line": f"{source} -> {target}: {picture.width}x{picture.height}, "
            f"{report.bytes_read} of {size} bytes read{fetched}",
        }

    names = border.output_names(inputs, output, f".{kind or 'png'}")
    return border.each_file(inputs, names, work, as_json, force)
