"""sccodec calibrate"""

from __future__ import annotations

from dataclasses import replace

import click

from sccodec.cli import border, names, tensor_options
from sccodec.errors import BadRequest


@click.command("calibrate")
@click.option("-o", "--output", required=True, metavar="OUT.json", help="File, or - for stdout.")
@click.option("--rate", type=float, metavar="BITS", help="Bits per element, of the first input.")
@click.option(
    "--basis",
    is_flag=True,
    help="Learn what channels have in common instead; for the transform, at any rate.",
)
@tensor_options.design
@border.force_option
@border.border
@names.inputs
def command(inputs, output, basis, force, **how):
    """Fit quantisers or a basis of channels, once for many.

    IN are .npy, .npz or .safetensors files with examples. `sccodec encode --calibration OUT.json`
    then takes the quantisers from there: one pass over each tensor, and no statistics. Tensors of
    several files belong together if they have the same name.

    With --basis, `sccodec encode --calibration OUT.json --rate BITS` codes what channels have in
    common once, behind ReLU or ReLU6 what they had before it. Its files are smaller or better, and
    need OUT.json to be decoded.
    """
    from sccodec.codecs.calibration import calibrate, calibrate_bases
    from sccodec.codecs.tensor_grid import AUTO
    from sccodec.codecs.tensor_settings import Settings

    groups, settings = (tensor_options.read(name) for name in inputs.names), Settings(**how)
    if basis:
        if replace(settings, channel_axis=AUTO, nonfinite="refuse") != Settings():
            raise BadRequest("a basis is learnt for every rate, and of quantisers it has none")
        fitted = calibrate_bases(groups, settings)
    else:
        fitted = calibrate(groups, settings)
    with border.open_output(output, force) as out:
        out.write(fitted.text().encode())
    for name, design in fitted.designs.items():
        counts = ",".join(str(len(quantiser)) for quantiser in design.embedded.quantisers)
        border.say(f"{name or 'tensor'}: {counts} levels -> {output}")
    for name, found in fitted.bases.items():
        border.say(f"{name or 'tensor'}: a basis of {found.channels} channels -> {output}")
