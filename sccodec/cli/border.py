"""What every command shares at its border: errors, `-`, limits, what is said and where."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import click

from sccodec.container.reader import Reader, from_stream, open_path
from sccodec.container.remote import is_url, open_url
from sccodec.container.rules import NO_LIMIT, Limits, environment_limits
from sccodec.container.writer import whole_file
from sccodec.errors import BadRequest, CodecError, Damaged, LimitExceeded, shown
from sccodec.threads import cores

STREAM = "-"


def explain(error: CodecError | OSError | MemoryError) -> tuple[str, int]:
    """What an error is called, in lower case and without a full stop, and its exit code."""
    if isinstance(error, CodecError):
        return str(error), error.exit_code
    if isinstance(error, MemoryError):
        return "out of memory", LimitExceeded.exit_code
    name = f"{error.filename}: " if error.filename else ""
    return f"{name}{(error.strerror or str(error)).lower()}", 1


def say(text: str) -> None:
    """One line on stderr."""
    click.echo(shown(text), err=True)


def complain(error: CodecError | OSError | MemoryError, where: str = "") -> int:
    """Prints an error and its hint on stderr; returns the exit code that it calls for."""
    message, code = explain(error)
    say(f"sccodec: error: {where}{message}")
    if hint := getattr(error, "hint", None):
        say(f"sccodec: hint: {hint}")
    return code


def border(function: Callable) -> Callable:
    """Turns foreseen failures into a message and an exit code; the one place that does."""

    @functools.wraps(function)
    def command(*arguments, **options):
        warnings.filterwarnings("ignore", module="PIL")  # its worries are not for our users
        try:
            code = function(*arguments, **options)
        except BrokenPipeError:  # the reader of our output went away: not our failure
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except (CodecError, OSError, MemoryError) as error:
            code = complain(error)
        except EOFError as error:  # click would take it for Ctrl-C
            code = complain(Damaged(f"a file ends too early: {error}"))
        except KeyboardInterrupt:
            click.echo("sccodec: interrupted", err=True)
            code = 130
        sys.exit(code or 0)

    return command


def jobs(_context, _option, value: str | None) -> int:
    """`-j N` or `-j all` as a number of threads; 0 if it is not given."""
    if value is None:
        return 0
    if value == "all":
        return cores()
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither a positive number nor 'all'")
    return int(value)


def rectangle(_context, option, value: str | None) -> tuple[int, int, int, int] | None:
    """`x,y,w,h` as four integers."""
    if value is None:
        return None
    try:
        x, y, w, h = (int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not x,y,w,h in pixels") from None
    return x, y, w, h


_SUFFIXES = {"": 1, "k": 1000, "M": 1000_000}


def size(_context, _option, value: str | None) -> int | None:
    """`N`, `Nk` or `NM` as bytes."""
    if value is None:
        return None
    number, suffix = (value[:-1], value[-1]) if value[-1:] in ("k", "M") else (value, "")
    try:
        result = int(float(number) * _SUFFIXES[suffix])
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{value!r} is not a number of bytes such as 20000 or 20k"
        ) from None
    if result < 1:
        raise click.BadParameter("a file has at least one byte")
    return result


def read_input(name: str) -> bytes:
    """The bytes of a file, or of stdin for `-`."""
    if name == STREAM:
        return _stdin().read()
    return Path(name).read_bytes()


def _stdin() -> BinaryIO:
    if sys.stdin is None:
        raise BadRequest("stdin is closed")
    return sys.stdin.buffer


def limits(size_limit: int | None, dimension_limit: int | None = None) -> Limits:
    """The limits of the environment, and those that options set; 0 for none."""
    given = {"max_pixels": size_limit, "max_dimension": dimension_limit}
    told = {name: value or NO_LIMIT for name, value in given.items() if value is not None}
    return replace(environment_limits(), **told)


def open_input(name: str, note: Callable[[str], None] | None = None, **options) -> Reader:
    """A reader of an .scc file, of an http(s) address, or of stdin for `-`.

    `note` is told what people should know of the source; default: they are told at once.
    """
    if name == STREAM:
        return from_stream(_stdin(), name="<stdin>", **options)
    reader = open_url(name, **options) if is_url(name) else open_path(name, **options)
    for text in reader.notes:
        (note or _note)(f"{name}: {text}")
    return reader


def _note(text: str) -> None:
    say(f"sccodec: {text}")


def read(count: int, reader: Reader) -> str:
    """How much of a file was read, for the result line; not every server tells its length."""
    of = "" if reader.size is None else f" of {reader.size}"
    return f"{count}{of} bytes read{fetched(reader)}"


def fetched(reader: Reader) -> str:
    """What a file behind an address has cost so far, for the result line; else nothing."""
    if not is_url(reader.name):
        return ""
    return f" in {reader.requests} request{'s' if reader.requests != 1 else ''}"


@contextmanager
def open_output(name: str, force: bool) -> Iterator[BinaryIO]:
    """A file that appears whole or not at all; stdout for `-`."""
    if name == STREAM:
        if sys.stdout is None:
            raise BadRequest("stdout is closed")
        if sys.stdout.isatty():
            raise BadRequest("binary data would go to the terminal", hint="use -o FILE or a pipe")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with whole_file(name, force) as out:
        yield out


MANY = 8  # tiles or iterations; with fewer, progress is not worth a line


def progress(name: str) -> Callable[[int, int], None] | None:
    """Shows how far one file is on a terminal's stderr; None where nobody watches."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, most: int) -> None:
        if most >= MANY:
            end = "\r" if done < most else "\r\033[K"
            click.echo(f"{name}: {100 * done // most} %{end}", err=True, nl=False)

    return show


# Options that several commands share.
force_option = click.option("-f", "--force", is_flag=True, help="Replace existing output.")
json_option = click.option("--json", "as_json", is_flag=True, help="Results as JSON on stdout.")
jobs_option = click.option(
    "-j",
    "--jobs",
    callback=jobs,
    metavar="N|all",
    help="So many files at the same time, or tiles if there is one file.  [default: one file at a "
    "time, its tiles on all cores, 8 at most]",
)
size_option = click.option(
    "--size-limit",
    type=click.IntRange(min=0),
    metavar="PIXELS",
    help="Refuse larger pictures; 0 for no limit. SCCODEC_MAX_PIXELS sets it for every command.",
)
