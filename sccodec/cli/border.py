"""What every command shares at its border: errors, `-`, output names, results."""

from __future__ import annotations

import functools
import json
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
from sccodec.container.rules import NO_LIMIT, environment_limits
from sccodec.container.writer import whole_file
from sccodec.errors import BadRequest, CodecError, LimitExceeded

STREAM = "-"


def explain(error: CodecError | OSError | MemoryError) -> tuple[str, int]:
    """What an error is called, in lower case and without a full stop, and its exit code."""
    if isinstance(error, CodecError):
        return str(error), error.exit_code
    if isinstance(error, MemoryError):
        return "out of memory", LimitExceeded.exit_code
    name = f"{error.filename}: " if error.filename else ""
    return f"{name}{(error.strerror or str(error)).lower()}", 1


def complain(error: CodecError | OSError | MemoryError) -> int:
    """Prints an error and its hint on stderr; returns the exit code that it calls for."""
    message, code = explain(error)
    click.echo(f"sccodec: error: {message}", err=True)
    if hint := getattr(error, "hint", None):
        click.echo(f"sccodec: hint: {hint}", err=True)
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
        except KeyboardInterrupt:
            click.echo("sccodec: interrupted", err=True)
            code = 130
        sys.exit(code or 0)

    return command


def jobs(_context, _option, value: str) -> int:
    """`-j N` or `-j all` as a number of threads."""
    if value == "all":
        return os.cpu_count() or 1
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
        return sys.stdin.buffer.read()
    return Path(name).read_bytes()


def open_input(name: str, size_limit: int | None = None, allow_partial: bool = False) -> Reader:
    """A reader of an .scc file, of an http(s) address, or of stdin for `-`.

    `size_limit` in pixels, 0 for none.
    """
    options: dict = {"allow_partial": allow_partial}
    if size_limit is not None:
        options["limits"] = replace(environment_limits(), max_pixels=size_limit or NO_LIMIT)
    if name == STREAM:
        return from_stream(sys.stdin.buffer, name="<stdin>", **options)
    if is_url(name):
        reader = open_url(name, **options)
        for note in reader.notes:
            click.echo(f"sccodec: {name}: {note}", err=True)
        return reader
    return open_path(name, **options)


def fetched(reader: Reader) -> str:
    """What a file behind an address has cost so far, for the result line; else nothing."""
    if not is_url(reader.name):
        return ""
    return f" in {reader.requests} request{'s' if reader.requests != 1 else ''}"


@contextmanager
def open_output(name: str, force: bool) -> Iterator[BinaryIO]:
    """A file that appears whole or not at all; stdout for `-`."""
    if name == STREAM:
        if sys.stdout.isatty():
            raise BadRequest("binary data would go to the terminal", hint="use -o FILE or a pipe")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with whole_file(name, force) as out:
        yield out


def output_names(inputs: tuple[str, ...], output: str | None, suffix: str) -> list[str]:
    """Where each input goes: FILE or `-` for one input, DIR/ for several, beside it without -o.

    Raises BadRequest if two inputs would share an output, or several were given one file.
    """
    folder = output is not None and (output.endswith(os.sep) or os.path.isdir(output))
    if inputs.count(STREAM) > 1:
        raise BadRequest("only one input can be stdin")
    if folder and STREAM in inputs:
        raise BadRequest("stdin has no name for a file in a folder", hint="-o FILE gives one")
    if len(inputs) > 1 and output is not None and not folder:
        raise BadRequest(
            f"{len(inputs)} inputs cannot go to one file {output}",
            hint=f"-o {output.rstrip(os.sep)}{os.sep} makes it a folder",
        )
    if output is not None and not folder:
        return [output]
    names = []
    for name in inputs:
        if name == STREAM:
            names.append(STREAM)
            continue
        local = _name_in_address(name) if is_url(name) else name
        stem, _ = os.path.splitext(local.rstrip(os.sep))
        names.append(
            os.path.join(output, os.path.basename(stem) + suffix) if folder else stem + suffix
        )
    twins = {name for name in names if names.count(name) > 1}
    if twins:
        raise BadRequest(f"several inputs would become {sorted(twins)[0]}")
    if folder:
        Path(output).mkdir(parents=True, exist_ok=True)
    return names


def _name_in_address(url: str) -> str:
    """What a browser would call the file, for an output in the current folder."""
    from urllib.parse import unquote, urlsplit

    name = os.path.basename(unquote(urlsplit(url).path))
    if not name or name.startswith("."):
        raise BadRequest(f"{url} holds no name for a file", hint="-o FILE gives one")
    return name


def each_file(
    inputs: tuple[str, ...],
    outputs: list[str],
    work: Callable[[str, str], dict],
    as_json: bool,
    force: bool,
) -> int:
    """work(input, output) for every file; a failing file does not stop the rest.

    `work` returns facts for --json, with a `line` for people, and perhaps an exit `code`.
    Returns the exit code: that of the first failure, or 0.
    """
    if as_json and STREAM in outputs:
        raise BadRequest("--json and the file itself cannot both go to stdout")
    worst = 0
    for count, (source, target) in enumerate(zip(inputs, outputs, strict=True), 1):
        try:
            if not force and os.path.isfile(target):  # before the work; whole_file looks again
                raise BadRequest(f"{target} exists", hint="--force replaces it")
            facts = work(source, target)
        except BrokenPipeError:
            raise
        except (CodecError, OSError, MemoryError) as error:
            code = complain(error)
            facts = {"input": source, "error": explain(error)[0], "code": code}
        else:
            code = facts.pop("code", 0)
            progress = f"[{count}/{len(inputs)}] " if len(inputs) > 1 else ""
            line = facts.pop("line")
            if not as_json:
                click.echo(progress + line, err=True)
        if as_json:
            click.echo(json.dumps(facts))
        worst = worst or code
    return worst


MANY_TILES = 8  # below this, progress is not worth a line


def progress(name: str) -> Callable[[int, int], None] | None:
    """Shows the tiles of one file on a terminal's stderr; None where nobody watches."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, tiles: int) -> None:
        if tiles >= MANY_TILES:
            end = "\r" if done < tiles else "\r\033[K"
            click.echo(f"{name}: {done} of {tiles} tiles{end}", err=True, nl=False)

    return show


# Options that several commands share.
force_option = click.option("-f", "--force", is_flag=True, help="Replace existing output.")
json_option = click.option("--json", "as_json", is_flag=True, help="Results as JSON on stdout.")
jobs_option = click.option(
    "-j",
    "--jobs",
    default="1",
    callback=jobs,
    metavar="N|all",
    help="Threads that code tiles.",
    show_default=True,
)
