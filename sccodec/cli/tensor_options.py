"""What `encode`, `decode` and `calibrate` share about feature tensors."""

from __future__ import annotations

from collections.abc import Callable

import click

from sccodec.cli import border
from sccodec.errors import BadRequest

SUFFIXES = (".npy", ".npz", ".safetensors")


def is_tensor(name: str) -> bool:
    """True for a name that ends like a tensor file."""
    return name.lower().endswith(SUFFIXES)


def _levels(_context, _option, value: str | None) -> int | tuple[int, ...] | None:
    """`N`, or `N,N,...` for layers."""
    if value is None:
        return None
    try:
        counts = tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a number of levels, or several") from None
    return counts if len(counts) > 1 else counts[0]


def _clip(_context, _option, value: str) -> str | tuple[float, float]:
    """A word, or `low,high`."""
    if "," not in value:
        return value
    try:
        low, high = map(float, value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not two numbers low,high") from None
    return low, high


def _axis(_context, _option, value: str) -> int | str | None:
    if value in ("auto", "none"):
        return None if value == "none" else value
    try:
        return int(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither an axis, 'auto' nor 'none'") from None


DESIGN = (
    click.option(
        "--levels",
        callback=_levels,
        metavar="N[,N...]",
        help="Tensors: levels of the quantiser, default 4; several are layers, such as 2,4,10.",
    ),
    click.option(
        "--clip",
        default="model",
        show_default=True,
        callback=_clip,
        metavar="model|moments|minmax|LO,HI",
        help="Tensors: how the clipping range is found.",
    ),
    click.option(
        "--quantiser",
        type=click.Choice(["uniform", "entropy-constrained", "dead-zone"]),
        metavar="uniform|entropy-constrained|dead-zone",
        help="Tensors: default uniform; dead-zone, which needs them, for --rate and --max-bytes.",
    ),
    click.option(
        "--offsets/--no-offsets",
        default=None,
        help="Tensors: with --rate and --max-bytes, count each channel from its mean; "
        "default: if it pays.",
    ),
    click.option(
        "--filter/--no-filter",
        default=None,
        help="Tensors: with --rate and --max-bytes, move values by their neighbours; "
        "default: if it pays.",
    ),
    click.option(
        "--transform/--no-transform",
        default=None,
        help="Tensors: with --rate and --max-bytes, code a cosine transform of planes; "
        "default: if it pays.",
    ),
    click.option("--channelwise", is_flag=True, help="Tensors: a clipping range each channel."),
    click.option("--slope", type=float, metavar="S", help="Tensors: of the rectifier below 0."),
    click.option(
        "--channel-axis",
        default="auto",
        callback=_axis,
        metavar="N|none|auto",
        help="Tensors: where channels are; by default the third axis from the end.",
    ),
    click.option("--n-layers", "layers", type=int, metavar="N", help="Tensors: layers; default 1."),
    click.option(
        "--nonfinite",
        type=click.Choice(["refuse", "clamp"]),
        default="refuse",
        show_default=True,
        metavar="refuse|clamp",
        help="Tensors: what to do about NaN and infinities.",
    ),
)


def design(function: Callable) -> Callable:
    """The options that say how a tensor is quantised."""
    for option in reversed(DESIGN):
        function = option(function)
    return function


def read(name: str) -> list:
    """The tensors of a file, or of stdin for `-`."""
    from sccodec.media import tensor

    if name == border.STREAM:
        return tensor.read(border.read_input(name), "<stdin>")
    return tensor.read(name)


def calibration(name: str | None):
    """The calibration of a file, if there is one."""
    if name is None:
        return None
    from sccodec.codecs.calibration import Calibration

    return Calibration.read(name)


def named(tensors: list, source: str) -> list:
    """The same, the tensor of a .npy file with the name of the file."""
    import os
    from dataclasses import replace

    stem = os.path.splitext(os.path.basename(source))[0]
    return [one if one.name else replace(one, name=stem) for one in tensors]


def refuse_for_tensors(**given: object) -> None:
    """BadRequest for options that only pictures have."""
    for name, value in given.items():
        if value is not None and value is not False:
            raise BadRequest(f"--{name.replace('_', '-')} is for pictures, not for tensors")
