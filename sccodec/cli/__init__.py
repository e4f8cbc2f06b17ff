"""The command line: borders only. One file per command; each imports what it needs when run."""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys

import click

from sccodec import __version__
from sccodec.cli import (
    bench,
    calibrate,
    decode,
    demo,
    doctor,
    encode,
    eval,
    export,
    extract,
    info,
    join,
    models,
    train,
    verify,
)
from sccodec.cli.border import complain
from sccodec.threads import exit_when_told

OBJECTS = 50_000  # more than before look for cycles: nearly all that imports make is there to stay
NO_ARGUMENTS = getattr(click.exceptions, "NoArgsIsHelpError", ())  # before click 8.2 there is none


class Group(click.Group):
    """Usage errors look like all others, and exit with 1, since 2 says that a file is damaged."""

    def main(self, *arguments, standalone_mode: bool = True, **options):
        if not standalone_mode:
            return super().main(*arguments, standalone_mode=False, **options)
        try:
            sys.exit(super().main(*arguments, standalone_mode=False, **options) or 0)
        except click.exceptions.Abort:
            click.echo("sccodec: interrupted", err=True)
            sys.exit(130)
        except OSError as error:  # help that cannot be printed; commands have a border of their own
            sys.exit(complain(error))
        except NO_ARGUMENTS as error:
            click.echo(error.format_message(), err=True)
        except click.ClickException as error:
            message = error.format_message()
            click.echo(f"sccodec: error: {message[:1].lower()}{message[1:].rstrip('.')}", err=True)
            if isinstance(error, click.UsageError) and error.ctx is not None:
                click.echo(f"sccodec: hint: {error.ctx.command_path} --help", err=True)
        sys.exit(1)


@click.group(
    "sccodec",
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 usage, 2 damaged or partial, 3 unsupported or model missing, "
    "4 over a limit.",
)
@click.version_option(__version__, "-V", "--version", prog_name="sccodec")
def cli() -> None:
    """Scalable learned codec: one layered file for a picture, or for feature tensors.

    A small base layer is a picture of its own, the enhancement layer adds the rest. Decode only
    some layers, strip them, put them back or fetch one region, without encoding again.
    """


for module in (
    encode,
    decode,
    extract,
    join,
    info,
    verify,
    calibrate,
    doctor,
    models,
    demo,
    eval,
    bench,
    train,
    export,
):
    cli.add_command(module.command)


def main() -> None:
    """The console script. Told to stop, it takes what is half-written with it."""
    # Tiles are what threads are for; BLAS with threads of its own takes half as much time again
    # for the same products. NumPy's library looks at this when it is loaded, which is later.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.set_threshold(OBJECTS)
    exit_when_told()
    if sys.stderr is None:  # closed: nobody is to be told, which is no reason to fail
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr has it: a name never stops a report
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        cli()
    except SystemExit as end:
        _leave(end.code)


def _leave(code: int | None) -> None:
    """Ends the process without taking apart what is about to vanish, which takes longer than
    starting Python."""
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        sys.exit(code)  # Python has its own way to say that it could not
    os._exit(code or 0)
