"""sccodec encode"""

from __future__ import annotations

import functools
from dataclasses import replace

import click
from click.core import ParameterSource

from sccodec.cli import batch, border, names, tensor_options
from sccodec.container.remote import is_url
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
@click.option(
    "--profile",
    help="Profile or model id; default tensor for .npy, .npz and .safetensors, else photo.",
)
@click.option(
    "--rate",
    type=float,
    metavar="BPP",
    help="Bits per pixel of the whole file; of a tensor bits per element.",
)
@click.option("-q", "--quality", type=float, metavar="0..100", help="Default 50.")
@click.option("--max-bytes", callback=border.size, metavar="N[k|M]", help="Never exceeded.")
@click.option("--step", type=int, metavar="0..511", help="Step index; 32 more double the step.")
@click.option(
    "-e",
    "--effort",
    type=int,
    metavar="1..9",
    help="1 is the fastest, from 7 on it takes minutes; default 5.",
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
@click.option("--max-abs-error", type=float, metavar="E", help="Tensors: bound for every element.")
@tensor_options.design
@click.option(
    "--coder",
    type=click.Choice(["context", "unary"]),
    default="context",
    metavar="context|unary",
    help="Tensors: unary is the papers' coder, slower and longer.",
)
@click.option(
    "--calibration", metavar="FILE.json", help="Tensors: quantisers or a basis of `calibrate`."
)
@click.option(
    "--check/--no-check",
    default=True,
    help="Tensors: read back what is about to be written (the default), or trust this machine, "
    "which takes two fifths less time at given levels.",
)
@click.option("--append", is_flag=True, help="Tensors: add them to the file that -o names.")
@border.size_option
@border.jobs_option
@batch.options
@border.border
@names.inputs
def command(inputs, profile, **options):
    """Encode pictures, or feature tensors, into .scc files.

    IN is a picture file, a .npy, .npz or .safetensors file, or - for stdin (a picture, or with
    --profile tensor a tensor file). Without -o, photo.png becomes photo.scc beside it.
    """
    for name in filter(is_url, inputs.names):
        raise BadRequest(
            f"{name} is an address; what is encoded is a file here",
            hint="fetch it first; - reads what another program fetches",
        )
    tensors = [tensor_options.is_tensor(name) for name in inputs.names]
    if profile is None and any(tensors) and not all(tensors):
        raise BadRequest("pictures and tensors together", hint="encode them one after the other")
    if profile == "tensor" or (profile is None and tensors and all(tensors)):
        return _encode_tensors(inputs, **options)
    context = click.get_current_context()
    for option in context.command.params:
        if not (getattr(option, "help", None) or "").startswith("Tensors:"):
            continue
        value = options.pop(option.name)
        if context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            given = (option.secondary_opts if value is False else None) or option.opts
            raise BadRequest(f"{given[0]} is for tensors, not for pictures")
    return _encode_pictures(inputs, profile=profile or "photo", **options)


def _encode_pictures(
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
    from sccodec.profiles.registry import find_for_encoding

    if roi_only and not roi:
        raise BadRequest("--roi-only needs --roi")
    model = find_for_encoding(profile, how["effort"])  # loads ahead of what is imported here too
    from sccodec.codecs import image
    from sccodec.media.image import read

    interest = image.Interest(*roi, roi_only) if roi else None
    settings = image.Settings(interest=interest, limits=border.limits(size_limit), **how)

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


def _encode_tensors(
    inputs,
    output,
    append,
    calibration,
    size_limit,
    jobs,
    force,
    skip_existing,
    keep_tree,
    as_json,
    quality,
    step,
    tile,
    roi,
    roi_only,
    metadata,
    effort,
    **how,
):
    from sccodec.codecs import tensor

    tensor_options.refuse_for_tensors(
        quality=quality, step=step, roi=roi, roi_only=roi_only, effort=effort
    )
    how["calibration"] = tensor_options.calibration(calibration)
    if tile is not None:
        how["tile"] = tile
    settings = tensor.Settings(limits=border.limits(size_limit), **how)
    if append:
        if skip_existing or keep_tree:
            option = "--skip-existing" if skip_existing else "--keep-tree"
            raise BadRequest(f"--append and {option} exclude each other")
        return _append(inputs, output, replace(settings, jobs=jobs or 1), as_json)

    tasks = list(zip(inputs.names, names.outputs(inputs, output, ".scc", keep_tree), strict=True))
    return batch.first(
        batch.run(
            tasks,
            functools.partial(_encode_tensor, settings, force),
            jobs=jobs,
            as_json=as_json,
            force=force,
            skip_existing=skip_existing,
            apart=True,
        )
    )


def _encode_tensor(settings, force: bool, job: batch.Job) -> batch.Done:
    from sccodec.codecs import tensor

    found = tensor_options.read(job.source)
    data = tensor.encode(found, replace(settings, jobs=job.tensor_threads), job.progress)
    with border.open_output(job.target, force) as out:
        out.write(data)
    elements = sum(one.values.size for one in found)
    return _tensors_done(job.source, job.target, len(data), elements, len(found))


def _append(inputs, output: str | None, settings, as_json: bool) -> int:
    """Adds the tensors of every input to one file, one input after the other."""
    import os

    from sccodec.codecs import tensor

    if output is None or output == border.STREAM or names.is_folder(output):
        raise BadRequest("--append needs -o FILE")

    def work(job: batch.Job) -> batch.Done:
        found = tensor_options.named(tensor_options.read(job.source), job.source)
        if os.path.exists(output):
            with border.open_input(output) as reader, border.open_output(output, True) as out:
                length = tensor.append(reader, found, out, settings)
        else:
            with border.open_output(output, False) as out:
                length = out.write(tensor.encode(found, settings))
        elements = sum(one.values.size for one in found)
        return _tensors_done(job.source, output, length, elements, len(found))

    tasks = [(name, output) for name in inputs.names]
    return batch.first(batch.run(tasks, work, as_json=as_json, force=True))


def _tensors_done(source: str, target: str, length: int, elements: int, tensors: int):
    bits = 8 * length / max(elements, 1)  # no elements: as if there were one
    rate = f"{bits:.4f} bits per element" if elements else "no elements"
    facts = {
        "input": source,
        "output": target,
        "bytes": length,
        "tensors": tensors,
        "elements": elements,
        "bits_per_element": round(bits, 6),
    }
    return batch.Done(facts, f"{source} -> {target}: {length} bytes, {rate}")
