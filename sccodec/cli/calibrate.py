"""sccodec calibrate"""

from __future__ import annotations

import click

from sccodec.cli import border, names, tensor_options


@click.command("calibrate")
@click.option("-o", "--output", required=True, metavar="OUT.json", help="File, or - for stdout.")
@click.option("--rate", type=float, metavar="BITS", help="Bits per element, of the first input.")
@tensor_options.design
@border.force_option
@border.border
@names.inputs
def command(inputs, output, force, **how):
    """Fit quantisers to feature tensors, once for many.

    IN are .npy, .npz or .safetensors files with examples. `sccodec encode --calibration OUT.json`
    then takes the quantisers from there: one pass over each tensor, and no statistics. Tensors of
    several files belong together if they have the same name.
    """
    from sccodec.codecs.calibration import calibrate
    from sccodec.codecs.tensor_settings import Settings

    groups = (tensor_options.read(name) for name in inputs.names)
    fitted = calibrate(groups, Settings(**how))
    with border.open_output(output, force) as out:
        out.write(fitted.text().encode())
    for name, design in fitted.designs.items():
        counts = ",".join(str(len(quantiser)) for quantiser in design.embedded.quantisers)
        border.say(f"{name or 'tensor'}: {counts} levels -> {output}")
