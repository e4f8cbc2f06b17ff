"""sccodec decode"""

from __future__ import annotations

import functools
import os

import click

from sccodec.cli import batch, border, names, tensor_options
from sccodec.errors import BadRequest

PICTURES = ("png", "jpeg", "jpg", "webp", "tiff", "tif", "bmp", "ppm")
TENSORS = ("npy", "npz", "safetensors")


@click.command("decode")
@click.option("-o", "--output", metavar="OUT", help="File, folder/, or - for stdout.")
@click.option(
    "--format",
    "kind",
    type=click.Choice([*PICTURES, *TENSORS], False),
    metavar="NAME",
    help="png, jpeg, webp, tiff, bmp or ppm, for tensors npy, npz or safetensors; "
    "default: by OUT's name, else png or npz.",
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
    help="Only this rectangle; of the layers, reads only the tiles that it needs.",
)
@click.option(
    "--allow-partial",
    is_flag=True,
    help="Show what can be decoded of a damaged or cut file; exit code 2 if it is.",
)
@click.option(
    "--damage-map",
    metavar="FILE.png",
    help="With --allow-partial: 0 whole, 128 a lower layer, 255 nothing, of the region.",
)
@click.option(
    "--tensor",
    "tensors",
    multiple=True,
    metavar="NAME",
    help="Only this tensor of a file of tensors; may be given several times.",
)
@click.option(
    "--calibration",
    metavar="FILE.json",
    help="The basis that tensors were encoded with, of `calibrate --basis`.",
)
@border.size_option
@click.option(
    "--dimension-limit",
    type=click.IntRange(min=0),
    metavar="PIXELS",
    help="Refuse pictures with a longer side; 0 for no limit. SCCODEC_MAX_DIMENSION.",
)
@border.jobs_option
@batch.options
@border.border
@names.inputs
def command(
    inputs,
    output,
    kind,
    layers,
    region,
    allow_partial,
    damage_map,
    tensors,
    calibration,
    size_limit,
    dimension_limit,
    jobs,
    force,
    skip_existing,
    keep_tree,
    as_json,
):
    """Decode .scc files into pictures, or into feature tensors.

    Without -o, photo.scc becomes photo.png beside it; -o FILE.npy, FILE.npz or FILE.safetensors,
    or --format, is needed for tensors. IN may be an http(s) address, of which
    only what is needed is fetched. --json says how many bytes were read, and in how many
    requests.
    """
    from sccodec.codecs import image, tiles
    from sccodec.media.image import Picture, guess_format, write

    if damage_map is not None:
        _check_map(inputs, allow_partial)
    limits = border.limits(size_limit, dimension_limit)

    if tensors or kind in TENSORS or (kind is None and tensor_options.is_tensor(output or "")):
        if region is not None or damage_map is not None:
            raise BadRequest("--region and --damage-map are for pictures, not for tensors")
        options = {"limits": limits, "allow_partial": allow_partial}
        bases = tensor_options.calibration(calibration)
        targets = names.outputs(inputs, output, f".{kind or 'npz'}", keep_tree)
        return batch.first(
            batch.run(
                list(zip(inputs.names, targets, strict=True)),
                functools.partial(_decode_tensors, kind, layers, tensors, options, force, bases),
                jobs=jobs,
                as_json=as_json,
                force=force,
                skip_existing=skip_existing,
                apart=True,
            )
        )

    if calibration is not None:
        raise BadRequest("--calibration is for tensors, not for pictures")

    def work(job: batch.Job) -> batch.Done:
        form = kind or ("png" if job.target == border.STREAM else guess_format(job.target))
        with border.open_input(
            job.source, job.note, limits=limits, allow_partial=allow_partial
        ) as reader:
            if reader.header.kind == "tensor":
                raise BadRequest(
                    f"{job.source} holds tensors, which are no {form} file",
                    hint="-o FILE.npy, FILE.npz or FILE.safetensors",
                )
            picture, report = image.decode(
                reader,
                layers,
                box=region,
                allow_partial=allow_partial,
                jobs=job.threads,
                progress=job.progress,
            )
        with border.open_output(job.target, force) as out:
            notes = write(picture, out, format=form)
            if damage_map is not None:  # inside, so that both appear or neither
                width, height = reader.header.width, reader.header.height
                box = tiles.region(region or (0, 0, width, height), width, height)
                with border.open_output(damage_map, force) as other:
                    write(Picture(report.damage_map(box)[:, :, None]), other, format="png")
        for note in notes:
            job.note(f"{job.source}: {note}")
        for damage in report.damaged:
            job.note(f"damaged: {damage.message}")
        facts = {
            "input": job.source,
            "output": job.target,
            "width": picture.width,
            "height": picture.height,
            "bytes_read": report.bytes_read,
            "bytes": reader.size,
            "requests": reader.requests,
            "damaged": [damage.facts() for damage in report.damaged],
        }
        if damage_map is not None:
            facts["damage_map"] = damage_map
        read = border.read(report.bytes_read, reader)
        line = f"{job.source} -> {job.target}: {picture.width}x{picture.height}, {read}"
        return batch.Done(facts, line, code=2 if report.damaged else 0)

    targets = names.outputs(inputs, output, f".{kind or 'png'}", keep_tree)
    maps = [] if damage_map is None else [damage_map]
    tasks = [(name, target, *maps) for name, target in zip(inputs.names, targets, strict=True)]
    tasks = names.distinct(tasks, "-o and --damage-map")
    return batch.first(
        batch.run(tasks, work, jobs=jobs, as_json=as_json, force=force, skip_existing=skip_existing)
    )


def _check_map(inputs: names.Inputs, partial: bool) -> None:
    if not partial:
        raise BadRequest("--damage-map needs --allow-partial")
    if inputs.many:
        raise BadRequest("--damage-map takes one input")


def _decode_tensors(kind, layers, wanted, options, force, bases, job: batch.Job) -> batch.Done:
    from sccodec.codecs import tensor
    from sccodec.media.tensor import write

    form = kind or (os.path.splitext(job.target)[1][1:].lower() or "npz")
    if form not in TENSORS:
        raise BadRequest(f"{job.target}: tensors are written as {', '.join(TENSORS)}")
    with border.open_input(job.source, job.note, **options) as reader:
        found, report = tensor.decode(
            reader,
            layers,
            names=wanted or None,
            allow_partial=options["allow_partial"],
            calibration=bases,
            jobs=job.tensor_threads,
            progress=job.progress,
        )
    with border.open_output(job.target, force) as out:
        notes = write(found, out, form)
    for note in notes:
        job.note(f"{job.source}: {note}")
    for damage in report.damaged:
        job.note(f"damaged: {damage.message}")
    facts = {
        "input": job.source,
        "output": job.target,
        "tensors": {one.name: list(one.shape) for one in found},
        "bytes_read": report.bytes_read,
        "bytes": reader.size,
        "requests": reader.requests,
        "damaged": [damage.facts() for damage in report.damaged],
    }
    read = border.read(report.bytes_read, reader)
    shapes = ", ".join(
        f"{one.name or 'tensor'} {'x'.join(map(str, one.shape)) or 'scalar'}" for one in found[:3]
    )
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    line = f"{job.source} -> {job.target}: {shapes}{more}, {read}"
    return batch.Done(facts, line, code=2 if report.damaged else 0)
